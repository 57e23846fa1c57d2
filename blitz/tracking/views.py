"""What the MLflow UI shows first: a saved view of each experiment's runs with the columns that differ.

By itself the UI's table shows no parameter and no metric, and opens on pages for other things than training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from blitz.run_folder.journal import TEST_ACCURACY, TRAIN_LOSS
from blitz.tracking import queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "blitz"  # of the view, in its link and in the experiment's tag
NEWEST = 200  # runs that are looked at
MOST_PARAMS = 8
ALWAYS = ("model.name", "optimizer.lr")
QUERY = urlencode({"workflowType": "machine_learning", "viewStateShareKey": KEY})
METRICS = ("objective", TEST_ACCURACY, TRAIN_LOSS)


def save(client: MlflowClient, base: str) -> list[tuple[str, str]]:
    """Save the view in every experiment that has runs. Returns name and link of each, that of the newest run first.

    `base` is the address of the UI, such as http://127.0.0.1:5000.
    """
    found: list[tuple[int, str, str]] = []
    for experiment in queries.pages(client.search_experiments):
        runs = client.search_runs([experiment.experiment_id], max_results=NEWEST)
        if runs:
            view = json.dumps(_view(runs))
            client.set_experiment_tag(experiment.experiment_id, f"mlflow.sharedViewState.{KEY}", view)
            link = f"{base}/#/experiments/{experiment.experiment_id}/runs?{QUERY}"
            found.append((int(runs[0].info.start_time or 0), experiment.name, link))
    return [(name, link) for _, name, link in sorted(found, reverse=True)]


def differing(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The parameters that are not the same in all runs, those with the most values first."""
    names = {name for run in params for name in run}
    values = {name: len({run.get(name) for run in params}) for name in names}
    return sorted((name for name in names if values[name] > 1), key=lambda name: (-values[name], name))


def _view(runs: Sequence[Run]) -> dict[str, Any]:
    """In the form that the UI of MLflow 3 keeps its own saved views in: an envelope, and a state as a text in it.

    A run that stands for a sweep has none of the values that differ. Its jobs stay folded below it: MLflow leaves out
    of a saved view what would unfold them.
    """
    params = [run.data.params for run in runs if queries.OF_A_SWEEP not in run.data.tags]
    chosen = list(dict.fromkeys([*differing(params)[:MOST_PARAMS], *ALWAYS]))
    columns = [f"params.`{name}`" for name in chosen] + [f"metrics.`{name}`" for name in METRICS]
    state = {
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns, "duration"],
        "columnWidths": {"attributes.`Run Name`": 360, "runDateAndNestInfo": 150},
    }
    now = time.time_ns() // 1_000_000
    return {"name": "blitz: what differs", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}

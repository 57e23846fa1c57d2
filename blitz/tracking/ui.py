"""The MLflow UI on the store that runs are recorded in, with a view of each experiment's runs.

By itself the UI's table shows no parameter and no metric, and opens on pages for other things than training: a saved
view shows first the objective and the columns that differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.run_folder.journal import OBJECTIVE, TEST_ACCURACY, TRAIN_LOSS
from blitz.tracking import health, queries, store
from blitz.tracking.orphaned import mark_orphans

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HOST = "127.0.0.1"
PORTS = range(5000, 5010)
START_SECONDS = 180.0  # on a busy machine; on others it takes five
LINKS = 5  # experiments whose links are printed
KEY = "blitz"  # of the view, in its link and in the experiment's tag
NEWEST = 200  # runs that are looked at
MOST_PARAMS = 8
ALWAYS = ("model.name", "optimizer.lr")
MODE = urlencode({"workflowType": "machine_learning"})  # without it, a page opens on what is for language models
QUERY = f"{MODE}&{urlencode({'viewStateShareKey': KEY})}"
METRICS = (TEST_ACCURACY, TRAIN_LOSS)  # behind the parameters
# Groups of charts, in the words of MLflow, which sorts them by name: what is measured once, a test, came first.
SECTIONS = ("Model metrics", "val", "train", "test", "time", "System metrics")


def serve(uri: str | None, port: int | None) -> int:
    """Run the UI until Ctrl-C; prints its link once the page answers. Returns the exit code.

    A store on a server has a UI of its own: its link is printed. Raises BadInput for a store that is not there.
    """
    where = store.resolve(uri)
    client = health.connect(where)
    mark_orphans(client)
    if where.startswith(("http://", "https://")):
        print("the tracking server has a UI of its own:")
        _print_links(client, redact(where).rstrip("/"))
        return 0
    chosen = port or _free_port()
    # One worker and no job runners, which are for evaluating language models: up in a third of the time.
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(chosen), "--workers", "1"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    environment["MLFLOW_BACKEND_STORE_URI"] = where  # with credentials, which every user sees in an argument
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the server and its workers together.
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            page = f"http://{HOST}:{chosen}"
            if not _answers(page + health.PROBE, server):  # which opens the store: runs, too, can be sent from now on
                log.seek(0)
                raise BadInput(f"the MLflow UI did not start on port {chosen}:\n{log.read()[-2000:]}")
            print(f"MLflow UI on {redact(where)}  (Ctrl-C ends it)")
            _print_links(client, page)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


def _print_links(client: MlflowClient, page: str) -> None:
    """Not the bare address, which opens on what is for language models."""
    for name, link in save_views(client, page)[:LINKS]:
        print(f"  {name}: {link}")
    print(f"  all experiments: {page}/#/experiments?{MODE}", flush=True)


def _free_port() -> int:
    """The first of a few that is free, or any: a browser keeps what was chosen in the UI by its port."""
    for port in (*PORTS, 0):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    raise BadInput("no port is free on this machine; end some servers")


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # neither it nor one of its workers is left
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


# ---- the view


def save_views(client: MlflowClient, base: str) -> list[tuple[str, str]]:
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
    params = [queries.notable(run) for run in runs if queries.OF_A_SWEEP not in run.data.tags]
    chosen = list(dict.fromkeys([*differing(params)[:MOST_PARAMS], *ALWAYS]))
    columns = [f"metrics.`{OBJECTIVE}`", *(f"params.`{name}`" for name in chosen)]
    columns += [f"metrics.`{name}`" for name in METRICS]
    state = {
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns, "duration"],
        "columnWidths": {"attributes.`Run Name`": 360, "runDateAndNestInfo": 150},
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": False} for name in SECTIONS
        ],
        "compareRunCharts": [],  # MLflow adds one for each metric
        "isAccordionReordered": True,  # or it sorts them again
    }
    now = time.time_ns() // 1_000_000
    return {"name": "blitz: what differs", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}

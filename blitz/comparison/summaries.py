"""`--metric NAME:min|max|best`: what of a metric's values counts, where it is not the last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from blitz.comparison.rows import SUMMARIES, split
from blitz.errors import did_you_mean, refuse
from blitz.run_folder.journal import GRAD_NORM, OBJECTIVE, STEP_LOSS, STEP_LR, SYSTEM, VAL_ACCURACY, VAL_LOSS
from blitz.tracking import queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BY_STEP = (STEP_LOSS, STEP_LR, GRAD_NORM, SYSTEM)  # beginnings of what no epoch has a value of


def check(metrics: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """The metrics as they were asked for, each once. Raises BadInput for those that no run has."""
    refuse(_mistakes(metrics, {name for run in runs for name in run.data.metrics}))
    return list(dict.fromkeys(metrics))


def _mistakes(metrics: Sequence[str], known: set[str]) -> Iterator[str]:
    accepted = f"(accepted: {', '.join(sorted(name for name in known if not name.startswith(SYSTEM)))})"
    for metric in metrics:
        name, summary = split(metric)
        before, colon, _ = metric.rpartition(":")
        if metric in known:
            continue
        if not summary and before in known:
            yield f"--metric={metric}: accepted: {', '.join([before, *(f'{before}:{word}' for word in SUMMARIES)])}"
        elif name not in known:
            near = did_you_mean(before if colon else metric, known)
            yield f"--metric={metric}: none of the runs has it{near} {accepted}"
        elif summary == "best" and name.startswith(BY_STEP):
            yield f"--metric={metric}: {name} has no value for an epoch; accepted: {name}, {name}:min or {name}:max"
        elif summary == "best" and OBJECTIVE not in known:
            yield f"--metric={metric}: the best epoch is that of the {OBJECTIVE}, which none of the runs has"


def values(client: MlflowClient, runs: Sequence[Run], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """By run id each run's last values, and of those metrics with a summary what it says of all its values."""
    found = {run.info.run_id: dict(run.data.metrics) for run in runs}
    wanted = [split(metric) for metric in metrics if split(metric)[1]]
    names = dict.fromkeys(name for name, _ in wanted)
    if any(summary == "best" for _, summary in wanted):
        names |= dict.fromkeys((VAL_ACCURACY, VAL_LOSS))
    pairs = [(run.info.run_id, name) for run in runs for name in names if name in run.data.metrics]
    histories = dict(zip(pairs, queries.histories(client, pairs), strict=True))
    for run_id, metrics_of_run in found.items():
        by_name = {name: histories[run_id, name] for name in names if (run_id, name) in histories}
        has_objective = OBJECTIVE in metrics_of_run
        for name, summary in wanted:
            value = _summarize(by_name, name, summary, has_objective)
            if value is not None:
                metrics_of_run.setdefault(f"{name}:{summary}", value)
    return found


def _summarize(
    histories: Mapping[str, Mapping[int, float]], name: str, summary: str, has_objective: bool
) -> float | None:
    history = histories.get(name, {})
    if summary == "best":
        return history.get(best_epoch(histories, max(history))) if has_objective and history else None
    numbers = [value for value in history.values() if not math.isnan(value)]
    if not numbers:
        return math.nan if history else None
    return min(numbers) if summary == "min" else max(numbers)


def best_epoch(histories: Mapping[str, Mapping[int, float]], last: int) -> int:
    """As `training.selection` has it: of the highest validation accuracy, then the lowest loss, the first one.

    Without validation images it is the last.
    """
    accuracies, losses = histories.get(VAL_ACCURACY, {}), histories.get(VAL_LOSS, {})

    def rank(epoch: int) -> tuple[float, float]:
        loss = losses.get(epoch, math.nan)
        return accuracies[epoch], -math.inf if math.isnan(loss) else -loss

    return max(sorted(accuracies), key=rank, default=last)

"""Runs and decisions as the page of a comparison shows them, without training any."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from blitz.comparison import page
from blitz.comparison.rows import ComparedRun, compare
from blitz.run_folder.decisions import Decision, Line
from blitz.run_folder.journal import OBJECTIVE

CURVES: dict[int, Sequence[float]] = {}  # by the run's id()


def run(
    values: Mapping[str, str],
    objective: float | None,
    seed: int,
    *,
    curve: Sequence[float] = (0.1, 0.2, 0.3),
    loss: float = 0.5,
    name: str | None = None,
    run_id: str | None = "",
    status: str = "FINISHED",
) -> ComparedRun:
    """With an id of its own, unless it has none."""
    made = name or " ".join([*(f"{key.rpartition('.')[2]}={value}" for key, value in values.items()), f"seed={seed}"])
    scores = {} if objective is None else {OBJECTIVE: objective, "test/accuracy": objective}
    if run_id == "":
        run_id = hashlib.md5(f"{values}{seed}{objective}".encode()).hexdigest()
    found = ComparedRun(run_id, made, str(seed), values, {**scores, "train/loss": loss}, 61.0, status)
    CURVES[id(found)] = curve
    return found


def decision(round: int, job: int, decision: str, **numbers: Any) -> Decision:
    return Decision(round, job, decision, numbers, f"why {job}")


def comparison_page(
    runs: Sequence[ComparedRun],
    *,
    metrics: Sequence[str] = (OBJECTIVE,),
    title: str = "A sweep",
    label: str = "Validation accuracy",
    uri: str | None = "sqlite:///mlflow.db",
    made: Sequence[Line] = (),
    jobs: Mapping[int, ComparedRun] | None = None,
    asked: list[str] | None = None,
) -> str:
    """The HTML. `asked` gets the names of the runs whose curves were."""

    def curve(run: ComparedRun) -> list[tuple[int, float]]:
        if asked is not None:
            asked.append(run.name)
        return list(enumerate(CURVES[id(run)], 1))

    return page.render(compare(runs, metrics), curve, title, label, uri, made, jobs or {})

"""Successive halving: everything is trained a little, and the best of it further."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Annotated, Any

from annotated_types import Gt, Le

from blitz.errors import BadInput, refuse
from blitz.parts.registry import Positive
from blitz.run_folder.decisions import Decision
from blitz.run_folder.run_info import FINISHED
from blitz.sweeps.search.strategy import GO_ON, PAUSE, Round, Space, Strategy, Task, Trial, rows
from blitz.terminal.names import in_epochs

LEAST_RUNGS = 2  # where they are left to blitz

Row = list[Trial]
Factor = Annotated[float, Gt(1)]


def halving(
    space: Space,
    *,
    factor: Factor = 3.0,
    rungs: list[Positive] | None = None,
    keep: Annotated[float, Gt(0), Le(1)] | None = None,
) -> Strategy:
    """At each rung the best go on, and the rest are paused (Jamieson and Talwalkar, arXiv:1502.07943).

    Jobs that differ in their seed alone are one combination, which goes on as a whole, by the mean of their objectives;
    it is paused where one of them failed. Raises BadInput for rungs that are no part of the training of each job.

    Args:
        factor: at each rung 1 of so many combinations goes on
        rungs: epochs after which jobs are compared, ascending, fractions allowed; null: epochs divided by powers of
            factor, down to one epoch, at least two
        keep: share of the combinations that goes on at each rung; null: 1 / factor
    """
    steps = rungs_of({trial.epochs for trial in space.trials}, factor, rungs)
    share = 1 / factor if keep is None else keep

    def next_round(trials: Sequence[Trial]) -> Round:
        left, decisions = rows(trials), list[Decision]()
        for number, rung in enumerate(steps, start=1):
            if _places(len(left), share) == len(left):  # nothing to decide: no pause
                continue
            if waiting := [trial for row in left for trial in row if not has_reached(trial, rung)]:
                return Round([Task(trial.number, rung) for trial in waiting], decisions=decisions)
            left, made = decided(left, number, rung, share)
            decisions += made
        unfinished = [trial for row in left for trial in row if not trial.is_over]
        return Round([Task(trial.number) for trial in unfinished], decisions=decisions)

    return next_round


def rungs_of(epochs: Collection[int], factor: float, rungs: list[float] | None) -> list[float]:
    """Those that were asked for, or those that follow from the jobs' epochs. Raises BadInput."""
    if rungs is None and len(epochs) > 1:
        raise BadInput(f"search.rungs=null: jobs of {min(epochs)} to {max(epochs)} epochs have no rungs in common")
    steps = derived(min(epochs), factor) if rungs is None else rungs
    refuse(_wrong(steps, min(epochs)))
    return steps


def derived(epochs: int, factor: float) -> list[float]:
    """Rungs that are `factor` times apart, the last of them `factor` times before the end."""
    whole = int(math.log(epochs, factor) + 1e-9)  # of 9 epochs and a factor of 3, 2: those of one epoch and more
    number = max(LEAST_RUNGS, whole)
    return [epochs / factor**power for power in range(number, 0, -1)]


def _wrong(rungs: Sequence[float], epochs: int) -> list[str]:
    text = f"search.rungs={[float(f'{rung:g}') for rung in rungs]}"
    if not rungs:
        return ["search.rungs=[]: accepted: one or more, or search=grid"]
    if sorted(set(rungs)) != list(rungs):
        return [f"{text}: accepted: ascending epochs"]
    if rungs[-1] >= epochs:
        return [f"{text}: accepted: below epochs={epochs}, after which a job has finished"]
    return []


def has_reached(trial: Trial, rung: float) -> bool:
    return trial.is_over or rung in trial.rungs


def decided(left: Sequence[Row], number: int, rung: float, share: float) -> tuple[list[Row], list[Decision]]:
    """Which rows go on from a rung.

    One that had finished before the sweep, or stopped early, costs nothing more: it stays, and takes nobody's place.
    """
    over = [row for row in left if all(trial.status == FINISHED and rung not in trial.rungs for trial in row)]
    means = {id(row): _mean(row, rung) for row in left if row not in over}
    ranked = [row for row in left if means.get(id(row)) is not None]
    ranked.sort(key=lambda row: -(means[id(row)] or 0.0))  # stable: of equal ones the first
    places = _places(len(ranked), share)
    decisions = []
    for place, row in enumerate(ranked, start=1):
        mean = means[id(row)]
        by = f"the mean of {len(row)} seeds" if len(row) > 1 else "objective"
        why = f"number {place} of {len(ranked)} by {by} after {in_epochs(rung)}, of which the best {places} go on"
        numbers = {"rung": rung, "mean": mean, "place": place, "of": len(ranked), "places": places}
        what = GO_ON if place <= places else PAUSE
        decisions += [Decision(number, trial.number, what, _with_own(numbers, trial, rung), why) for trial in row]
    for row in left:
        if row not in over and row not in ranked:
            why = "a job that differs in its seed alone failed"
            stopped = [trial for trial in row if not trial.is_over]
            decisions += [Decision(number, t.number, PAUSE, _with_own({"rung": rung}, t, rung), why) for t in stopped]
    return [*over, *ranked[:places]], decisions


def _places(number: int, share: float) -> int:
    """How many of so many combinations go on: at least one, if there is any."""
    return min(number, max(1, math.floor(number * share + 0.5)))


def _with_own(numbers: Mapping[str, Any], trial: Trial, rung: float) -> dict[str, Any]:
    return {"objective": objective_at(trial, rung), **numbers}


def _mean(row: Row, rung: float) -> float | None:
    """None for a row with a job that failed on the way."""
    found = [objective_at(trial, rung) for trial in row]
    known = [objective for objective in found if objective is not None]
    return fmean(known) if len(known) == len(row) else None


def objective_at(trial: Trial, rung: float) -> float | None:
    """At a rung; of a job that stopped early before it, that of its end."""
    return trial.rungs.get(rung, trial.objective)

"""Tree-structured Parzen estimators: values are proposed where those of earlier trials were good."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING, Any

from blitz.errors import refuse
from blitz.parts.registry import Count, Positive
from blitz.run_folder.decisions import Decision
from blitz.run_folder.run_info import FAILED, FINISHED
from blitz.sweeps.search.halving import Factor, Row, decided, has_reached, objective_at, rungs_of
from blitz.sweeps.search.interval import Interval
from blitz.sweeps.search.strategy import PROPOSE, Range, Round, Space, Strategy, Task, Trial, proposing, rows

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# Attempts to find what was not proposed before: of Optuna, for each proposal of a round; and at random
ASKED, DRAWN = 10, 10_000

Values = dict[str, str]  # of a proposal, by dotted key


@proposing
def tpe(
    space: Space,
    *,
    startup: Count = 10,
    batch: Count | None = None,
    prune: bool = False,
    factor: Factor = 3.0,
    rungs: list[Positive] | None = None,
) -> Strategy:
    """Bayesian optimization with tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), by Optuna.

    `sweep.samples` is the number of proposals, and `sweep.seed` decides what is drawn. Each proposal is trained with
    all seeds, and counts by their mean; one with a failed job counts as failed. The proposals of a round follow from
    the rounds before it. Raises BadInput without Optuna, without an interval, and for rungs that are no part of the
    training.

    Args:
        startup: proposals that are drawn at random, before those that depend on earlier ones
        batch: proposals of a round; null: as many as run at once on this machine
        prune: whether proposals are paused that are not among the best at a rung, as in search=halving
        factor: with prune, 1 of so many goes on
        rungs: with prune, epochs after which proposals are compared, as in search=halving
    """
    refuse(_wrong(space))
    samples, size = space.samples or 0, batch or max(1, space.at_once // max(1, len(space.seeds)))
    steps = rungs_of(space.epochs, factor, rungs) if prune else []

    def next_round(trials: Sequence[Trial]) -> Round:
        found, decisions = rows(trials), list[Decision]()
        for number, first in enumerate(range(0, samples, size), start=1):
            before, left = found[:first], found[first : first + size]
            if not left:
                values = _proposed(space, number, before, min(size, samples - first), is_random=first < startup)
                seeds = [{"seed": seed} for seed in space.seeds] or [{}]
                new = [{**proposal, **seed} for proposal in values for seed in seeds]
                conclusion = "" if new else f"All {len(before)} combinations that there are were proposed."
                return Round(new=new, decisions=decisions, conclusion=conclusion)
            why = "drawn at random" if first < startup else f"follows from {first} earlier proposals"
            decisions += [Decision(number, row[0].number, PROPOSE, dict(row[0].values), why) for row in left]
            for rung in steps:
                if waiting := [trial for row in left for trial in row if not has_reached(trial, rung)]:
                    return Round([Task(trial.number, rung) for trial in waiting], decisions=decisions)
                left, made = _decided(before, left, number, rung, 1 / factor)
                decisions += made
            if unfinished := [trial for row in left for trial in row if not trial.is_over]:
                return Round([Task(trial.number) for trial in unfinished], decisions=decisions)
        return Round(decisions=decisions)

    return next_round


def _wrong(space: Space) -> list[str]:
    if find_spec("optuna") is None:
        return ["search=tpe: needs Optuna: pip install 'blitz[search]'"]
    if not any(isinstance(each, Interval) for each in space.ranges.values()):
        return ["search=tpe: nothing to search; give an interval, such as 'optimizer.lr=tag(log,interval(1e-4,1))'"]
    if space.samples is None:
        return ["search=tpe: needs sweep.samples=N, the number of proposals"]
    return []


def _decided(
    before: Sequence[Row], left: Sequence[Row], number: int, rung: float, share: float
) -> tuple[list[Row], list[Decision]]:
    """Which of a round's rows go on from a rung, compared with all that were ever there: those stay as they are."""
    own = {trial.number for row in left for trial in row}
    best, made = decided([*before, *left], number, rung, share)
    return [row for row in best if row[0].number in own], [decision for decision in made if decision.job in own]


def _proposed(space: Space, round_number: int, before: Sequence[Row], number: int, is_random: bool) -> list[Values]:
    """So many combinations that are not among those before; fewer where there are no more."""
    chance = random.Random(f"{space.seed} {round_number}")
    known, found = [dict(row[0].values) for row in before], list[Values]()
    for values in _candidates(space, before, ASKED * number, chance, is_random):
        if values not in known:
            known.append(values)
            found.append(values)
        if len(found) == number:
            break
    return found


def _candidates(
    space: Space, before: Sequence[Row], asks: int, chance: random.Random, is_random: bool
) -> Iterator[Values]:
    """What Optuna proposes; where that is over and over what there is, any that are left."""
    distributions = {key: _distribution(each) for key, each in space.ranges.items()}
    study = _study([_recorded(row, space.ranges, distributions) for row in before], chance.getrandbits(31), is_random)
    for _ in range(asks):
        asked = study.ask(distributions).params
        yield {key: _text(each, asked[key]) for key, each in space.ranges.items()}
    for _ in range(DRAWN):
        yield {
            key: each.at(chance.random()) if isinstance(each, Interval) else chance.choice(each)
            for key, each in space.ranges.items()
        }


def _study(recorded: Sequence[FrozenTrial], seed: int, is_random: bool) -> Study:
    import optuna  # takes seconds

    sampler: Any = optuna.samplers.RandomSampler(seed)
    if not is_random:
        # Others of a round are taken to be bad until they are trained. Its own startup does not count failed ones.
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, constant_liar=True)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs that there is a study
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(recorded)
    return study


def _distribution(each: Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(each, Interval):
        return CategoricalDistribution(list(each))
    if each.is_whole:
        return IntDistribution(int(each.low), int(each.high) - 1, log=each.is_log)
    return FloatDistribution(each.low, math.nextafter(each.high, each.low), log=each.is_log)


def _text(each: Range, value: Any) -> str:
    return each.text(value) if isinstance(each, Interval) else str(value)


def _recorded(row: Row, ranges: Mapping[str, Range], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A proposal that was trained, as Optuna takes it."""
    from optuna.trial import TrialState, create_trial

    params: dict[str, Any] = {}
    for key, each in ranges.items():
        text = row[0].values[key]
        params[key] = (int if each.is_whole else float)(text) if isinstance(each, Interval) else text
    of: dict[str, Any] = {"params": params, "distributions": dict(distributions)}
    if any(trial.status == FAILED for trial in row):
        return create_trial(state=TrialState.FAIL, **of)
    paused = [trial for trial in row if trial.status != FINISHED]
    last = min((max(trial.rungs) for trial in paused if trial.rungs), default=math.inf)
    objectives = [objective_at(trial, last) for trial in row]
    known = [objective for objective in objectives if objective is not None and math.isfinite(objective)]
    if len(known) < len(row):
        return create_trial(state=TrialState.FAIL, **of)
    if not paused:
        return create_trial(value=fmean(known), **of)
    step = sorted(paused[0].rungs).index(last)
    return create_trial(state=TrialState.PRUNED, intermediate_values={step: fmean(known)}, **of)

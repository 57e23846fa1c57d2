"""A race: rows that are significantly worse than another one get no further seeds, and the others do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from blitz.errors import refuse
from blitz.parts.registry import NonNegative
from blitz.run_folder.decisions import Decision
from blitz.run_folder.run_info import FINISHED
from blitz.sweeps.search.strategy import DROP, MORE, STOP, Round, Space, Strategy, Task, Trial, rows
from blitz.terminal.names import briefly

ALPHA = 0.05  # of a whole race: the chance of a wrong drop, and that of rows wrongly called within the margin
LEAST_SEEDS = 3  # of a test: with two, Student's t is too wide for any difference between accuracies
GROWTH = 1.5  # seeds from one look to the next
LISTED = 3  # rows that a sentence names
WON, WITHIN, UNDECIDED = "significantly better than all other rows", "within the margin", "undecided at max_seeds"

Row = dict[int, Trial]  # by seed, the first job first


@dataclass(frozen=True)
class Look:
    """A planned comparison of the rows that are left, over the first so many seeds."""

    number: int  # counted from 1
    seeds: int
    share: float  # of ALPHA that it may spend


@dataclass(frozen=True)
class Standing:
    """How the rows that are left compare at a look."""

    look: Look
    rows: Sequence[Row]
    means: Sequence[float]
    better: Sequence[int]  # for each row the one that is most surely better
    p: Sequence[float]  # that it is, corrected
    p_of_margin: float  # that all rows that are not significantly worse lie within the margin, corrected

    @property
    def left(self) -> list[int]:
        """Rows that are not significantly worse than another one, the best first; never none."""
        found = [index for index, p in enumerate(self.p) if p > ALPHA]
        return sorted(found, key=lambda index: -self.means[index])


def race(space: Space, *, margin: NonNegative = 0.5, max_seeds: Annotated[int, Ge(LEAST_SEEDS)] = 24) -> Strategy:
    """Rows that are significantly worse than another one are dropped, and the others get more seeds.

    The race ends when one row is left, when those that are left are shown to lie within the margin, or at max_seeds.

    All rows get the same seeds, and two rows are compared by a one-sided paired t-test. The looks are planned: each has
    about half as many seeds again as the one before, up to max_seeds, and may spend its own seeds' share of 5 %. It
    uses these seeds alone, so that later ones never change what it decided. For each row that is left it tests that no
    other row is better, corrected for the number of other rows in the race (Bonferroni) and for the number of rows left
    (Holm). Say that this is true of q rows: until one of them is dropped at least q are left, so that over all of them,
    all others and all looks the chance that any is ever dropped sums up to 5 % at most (Maurer and Bretz 2013,
    doi:10.1080/19466315.2013.807748).

    That rows lie within the margin has 5 % of its own: of each two that are left, it is tested that neither is better
    by the margin or more, at the same looks, corrected for the number of other rows in the race.

    A row with a failed job is dropped without a test, since the mean of its other seeds may flatter it.

    Raises BadInput for a race without a seed axis, or without rows to compare.

    Args:
        margin: points of accuracy; rows shown to differ by less need not be told apart
        max_seeds: seeds of a row at most; more find smaller differences
    """
    number_of_rows = len(rows(space.trials))
    asked = list(dict.fromkeys(trial.seed for trial in space.trials))
    refuse(_wrong(space, len(asked), max_seeds))
    further = range(max(asked) + 1, max(asked) + 1 + max_seeds)
    looks = planned(max(LEAST_SEEDS, len(asked)), max_seeds)

    def next_round(trials: Sequence[Trial]) -> Round:
        left: list[Row] = [{trial.seed: trial for trial in row} for row in rows(trials)]
        decisions: list[Decision] = []
        conclusion = ""
        for look in looks:
            seeds = [*asked, *further][: look.seeds]
            needed = [(row, seed) for row in left for seed in seeds]
            if new := [{**_first(row).values, "seed": str(seed)} for row, seed in needed if seed not in row]:
                return Round(new=new, decisions=decisions)
            if waiting := [Task(row[seed].number) for row, seed in needed if not row[seed].is_over]:
                return Round(waiting, decisions=decisions)
            scores = {id(row): [_score(row[seed]) for seed in seeds] for row in left}
            decisions += [_failed(row, seeds, look) for row in left if None in scores[id(row)]]
            left = [row for row in left if None not in scores[id(row)]]
            if len(left) < 2:
                who = f"only {_name(left[0])}" if left else "no row"
                conclusion = f"The race has no result: {who} is left without a failed job."
                break
            standing = _compared(left, [scores[id(row)] for row in left], look, number_of_rows, margin)
            ending = _ending(standing, look is looks[-1])
            decisions += _decisions(standing, ending)
            if ending:
                conclusion = _conclusion(standing, ending, decisions, number_of_rows, margin)
                break
            left = [row for index, row in enumerate(left) if index in standing.left]
        return Round(decisions=decisions, conclusion=conclusion)

    return next_round


def planned(first: int, most: int) -> list[Look]:
    """Looks from so many seeds to so many, GROWTH times apart, or nearly so."""
    number = max(1, round(math.log(most / first, GROWTH)))
    seeds = sorted({round(first * (most / first) ** (step / number)) for step in range(number + 1)})
    before = [0, *seeds]
    return [Look(index + 1, n, (n - before[index]) / most) for index, n in enumerate(seeds)]


def _wrong(space: Space, asked: int, max_seeds: int) -> list[str]:
    found = rows(space.trials)
    if max(len({trial.seed for trial in row}) for row in found) < 2:
        return ["search=race: no row has more than one seed; accepted: several, such as seed=0,1,2"]
    if len(found) < 2:
        return ["search=race: all jobs differ in their seed alone; accepted: two or more values of another key"]
    if asked > max_seeds:
        return [f"search.max_seeds={max_seeds}: accepted: {asked}, the seeds that were asked for, or more"]
    return []


def _compared(
    left: Sequence[Row], listed: Sequence[Sequence[float | None]], look: Look, number_of_rows: int, margin: float
) -> Standing:
    """`listed`: the scores of each row."""
    import numpy as np  # with scipy half a second

    from blitz.comparison.noise import holm
    from blitz.comparison.paired import pairs

    scores = np.array(listed)
    compared = pairs(scores)
    correction = (number_of_rows - 1) / look.share
    p_of_worse = compared.p_of_worse()
    np.fill_diagonal(p_of_worse, np.inf)
    p = holm(np.minimum(1, p_of_worse.min(axis=1) * correction))
    good = np.flatnonzero(p > ALPHA)
    p_of_less = compared.p_of_less(margin / 100)[np.ix_(good, good)]
    p_of_margin = min(1.0, float(p_of_less.max()) * correction)
    return Standing(
        look, left, scores.mean(axis=1).tolist(), p_of_worse.argmin(axis=1).tolist(), p.tolist(), p_of_margin
    )


def _ending(standing: Standing, is_last_look: bool) -> str:
    """Why the race ends; empty as long as it does not."""
    if len(standing.left) == 1:
        return WON
    if standing.p_of_margin <= ALPHA:
        return WITHIN
    return UNDECIDED if is_last_look else ""


def _decisions(standing: Standing, ending: str) -> list[Decision]:
    """One for each row."""
    found = []
    look, left = standing.look, standing.left
    for index, row in enumerate(standing.rows):
        other = standing.better[index]
        behind, p = standing.means[other] - standing.means[index], standing.p[index]
        numbers = {
            "seeds": look.seeds,
            "mean": standing.means[index],
            "compared_with": _first(standing.rows[other]).number,
            "behind": behind,
            "p": p,
            "p_of_margin": standing.p_of_margin,
            "rows": len(standing.rows),
        }
        if index not in left:
            what = DROP
            why = f"significantly worse than {_name(standing.rows[other])}, by {_points(behind)} (p = {p:.2g})"
        elif ending:
            what, why = STOP, ending
        else:
            what, why = MORE, f"not significantly worse than any other row (p = {p:.2g})"
        found.append(Decision(look.number, _first(row).number, what, numbers, f"{why}, after {look.seeds} seeds"))
    return found


def _conclusion(
    standing: Standing, ending: str, decisions: Sequence[Decision], number_of_rows: int, margin: float
) -> str:
    """The result in a sentence."""
    seeds, left = standing.look.seeds, standing.left
    drops = [decision.numbers for decision in decisions if decision.decision == DROP]
    failed = sum("failed" in numbers for numbers in drops)
    without = f", without {failed} with a failed job" if failed else ""
    trained = sum({decision.job: decision.numbers["seeds"] for decision in decisions}.values())  # by the last of each
    cost = (
        f"{trained} runs were trained; a full design of the same power, {number_of_rows} rows of {seeds} seeds, "
        f"takes {number_of_rows * seeds}."
    )
    best, second = sorted(range(len(standing.rows)), key=lambda index: (index not in left, -standing.means[index]))[:2]
    difference = _points(standing.means[best] - standing.means[second])
    best_name, second_name = _name(standing.rows[best]), _name(standing.rows[second])
    if ending == WON:
        p = max(numbers["p"] for numbers in drops if "p" in numbers)
        return (
            f"{best_name} is {WON}{without}: the next one, {second_name}, is {difference} behind "
            f"(p = {p:.2g}; paired t-tests, corrected for all pairs and looks); {cost}"
        )
    names = _names([standing.rows[index] for index in left])
    if ending == WITHIN:
        p = standing.p_of_margin
        return (
            f"{names} lie within {margin:g} points of each other{without} (p = {p:.2g}; paired t-tests, corrected for "
            f"all rows and looks), and {best_name} is ahead, by {difference}; {cost}"
        )
    return (
        f"Undecided after {seeds} seeds between {names}{without}: {best_name} is ahead, by {difference}, "
        f"not significantly (p = {standing.p[second]:.2g}); {cost}"
    )


def _failed(row: Row, seeds: Sequence[int], look: Look) -> Decision:
    numbers = {"seeds": look.seeds, "failed": [seed for seed in seeds if _score(row[seed]) is None]}
    return Decision(look.number, _first(row).number, DROP, numbers, "a job that differs in its seed alone failed")


def _score(trial: Trial) -> float | None:
    known = trial.status == FINISHED and trial.objective is not None and math.isfinite(trial.objective)
    return trial.objective if known else None


def _first(row: Row) -> Trial:
    return next(iter(row.values()))


def _name(row: Row) -> str:
    """How it differs from the others: `lr=0.01 model=net`."""
    return briefly(f"{key}={value}" for key, value in _first(row).values.items())


def _names(ranked: Sequence[Row]) -> str:
    """`A, B and C`, or `A, B, C and 5 more rows`."""
    names = [_name(row) for row in ranked[:LISTED]]
    more = len(ranked) - LISTED
    names += [f"{more} more row{'s' * (more > 1)}"] if more > 0 else []
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _points(difference: float) -> str:
    return f"{100 * difference:.2f} points"

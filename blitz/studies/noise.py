"""Whether a difference between two means over seeds is more than noise, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from blitz.studies.comparison import Comparison, Estimate, Row, is_share, name_of, sign
from blitz.tracking.trials import CONFIDENCE

TOLD = 5  # differences at most


@dataclass(frozen=True)
class Test:
    """Welch's t-test of the best row's mean against another one's."""

    best: Row
    other: Row
    difference: float  # of the means, positive where the best is better
    margin: float  # half the width of its 95 % interval
    p: float  # two-sided, corrected by Holm for all that the best is compared with


def tests(comparison: Comparison) -> list[Test]:
    """The best row against each other one, where both have several seeds that do not all say the same.

    Welch (1947), Biometrika 34, 28-35; Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    metric = comparison.metrics[0]
    best, *others = comparison.rows
    pairs = [(other, best.estimate(metric), other.estimate(metric)) for other in others]
    found = [
        Test(best, other, sign(metric) * (first.mean - second.mean), *welch(first, second))
        for other, first, second in pairs
        if first is not None and second is not None and _can_be_tested(first, second)
    ]
    return _holm(found)


def welch(first: Estimate, second: Estimate) -> tuple[float, float]:
    """Half the width of the 95 % interval of the means' difference, and the two-sided p of there being none.

    As `scipy.stats.ttest_ind(equal_var=False)`, whose import takes a second.
    """
    squares = [float(np.var(estimate.values, ddof=1)) / estimate.n for estimate in (first, second)]
    error = math.sqrt(sum(squares))
    shares = [square / sum(squares) for square in squares]
    degrees = 1 / (shares[0] ** 2 / (first.n - 1) + shares[1] ** 2 / (second.n - 1))
    p = 2 * float(stdtr(degrees, -abs(first.mean - second.mean) / error))
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error, p


def sentences(comparison: Comparison) -> list[str]:
    """What can be said of the best row against the next ones; that nothing can be, where that is so."""
    if len(comparison.rows) < 2 or not comparison.folded:
        return []
    metric = comparison.metrics[0]
    best = comparison.rows[0]
    estimates = [estimate for row in comparison.rows if (estimate := row.estimate(metric)) is not None]
    if len(estimates) < 2:
        return []
    if max(estimate.n for estimate in estimates) < 2:
        return [f"One seed each: whether a difference in {metric} is more than noise cannot be told."]
    found = tests(comparison)
    told = [_sentence(test, comparison) for test in found[:TOLD]]
    if len(found) > TOLD:
        told.append(f"{len(found) - TOLD} more differences were tested, and not told.")
    tested = {id(test.other) for test in found}
    left = [row for row in comparison.rows[1:] if id(row) not in tested and row.estimate(metric) is not None]
    alone = [row for row in left if _n(row, metric) < 2]
    if _n(best, metric) < 2:
        return [f"{name_of(best, comparison)} has one seed: whether it is really the best cannot be told."]
    if alone:
        told.append(f"Nothing is said of {_listed(alone, comparison)} with one seed only.")
    if same := [row for row in left if row not in alone]:
        told.append(f"No spread over seeds: a test against {_listed(same, comparison)} is not possible.")
    return told


def _sentence(test: Test, comparison: Comparison) -> str:
    metric = comparison.metrics[0]
    best, other = name_of(test.best, comparison), name_of(test.other, comparison)
    is_certain = test.p < 1 - CONFIDENCE
    relation, verdict = ("is better than", "more") if is_certain else ("is ahead of", "not more")
    if is_share(metric):
        figures = f"{100 * test.difference:.2f} ± {100 * test.margin:.2f} points"
    else:
        figures = f"{test.difference:.3g} ± {test.margin:.2g}"
    return (
        f"{best} (n = {_n(test.best, metric)}) {relation} {other} (n = {_n(test.other, metric)}) by {figures}: "
        f"{verdict} than noise (Welch's t-test, Holm's correction, p = {test.p:.2g})."
    )


def _n(row: Row, metric: str) -> int:
    estimate = row.estimate(metric)
    return estimate.n if estimate is not None else 0


def _can_be_tested(first: Estimate, second: Estimate) -> bool:
    return min(first.n, second.n) > 1 and bool(first.margin or second.margin)


def _holm(found: Sequence[Test]) -> list[Test]:
    order = sorted(range(len(found)), key=lambda index: found[index].p)
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(found) - rank) * found[index].p))
        corrected[index] = highest
    return [replace(test, p=corrected[index]) for index, test in enumerate(found)]


def _listed(rows: Sequence[Row], comparison: Comparison) -> str:
    names = [name_of(row, comparison) for row in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(names) + more

"""Whether a difference between two means over seeds is more than noise, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from blitz.comparison.rows import Comparison, Estimate, Row, is_share, name_of, sign
from blitz.intervals import CONFIDENCE

TOLD = 5  # differences at most


@dataclass(frozen=True)
class Test:
    """Welch's t-test of the best row's mean against another one's."""

    best: Row
    other: Row
    difference: float  # of the means, positive where the best is better
    p: float  # two-sided, corrected by Holm for all pairs of rows


def tests(comparison: Comparison) -> list[Test]:
    """The best row against each other one, where both have several seeds that do not all say the same.

    Which row is the best, the same seeds have told: so the test is one of all pairs, of which only these are of
    interest. Corrected for these alone, the best of 40 rows that are all the same would be found better than another
    one in a quarter of all comparisons over ten seeds. Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    metric = comparison.metrics[0]
    estimated = [(row, estimate) for row in comparison.rows if (estimate := row.estimate(metric)) is not None]
    several = [(row, estimate) for row, estimate in estimated if estimate.n > 1]
    if len(several) < 2 or several[0][0] is not comparison.rows[0]:
        return []
    (best, first), *others = several
    ps = welch([estimate for _, estimate in several])
    corrected = holm(np.where(np.isnan(ps), 1.0, ps))
    return [
        Test(best, other, sign(metric) * (first.mean - second.mean), float(corrected[index]))
        for index, (other, second) in enumerate(others)  # its pairs come first
        if not np.isnan(ps[index])
    ]


def welch(estimates: Sequence[Estimate]) -> np.ndarray:
    """The two-sided p of each pair's means being the same: 0 and 1, 0 and 2, …, 1 and 2, …; nan without any spread.

    Welch (1947), Biometrika 34, 28-35. As `scipy.stats.ttest_ind(equal_var=False)`, whose import takes a second.
    """
    means = np.array([estimate.mean for estimate in estimates])
    squares = np.array([_square(estimate) for estimate in estimates])
    free = np.array([estimate.n - 1 for estimate in estimates])
    first, second = np.triu_indices(len(estimates), 1)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0
        total = squares[first] + squares[second]
        degrees = 1 / ((squares[first] / total) ** 2 / free[first] + (squares[second] / total) ** 2 / free[second])
        return np.asarray(2 * stdtr(degrees, -abs(means[first] - means[second]) / np.sqrt(total)))


def holm(ps: np.ndarray) -> np.ndarray:
    """The smallest p times their number, the next one times one less, …, and none below the one before."""
    order = np.argsort(ps)
    corrected = np.empty_like(ps)
    corrected[order] = np.minimum(1, np.maximum.accumulate(ps[order] * np.arange(len(ps), 0, -1)))
    return corrected


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
    """Without an interval of the difference: that of one pair alone would now and then say another thing than p."""
    metric = comparison.metrics[0]
    best, other = name_of(test.best, comparison), name_of(test.other, comparison)
    is_certain = test.p < 1 - CONFIDENCE
    relation, verdict = ("is better than", "more") if is_certain else ("is ahead of", "not more")
    ahead = f"{100 * test.difference:.2f} points" if is_share(metric) else f"{test.difference:.3g}"
    return (
        f"{best} (n = {_n(test.best, metric)}) {relation} {other} (n = {_n(test.other, metric)}) by {ahead}: "
        f"{verdict} than noise (Welch's t-test, Holm's correction for all pairs, p = {test.p:.2g})."
    )


def _n(row: Row, metric: str) -> int:
    estimate = row.estimate(metric)
    return estimate.n if estimate is not None else 0


def _square(estimate: Estimate) -> float:
    """Of the mean's standard error."""
    return float(np.var(estimate.values, ddof=1)) / estimate.n if estimate.margin else 0.0


def _listed(rows: Sequence[Row], comparison: Comparison) -> str:
    names = [name_of(row, comparison) for row in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(names) + more

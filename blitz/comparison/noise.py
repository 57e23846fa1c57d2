"""Whether the best row's mean is significantly better than that of the others, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr  # scipy.stats takes a second to import

from blitz.comparison.rows import Comparison, Row, is_share, name_of, sign
from blitz.intervals import CONFIDENCE, Estimate

LISTED = 5  # differences at most


@dataclass(frozen=True)
class Test:
    """Welch's t-test of the best row's mean against another one's."""

    other: Row
    difference: float  # of the means, positive where the best is better
    p: float  # two-sided, corrected by Holm for all pairs of rows


def tests(comparison: Comparison) -> list[Test]:
    """The best row against each other one, where both have several seeds and at least one of them some spread.

    The same seeds decide which row is the best: so each test is one of all pairs. Corrected for those of the best row
    alone, the best of 40 rows that are all the same would be significantly better than another one in a quarter of all
    comparisons over ten seeds. Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    metric = comparison.metrics[0]
    estimates = [(row, found) for row in comparison.rows if (found := row.estimate(metric)) is not None and found.n > 1]
    if len(estimates) < 2 or estimates[0][0] is not comparison.rows[0]:
        return []
    (_, first), *others = estimates
    ps = welch([estimate for _, estimate in estimates])
    corrected = holm(np.where(np.isnan(ps), 1.0, ps))
    return [
        Test(other, sign(metric) * (first.mean - second.mean), float(corrected[index]))
        for index, (other, second) in enumerate(others)  # its pairs come first
        if not np.isnan(ps[index])
    ]


def welch(estimates: Sequence[Estimate]) -> np.ndarray:
    """The two-sided p of each pair's means being the same: 0 and 1, 0 and 2, …, 1 and 2, …; nan without any spread."""
    first, second = np.triu_indices(len(estimates), 1)
    mean, std, n = np.array([(estimate.mean, estimate.std, estimate.n) for estimate in estimates]).T
    errors = std**2 / n  # of a mean, squared
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0
        error = errors[first] + errors[second]
        t = (mean[first] - mean[second]) / np.sqrt(error)
        squares = errors**2 / (n - 1)
        degrees = error**2 / (squares[first] + squares[second])
    return np.where(error > 0, 2 * stdtr(degrees, -np.abs(t)), np.nan)


def holm(ps: np.ndarray) -> np.ndarray:
    """The smallest p times their number, the next one times one less, …, and none below the one before."""
    order = np.argsort(ps)
    corrected = np.empty_like(ps)
    corrected[order] = np.minimum(1, np.maximum.accumulate(ps[order] * np.arange(len(ps), 0, -1)))
    return corrected


def sentences(comparison: Comparison) -> list[str]:
    """How the best row compares with the next ones, and which rows cannot be tested."""
    if comparison.conclusion:
        return [comparison.conclusion]
    metric = comparison.metrics[0]
    sizes = {id(row): found.n for row in comparison.rows if (found := row.estimate(metric)) is not None}
    if len(sizes) < 2 or not comparison.folded:
        return []
    if max(sizes.values()) < 2:
        return [f"One seed each: no test of whether differences in {metric} are significant."]
    best = comparison.rows[0]
    if sizes[id(best)] < 2:
        return [f"{name_of(best, comparison)} has one seed: no test of whether it is significantly better."]
    done = tests(comparison)
    lines = [_sentence(test, comparison) for test in done[:LISTED]]
    if len(done) > LISTED:
        lines.append(f"{len(done) - LISTED} more differences were tested and are not listed.")
    untested = [row for row in comparison.rows if id(row) in sizes.keys() - {id(test.other) for test in done}][1:]
    if single := [row for row in untested if sizes[id(row)] < 2]:
        lines.append(f"Not tested: {_list(single, comparison)} with one seed only.")
    if constant := [row for row in untested if sizes[id(row)] > 1]:
        lines.append(f"No spread over seeds: no test against {_list(constant, comparison)} is possible.")
    return lines


def _sentence(test: Test, comparison: Comparison) -> str:
    """Without an interval of the difference: that of one pair alone would now and then say another thing than p."""
    metric = comparison.metrics[0]
    best, other = (
        f"{name_of(row, comparison)} (n = {found.n})"
        for row in (comparison.rows[0], test.other)
        if (found := row.estimate(metric)) is not None
    )
    difference = f"{100 * test.difference:.2f} points" if is_share(metric) else f"{test.difference:.3g}"
    if test.p < 1 - CONFIDENCE:
        verdict = f"{best} is significantly better than {other}, by {difference}"
    else:
        verdict = f"{best} is ahead of {other} by {difference}, not significantly"
    return f"{verdict} (p = {test.p:.2g}; Welch's t-test, Holm's correction for all pairs)."


def _list(rows: Sequence[Row], comparison: Comparison) -> str:
    names = [name_of(row, comparison) for row in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(names) + more

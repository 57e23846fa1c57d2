"""The mean over seeds and its confidence interval by Student's t; the interval of a share of images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import stdtrit  # scipy.stats takes a second to import

CONFIDENCE = 0.95
LEAST_SEEDS = 3  # of an interval: with two it is often wider than everything that was measured


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its 95 % interval by Student's t; no width for fewer than three."""

    mean: float
    margin: float | None
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def std(self) -> float:
        return statistics.stdev(self.values) if min(self.values) < max(self.values) else 0.0


def estimate(values: Sequence[float]) -> Estimate | None:
    """None for no values."""
    n = len(values)
    if not n:
        return None
    if min(values) == max(values):  # of which a sum's last bit would make some spread
        mean, std = values[0], 0.0
    else:
        mean, std = statistics.fmean(values), statistics.stdev(values)
    return Estimate(mean, quantile(n - 1) * std / math.sqrt(n) if n >= LEAST_SEEDS else None, tuple(values))


def interval_of_share(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of the share that `count` of `n` are, within 0 … 1: Wilson (1927), J. Am. Stat. Assoc. 22, 209.

    It has a width where all are counted, or none.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, corrected_n = count / n, n + z**2
    middle = (count + z**2 / 2) / corrected_n
    margin = z * math.sqrt(n * share * (1 - share) + z**2 / 4) / corrected_n
    return max(0.0, middle - margin), min(1.0, middle + margin)


def quantile(degrees: float) -> float:
    """Of Student's t: so many standard errors are half the width of a 95 % interval."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))

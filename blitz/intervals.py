"""The mean over seeds and its confidence interval by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

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


def quantile(degrees: float) -> float:
    """Of Student's t: so many standard errors are half the width of a 95 % interval."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))

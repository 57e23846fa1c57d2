"""The mean over seeds and its confidence interval by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit  # scipy.stats takes a second to import

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its 95 % interval by Student's t; no width for a single seed."""

    mean: float
    margin: float | None
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def std(self) -> float:
        return statistics.stdev(self.values) if self.margin else 0.0


def estimate(values: Sequence[float]) -> Estimate | None:
    """None for no values."""
    n = len(values)
    if not n:
        return None
    if min(values) == max(values):  # of which a sum's last bit would make some spread
        return Estimate(values[0], 0.0 if n > 1 else None, tuple(values))
    margin = quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(statistics.fmean(values), margin, tuple(values))


def quantile(degrees: float) -> float:
    """Of Student's t: so many standard errors are half the width of a 95 % interval."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))

"""Which differences between rows the test of `blitz compare` finds, and with how many seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import gammaincinv, ndtr, stdtrit  # scipy.stats takes a second to import

from blitz.intervals import CONFIDENCE

POWER = 0.8  # the share of cases in which a difference is to be found
NODES = 64  # of an integral over a row's spread: four digits, with two seeds two


@dataclass(frozen=True)
class Spread:
    """The standard deviation over seeds, the same for all rows, as it was measured on some."""

    std: float
    runs: int
    rows: int

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Spread | None:
        """Pooled over the rows with two values and more; None where there is none."""
        known = [np.asarray(values) for values in rows if len(values) > 1]
        if not known:
            return None
        squares = sum(float(((values - values.mean()) ** 2).sum()) for values in known)
        runs = sum(map(len, known))
        return cls(math.sqrt(squares / (runs - len(known))), runs, len(known))


def power(difference: float, seeds: int, pairs: int) -> float:
    """How often Welch's t-test tells two rows of so many seeds apart that differ by so many standard deviations.

    For normal scores, two-sided at the level that Holm's correction for all `pairs` begins with: a larger one only
    follows where other pairs have been told apart. Exact, as an integral over the spreads that the rows may show.
    """
    critical, weights = _critical(seeds, pairs)
    shift = difference * math.sqrt(seeds / 2)
    return float((weights * (ndtr(shift - critical) + ndtr(-shift - critical))).sum())


def detectable(seeds: int, pairs: int) -> float:
    """The least difference, in standard deviations, that is found in 80 % of cases; with two seeds or more."""
    low, high = 0.0, 1.0
    while power(high, seeds, pairs) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, seeds, pairs) >= POWER else (middle, high)
    return high


def seeds_needed(difference: float, pairs: int) -> int:
    """The least number of seeds a row with which such a difference, in standard deviations, is found in 80 %."""
    low, high = 1, 2
    while power(difference, high, pairs) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, middle, pairs) >= POWER else (middle, high)
    return high


@cache
def _critical(seeds: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """The difference of two means, in units of its standard error, beyond which it is significant: for each two
    spreads that the rows may show, with the probability of these.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = (seeds - 1) / 2
    variances = gammaincinv(half, (nodes + 1) / 2) / half
    first, second = np.meshgrid(variances, variances)
    degrees = (first + second) ** 2 / (first**2 + second**2) * (seeds - 1)
    critical = stdtrit(degrees, 1 - (1 - CONFIDENCE) / pairs / 2) * np.sqrt((first + second) / 2)
    return critical, np.outer(weights, weights) / 4

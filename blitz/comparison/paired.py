"""Rows against each other, seed by seed: how far one is ahead of the other, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr  # scipy.stats takes a second to import

ROUNDING = 1e-7  # a standard deviation below which differences are the same: one of 1,000,000 images makes more


@dataclass(frozen=True)
class Pairs:
    """Each row (first index) with each other one (second index): one-sided paired t-tests.

    Exact for normal scores, whatever the rows' spreads are and whatever a seed does to both alike. Welch's test is not
    in the far tail, where a correction for many pairs needs it: with five seeds, and one spread five times the other,
    it gives p < 1e-4 three times too often.
    """

    ahead: np.ndarray  # by how much the other one's mean is higher
    error: np.ndarray  # of that, its standard error; 0 where the rows differ by the same at every seed
    n: int  # seeds

    def p_of_worse(self) -> np.ndarray:
        """Small where the row is worse than the other one; 1 without any spread, where nothing can be tested."""
        return np.where(self.error > 0, stdtr(self.n - 1, -self._errors(self.ahead)), 1.0)

    def p_of_less(self, margin: float) -> np.ndarray:
        """Small where the other one is better by less than the margin; 0 where it is so at every seed by the same."""
        without_spread = np.where(self.ahead < margin, 0.0, 1.0)
        return np.where(self.error > 0, stdtr(self.n - 1, self._errors(self.ahead - margin)), without_spread)

    def _errors(self, difference: np.ndarray) -> np.ndarray:
        return difference / np.where(self.error > 0, self.error, 1.0)


def pairs(scores: np.ndarray) -> Pairs:
    """From an array of rows by seeds, two at least of each."""
    n = scores.shape[1]
    means = scores.mean(axis=1)
    centred = scores - means[:, None]
    products = centred @ centred.T / (n - 1)
    variances = np.diag(products)
    spread = np.sqrt(np.maximum(0.0, variances[:, None] + variances[None, :] - 2 * products))
    error = np.where(spread > ROUNDING, spread / np.sqrt(n), 0.0)
    return Pairs(means[None, :] - means[:, None], error, n)

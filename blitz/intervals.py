"""The mean over seeds and its confidence interval by Student's t."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes a second to import

CONFIDENCE = 0.95


def margin(values: np.ndarray) -> float:
    """Half the width of the mean's 95 % interval by Student's t; nan for less than two values."""
    n = values.size
    return quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan


def quantile(degrees: float) -> float:
    """Of Student's t: so many standard errors are half the width of a 95 % interval."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))

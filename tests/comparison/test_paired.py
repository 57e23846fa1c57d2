"""Rows against each other, seed by seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from blitz.comparison.paired import pairs

SCORES = np.array([[0.51, 0.55, 0.52, 0.58], [0.50, 0.53, 0.52, 0.55], [0.30, 0.10, 0.80, 0.40]])


def test_p_values_are_those_of_scipy_for_every_pair():
    worse, less = pairs(SCORES).p_of_worse(), pairs(SCORES).p_of_less(0.05)
    for first in range(3):
        for second in set(range(3)) - {first}:
            row, other = SCORES[first], SCORES[second]
            assert worse[first, second] == pytest.approx(stats.ttest_rel(row, other, alternative="less").pvalue)
            expected = stats.ttest_rel(other, row + 0.05, alternative="less").pvalue
            assert less[first, second] == pytest.approx(expected)


def test_what_a_seed_does_to_both_rows_alike_changes_nothing():
    shifted = SCORES + np.array([0.1, -0.2, 0.05, 0.3])
    np.testing.assert_allclose(pairs(shifted).p_of_worse(), pairs(SCORES).p_of_worse(), rtol=1e-9)


def test_without_spread_nothing_is_worse_and_a_small_difference_is_within_the_margin():
    scores = np.array(
        [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.11, 0.21, 0.71]]
    )  # the last differs by 0.01 but for its bits
    assert (pairs(scores).p_of_worse() == 1).all()
    assert (pairs(scores).p_of_less(0.02) == 0).all()
    assert pairs(scores).p_of_less(0.005)[0].tolist() == [0, 0, 1]
    assert (pairs(scores[:2]).p_of_less(0) == 1).all()  # no margin, nothing within it

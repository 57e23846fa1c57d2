"""Which differences are found: as a simulation of the test that `blitz compare` makes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from blitz.comparison.noise import holm, welch
from blitz.comparison.power import Spread, detectable, power, seeds_needed
from blitz.intervals import estimate


@pytest.mark.parametrize(("seeds", "pairs", "expected"), [(3, 15, 9.5), (5, 15, 3.6), (8, 15, 2.3), (8, 120, 2.9)])
def test_detectable_difference_of_known_designs(seeds: int, pairs: int, expected: float) -> None:
    assert detectable(seeds, pairs) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("seeds", "pairs"), [(2, 1), (3, 15), (8, 120)])
def test_detectable_difference_is_found_in_four_of_five_simulated_cases(seeds: int, pairs: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 20_000, seeds))
    found = stats.ttest_ind(first + detectable(seeds, pairs), second, axis=1, equal_var=False).pvalue <= 0.05 / pairs
    assert found.mean() == pytest.approx(0.8, abs=0.012)  # four standard errors


def test_six_rows_of_three_seeds_by_the_test_of_compare_itself():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        scores = rng.standard_normal((6, 3))
        scores[0] += 9.5
        ps = holm(welch([known for row in scores if (known := estimate(row.tolist()))]))
        found.append((ps[:5] <= 0.05).mean())
    assert 0.8 <= np.mean(found) <= 0.9  # a little more: those found first leave the others a larger level


def test_power_of_no_difference_is_the_level():
    assert power(0.0, 20, 1) == pytest.approx(0.05, abs=0.001)
    assert power(0.0, 20, 15) == pytest.approx(0.05 / 15, rel=0.05)


@pytest.mark.parametrize(("difference", "pairs"), [(1.0, 15), (3.0, 1), (0.1, 120), (1e6, 1)])
def test_seeds_needed_are_the_fewest(difference: float, pairs: int) -> None:
    needed = seeds_needed(difference, pairs)
    assert power(difference, needed, pairs) >= 0.8
    assert needed == 2 or power(difference, needed - 1, pairs) < 0.8


def test_spread_is_pooled_over_rows_of_several_values():
    assert Spread.of([]) is None
    assert Spread.of([[0.5], [0.6]]) is None
    rows = [[0.5, 0.52, 0.54], [0.9, 0.9], [0.1]]
    expected = np.sqrt((2 * np.var(rows[0], ddof=1) + np.var(rows[1], ddof=1)) / 3)
    found = Spread.of(rows)
    assert found is not None
    assert (found.std, found.runs, found.rows) == (pytest.approx(expected), 5, 2)

"""What is known of runs that are compared: keys, numbers, combinations, intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from blitz.figures.trials import Combination, Sweep, Trial, Value, best_of, is_logarithmic, shown
from blitz.terminal.names import short_names


def runs(*values: dict[str, str]) -> Sweep:
    return Sweep([Trial(f"run {n}", value, 0.5, []) for n, value in enumerate(values)])


def found(sweep: Sweep) -> list[tuple[dict[str, Value], int]]:
    return [(dict(one.values), len(one.trials)) for one in sweep.combinations]


def test_runs_with_equal_values_are_one_combination_and_numbers_are_compared_as_such() -> None:
    sweep = runs(
        {"lr": "1e-1", "model": "b"},
        {"lr": "0.1", "model": "b"},
        {"lr": "0.02", "model": "b"},
        {"lr": ".1", "model": "a"},
    )
    assert (sweep.numeric, sweep.categories) == (["lr"], ["model"])
    assert found(sweep) == [
        ({"lr": 0.02, "model": "b"}, 1),
        ({"lr": 0.1, "model": "b"}, 2),
        ({"lr": 0.1, "model": "a"}, 1),
    ]


@pytest.mark.parametrize(
    ("texts", "is_number"),
    [
        (["1", "2"], True),
        (["-1e-3", "0"], True),
        (["true", "false"], False),
        (["null", "1", "2"], False),
        (["nan", "1", "2"], False),
        (["inf", "1", "2"], False),
        (["1", "2", "1e300"], False),
        (["1", "2", "1e-300"], False),
        (["[1]", "[2]"], False),
    ],
)
def test_what_is_a_number(texts: list[str], is_number: bool) -> None:
    sweep = runs(*({"key": text} for text in texts))
    assert (sweep.numeric, sweep.categories) == ((["key"], []) if is_number else ([], ["key"]))


def test_a_key_that_is_the_same_in_all_runs_is_none_and_one_that_some_lack_is() -> None:
    sweep = runs({"lr": "1", "same": "1.0", "some": "5"}, {"lr": "2", "same": "1"})
    assert sweep.keys == ["lr", "some"]
    assert sweep.numeric == ["lr"]  # a single number makes no axis
    assert sweep.told([None, 2.0], ["some", "lr"]) == "lr=2"
    assert sweep.told([None], ["some"]) == "(not set)"
    assert [one.values["lr"] for one in sweep.scored(["some"])] == [1.0]


def test_mean_and_margin_are_those_of_the_scores_that_there_are() -> None:
    scores = [0.91, math.nan, 0.93, 0.90, math.inf]
    one = Combination({}, tuple(Trial("", {}, score, []) for score in scores))
    low, high = stats.t.interval(0.95, 2, loc=np.mean([91, 93, 90]), scale=stats.sem([91, 93, 90]))
    assert one.mean == pytest.approx((low + high) / 2)
    assert one.margin == pytest.approx((high - low) / 2)
    single = Combination({}, one.trials[:2])
    assert single.mean == pytest.approx(91)
    assert math.isnan(single.margin)
    assert math.isnan(Combination({}, one.trials[1:2]).mean)


def test_the_best_is_the_first_with_the_highest_score() -> None:
    trials = [Trial(str(n), {}, score, []) for n, score in enumerate([math.inf, math.nan, 0.2, 0.4, 0.4])]
    assert best_of(trials) is trials[3]
    assert best_of(trials[:2]) is None


def test_short_names_are_unambiguous() -> None:
    keys = ["optimizer.lr", "schedule.lr", "model.width", "seed"]
    assert list(short_names(keys).values()) == ["optimizer.lr", "schedule.lr", "width", "seed"]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0.1, 0.01, 0.001], True),
        ([0.1, 0.03, 0.01], True),
        ([16, 32, 64], True),
        ([1, 2, 5, 10], True),
        ([0.001, 0.1], True),
        ([0.02, 0.07, 0.9, 0.3], True),
        (np.exp(np.random.default_rng(0).uniform(-9, 0, 20)).tolist(), True),
        (np.random.default_rng(0).uniform(0, 1, 20).tolist(), False),
        ([1, 2, 3], False),
        ([0.8, 0.9, 0.99], False),
        ([0.1, 0.2], False),
        ([0, 0.1, 0.01], False),
        ([-1, 1, 100], False),
        (list(range(1, 51)), False),
        ([5], False),
    ],
)
def test_when_an_axis_is_logarithmic(numbers: list[float], expected: bool) -> None:
    assert is_logarithmic(numbers) is expected
    assert is_logarithmic([*reversed(numbers), *numbers]) is expected


def test_numbers_are_shown_briefly() -> None:
    numbers = [0.1, 1.0, 64.0, 1e-5, 5e-4, 1e10, 1e-12, 0.0965114243569]
    assert [shown(number) for number in numbers] == ["0.1", "1", "64", "1e-5", "0.0005", "1e10", "1e-12", "0.0965114"]

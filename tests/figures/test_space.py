"""What was varied among runs: keys, numbers, groups and labels."""

from __future__ import annotations

import numpy as np
import pytest

from blitz.figures.space import PlotRow, PlotRun, Space, brief, is_logarithmic
from blitz.intervals import estimate
from blitz.terminal.names import short_names


def space(*values: dict[str, str]) -> Space:
    return Space([PlotRow(value, [PlotRun(f"run {n}", 0.5, [])], estimate([0.5])) for n, value in enumerate(values)])


def test_numbers_are_compared_as_such_and_texts_keep_their_order() -> None:
    found = space({"lr": "1e-1", "model": "b"}, {"lr": "0.02", "model": "b"}, {"lr": ".1", "model": "a"})
    assert (found.numeric, found.categories) == (["lr"], ["model"])
    assert [row.values for row in found.rows] == [
        {"lr": 0.1, "model": "b"}, {"lr": 0.02, "model": "b"}, {"lr": 0.1, "model": "a"},
    ]  # fmt: skip
    assert {values: len(rows) for values, rows in found.grouped(found.rows, ["lr"]).items()} == {(0.02,): 1, (0.1,): 2}
    assert list(found.grouped(found.rows, ["model"])) == [("b",), ("a",)]


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
    found = space(*({"key": text} for text in texts))
    assert (found.numeric, found.categories) == ((["key"], []) if is_number else ([], ["key"]))


def test_a_key_that_is_the_same_in_all_runs_is_none_and_one_that_some_lack_is() -> None:
    found = space({"lr": "1", "same": "1.0", "some": "5"}, {"lr": "2", "same": "1"})
    assert found.keys == ["lr", "some"]
    assert found.numeric == ["lr"]  # a single number makes no axis
    assert found.label([None, 2.0], ["some", "lr"]) == "lr=2"
    assert found.label([None], ["some"]) == "(not set)"
    assert [row.values["lr"] for row in found.measured(["some"])] == [1.0]


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
    assert [brief(number) for number in numbers] == ["0.1", "1", "64", "1e-5", "0.0005", "1e10", "1e-12", "0.0965114"]

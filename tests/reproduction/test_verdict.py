"""Two runs compared: what is the same, what is noise, and where a difference begins."""

from __future__ import annotations

import math
import random
import statistics
import sys
from typing import Any

import pytest

from blitz.intervals import estimate
from blitz.reproduction.verdict import DIFFERENT, EQUAL, IDENTICAL, Tolerance, Verdict, compare, from_images, from_seeds

THEN: dict[str, dict[int, float]] = {
    "train/step_loss": {5: 2.0, 10: 1.5, 15: 1.2, 20: 1.0},
    "train/loss": {1: 1.7, 2: 1.1},
    "val/accuracy": {1: 0.5, 2: 0.625},
    "test/accuracy": {2: 0.6},
}
WEIGHTS = {"initial": "a", "best": "b", "last": "c"}
NOISE = {"test/accuracy": Tolerance(0.01, "seeds"), "val/accuracy": Tolerance(0.02, "images")}


def changed(**values: float | None) -> dict[str, dict[int, float]]:
    """THEN with `metric_step` replaced, or left out."""
    now = {name: dict(points) for name, points in THEN.items()}
    for key, value in values.items():
        part, name, step = key.split("_", 2)[0], key.partition("_")[2].rpartition("_")[0], int(key.rpartition("_")[2])
        points = now[f"{part}/{name}"]
        if value is None:
            del points[step]
        else:
            points[step] = value
    return now


def verdict(now: dict[str, dict[int, float]], weights: dict[str, str] = WEIGHTS, **options: Any) -> Verdict:
    return compare(THEN, now, WEIGHTS, weights, steps_per_epoch=10, noise=NOISE, **options)


def test_the_same_bits_are_identical() -> None:
    found = verdict(changed())
    assert (found.word, found.points, found.metrics) == (IDENTICAL, 9, 4)
    assert found.weights == ("initial", "best", "last")
    assert found.first is None


def test_one_bit_is_enough_to_be_no_longer_identical() -> None:
    found = verdict(changed(train_loss_2=math.nextafter(1.1, 2)))
    assert found.word == EQUAL
    assert str(found.first) == "train/loss of epoch 2: recorded 1.1, now 1.1000000000000003"


@pytest.mark.parametrize("which", ["initial", "best", "last"])
def test_other_weights_are_no_longer_identical(which: str) -> None:
    found = verdict(changed(), {**WEIGHTS, which: "x"})
    assert (found.word, found.other_weights, found.first) == (EQUAL, (which,), None)


def test_weights_of_which_one_run_knows_nothing_are_not_compared() -> None:
    found = verdict(changed(), {"initial": "a"})
    assert (found.word, found.weights) == (IDENTICAL, ("initial",))


@pytest.mark.parametrize(
    ("accuracy", "word"), [(0.6099, EQUAL), (0.5901, EQUAL), (0.6101, DIFFERENT), (0.5899, DIFFERENT)]
)
def test_the_last_test_accuracy_decides_what_is_noise(accuracy: float, word: str) -> None:
    found = verdict(changed(test_accuracy_2=accuracy, val_accuracy_2=0.1))
    assert found.word == word
    assert found.judged is not None
    assert found.judged.tolerance == NOISE["test/accuracy"]
    assert found.judged.difference == pytest.approx(abs(accuracy - 0.6))


def test_what_only_one_of_them_measured_is_no_noise() -> None:
    found = verdict(changed(train_step_loss_15=None))
    assert found.word == DIFFERENT
    assert str(found.first) == "train/step_loss of step 15 (epoch 2): recorded 1.2, now not measured"
    assert verdict({**THEN, "train/grad_norm": {5: 1.0}}).word == DIFFERENT


def test_without_an_accuracy_there_is_no_noise() -> None:
    assert compare(THEN, changed(train_loss_2=1.2), {}, {}, steps_per_epoch=10, noise={}).word == DIFFERENT


def test_the_first_difference_is_that_of_the_earliest_step() -> None:
    found = verdict(changed(val_accuracy_1=0.4, train_step_loss_20=9.0, train_step_loss_10=9.0, train_loss_2=9.0))
    assert found.first is not None
    assert (found.first.name, found.first.step, found.first.epoch) == ("train/step_loss", 10, 1)
    found = verdict(changed(train_step_loss_20=9.0, val_accuracy_1=0.4))
    assert found.first is not None
    assert found.first.name == "val/accuracy"


def test_the_test_is_compared_though_another_epoch_was_the_best() -> None:
    now = {**changed(val_accuracy_1=0.63), "test/accuracy": {1: 0.601}}
    found = verdict(now)
    assert found.word == EQUAL
    assert str(found.first) == "val/accuracy of epoch 1: recorded 0.5, now 0.63"
    found = verdict({**THEN, "test/accuracy": {1: 0.601}})
    assert str(found.first) == "test/accuracy of epoch 2: recorded 0.6, now 0.601"
    assert verdict({**THEN, "test/accuracy": {1: 0.6}}, {}).word == IDENTICAL


def test_a_prefix_leaves_out_what_came_later_and_the_end() -> None:
    now = changed(train_step_loss_15=9.0, train_loss_2=9.0, val_accuracy_2=0.1, test_accuracy_2=0.1)
    found = verdict(now, {"initial": "a", "best": "x", "last": "x"}, until=1)
    assert (found.word, found.points, found.weights) == (IDENTICAL, 4, ("initial",))
    found = verdict(changed(val_accuracy_1=0.51), until=1)
    assert found.word == EQUAL
    assert found.judged is not None
    assert found.judged.name == "val/accuracy"
    assert verdict(changed(val_accuracy_1=0.53), until=1).word == DIFFERENT


def test_values_that_are_no_numbers_compare_as_a_store_keeps_them() -> None:
    then = {"train/loss": {1: math.nan, 2: sys.float_info.max, 3: -sys.float_info.max}}
    now = {"train/loss": {1: math.nan, 2: math.inf, 3: -math.inf}}
    assert compare(then, now, {}, {}, steps_per_epoch=1, noise={}).word == IDENTICAL
    assert (
        compare(then, {"train/loss": {**now["train/loss"], 1: 0.0}}, {}, {}, steps_per_epoch=1, noise={}).word
        != IDENTICAL
    )
    zero = compare({"a/b": {1: 0.0}}, {"a/b": {1: -0.0}}, {}, {}, steps_per_epoch=1, noise={})
    assert zero.word == DIFFERENT


def test_the_noise_of_seeds_holds_two_runs_out_of_twenty_nineteen_times() -> None:
    chance = random.Random(0)
    inside = 0
    for _ in range(2000):
        seeds = [chance.gauss(0.6, 0.01) for _ in range(4)]
        tolerance = from_seeds(estimate(seeds))
        assert tolerance is not None
        inside += abs(chance.gauss(0.6, 0.01) - chance.gauss(0.6, 0.01)) <= tolerance.width
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert from_seeds(estimate([0.1, 0.2])) is None
    tolerance = from_seeds(estimate([0.5, 0.6, 0.7]))
    assert tolerance is not None
    assert f"standard deviation {statistics.stdev([0.5, 0.6, 0.7]):.4f} over 3 seeds" in tolerance.source
    assert from_seeds(estimate([1.0, 1.0, 1.0])) is None  # no spread says nothing of the next run
    assert from_seeds(None) is None


def test_the_noise_of_images_holds_two_accuracies_nineteen_times_out_of_twenty() -> None:
    chance = random.Random(0)
    tolerance = from_images(0.7, 400)
    pairs = [[sum(chance.random() < 0.7 for _ in range(400)) / 400 for _ in range(2)] for _ in range(1000)]
    assert sum(abs(a - b) <= tolerance.width for a, b in pairs) / 1000 == pytest.approx(0.95, abs=0.02)
    assert "400 images" in tolerance.source


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_noise_has_some_width_where_all_images_are_correct_or_none(accuracy: float) -> None:
    n = 400
    tolerance = from_images(accuracy, n)
    assert 1 / n < tolerance.width < 5 / n
    noise = {"test/accuracy": tolerance}
    for num_others, word in ((1, EQUAL), (5, DIFFERENT)):
        now = {"test/accuracy": {1: abs(accuracy - num_others / n)}}
        found = compare({"test/accuracy": {1: accuracy}}, now, {}, {}, steps_per_epoch=1, noise=noise)
        assert found.word == word


def test_a_difference_begins_where_it_came_from_not_in_what_follows_from_it() -> None:
    then = {"objective": {1: 0.5}, "val/accuracy": {1: 0.5}}
    now = {"objective": {1: 0.6}, "val/accuracy": {1: 0.6}}
    found = compare(then, now, {}, {}, steps_per_epoch=10, noise=NOISE)
    assert found.first is not None
    assert found.first.name == "val/accuracy"

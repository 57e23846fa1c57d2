"""Two runs of one config, point by point: the same bits, equal within noise, or different, and where it begins."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blitz.intervals import CONFIDENCE, quantile
from blitz.run_folder.journal import OBJECTIVE

Results = Mapping[str, Mapping[int, float]]  # metric -> step -> value

IDENTICAL, EQUAL, DIFFERENT = "identical", "equal within noise", "different"
BY_STEP = ("train/step_loss", "train/grad_norm")  # all other metrics are counted in epochs
LEAST_SEEDS = 3  # fewer say nothing of a standard deviation


class Point(NamedTuple):
    """A value that is not the same; None where it was not measured."""

    name: str
    step: int
    epoch: int
    then: float | None
    now: float | None

    def __str__(self) -> str:
        where = f"step {self.step} (epoch {self.epoch})" if self.name in BY_STEP else f"epoch {self.epoch}"
        return f"{self.name} of {where}: {_shown(self.then)} then, {_shown(self.now)} now"


class Tolerance(NamedTuple):
    """How far two runs of one config may lie apart in a metric, and why."""

    width: float
    source: str


class Judged(NamedTuple):
    """The accuracy that decides between noise and difference: the last one of both runs."""

    name: str
    then: float
    now: float
    tolerance: Tolerance

    @property
    def distance(self) -> float:
        return abs(self.then - self.now)


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison."""

    word: str  # IDENTICAL, EQUAL or DIFFERENT
    points: int  # values that were compared
    metrics: int
    weights: tuple[str, ...]  # those whose hashes were compared: initial, best, last
    other_weights: tuple[str, ...]  # those of them that are not the same
    first: Point | None  # the first value that is not the same
    judged: Judged | None


def compare(
    then: Results,
    now: Results,
    weights_then: Mapping[str, str],
    weights_now: Mapping[str, str],
    *,
    steps_per_epoch: int,
    noise: Mapping[str, Tolerance],
    until: int | None = None,
) -> Verdict:
    """Compare all that two runs measured and ended with, or their metrics up to an epoch.

    `noise`: the tolerance of each accuracy that may be judged by, the one that counts most first. A value that only one
    of the two measured is no noise.
    """
    if until is not None:
        then, now = (_prefix(results, until, until * steps_per_epoch) for results in (then, now))
        weights_then = {name: sha256 for name, sha256 in weights_then.items() if name == "initial"}
    apart = list(_apart(then, now, steps_per_epoch))
    apart.sort(key=_cause_first)
    known = tuple(name for name in ("initial", "best", "last") if name in weights_then and name in weights_now)
    others = tuple(name for name in known if weights_then[name] != weights_now[name])
    judged = next((_judged(name, then, now, noise[name]) for name in noise if name in then and name in now), None)
    if not apart and not others:
        word = IDENTICAL
    elif judged is None or any(point.then is None or point.now is None for point in apart):
        word = DIFFERENT
    else:
        word = EQUAL if judged.distance <= judged.tolerance.width else DIFFERENT
    first = apart[0] if apart else None
    return Verdict(word, sum(map(len, then.values())), len(then), known, others, first, judged)


def from_seeds(values: Sequence[float]) -> Tolerance | None:
    """From runs that differ in their seed alone: how far two of them lie apart, but for one time in twenty.

    None where they are too few.
    """
    n = len(values)
    if n < LEAST_SEEDS:
        return None
    std = statistics.stdev(values)
    width = quantile(n - 1) * std * math.sqrt(2)
    return Tolerance(width, f"two runs in 95 %, by the standard deviation {std:.4f} over {n} seeds")


def from_images(accuracy: float, n: int) -> Tolerance:
    """From the number of images alone: the binomial error of the difference of two accuracies."""
    normal = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    width = normal * math.sqrt(2 * accuracy * (1 - accuracy) / n)
    source = f"two accuracies over {n:,} images in 95 %, by their binomial error"
    return Tolerance(width, f"{source} (fewer than {LEAST_SEEDS} seeds are recorded)")


def _apart(then: Results, now: Results, steps_per_epoch: int) -> Iterator[Point]:
    for name in {**then, **now}:
        before, after = then.get(name, {}), now.get(name, {})
        if name.startswith("test/") and before and after:  # its step is the best epoch, which may be another one
            step = max(*before, *after)
            before, after = {step: before[max(before)]}, {step: after[max(after)]}
        for step in {**before, **after}:
            old, new = before.get(step), after.get(step)
            if old is None or new is None or _stored(old) != _stored(new):
                yield Point(name, step, -(-step // steps_per_epoch) if name in BY_STEP else step, old, new)


def _cause_first(point: Point) -> tuple[bool, int, bool, bool, int]:
    """Tests after all epochs, an epoch's steps before its means, and last what only follows from these."""
    name = point.name
    return name.startswith("test/"), point.epoch, name not in BY_STEP, name == OBJECTIVE, point.step


def _stored(value: float) -> str:
    """The bits, as a store has them: MLflow keeps infinity as the largest number."""
    return value.hex() if not math.isinf(value) else math.copysign(sys.float_info.max, value).hex()


def _prefix(results: Results, epochs: int, steps: int) -> dict[str, dict[int, float]]:
    kept = {
        name: {step: value for step, value in points.items() if step <= (steps if name in BY_STEP else epochs)}
        for name, points in results.items()
        if not name.startswith("test/")
    }
    return {name: points for name, points in kept.items() if points}


def _judged(name: str, then: Results, now: Results, tolerance: Tolerance) -> Judged:
    return Judged(name, then[name][max(then[name])], now[name][max(now[name])], tolerance)


def _shown(value: float | None) -> str:
    return "not measured" if value is None else repr(value)

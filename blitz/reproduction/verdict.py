"""Two runs of one config, value by value: the same bits, equal within noise, or different, and the first difference."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from blitz.intervals import CONFIDENCE, LEAST_SEEDS, Estimate
from blitz.run_folder.journal import GRAD_NORM, OBJECTIVE, STEP_LOSS

Results = Mapping[str, Mapping[int, float]]  # metric -> step -> value

IDENTICAL, EQUAL, DIFFERENT = "identical", "equal within noise", "different"
BY_STEP = (STEP_LOSS, GRAD_NORM)  # all other metrics are counted in epochs


class Point(NamedTuple):
    """A value that differs; None where it was not measured."""

    name: str
    step: int
    epoch: int
    recorded: float | None
    now: float | None

    def __str__(self) -> str:
        where = f"step {self.step} (epoch {self.epoch})" if self.name in BY_STEP else f"epoch {self.epoch}"
        recorded, now = ("not measured" if value is None else repr(value) for value in (self.recorded, self.now))
        return f"{self.name} of {where}: recorded {recorded}, now {now}"


class Tolerance(NamedTuple):
    """By how much two runs of one config may differ in a metric, and why."""

    width: float
    source: str


class Deciding(NamedTuple):
    """The accuracy that decides between noise and difference: the last one of both runs."""

    name: str
    recorded: float
    now: float
    tolerance: Tolerance

    @property
    def difference(self) -> float:
        return abs(self.recorded - self.now)


@dataclass(frozen=True)
class Verdict:
    word: str  # IDENTICAL, EQUAL or DIFFERENT
    points: int  # values that were compared
    metrics: int
    weights: tuple[str, ...]  # those whose hashes were compared: initial, best, last
    other_weights: tuple[str, ...]  # those of them that are not the same
    first: Point | None  # the first value that is not the same
    judged: Deciding | None


def compare(
    recorded: Results,
    now: Results,
    recorded_weights: Mapping[str, str],
    weights: Mapping[str, str],
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
        recorded, now = (_prefix(results, until, until * steps_per_epoch) for results in (recorded, now))
        recorded_weights = {name: sha256 for name, sha256 in recorded_weights.items() if name == "initial"}
    found = sorted(_differences(recorded, now, steps_per_epoch), key=_cause_first)
    known = tuple(name for name in ("initial", "best", "last") if name in recorded_weights and name in weights)
    others = tuple(name for name in known if recorded_weights[name] != weights[name])
    judged = None
    if name := next((name for name in noise if name in recorded and name in now), None):
        judged = Deciding(name, recorded[name][max(recorded[name])], now[name][max(now[name])], noise[name])
    if not found and not others:
        word = IDENTICAL
    elif judged is None or any(point.recorded is None or point.now is None for point in found):
        word = DIFFERENT
    else:
        word = EQUAL if judged.difference <= judged.tolerance.width else DIFFERENT
    points, first = sum(map(len, recorded.values())), found[0] if found else None
    return Verdict(word, points, len(recorded), known, others, first, judged)


def from_seeds(found: Estimate | None) -> Tolerance | None:
    """From runs that differ in their seed alone: how much two of them differ, but for one time in twenty.

    None where they are too few, or their values are all the same.
    """
    if found is None or not found.margin:
        return None
    width = found.margin * math.sqrt(2 * found.n)
    return Tolerance(width, f"95 % of two runs, by the standard deviation {found.std:.4f} over {found.n} seeds")


def from_images(accuracy: float, n: int) -> Tolerance:
    """From the number of images alone: 95 % of the differences of two accuracies, with Agresti and Coull's correction.

    Not zero where all images are correct, or none. Agresti and Coull (1998), American Statistician 52, 119-126.
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    corrected_n = n + z**2
    share = (accuracy * n + z**2 / 2) / corrected_n
    width = z * math.sqrt(2 * share * (1 - share) / corrected_n)
    source = f"95 % of two accuracies over {n:,} images (Agresti-Coull)"
    return Tolerance(width, f"{source}: fewer than {LEAST_SEEDS} seeds that differ are recorded")


def _differences(recorded: Results, now: Results, steps_per_epoch: int) -> Iterator[Point]:
    for name in {**recorded, **now}:
        before, after = recorded.get(name, {}), now.get(name, {})
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

"""The schedules: step -> what every group's learning rate is multiplied by.

A multiplier is a function of the step alone, so resuming needs no state. Steps count from 0 to total_steps - 1; no
schedule starts at 0, and none reaches 0 before the last step is done, so that no step is wasted.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Annotated

from annotated_types import Gt, Le

from blitz.errors import BadInput
from blitz.parts.registry import Fraction, NonNegative, Positive, Probability, Registry

Multiplier = Callable[[int], float]


def constant(total_steps: int, steps_per_epoch: int) -> Multiplier:
    """The optimizer's own rate at every step."""
    return lambda step: 1.0


def step(
    total_steps: int,
    steps_per_epoch: int,
    *,
    every: Positive | None = 10.0,
    factor: Annotated[float, Gt(0), Le(1)] = 0.1,
    milestones: list[Positive] | None = None,
) -> Multiplier:
    """One drop after another, as torch's StepLR and MultiStepLR.

    Raises BadInput unless exactly one of `every` and `milestones` is given.

    Args:
        every: epochs between two drops; null where milestones are given
        factor: what each drop multiplies the rate by
        milestones: epochs after which the rate drops, instead of `every`
    """
    if milestones is None:
        if every is None:
            raise BadInput("schedule.every=null: needs epochs, here or in schedule.milestones")
        period = max(1, round(every * steps_per_epoch))
        return lambda step: factor ** (step // period)
    if every is not None:
        raise BadInput(f"schedule.milestones={milestones}: needs schedule.every=null, which is {every:g}")
    drops = sorted(round(epochs * steps_per_epoch) for epochs in milestones)
    return lambda step: factor ** bisect_right(drops, step)


def cosine(
    total_steps: int, steps_per_epoch: int, *, warmup: NonNegative = 0.0, final: Probability = 0.0
) -> Multiplier:
    """Half a cosine from the peak to `final` (SGDR without restarts, arXiv:1608.03983), after a linear warm-up.

    Raises BadInput for a warm-up longer than the run.

    Args:
        warmup: epochs of linear rise to the peak
        final: rate after the last step, as a fraction of the peak
    """
    _fits(warmup, f"schedule.warmup={warmup:g}:", total_steps, steps_per_epoch)
    rise = round(warmup * steps_per_epoch)

    def multiplier(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return _cosine(1.0, final, (step - rise) / (total_steps - rise))

    return multiplier


def one_cycle(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_fraction: Fraction = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 10_000.0,
) -> Multiplier:
    """Half a cosine up, half a cosine down (arXiv:1708.07120), as torch's OneCycleLR without cycling the momentum.

    Args:
        warmup_fraction: share of the run's steps in which the rate rises
        div_factor: the peak is this many times the first step's rate
        final_div_factor: the first step's rate is this many times the last step's
    """
    first = 1 / div_factor
    last = first / final_div_factor
    peak = warmup_fraction * total_steps - 1  # torch's, not rounded: it may lie between two steps, or before the first

    def multiplier(step: int) -> float:
        if step <= peak and peak > 0:
            return _cosine(first, 1.0, step / peak)
        return _cosine(1.0, last, (step - peak) / (total_steps - 1 - peak))

    return multiplier


def trapezoid(
    total_steps: int, steps_per_epoch: int, *, warmup: NonNegative = 0.1, decay: NonNegative = 0.5
) -> Multiplier:
    """Linear up, flat, linear down to 0 right after the last step (warmup-stable-decay, arXiv:2405.18392).

    Raises BadInput for a warm-up and a decay that are together longer than the run.

    Args:
        warmup: epochs of linear rise to the peak
        decay: epochs of linear fall to 0 at the end of the run
    """
    _fits(warmup, f"schedule.warmup={warmup:g}:", total_steps, steps_per_epoch)
    _fits(warmup + decay, f"schedule.decay={decay:g}: with schedule.warmup={warmup:g}", total_steps, steps_per_epoch)
    rise = round(warmup * steps_per_epoch)
    fall = min(round(decay * steps_per_epoch), total_steps - rise)  # both may have been rounded up

    def multiplier(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return min(1.0, (total_steps - step) / max(1, fall))

    return multiplier


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))


def _fits(epochs: float, option: str, total_steps: int, steps_per_epoch: int) -> None:
    if round(epochs * steps_per_epoch) > total_steps:
        raise BadInput(f"{option} longer than the run of {total_steps / steps_per_epoch:g} epochs")


SCHEDULES = Registry(
    "schedule", "blitz.schedules", constant=constant, step=step, cosine=cosine, one_cycle=one_cycle, trapezoid=trapezoid
)

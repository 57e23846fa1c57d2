"""Schedules: torch.optim.lr_scheduler's counterparts, the papers' formulas, and the edges of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from blitz.errors import BadInput
from blitz.parts.schedules import SCHEDULES

NAMES = SCHEDULES.names()


def rates(name: str, total_steps: int, steps_per_epoch: int, **options: Any) -> list[float]:
    multiplier = SCHEDULES.build(SCHEDULES.check({"name": name, **options}), total_steps, steps_per_epoch)
    return [multiplier(step) for step in range(total_steps)]


def torch_rates(make: Callable[[torch.optim.Optimizer], Any], total_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for step in range(total_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total_steps - 1:
            scheduler.step()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_meaning(name: str) -> None:
    assert [option.name for option in SCHEDULES.options(name) if not option.meaning] == []


@pytest.mark.parametrize(("total", "per_epoch"), [(1, 1), (2, 1), (3, 3), (40, 4), (1000, 500)])
@pytest.mark.parametrize("name", NAMES)
def test_no_step_is_wasted(name: str, total: int, per_epoch: int) -> None:
    found = rates(name, total, per_epoch)
    assert all(0 < rate <= 1 for rate in found)


@pytest.mark.parametrize("name", NAMES)
def test_depends_on_the_step_alone(name: str) -> None:
    multiplier = SCHEDULES.build(SCHEDULES.check({"name": name}), 40, 4)
    backwards = [multiplier(step) for step in reversed(range(40))]
    assert backwards[::-1] == rates(name, 40, 4)


def test_constant_is_one() -> None:
    assert rates("constant", 3, 1) == [1.0] * 3


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"every": 2, "factor": 0.3}, lambda optimizer: theirs.StepLR(optimizer, 10, 0.3)),
        ({"every": 0.6}, lambda optimizer: theirs.StepLR(optimizer, 3)),
        ({"every": 0.01}, lambda optimizer: theirs.StepLR(optimizer, 1)),
        (
            {"every": None, "milestones": [4, 1, 2.2], "factor": 0.5},
            lambda optimizer: theirs.MultiStepLR(optimizer, [5, 11, 20], 0.5),
        ),
    ],
)
def test_step_is_torchs(options: dict[str, Any], make: Callable[..., Any]) -> None:
    assert rates("step", 30, 5, **options) == pytest.approx(torch_rates(make, 30), rel=1e-12)


def test_step_is_exact_where_epochs_in_floating_point_are_not() -> None:
    assert 0.07 * 100 > 7  # so that dividing by it would drop one step late
    assert rates("step", 8, 100, every=0.07) == [1.0] * 7 + [0.1]


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (20, 0), (20, 1), (20, 2.5), (10, 1.8)])
def test_cosine_is_torchs_after_a_linear_rise(total: int, warmup: float, final: float) -> None:
    rise = round(warmup * 5)

    def make(optimizer: torch.optim.Optimizer) -> Any:
        fall = theirs.CosineAnnealingLR(optimizer, total - rise, final)
        if not rise:
            return fall
        up = theirs.LinearLR(optimizer, 1 / rise, 1.0, rise - 1)
        return theirs.SequentialLR(optimizer, [up, fall], [rise])

    assert rates("cosine", total, 5, warmup=warmup, final=final) == pytest.approx(torch_rates(make, total), abs=1e-12)


@pytest.mark.parametrize("total", [1, 2, 7, 100])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.3, 0.99])
def test_one_cycle_is_torchs(total: int, fraction: float) -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        return theirs.OneCycleLR(
            optimizer, 1.0, total, pct_start=fraction, div_factor=10.0, final_div_factor=50.0, cycle_momentum=False
        )

    found = rates("one_cycle", total, 1, warmup_fraction=fraction, div_factor=10, final_div_factor=50)
    assert found == pytest.approx(torch_rates(make, total), abs=1e-12)


def test_one_cycle_may_peak_at_the_first_step_where_torch_divides_by_zero() -> None:
    found = rates("one_cycle", 4, 1, warmup_fraction=0.25)
    assert found[0] == 1
    assert found[-1] == pytest.approx(1 / 25 / 10_000)


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (1, 1), (0.4, 1.4), (2, 2), (0, 4), (4, 0)])
def test_trapezoid_is_the_papers(warmup: float, decay: float) -> None:
    N, N_warmup, N_decay = 20, round(5 * warmup), round(5 * decay)
    slow = []
    for n in range(N):
        if n + 1 <= N_warmup:  # the paper's n counts the steps that are done; the first step would have no rate
            slow.append((n + 1) / N_warmup)
        elif n <= N - N_decay:
            slow.append(1.0)
        else:
            slow.append(1 - (n - (N - N_decay)) / N_decay)
    assert rates("trapezoid", N, 5, warmup=warmup, decay=decay) == pytest.approx(slow, abs=1e-12)


def test_trapezoid_falls_as_torchs_linear() -> None:
    expected = torch_rates(lambda optimizer: theirs.LinearLR(optimizer, 1.0, 0.0, 20), 20)
    assert rates("trapezoid", 20, 5, warmup=0, decay=4) == pytest.approx(expected, abs=1e-12)


def test_trapezoid_that_fills_the_run_survives_rounding_up() -> None:
    assert rates("trapezoid", 3, 3, warmup=0.5, decay=0.5) == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosine", "warmup": 5}, "schedule.warmup=5: longer than the run of 2 epochs"),
        ({"name": "trapezoid", "warmup": 2.5}, "schedule.warmup=2.5: longer than the run of 2 epochs"),
        (
            {"name": "trapezoid", "warmup": 1, "decay": 1.5},
            "schedule.decay=1.5: with schedule.warmup=1 longer than the run of 2 epochs",
        ),
        ({"name": "step", "milestones": [1]}, "schedule.milestones=[1.0]: needs schedule.every=null, which is 10"),
        ({"name": "step", "every": None}, "schedule.every=null: needs epochs, here or in schedule.milestones"),
    ],
)
def test_a_mistake_names_its_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as error:
        SCHEDULES.build(SCHEDULES.check(options), 20, 10)
    assert str(error.value) == message

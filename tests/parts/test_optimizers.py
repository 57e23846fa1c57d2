"""Optimizers: every one on the menu, torch's own where there is one, and Muon against torch.optim.Muon."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blitz.errors import BadInput
from blitz.parts.muon import orthogonalise
from blitz.parts.optimizers import OPTIMIZERS

NAMES = OPTIMIZERS.names()


class Problem:
    """A model with parameters of every number of dimensions from 0 to 4, and one batch to fit."""

    def __init__(self, name: str = "sgd", make: Callable[..., Any] | None = None, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(2), nn.Conv1d(4, 2, 3), nn.Flatten(),
            nn.Linear(28, 3),
        )  # fmt: skip
        self.model.register_parameter("scale", nn.Parameter(torch.ones(())))
        self.images, self.labels = torch.randn(16, 1, 6, 6), torch.arange(16) % 3
        parameters = self.model.parameters()
        self.optimizer = make(parameters) if make else build(name, parameters, **options)

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            loss = F.cross_entropy(self.model(self.images) * self.model.scale, self.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def state(self) -> list[Tensor]:
        return list(self.model.state_dict().values())


def build(name: str, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    return OPTIMIZERS.build(OPTIMIZERS.check({"name": name, **options}), parameters)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_meaning(name: str) -> None:
    assert [option.name for option in OPTIMIZERS.options(name) if not option.meaning] == []


@pytest.mark.parametrize("name", NAMES)
def test_lowers_the_loss(name: str) -> None:
    losses = Problem(name).train(100)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_is_bitwise_repeatable(name: str) -> None:
    first, second = Problem(name), Problem(name)
    first.train(5)
    second.train(5)
    assert same(first.state(), second.state())


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_a_file_in_the_middle_of_training(name: str) -> None:
    through, file = Problem(name), io.BytesIO()
    through.train(3)
    torch.save({"model": through.model.state_dict(), "optimizer": through.optimizer.state_dict()}, file)
    through.train(3)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Problem(name)
    resumed.model.load_state_dict(saved["model"])
    without_optimizer = Problem(name)
    without_optimizer.model.load_state_dict(saved["model"])
    resumed.optimizer.load_state_dict(saved["optimizer"])
    resumed.train(3)
    without_optimizer.train(3)
    assert same(resumed.state(), through.state())
    assert not same(without_optimizer.state(), through.state())


def test_none_imports_the_compiler() -> None:
    """In a process of its own: any other test may have imported it."""
    code = """
import sys
from torch import nn, ones
from blitz.parts.optimizers import OPTIMIZERS

for name in OPTIMIZERS.names():
    model = nn.Linear(2, 2)
    optimizer = OPTIMIZERS.build(OPTIMIZERS.check({"name": name}), model.parameters())
    model(ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("decay_1d", [True, False])
@pytest.mark.parametrize(
    "name", [name for name in NAMES if "decay_1d" in [option.name for option in OPTIMIZERS.options(name)]]
)
def test_decay_1d_decides_for_biases_and_norm_scales(name: str, decay_1d: bool) -> None:
    problem = Problem(name, weight_decay=0.1, decay_1d=decay_1d)
    parameters = list(problem.model.parameters())
    taken = [parameter for group in problem.optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, taken)) == sorted(map(id, parameters))  # undecayed, yet trained
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)  # so that only the decay moves anything
    problem.optimizer.step()
    for old, new in zip(before, parameters, strict=True):
        moves = bool(old.any()) and (decay_1d or new.ndim >= 2)
        assert torch.equal(old, new) is not moves


HAND_WRITTEN: list[tuple[str, dict[str, Any], Callable[..., torch.optim.Optimizer]]] = [
    ("sgd", {}, lambda p: torch.optim.SGD(p, 0.001, 0.9)),
    (
        "sgd",
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    ("sgd", {"momentum": 0.0, "fused": True}, lambda p: torch.optim.SGD(p, lr=0.001, fused=True)),
    ("adam", {}, torch.optim.Adam),
    (
        "adam",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.1, "fused": True},
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=0.01, weight_decay=0.1, fused=True),
    ),
    ("adamw", {}, torch.optim.AdamW),
    (
        "adamw",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.1, "fused": True},
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9), eps=0.01, weight_decay=0.1, fused=True),
    ),
    ("rmsprop", {}, lambda p: torch.optim.RMSprop(p, lr=0.001)),
    (
        "rmsprop",
        {"lr": 0.1, "alpha": 0.8, "momentum": 0.7, "eps": 0.01, "weight_decay": 0.1},
        lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.8, momentum=0.7, eps=0.01, weight_decay=0.1),
    ),
    ("nadam", {}, torch.optim.NAdam),
    (
        "nadam",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 0.01, "weight_decay": 0.1, "momentum_decay": 0.1},
        lambda p: torch.optim.NAdam(p, lr=0.1, betas=(0.8, 0.9), eps=0.01, weight_decay=0.1, momentum_decay=0.1),
    ),
]


@pytest.mark.parametrize(("name", "options", "make"), HAND_WRITTEN)
def test_is_what_a_hand_written_loop_would_call(name: str, options: dict[str, Any], make: Callable[..., Any]) -> None:
    ours, hand = Problem(name, **options), Problem(make=make)
    assert isinstance(ours.optimizer, type(hand.optimizer))
    assert ours.optimizer.defaults == hand.optimizer.defaults  # the kernels, and so the speed, follow from these
    assert len(ours.optimizer.param_groups) == 1
    assert ours.train(5) == hand.train(5)
    assert same(ours.state(), hand.state())


def test_nesterov_without_momentum_names_both_keys() -> None:
    with pytest.raises(BadInput, match=r"^optimizer\.nesterov=true: .* needs optimizer\.momentum > 0$"):
        build("sgd", nn.Linear(2, 2).parameters(), nesterov=True, momentum=0.0)


# Muon


def muon_pair(shapes: Sequence[tuple[int, ...]]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    return [nn.Parameter(value.clone()) for value in values], [nn.Parameter(value.clone()) for value in values]


def step_together(
    parameters: list[list[nn.Parameter]], optimizers: Sequence[torch.optim.Optimizer | InBFloat16], steps: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for twins in zip(*parameters, strict=True):
            gradient = torch.randn(twins[0].shape, generator=generator)
            for twin in twins:
                twin.grad = gradient.reshape(twin.shape).clone()
        for optimizer in optimizers:
            optimizer.step()


class InBFloat16:
    """An optimizer whose steps are taken under autocast."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            self.optimizer.step()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw", "spectral_unclamped"])
def test_muon_takes_torchs_step(adjust_lr: Any, nesterov: bool) -> None:
    shapes = [(6, 4), (4, 6), (5, 5), (1, 8)]
    ours, theirs = muon_pair(shapes)
    exact, _ = muon_pair(shapes)
    options: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    optimizers: list[torch.optim.Optimizer | InBFloat16] = [
        InBFloat16(build("muon", ours, adjust_lr=adjust_lr, **options)),
        torch.optim.Muon(theirs, adjust_lr_fn=adjust_lr, **options),
        build("muon", exact, adjust_lr=adjust_lr, **options),
    ]
    step_together([ours, theirs, exact], optimizers, steps=5)
    for our, their, precise in zip(ours, theirs, exact, strict=True):
        assert torch.equal(our, their)
        torch.testing.assert_close(precise, their, atol=0.02, rtol=0)  # bfloat16 keeps 8 bits
        assert not torch.equal(precise, their)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (32, 100)])
def test_orthogonalise_is_the_quintic_of_the_post(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    X = matrix.double() / matrix.double().norm()
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    found = orthogonalise(matrix, torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), X, atol=1e-4, rtol=0)
    stretch = torch.linalg.svdvals(found)
    assert 0.6 < stretch.min() <= stretch.max() < 1.3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_sees_a_filter_as_a_matrix(layout: torch.memory_format) -> None:
    filters, matrices = muon_pair([(8, 3, 3, 2)])
    filters = [nn.Parameter(filters[0].detach().to(memory_format=layout))]
    matrices = [nn.Parameter(matrices[0].detach().reshape(8, 18))]
    step_together([filters, matrices], [build("muon", filters), build("muon", matrices)], steps=3)
    assert torch.equal(filters[0].flatten(1), matrices[0])
    assert filters[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize(("shape", "longer"), [((64, 3, 3, 3), math.sqrt(64 / 27)), ((8, 16, 3, 3), 1.0)])
def test_muon_scales_filters_as_matrices_where_its_authors_code_has_a_factor_of_one(
    shape: tuple[int, ...], longer: float
) -> None:
    (ours,), (start,) = muon_pair([shape])
    ours.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    build("muon", [ours], lr=0.02).step()
    authors = start - 0.02 * orthogonalise(ours.grad.flatten(1), torch.float32).reshape(shape)
    torch.testing.assert_close(ours - start, longer * (authors - start), rtol=1e-3, atol=1e-6)


def test_muon_gives_the_rest_to_adamw() -> None:
    ours, theirs = muon_pair([(4, 3), (7,), (), (2, 3, 4), (1, 2, 2, 2, 2)])
    options = {"adamw_lr": 0.01, "adamw_beta1": 0.8, "adamw_beta2": 0.9, "adamw_eps": 0.001}
    optimizer = build("muon", ours, weight_decay=0.1, **options)
    adamw = torch.optim.AdamW(theirs[1:], lr=0.01, betas=(0.8, 0.9), eps=0.001, weight_decay=0.1)
    step_together([ours[1:], theirs[1:]], [optimizer, adamw], steps=4)
    assert same(list(ours[1:]), list(theirs[1:]))
    assert torch.equal(ours[0], theirs[0])  # it had no gradient


def test_muon_scales_each_groups_own_rate() -> None:
    steps = []
    for multiplier in (1.0, 0.25):
        ours, start = muon_pair([(4, 4), (7,)])
        optimizer = build("muon", ours, lr=0.02, adamw_lr=0.003)
        assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.003]
        for group in optimizer.param_groups:
            group["lr"] *= multiplier
        step_together([ours], [optimizer], steps=1)
        steps.append([(new - old).detach() for new, old in zip(ours, start, strict=True)])
    for whole, quarter in zip(*steps, strict=True):
        torch.testing.assert_close(quarter, whole / 4, rtol=1e-4, atol=1e-6)


def test_muon_leaves_the_gradient_as_it_was() -> None:
    ours, _ = muon_pair([(4, 4), (2, 3, 3, 3), (7,)])
    for parameter in ours:
        parameter.grad = torch.full_like(parameter, 0.5)
    build("muon", ours).step()
    assert all(bool((parameter.grad == 0.5).all()) for parameter in ours if parameter.grad is not None)

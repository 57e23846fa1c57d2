"""Muon: momentum steps made orthogonal, for matrices and convolution filters; AdamW for every other parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# a, b, c of the quintic x -> a x + b x³ + c x⁵, from Keller Jordan's post; steep at 0, so that five steps are enough.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5
SMALLEST_NORM = 1e-7

# What a matrix's rate is multiplied by, from its (rows, columns).
RATE_FACTORS: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: math.sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral_unclamped": lambda rows, columns: math.sqrt(rows / columns),
}


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """U S' Vᵀ for a matrix U S Vᵀ, with S' between about 0.7 and 1.2, computed and returned in `dtype`."""
    a, b, c = QUINTIC
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.to(dtype, copy=True)
    if tall:
        x = x.T  # the Gram matrix is then the smaller of the two
    with torch.autocast(matrix.device.type, enabled=False):
        x.div_(x.norm().clamp(min=SMALLEST_NORM))
        for _ in range(STEPS):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _precision(device: str) -> torch.dtype:
    if device == "cuda":
        return torch.bfloat16
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


class Muon(torch.optim.Optimizer):
    """The step of `torch.optim.Muon`, bit for bit where both use bfloat16, which takes neither filters nor the rest.

    On a GPU, matrices become orthogonal in bfloat16, as in the post; elsewhere in the precision of the autocast that
    the step is taken under, else in float32: a CPU without instructions for bfloat16 takes 12 s for a matrix of
    512 x 4608 that takes 0.35 s in float32, while one with matrix units for it takes half of float32's time.

    Parameters of two dimensions, and filters of four seen as (out, in * height * width), form the first group; the
    others are AdamW's. Each group has its own rate under "lr".
    """

    def __init__(self, groups: Iterable[dict[str, Any]], weight_decay: float = 0.0) -> None:
        """In each group `matrices: bool` says whose step it takes; the other keys are that step's options."""
        super().__init__(groups, {"weight_decay": weight_decay})

    @staticmethod
    def takes(parameter: nn.Parameter) -> bool:
        return parameter.ndim in (2, 4)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["matrices"]:
                self._step_matrices(group)
            else:
                self._step_others(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        momentum, lr, factor = group["momentum"], group["lr"], RATE_FACTORS[group["adjust_lr"]]
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            # lerp, not lerp_: the gradient stays what the backward pass left, for whoever logs its norm.
            direction = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
            matrix = direction.flatten(1)
            update = orthogonalise(matrix, _precision(parameter.device.type))
            if group["weight_decay"]:
                parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape), alpha=-lr * factor(*matrix.shape))

    def _step_others(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)  # on the CPU: AdamW reads it at each step
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

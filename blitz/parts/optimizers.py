"""The optimizers: parameters that require gradients in, a `torch.optim.Optimizer` out."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import unwrap
from typing import Any, Literal, TypeVar

import torch
from torch import nn, optim

from blitz.errors import BadInput
from blitz.parts.muon import Muon
from blitz.parts.registry import Fraction, NonNegative, Positive, Registry

Kind = TypeVar("Kind", bound=optim.Optimizer)
Parameters = Iterable[nn.Parameter]
OF_THE_COMPILER = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")  # methods that import it


def sgd(
    params: Parameters,
    *,
    lr: Positive = 0.001,
    momentum: Fraction = 0.9,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
    decay_1d: bool = True,
    fused: bool = False,
) -> optim.Optimizer:
    """`torch.optim.SGD`; lr and momentum default to those of PyTorch's 60-minute blitz.

    Raises BadInput for Nesterov's look-ahead without momentum.

    Args:
        lr: learning rate
        momentum: share of the last step that the next one keeps
        nesterov: look ahead along the momentum (needs momentum > 0)
        weight_decay: L2 penalty, added to the gradient
        decay_1d: false: no weight decay for biases and norm scales
        fused: one kernel for the whole step; faster, other last bits
    """
    if nesterov and momentum == 0:
        raise BadInput("optimizer.nesterov=true: Nesterov's look-ahead needs optimizer.momentum > 0")
    groups = _groups(params, decay_1d)
    return _eager(optim.SGD)(groups, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused or None)


def adam(
    params: Parameters,
    *,
    lr: Positive = 0.001,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    decay_1d: bool = True,
    fused: bool = False,
) -> optim.Optimizer:
    """`torch.optim.Adam` (arXiv:1412.6980).

    Args:
        lr: learning rate
        beta1: memory of the mean gradient
        beta2: memory of the mean squared gradient
        eps: added to the denominator
        weight_decay: L2 penalty, added to the gradient
        decay_1d: false: no weight decay for biases and norm scales
        fused: one kernel for the whole step; faster, other last bits
    """
    return _eager(optim.Adam)(_groups(params, decay_1d), lr, (beta1, beta2), eps, weight_decay, fused=fused or None)


def adamw(
    params: Parameters,
    *,
    lr: Positive = 0.001,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
    decay_1d: bool = True,
    fused: bool = False,
) -> optim.Optimizer:
    """`torch.optim.AdamW` (arXiv:1711.05101): Adam with weight decay apart from the gradient.

    Args:
        lr: learning rate
        beta1: memory of the mean gradient
        beta2: memory of the mean squared gradient
        eps: added to the denominator
        weight_decay: each step shrinks weights by lr * weight_decay
        decay_1d: false: no weight decay for biases and norm scales
        fused: one kernel for the whole step; faster, other last bits
    """
    return _eager(optim.AdamW)(_groups(params, decay_1d), lr, (beta1, beta2), eps, weight_decay, fused=fused or None)


def rmsprop(
    params: Parameters,
    *,
    lr: Positive = 0.001,
    alpha: Fraction = 0.99,
    momentum: Fraction = 0.0,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    decay_1d: bool = True,
) -> optim.Optimizer:
    """`torch.optim.RMSprop` (Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012).

    Args:
        lr: learning rate
        alpha: memory of the mean squared gradient
        momentum: share of the last step that the next one keeps
        eps: added to the denominator
        weight_decay: L2 penalty, added to the gradient
        decay_1d: false: no weight decay for biases and norm scales
    """
    return _eager(optim.RMSprop)(_groups(params, decay_1d), lr, alpha, eps, weight_decay, momentum)


def nadam(
    params: Parameters,
    *,
    lr: Positive = 0.002,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    eps: Positive = 1e-8,
    momentum_decay: NonNegative = 0.004,
    weight_decay: NonNegative = 0.0,
    decay_1d: bool = True,
) -> optim.Optimizer:
    """`torch.optim.NAdam`: Adam with Nesterov's look-ahead (Dozat, ICLR 2016 workshop).

    Args:
        lr: learning rate
        beta1: memory of the mean gradient, in the long run
        beta2: memory of the mean squared gradient
        eps: added to the denominator
        momentum_decay: how fast the memory grows from half of beta1 to all of it
        weight_decay: L2 penalty, added to the gradient
        decay_1d: false: no weight decay for biases and norm scales
    """
    return _eager(optim.NAdam)(_groups(params, decay_1d), lr, (beta1, beta2), eps, weight_decay, momentum_decay)


def muon(
    params: Parameters,
    *,
    lr: Positive = 0.02,
    momentum: Fraction = 0.95,
    nesterov: bool = True,
    adjust_lr: Literal["original", "match_rms_adamw", "spectral_unclamped"] = "original",
    adamw_lr: Positive = 3e-4,
    adamw_beta1: Fraction = 0.9,
    adamw_beta2: Fraction = 0.95,
    adamw_eps: Positive = 1e-10,
    weight_decay: NonNegative = 0.0,
    decay_1d: bool = True,
) -> optim.Optimizer:
    """Muon (Keller Jordan 2024, "Muon: An optimizer for hidden layers in neural networks"), defaults as in its code.

    Matrices and convolution filters, the input and output layers' too, take Muon's step; other parameters take AdamW's.
    Filters count as matrices (out, in * height * width) in adjust_lr as well, where Jordan's code (muon.py of
    github.com/KellerJordan/Muon) takes sqrt(max(1, height / width)), 1 for square ones. With "original" that makes a
    difference for layers with more filters than weights in each, mostly the first: 64 of 3x3x3 take steps 1.54 times
    as long as there.

    Args:
        lr: learning rate of matrices and convolution filters
        momentum: memory of the mean gradient
        nesterov: look ahead along the momentum
        adjust_lr: how lr depends on a matrix's shape: Jordan's way, AdamW's step size (arXiv:2502.16982), or
            sqrt(rows / columns)
        adamw_lr: learning rate of all other parameters
        adamw_beta1: AdamW's memory of the mean gradient
        adamw_beta2: AdamW's memory of the mean squared gradient
        adamw_eps: added to AdamW's denominator
        weight_decay: each step shrinks weights by their rate * weight_decay
        decay_1d: false: no weight decay for biases and norm scales
    """
    params = list(params)
    matrices: dict[str, Any] = {"matrices": True, "lr": lr, "momentum": momentum, "nesterov": nesterov}
    matrices |= {"adjust_lr": adjust_lr, "params": [p for p in params if Muon.takes(p)]}
    others: dict[str, Any] = {"matrices": False, "lr": adamw_lr, "betas": (adamw_beta1, adamw_beta2), "eps": adamw_eps}
    rest = _groups([p for p in params if not Muon.takes(p)], decay_1d)
    groups = [group for group in (matrices, *(others | group for group in rest)) if group["params"]]
    return _eager(Muon)(groups, weight_decay)


def _eager(optimizer: type[Kind]) -> type[Kind]:
    """The same class without what only a compiled `step` needs: every start would import the compiler for it, which
    takes two seconds. A model that is compiled steps outside of what is.
    """
    methods = {name: unwrap(getattr(optimizer, name)) for name in OF_THE_COMPILER}
    methods["step"] = torch.no_grad()(unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods)


def _groups(params: Parameters, decay_1d: bool) -> list[dict[str, Any]]:
    """One group, or two: the second holds the parameters of fewer than two dimensions, which are left undecayed."""
    params = list(params)
    if decay_1d:
        return [{"params": params}]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in params if p.ndim >= 2]},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


OPTIMIZERS = Registry(
    "optimizer", "blitz.optimizers", sgd=sgd, adam=adam, adamw=adamw, rmsprop=rmsprop, nadam=nadam, muon=muon
)

"""How much memory the weights of a model take, known before there is any of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

DRAWS = ("normal_", "uniform_")  # methods of tensors, and functions of torch.nn.init


class _Undrawn(TorchFunctionMode):
    """Draws no weights: on the meta device that would import a compiler, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def bytes_of_weights(build: Callable[[], nn.Module]) -> int:
    """Of what a builder makes; 0 for one that does not work without memory.

    A system may give more memory than it has: a model that is too large would fail only when its weights are drawn.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"), _Undrawn(), suppress(Exception):
        return sum(weights.nbytes for weights in build().parameters())
    return 0

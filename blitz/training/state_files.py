"""What torch.save wrote, read as data: no code that a file may hold is ever run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Unreadable(Exception):
    """Why a file cannot be used; the message follows its path."""


def read(path: Path) -> Any:
    """Tensors, onto the CPU, and plain values. Raises Unreadable for a file that holds or is anything else."""
    if not path.is_file():
        raise Unreadable("no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's notes on what the file may be
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise nearly anything on their way through the unpickler
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason = f"holds code ({code[1]}), which is never run"
        else:
            reason = "is not a file that torch.save wrote, or only a part of one"
        raise Unreadable(reason) from None


def misfits(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Why the state `given` cannot be loaded in place of `own`: other shapes first, then keys. Empty if it can."""

    def shape(value: Any) -> str:
        return "x".join(map(str, value.shape)) or "scalar" if isinstance(value, Tensor) else type(value).__name__

    shared = [name for name in own if name in given and shape(own[name]) != shape(given[name])]
    found = [
        *(f"{name} is {shape(given[name])}, not {shape(own[name])}" for name in shared),
        *(f"{name} is missing" for name in own if name not in given),
        *(f"{name} is unknown to this model" for name in given if name not in own),
    ]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")

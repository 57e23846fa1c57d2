"""Weights that exist already, into a model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blitz.errors import BadInput


def starting_weights(model: nn.Module, of_run: Callable[[str], Path], *, weights: str | None = None) -> None:
    """Give a fresh model the weights that its `weights` option names; `of_run` finds those of a run by its id.

    Args:
        weights: path of a weights file or checkpoint, or a run id, to start from; null: fresh
    """
    if weights is None:
        return
    path = Path(weights).expanduser()
    # What looks like a path is one even where nothing is there, so that a mistyped path is not told to be no run.
    is_path = path.exists() or path.suffix or len(path.parts) > 1
    load_weights(model, path if is_path else of_run(weights))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state_dict, or a checkpoint that holds one under "model", without running any code that it may hold.

    Raises BadInput for a file that is missing, cannot be read or belongs to another model.
    """
    state = _read(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        misfits = _misfits(model.state_dict(), state) or [str(error).splitlines()[0]]
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise BadInput(f"model.weights={path}: the weights of another model: {', '.join(misfits[:3])}{more}") from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"model.weights={path}: no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's notes on what the file may be: we tell it below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise nearly anything on their way through the unpickler
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason = f"holds code ({code[1]}), which is never run; save the state_dict alone"
        else:
            reason = "is not a file that torch.save wrote, or only a part of one"
        raise BadInput(f"model.weights={path}: {reason}") from None
    state = loaded.get("model", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f'model.weights={path}: holds no state_dict, neither itself nor under the key "model"')
    return state


def _misfits(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What keeps `given` from being loaded, shapes first: they tell most."""

    def shape(value: Any) -> str:
        return "x".join(map(str, value.shape)) or "scalar" if isinstance(value, Tensor) else type(value).__name__

    shared = [name for name in own if name in given and shape(own[name]) != shape(given[name])]
    return [
        *(f"{name} is {shape(given[name])}, not {shape(own[name])}" for name in shared),
        *(f"{name} is missing" for name in own if name not in given),
        *(f"{name} is unknown to this model" for name in given if name not in own),
    ]

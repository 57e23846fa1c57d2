"""Load existing weights into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from blitz.errors import BadInput
from blitz.training.state_files import Unreadable, misfits, read

_recorded_weights_follow = ContextVar("recorded_weights_follow", default=False)


@contextmanager
def recorded_weights_follow() -> Iterator[None]:
    """Models that are built in here are filled with recorded weights next: `pretrained=true` reads no file."""
    token = _recorded_weights_follow.set(True)
    try:
        yield
    finally:
        _recorded_weights_follow.reset(token)


def reads_pretrained(pretrained: bool) -> bool:
    """Whether a builder with this option `pretrained` has to read the pretrained weights."""
    return pretrained and not _recorded_weights_follow.get()


def starting_weights(model: nn.Module, find: Callable[[str], Path], *, weights: str | None = None) -> None:
    """Give a fresh model the weights that its `weights` option names; `find` finds their file.

    Args:
        weights: path of a weights file or checkpoint, or a run id, to start from; null: fresh
    """
    if weights is not None:
        load_weights(model, find(weights))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state_dict, or a checkpoint that holds one under "model", without running any code that it may hold.

    Raises BadInput for a file that is missing, cannot be read or belongs to another model.
    """
    state = _read(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = misfits(model.state_dict(), state) or str(error).splitlines()[0]
        raise BadInput(f"model.weights={path}: the weights of another model: {reason}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = read(path)
    except Unreadable as reason:
        advice = "; save the state_dict alone" if "code" in str(reason) else ""
        raise BadInput(f"model.weights={path}: {reason}{advice}") from None
    state = loaded.get("model", loaded) if isinstance(loaded, Mapping) else None
    if (
        not isinstance(state, dict)
        or not any(isinstance(value, Tensor) for value in state.values())
        or not all(isinstance(name, str) for name in state)
    ):
        raise BadInput(f'model.weights={path}: holds no state_dict, neither itself nor under the key "model"')
    return state

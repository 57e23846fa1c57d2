"""Everything that resuming needs, written atomically."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blitz.errors import BadInput
from blitz.run_folder.files import replacing
from blitz.training.loop import Learner
from blitz.training.state_files import Unreadable, misfits, read

FORMAT = 3
SHA256 = "sha256"  # key in a file: of all the rest


class Damaged(BadInput):
    """The file is not what was saved, and never will be again."""


class Misfit(Exception):
    """A state does not belong to a learner; the message follows its path."""


def snapshot(learner: Learner) -> dict[str, Any]:
    """The learner as plain containers and tensors, also in the middle of an epoch; to be saved before the next step.

    The tensors are the learner's own. Schedules and random streams are functions of `epoch`, `epoch_step` and `step`.
    """
    return {
        "format": FORMAT,
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict() if learner.average is not None else None,
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "epoch": learner.epoch,
        "step": learner.step,
        "epoch_step": learner.epoch_step,
        "sums": learner.sums.state_dict(),
    }


def restore(learner: Learner, state: Mapping[str, Any]) -> None:
    """Bring a learner of the same parts to where `state` was taken. Raises Misfit for the state of other parts."""
    if reason := misfits(learner.model.state_dict(), state["model"]):
        raise Misfit(f"holds another model: {reason}")
    if (learner.average is None) != (state["average"] is None):
        raise Misfit(f"holds {'no ' if learner.average else ''}averaged weights")
    learner.model.load_state_dict(state["model"])
    if learner.average is not None:
        learner.average.load_state_dict(state["average"])
    try:
        learner.optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError) as error:  # another number of groups, or of parameters in one; none at all
        raise Misfit(f"holds another optimizer: {error}") from None
    learner.scaler.load_state_dict(state["scaler"])
    learner.epoch, learner.step, learner.epoch_step = state["epoch"], state["step"], state["epoch_step"]
    learner.sums.load_state_dict(state["sums"])


def weights(learner: Learner) -> dict[str, Any]:
    """The weights that count, under the key `model`: what `best.pt` holds and `model.weights=` reads."""
    return {"format": FORMAT, "model": learner.evaluated.state_dict(), "epoch": learner.epoch, "step": learner.step}


def fingerprint(state: dict[str, Any]) -> str:
    """SHA-256 of what a state holds, whatever its order of keys, device, memory format or file.

    Nested containers are read as dotted names. Of a tensor, type, shape and each bit count (-0.0 is not 0.0); of a
    number, string or None, what `repr` says. Raises TypeError for anything else.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(_leaves(state), key=lambda item: item[0]):
        if isinstance(leaf, Tensor):
            digest.update(f"{name!r} {leaf.dtype} {list(leaf.shape)}\n".encode())
            # As bytes, because numpy has no bfloat16.
            digest.update(leaf.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        elif leaf is None or isinstance(leaf, int | float | str):
            digest.update(f"{name!r} {leaf!r}\n".encode())
        else:
            raise TypeError(f"{name}: a fingerprint holds tensors, numbers and strings, no {type(leaf).__name__}")
    return digest.hexdigest()


def _leaves(value: Any, *path: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, *path, key)
    else:
        yield ".".join(map(str, path)), value


def save(state: dict[str, Any], path: Path) -> None:
    """Write so that `path` holds the old or the new state whole, also after a power cut.

    Raises OSError with `errno` and `path` where the disk is full, read-only or broken, and leaves nothing half-written.
    """
    state = {**state, SHA256: fingerprint(state)}
    handled = sys.exception()  # by the caller, just now
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except BaseException as error:
        # After a write that failed, torch still tries to end its archive and raises a RuntimeError about positions.
        hidden = isinstance(error, RuntimeError) and error.__context__ not in (None, handled)
        cause = error.__context__ if hidden else error
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from None
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU; never runs code that the file holds.

    Raises Damaged for a file that is missing, damaged or no checkpoint, and BadInput for one of a newer blitz.
    """
    try:
        state = read(path)
    except Unreadable as reason:
        raise Damaged(f"{path}: {reason}") from None
    if not isinstance(state, dict) or not isinstance(state.get("format", 0), int):
        raise Damaged(f"{path}: not a checkpoint of blitz")
    if (found := state.get("format", 0)) > FORMAT:
        raise BadInput(
            f"{path}: written by a newer blitz (format {found}; this one reads up to {FORMAT}); update blitz"
        )
    saved = state.pop(SHA256, None)  # torch itself would read changed bits without a word
    if saved is not None and saved != fingerprint(state):
        raise Damaged(f"{path}: damaged: these are not the bits that were saved")
    return state

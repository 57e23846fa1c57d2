"""Everything that resuming needs, written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from blitz.training.loop import Learner

FORMAT = 1


def snapshot(learner: Learner) -> dict[str, Any]:
    """The learner as plain containers and tensors. Schedules and random streams are functions of `step` and `epoch`."""
    return {
        "format": FORMAT,
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict() if learner.average is not None else None,
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "epoch": learner.epoch,
        "step": learner.step,
    }


def restore(learner: Learner, state: dict[str, Any]) -> None:
    """Bring a learner of the same parts to where `state` was taken."""
    learner.model.load_state_dict(state["model"])
    if learner.average is not None:
        learner.average.load_state_dict(state["average"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.scaler.load_state_dict(state["scaler"])
    learner.epoch, learner.step = state["epoch"], state["step"]


def weights(learner: Learner) -> dict[str, Any]:
    """The weights that count, under the key `model`: what `best.pt` holds and `model.weights=` reads."""
    return {"format": FORMAT, "model": learner.evaluated.state_dict(), "epoch": learner.epoch, "step": learner.step}


def save(state: dict[str, Any], path: Path) -> None:
    """Write so that `path` holds the old or the new state whole, also after a power cut."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU; never runs code that the file holds."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state

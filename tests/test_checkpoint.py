"""Checkpoints: a run that goes on from one has the same bits as a run that was never stopped."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from blitz.parts.augmentations import AUGMENTATIONS
from blitz.parts.losses import LOSSES
from blitz.parts.mixes import MIXES
from blitz.parts.optimizers import OPTIMIZERS
from blitz.parts.schedules import SCHEDULES
from blitz.registry import Registry
from blitz.training import checkpoint
from blitz.training.batches import Batches
from blitz.training.loop import Learner, evaluate, fit

CPU = torch.device("cpu")
K, EPOCHS, COUNT, BATCH = 3, 4, 20, 8  # three steps an epoch, the last of them ragged
OPTIMIZERS_TRIED: list[dict[str, Any]] = [
    {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    {"name": "adam", "lr": 0.01},
    {"name": "muon"},
]


def part(registry: Registry, choice: dict[str, Any], *supplied: Any) -> Any:
    return registry.build(registry.check(choice), *supplied)


def make_learner(optimizer: dict[str, Any] | None = None, scaled: bool = False, averaged: bool = True) -> Learner:
    """Dropout, running statistics, momentum, a schedule, averaged weights and, where asked for, a scale that moves."""
    torch.manual_seed(0)
    filters = nn.Conv2d(3, 6, 3)
    model = nn.Sequential(filters, nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(216, K))
    # Small filters before a BatchNorm have large gradients: the first few steps overflow the scale and are left out.
    nn.init.normal_(filters.weight, std=0.001)
    return Learner(
        model=model,
        loss=part(LOSSES, {"name": "cross_entropy"}, K),
        optimizer=part(OPTIMIZERS, optimizer or OPTIMIZERS_TRIED[0], model.parameters()),
        schedule=part(SCHEDULES, {"name": "cosine", "warmup": 1}, EPOCHS * 3, 3),
        scaler=GradScaler("cpu", init_scale=2.0**127, growth_interval=2, enabled=scaled),
        autocast=contextlib.nullcontext,
        seed=3,
        clip_norm=1.0,
        average=AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True) if averaged else None,
    )


def train(learner: Learner, epochs: int) -> list[float]:
    """Up to this many finished epochs. Returns the loss of each step."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=generator)
    batches = Batches(images, torch.arange(COUNT) % K, BATCH, CPU, lambda images: images.float().sub_(128).div_(64))
    augment = part(AUGMENTATIONS, {"name": "flip_crop", "pad": 1}, (0.5, 0.5, 0.5))
    losses: list[float] = []
    for report in fit(learner, batches, batches, augment, part(MIXES, {"name": "mixup"}, K), epochs=epochs):
        losses += getattr(report, "losses", torch.empty(0)).tolist()
    return losses


def leaves(state: Any) -> list[tuple[str, Any]]:
    """Every value in nested containers, tensors as bytes."""
    if isinstance(state, Tensor):
        return [("", (state.dtype, state.shape, state.contiguous().view(-1).view(torch.uint8).numpy().tobytes()))]
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return [(f"{key}.{path}", leaf) for key, value in items for path, leaf in leaves(value)]
    return [("", state)]


def saved_half_way(path: Path, **options: Any) -> dict[str, Any]:
    learner = make_learner(**options)
    train(learner, EPOCHS // 2)
    checkpoint.save(checkpoint.snapshot(learner), path)
    return checkpoint.load(path)


# Going on from a checkpoint


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS_TRIED, ids=lambda optimizer: optimizer["name"])
def test_resuming_gives_the_bits_of_a_run_that_was_never_stopped(
    tmp_path: Path, optimizer: dict[str, Any], scaled: bool
) -> None:
    whole = make_learner(optimizer, scaled)
    losses = train(whole, EPOCHS)
    state = saved_half_way(tmp_path / "last.pt", optimizer=optimizer, scaled=scaled)
    torch.manual_seed(99)  # the default generator stands somewhere else in a new process
    resumed = make_learner(optimizer, scaled)
    checkpoint.restore(resumed, state)
    assert train(resumed, EPOCHS) == losses[EPOCHS // 2 * 3 :]
    assert leaves(checkpoint.snapshot(resumed)) == leaves(checkpoint.snapshot(whole))


@pytest.mark.parametrize("forgotten", ["model", "average", "optimizer", "scaler", "epoch", "step"])
def test_leaving_out_any_part_of_a_snapshot_shows(tmp_path: Path, forgotten: str) -> None:
    """So the test above can fail: each part is restored, and each matters."""
    whole = make_learner(scaled=True)
    train(whole, EPOCHS)
    state = saved_half_way(tmp_path / "last.pt", scaled=True)
    resumed = make_learner(scaled=True)
    checkpoint.restore(resumed, {**state, forgotten: checkpoint.snapshot(make_learner(scaled=True))[forgotten]})
    train(resumed, EPOCHS)
    assert leaves(resumed.evaluated.state_dict()) != leaves(whole.evaluated.state_dict())


def test_a_snapshot_has_no_part_that_the_test_above_leaves_out() -> None:
    parts = {"model", "average", "optimizer", "scaler", "epoch", "step"}
    assert set(checkpoint.snapshot(make_learner())) == parts | {"format"}


def test_a_run_without_averaging_resumes_too(tmp_path: Path) -> None:
    whole = make_learner(averaged=False)
    train(whole, EPOCHS)
    resumed = make_learner(averaged=False)
    checkpoint.restore(resumed, saved_half_way(tmp_path / "last.pt", averaged=False))
    train(resumed, EPOCHS)
    assert leaves(checkpoint.snapshot(resumed)) == leaves(checkpoint.snapshot(whole))


@pytest.mark.parametrize("averaged", [False, True])
def test_the_weights_that_are_kept_are_those_that_were_evaluated(tmp_path: Path, averaged: bool) -> None:
    learner = make_learner(averaged=averaged)
    train(learner, 2)
    checkpoint.save(checkpoint.weights(learner), tmp_path / "best.pt")
    kept = checkpoint.load(tmp_path / "best.pt")
    assert (kept["epoch"], kept["step"]) == (2, 6)
    plain = make_learner(averaged=False)
    plain.model.load_state_dict(kept["model"])
    images = torch.randint(256, (COUNT, 3, 8, 8), dtype=torch.uint8)
    batches = Batches(images, torch.arange(COUNT) % K, BATCH, CPU, Tensor.float)
    assert evaluate(plain, batches).loss == evaluate(learner, batches).loss
    assert (leaves(kept["model"]) == leaves(learner.model.state_dict())) is not averaged


# The file


def test_a_file_holds_what_was_saved(tmp_path: Path) -> None:
    learner = make_learner(scaled=True)
    train(learner, 1)
    state = checkpoint.snapshot(learner)
    checkpoint.save(state, tmp_path / "last.pt")
    assert leaves(checkpoint.load(tmp_path / "last.pt")) == leaves(state)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def half_written(state: Any, file: Any) -> None:
    file.write(b"half of it")
    raise OSError(28, "No space left on device")


def unsynced(descriptor: int) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("module", "name", "broken"), [(torch, "save", half_written), (os, "fsync", unsynced)], ids=["write", "sync"]
)
def test_a_save_that_fails_half_way_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, broken: Any
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save({"epoch": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, broken)
        with pytest.raises(OSError, match=r"No space|Input/output"):
            checkpoint.save({"epoch": 2}, path)
    assert checkpoint.load(path) == {"epoch": 1}
    checkpoint.save({"epoch": 3}, path)
    assert checkpoint.load(path) == {"epoch": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


class Planted:
    """Unpickling makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Planted(tmp_path / "made")}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "made").exists()  # the plant is a live one

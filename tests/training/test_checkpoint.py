"""Checkpoints: a run that resumes from one has the same bits as a run that was never stopped."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import random
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.processes import PATIENCE
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from blitz.errors import BadInput
from blitz.parts.augmentations import AUGMENTATIONS
from blitz.parts.losses import LOSSES
from blitz.parts.mixes import MIXES
from blitz.parts.optimizers import OPTIMIZERS
from blitz.parts.registry import Registry
from blitz.parts.schedules import SCHEDULES
from blitz.training import checkpoint
from blitz.training.batches import Batches
from blitz.training.loop import EpochResult, Learner, fit

CPU = torch.device("cpu")
K, EPOCHS, COUNT, BATCH = 3, 4, 20, 8  # three steps an epoch, the last of them ragged
OPTIMIZERS_TRIED: list[dict[str, Any]] = [
    {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    {"name": "adam", "lr": 0.01},
    {"name": "muon"},
]
IN_THE_MIDDLE = 7  # the first step of three of the third epoch


def part(registry: Registry, choice: dict[str, Any], *supplied: Any) -> Any:
    return registry.build(registry.check(choice), *supplied)


def make_learner(
    optimizer: dict[str, Any] | None = None, scaled: bool = False, averaged: bool = True, steps: int = EPOCHS * 3
) -> Learner:
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
        schedule=part(SCHEDULES, {"name": "cosine", "warmup": 1}, steps, 3),
        scaler=GradScaler("cpu", init_scale=2.0**127, growth_interval=2, enabled=scaled),
        autocast=contextlib.nullcontext,
        seed=3,
        clip_norm=1.0,
        average=AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True) if averaged else None,
    )


def train(
    learner: Learner,
    epochs: int = EPOCHS,
    until: int | None = None,
    *,
    count: int = COUNT,
    batch_size: int = BATCH,
    mix: str = "mixup",
) -> list[Any]:
    """Up to this many finished epochs or, as Ctrl-C does it, until this step.

    Returns the loss of each step and what each epoch measured but the time.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    batches = Batches(
        images, torch.arange(count) % K, batch_size, CPU, lambda images: images.float().sub_(128).div_(64)
    )
    augment = part(AUGMENTATIONS, {"name": "flip_crop", "pad": 1}, (0.5, 0.5, 0.5))
    metrics: list[Any] = []
    for report in fit(
        learner, batches, batches, augment, part(MIXES, {"name": mix}, K), epochs=epochs,
        stop=lambda: learner.step == until,
    ):  # fmt: skip
        if isinstance(report, EpochResult):
            metrics += [(name, value) for name, value in report.metrics.items() if not name.startswith("time/")]
            continue
        metrics += report.losses.tolist()
        if learner.step == until:
            break
    return metrics


def leaves(state: Any) -> list[tuple[str, Any]]:
    """Every value in nested containers, tensors as bytes."""
    if isinstance(state, Tensor):
        return [("", (state.dtype, state.shape, state.contiguous().view(-1).view(torch.uint8).numpy().tobytes()))]
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return [(f"{key}.{path}", leaf) for key, value in items for path, leaf in leaves(value)]
    return [("", state)]


def through_a_file(learner: Learner, path: Path) -> dict[str, Any]:
    checkpoint.save(checkpoint.snapshot(learner), path)
    return checkpoint.load(path)


# Resuming from a checkpoint


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS_TRIED, ids=lambda optimizer: optimizer["name"])
@pytest.mark.parametrize(
    ("epochs", "until"),
    [(2, None), (EPOCHS, 6), (EPOCHS, IN_THE_MIDDLE)],
    ids=["after an epoch", "before its evaluation", "in the middle of an epoch"],
)
def test_resuming_gives_the_bits_of_a_run_that_was_never_stopped(
    tmp_path: Path, epochs: int, until: int | None, optimizer: dict[str, Any], scaled: bool
) -> None:
    whole, stopped, resumed = (make_learner(optimizer, scaled) for _ in range(3))
    expected = train(whole)
    metrics = train(stopped, epochs, until)
    checkpoint.restore(resumed, through_a_file(stopped, tmp_path / "last.pt"))
    torch.manual_seed(99)  # the default generator stands somewhere else in a new process
    assert metrics + train(resumed) == expected
    assert leaves(checkpoint.snapshot(resumed)) == leaves(checkpoint.snapshot(whole))


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "averaged"])
@pytest.mark.parametrize("mix", ["none", "mixup"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("batch_size", [4, 48, 100])
def test_resuming_after_any_step_gives_the_bits_of_a_run_that_was_never_stopped(
    tmp_path: Path, batch_size: int, name: str, mix: str, averaged: bool
) -> None:
    """Batches are prepared in portions of 64, 96 and 100 images: of 16, 2 and 1 batches."""
    optimizer = {"name": name, "lr": 0.02, **({"momentum": 0.9} if name == "sgd" else {})}
    data: dict[str, Any] = {"count": 330, "batch_size": batch_size, "mix": mix}
    per_epoch = -(-330 // batch_size)
    draw = random.Random(f"{batch_size} {name} {mix} {averaged}")
    at = sorted(draw.sample(range(1, 2 * per_epoch), 2))  # stopped twice

    def learner() -> Learner:
        return make_learner(optimizer, averaged=averaged, steps=2 * per_epoch)

    whole, resumed, metrics = learner(), learner(), []
    expected = train(whole, 2, **data)
    for step in at:
        metrics += train(resumed, 2, step, **data)
        assert resumed.step == step
        state = through_a_file(resumed, tmp_path / "last.pt")
        resumed = learner()
        checkpoint.restore(resumed, state)
        torch.manual_seed(99)
    assert metrics + train(resumed, 2, **data) == expected, at
    assert leaves(checkpoint.snapshot(resumed)) == leaves(checkpoint.snapshot(whole)), at


@pytest.mark.parametrize(
    "forgotten", ["model", "average", "optimizer", "scaler", "epoch", "step", "epoch_step", "sums"]
)
def test_leaving_out_any_part_of_a_snapshot_shows(tmp_path: Path, forgotten: str) -> None:
    """So the tests above can fail: each part is restored, and each matters."""
    whole, stopped, resumed = (make_learner(scaled=True) for _ in range(3))
    expected = train(whole)
    metrics = train(stopped, until=IN_THE_MIDDLE)
    state = through_a_file(stopped, tmp_path / "last.pt")
    checkpoint.restore(resumed, {**state, forgotten: checkpoint.snapshot(make_learner(scaled=True))[forgotten]})
    metrics += train(resumed)
    same_weights = leaves(resumed.evaluated.state_dict()) == leaves(whole.evaluated.state_dict())
    assert same_weights is (forgotten == "sums")
    assert metrics != expected


def test_a_snapshot_has_no_part_that_the_test_above_leaves_out() -> None:
    parts = {"model", "average", "optimizer", "scaler", "epoch", "step", "epoch_step", "sums"}
    assert set(checkpoint.snapshot(make_learner())) == parts | {"format"}


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
    assert plain.evaluate(batches).loss == learner.evaluate(batches).loss
    assert (leaves(kept["model"]) == leaves(learner.model.state_dict())) is not averaged


# The file


def test_a_file_holds_what_was_saved(tmp_path: Path) -> None:
    learner = make_learner(scaled=True)
    train(learner, until=IN_THE_MIDDLE)
    state = checkpoint.snapshot(learner)
    checkpoint.save(state, tmp_path / "last.pt")
    assert leaves(checkpoint.load(tmp_path / "last.pt")) == leaves(state)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def half_written(state: Any, file: Any) -> None:
    file.write(b"half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def unsynced(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def interrupted(state: Any, file: Any) -> None:
    file.write(b"half of it")
    raise KeyboardInterrupt


def interrupted_in_a_write(state: Any, file: Any) -> None:
    try:
        raise KeyboardInterrupt
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 768 vs 662")


def unreadable(state: Any, file: Any) -> None:
    raise RuntimeError("CUDA error: unspecified launch failure")


@pytest.mark.parametrize(
    ("module", "name", "broken", "error"),
    [
        (torch, "save", half_written, OSError),
        (os, "fsync", unsynced, OSError),
        (torch, "save", interrupted, KeyboardInterrupt),
        (torch, "save", interrupted_in_a_write, KeyboardInterrupt),
        (torch, "save", unreadable, RuntimeError),
    ],
    ids=["write", "sync", "Ctrl-C", "Ctrl-C in a write", "device"],
)
def test_a_save_that_fails_half_way_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, broken: Any, error: type[BaseException]
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save({"epoch": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, broken)
        with pytest.raises(error) as raised:
            checkpoint.save({"epoch": 2}, path)
    if isinstance(raised.value, OSError):
        assert raised.value.filename == str(path)
        assert raised.value.errno in (errno.ENOSPC, errno.EIO)
    assert checkpoint.load(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    checkpoint.save({"epoch": 3}, path)
    assert checkpoint.load(path) == {"epoch": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_an_error_that_is_no_disks_stays_what_it_is_in_a_caller_that_handles_a_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "save", unreadable)
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        with pytest.raises(RuntimeError, match="CUDA error"):
            checkpoint.save({"epoch": 1}, tmp_path / "last.pt")


SAVE_WITH_LIMITS = """
import errno, resource, sys
from pathlib import Path
import torch
from blitz.training import checkpoint

folder = Path(sys.argv[1])
path = folder / "last.pt"
state = {"large": torch.zeros(60_000), "small": [torch.full((10,), i) for i in range(30)]}
checkpoint.save(state, path)
size = path.stat().st_size
checkpoint.save({"epoch": 1}, path)
limits = [*range(0, size, 3001), *range(size - 3000, size, 97), size - 1]
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoint.save(state, path)
    except OSError as error:
        assert (error.errno, error.filename) == (errno.EFBIG, str(path)), (limit, error)
    else:
        raise AssertionError(f"no error from a file of {size} bytes where {limit} are allowed")
    assert [file.name for file in folder.iterdir()] == ["last.pt"], limit
    assert checkpoint.load(path) == {"epoch": 1}, limit
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
checkpoint.save(state, path)
assert torch.equal(checkpoint.load(path)["small"][29], state["small"][29])
print(len(limits))
"""


@pytest.mark.slow
def test_wherever_a_write_fails_the_error_is_the_operating_systems(tmp_path: Path) -> None:
    """A file may only become so large, for many sizes: in the middle of a tensor, and in the archive's last lines."""
    pytest.importorskip("resource", reason="no limits of a file's size on this system")
    command = [sys.executable, "-c", SAVE_WITH_LIMITS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a disk is not permitted: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_raises_with_the_path_and_leaves_the_old_file_whole(small_disk: Path) -> None:
    path = small_disk / "last.pt"
    old = {"weights": torch.arange(100_000)}  # 0.8 MB
    checkpoint.save(old, path)
    for count in (70_000, 1_000_000):
        with pytest.raises(OSError, match=r"No space left on device.*last\.pt'$") as raised:
            checkpoint.save({"weights": torch.zeros(count)}, path)
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
        assert [file.name for file in small_disk.iterdir()] == ["last.pt"]
        assert leaves(checkpoint.load(path)) == leaves(old)
    checkpoint.save({"weights": torch.zeros(10_000)}, path)  # and works again where there is room


def test_a_read_only_disk_raises_with_the_path(small_disk: Path) -> None:
    path = small_disk / "last.pt"
    checkpoint.save({"epoch": 1}, path)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OSError, match="Read-only file system") as raised:
        checkpoint.save({"epoch": 2}, path)
    assert (raised.value.errno, raised.value.filename) == (errno.EROFS, str(path))
    assert checkpoint.load(path) == {"epoch": 1}


def test_a_folder_that_is_not_there_raises_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "last.pt"
    with pytest.raises(FileNotFoundError) as raised:
        checkpoint.save({"epoch": 1}, path)
    assert raised.value.filename == str(path)


@pytest.mark.parametrize("refused", [None, errno.EINVAL, errno.EIO])
def test_the_new_name_is_on_the_disk_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    """First the file is synced, then it is renamed, then its folder is synced, which not every file system offers."""
    synced: list[tuple[bool, list[str]]] = []

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, [file.name for file in tmp_path.iterdir()]))
        if is_folder and refused is not None:
            raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(os, "fsync", fsync)
    expected = pytest.raises(OSError, match=r"last\.pt") if refused == errno.EIO else contextlib.nullcontext()
    with expected:
        checkpoint.save({"epoch": 1}, tmp_path / "last.pt")
    assert synced == [(False, [".last.pt.unfinished"]), (True, ["last.pt"])]
    assert checkpoint.load(tmp_path / "last.pt") == {"epoch": 1}


class Planted:
    """Unpickling makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Planted(tmp_path / "made")}, tmp_path / "evil.pt")
    with pytest.raises(BadInput, match=r"evil\.pt: holds code \(posix\.mkdir\), which is never run"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "made").exists()  # the plant is a live one


# The fingerprint


def some_state() -> dict[str, Any]:
    return {
        "model": {"weight": torch.tensor([[1.5, -0.0, 3.0]]), "seen": torch.tensor(7)},
        "half": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
        "none": torch.empty(0, 3),
        "optimizer": {"state": {0: {"lr": 0.1}}, "betas": (0.9, 0.999), "name": "adam", "average": None},
    }


def test_a_fingerprint_is_the_hash_of_names_types_shapes_and_bytes_and_stays_what_it_was_in_recorded_runs() -> None:
    expected = hashlib.sha256()
    for line, data in [
        ("'half' torch.bfloat16 [2]", struct.pack("<2H", 0x3F80, 0xC000)),
        ("'mask' torch.bool [2]", b"\1\0"),
        ("'model.seen' torch.int64 []", struct.pack("<q", 7)),
        ("'model.weight' torch.float32 [1, 3]", struct.pack("<3f", 1.5, -0.0, 3.0)),
        ("'none' torch.float32 [0, 3]", b""),
        ("'optimizer.average' None", b""),
        ("'optimizer.betas.0' 0.9", b""),
        ("'optimizer.betas.1' 0.999", b""),
        ("'optimizer.name' 'adam'", b""),
        ("'optimizer.state.0.lr' 0.1", b""),
    ]:
        expected.update(f"{line}\n".encode() + data)
    assert checkpoint.fingerprint(some_state()) == expected.hexdigest()


def reordered(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    return {key: reordered(value) for key, value in reversed(state.items())}


def test_a_fingerprint_knows_nothing_of_order_files_and_memory(tmp_path: Path) -> None:
    learner = make_learner()
    train(learner, until=IN_THE_MIDDLE)
    state = {**checkpoint.snapshot(learner), **some_state()}
    expected = checkpoint.fingerprint(state)
    assert checkpoint.fingerprint(reordered(state)) == expected
    checkpoint.save(state, tmp_path / "state.pt")
    assert checkpoint.fingerprint(checkpoint.load(tmp_path / "state.pt")) == expected
    images = torch.randn(2, 3, 4, 5)
    formats = [
        images,
        images.to(memory_format=torch.channels_last),
        images.repeat(2, 1, 1, 1)[:2],
        nn.Parameter(images),
    ]
    strided = torch.randn(2, 3, 4, 10)
    strided[..., ::2] = images
    assert len({checkpoint.fingerprint({"w": kind}) for kind in [*formats, strided[..., ::2]]}) == 1


def test_a_fingerprint_differs_where_anything_differs() -> None:
    flipped = torch.tensor([1.0, 2.0])
    flipped.view(torch.int32)[1] ^= 1
    one, zero = torch.tensor([1.0, 2.0]), torch.tensor([0.0])
    states: list[dict[str, Any]] = [
        {"w": one},
        {"w": flipped},
        {"v": one},
        {"w": one, "v": one},
        {"w": {"v": one}},
        {"w": [one]},
        {"w": one[None]},
        {"w": one[:, None]},
        {"w": one.double()},
        {"w": one.view(torch.int32)},
        {"w": one.bfloat16()},
        {"w": one.half()},
        {"w": zero},
        {"w": -zero},
        {"w": torch.tensor(0.0)},
        {"w": torch.empty(0)},
        {"w": torch.empty(0, 2)},
        {"w": 0.0},
        {"w": -0.0},
        {"w": 0},
        {"w": False},
        {"w": "0"},
        {"w": None},
        {"w": "None"},
        {},
    ]
    found = [checkpoint.fingerprint(state) for state in states]
    for (one_state, a), (other, b) in itertools.combinations(zip(states, found, strict=True), 2):
        assert a != b, (one_state, other)


def test_a_fingerprint_refuses_what_it_cannot_read() -> None:
    with pytest.raises(TypeError, match=r"about\.path: .* no (Posix|Windows)Path"):
        checkpoint.fingerprint({"about": {"path": Path("x")}})

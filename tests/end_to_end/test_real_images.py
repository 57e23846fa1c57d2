"""The main job on real images: JPEG copies of CIFAR-10, in the folder that BLITZ_CIFAR10 names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import blitz
from blitz.runner.result import Result

pytestmark = pytest.mark.slow
ROOT = os.environ.get("BLITZ_CIFAR10")


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    if ROOT is None:
        pytest.skip("BLITZ_CIFAR10 names no folder with the CIFAR-10 images")
    os.chdir(tmp_path_factory.mktemp("runs"))
    return ["data=folder", f"data.root={ROOT}", "tracking=none"]


def run(overrides: list[str]) -> Result:
    return blitz.run(blitz.compose(overrides), overrides)


def test_the_tutorial_learns_from_a_part_of_the_images(cifar10: list[str]) -> None:
    result = run([*cifar10, "experiment=tutorial", "data.limit=0.3"])
    assert 0.40 <= result.test.accuracy <= 0.60
    assert int(result.test.confusion.sum()) == 3_000
    log = (result.folder / "run.log").read_text()
    assert re.search(r"15,000 training, no validation, 3,000 test images of 3 x 32 x 32, 10 classes", log)


def test_speedrun_passes_half_in_an_epoch(cifar10: list[str]) -> None:
    result = run([*cifar10, "experiment=speedrun_55"])
    assert result.test.accuracy > 0.50


def test_speedrun_90_learns_from_a_part_of_the_images(cifar10: list[str]) -> None:
    narrow = ["model.widths=[32,64]", "data.limit=0.05", "batch_size=100", "epochs=3"]
    result = run([*cifar10, "experiment=speedrun_90", *narrow])
    assert result.test.accuracy > 0.35


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own parts
def test_the_recipe_for_a_gpu_takes_some_steps_on_a_cpu(
    cifar10: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTorch takes code from its cache that was compiled for other vectors than ATEN_CPU_CAPABILITY allows.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # Compiled for a processor in bfloat16, torch 2.15 makes gradients of this net that are not numbers.
    few = ["device=cpu", "device.precision=fp32", "data.limit=400", "batch_size=100", "epochs=2"]
    result = run([*cifar10, "experiment=speedrun_94", *few])
    assert result.history[1]["train/loss"] < result.history[0]["train/loss"]
    assert "channels_last, compiled, not deterministic" in (result.folder / "run.log").read_text()


def test_a_resnet_learns_in_a_few_hundred_steps(cifar10: list[str]) -> None:
    overrides = [*cifar10, "experiment=resnet20", "epochs=2", "data.limit=0.1", "batch_size=32", "optimizer.lr=0.1"]
    result = run([*overrides, "device.threads=2"])
    assert result.test.accuracy > 0.30
    assert result.history[1]["val/loss"] < result.history[0]["val/loss"]
    assert {path.name for path in Path(result.folder, "figures").iterdir()} == {
        "curves.png", "confusion.png", "per_class_accuracy.png", "worst_mistakes.png",
    }  # fmt: skip

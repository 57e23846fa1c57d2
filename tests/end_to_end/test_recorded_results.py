"""The same configs give the same bits as they did when `recorded_results.json` was written.

A change that moves a result, or the identity of a config, fails here; the changelog says why, and this file, run as a
program, writes the results again. The hashes of all configs are compared everywhere. Weights and metrics are compared
on the kind of machine and with the versions that the results name; elsewhere those tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from support.processes import finished

import blitz
from blitz.config.settings import menus
from blitz.run_folder.journal import is_result
from blitz.runner.build import build
from blitz.runner.description import hashes
from blitz.runner.run import resume

RECORDED = Path(__file__).with_name("recorded_results.json")
COMMON = [
    "data=synthetic", "data.num_classes=4", "data.train_size=48", "data.test_size=20", "data.validation=0.25",
    "batch_size=8", "epochs=2", "device=cpu", "device.threads=1", "tracking=none", "tracking.figures=false",
    "tracking.step_loss=3",
]  # fmt: skip
OF_SYNTHETIC = {"data.num_classes", "data.train_size", "data.test_size"}
SMALL = "data.image_size=16"
TINY_VIT = ["model=vit", "model.width=32", "model.depth=2", "model.heads=2"]
TINY_WIDE = ["model=wide_resnet", "model.depth=10", "model.widen_factor=1"]
# Together every model family, optimizer, schedule, loss, augmentation and mix.
RUNS = {
    "net": ["model=net", "seed=3"],
    "net, a focal loss": ["model=net", "loss=focal", "data.limit=30", "optimizer.lr=0.01"],
    "digits": ["data=digits", "data.limit=60", "model=net", "optimizer.lr=0.1"],
    "mlp, Adam": ["model=mlp", "optimizer=adam", "schedule=step", "schedule.every=1", SMALL],
    "mlp, batches of one": ["model=mlp", "model.hidden=[]", "batch_size=1", SMALL],
    "mlp, no validation": ["model=mlp", "loss=multi_margin", "data.validation=0", SMALL],
    "mlp, mixup": ["model=mlp", "model.dropout=0.5", "mix=mixup", "optimizer=rmsprop", SMALL],
    "resnet20, NAdam": ["model=resnet20", "optimizer=nadam", "augment=flip_crop", "augment.cutout=4", SMALL],
    "resnet20, shortcut B": ["model=resnet20", "model.shortcut=B", "loss=bce", "schedule=cosine", SMALL],
    "resnet20, Muon": ["model=resnet20", "optimizer=muon", "loss=mse", "optimizer.decay_1d=false", SMALL],
    "resnet32, clipped": ["model=resnet32", "clip_norm=0.5", "loss.label_smoothing=0.1", SMALL],
    "resnet44, accumulated": ["model=resnet44", "micro_batch_size=3", "eval_flip=true", SMALL],
    "resnet56": ["model=resnet56", "schedule=trapezoid", "data.train_size=24", SMALL],
    "resnet110": ["model=resnet110", "epochs=1", "data.train_size=16", SMALL],
    "resnet18": ["model=resnet18", "epochs=1", "data.train_size=16", "data.test_size=10", SMALL],
    "wide_resnet, averaged": [*TINY_WIDE, "model.dropout=0.1", "ema=0.9", SMALL],
    "wide_resnet, channels last": [*TINY_WIDE, "device.channels_last=true", "early_stopping=1", SMALL],
    "airbench": [
        "model=airbench",
        "model.widths=[16,24]",
        "model.patch=4",
        "model.stride=2",
        "augment=flip_crop",
        SMALL,
    ],
    "airbench, bfloat16": [
        "model=airbench",
        "model.widths=[16,24]",
        "optimizer=muon",
        "augment=flip_shift",
        "eval_shift=1",
        "device.precision=bf16",
        SMALL,
    ],
    "vit, CutMix": [*TINY_VIT, "optimizer=adamw", "mix=cutmix", "schedule=one_cycle", SMALL],
    "vit, Muon": [*TINY_VIT, "optimizer=muon", "augment=trivial", SMALL],
    "torchvision": ["model=torchvision", "model.arch=shufflenet_v2_x0_5"],
    "timm": ["model=timm", "model.arch=test_resnet"],
}
RESUMED = ["model=net", "optimizer.momentum=0.5"]
SWEPT = ["model=net", "optimizer.lr=0.1,0.01", "seed=0,1"]
# What the quick tests train; the others take a second each.
QUICK = {"net", "digits", "resnet20, Muon", "vit, CutMix", "vit, Muon"}


def this_machine() -> dict[str, str]:
    """What the bits of a run on a processor depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    rows = [line.partition(":") for line in cpuinfo.read_text().splitlines()] if cpuinfo.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in rows}
    # Virtual machines give several processors one name: what oneDNN chooses by tells them apart.
    vectors = [flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    return {
        **{key: facts.get(key, "") for key in ("vendor_id", "cpu family", "model", "model name", "cache size")},
        "vectors": " ".join(sorted(vectors)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "openblas": os.environ.get("OPENBLAS_CORETYPE", ""),
        **{package: version(package) for package in ("torch", "torchvision", "timm", "numpy")},
    }


def complete(overrides: list[str]) -> list[str]:
    """With COMMON, less the options that another data set lacks."""
    common = COMMON
    if "data=digits" in overrides:
        common = [text for text in COMMON if text.partition("=")[0] not in OF_SYNTHETIC]
    return [*common, *overrides]


def config_hash(overrides: list[str]) -> str:
    return hashes(build(blitz.compose(complete(overrides))))["config_hash"]


def train(overrides: list[str]) -> Path:
    overrides = complete(overrides)
    return blitz.run(blitz.compose(overrides), overrides).folder


def train_and_resume() -> Path:
    return resume(train([*RESUMED, "epochs=1"]), ["epochs=2"]).folder


def read_results(folder: Path) -> dict[str, Any]:
    """The identity of a finished run, and everything that it found."""
    provenance = json.loads((folder / "provenance.json").read_text())
    metrics: dict[str, dict[str, str]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in filter(is_result, row.keys() - {"step", "time"}):
            metrics.setdefault(name, {})[str(row["step"])] = row[name].hex()
    return {
        "config_hash": json.loads((folder / "mlflow.json").read_text())["tags"]["config_hash"],
        "weights": provenance["result"]["weights"],
        "metrics": dict(sorted(metrics.items())),
    }


def sweep(folder: Path) -> dict[str, Any]:
    """The results of each job of a sweep, by its name."""
    code, _, errors = finished(folder, "-m", *COMMON, *SWEPT)
    assert code == 0, errors
    found = {}
    for path in folder.glob("runs/*/mlflow.json"):
        found[json.loads(path.read_text())["name"]] = read_results(path.parent)
    return found


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


@pytest.fixture(scope="module")
def same_machine(recorded):
    """Skips a test elsewhere, before it trains."""
    here, there = this_machine(), recorded["machine"]
    if here != there:
        differing = ", ".join(f"{key} {here[key]}" for key in here if here[key] != there.get(key))
        pytest.skip(f"only config_hash is compared: the results were recorded elsewhere (here: {differing})")


@pytest.mark.parametrize("name", RUNS)
def test_config_hash_is_as_recorded(name, recorded):
    assert config_hash(RUNS[name]) == recorded["runs"][name]["config_hash"]


def test_config_hash_of_resumed_runs_and_jobs_is_as_recorded(recorded):
    assert config_hash(RESUMED) == recorded["resumed"]["config_hash"]
    for name, job in recorded["sweep"].items():
        lr, seed = name.split()
        assert config_hash(["model=net", f"optimizer.{lr}", seed]) == job["config_hash"]


@pytest.mark.usefixtures("same_machine")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_results_of_a_run_are_as_recorded(name, recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_results(train(RUNS[name])) == recorded["runs"][name]


@pytest.mark.usefixtures("same_machine")
def test_results_of_a_resumed_run_are_as_recorded(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_results(train_and_resume()) == recorded["resumed"]


@pytest.mark.slow
@pytest.mark.usefixtures("same_machine")
def test_results_of_a_sweep_are_as_recorded(recorded, tmp_path):
    assert sweep(tmp_path) == recorded["sweep"]


def test_runs_use_every_choice_that_training_depends_on():
    without_name = {
        "model": "cifar_resnet",  # resnet20 to resnet110 are its names
        "optimizer": "sgd", "schedule": "constant", "loss": "cross_entropy", "augment": "none", "mix": "none",
    }  # fmt: skip
    chosen = {text for overrides in RUNS.values() for text in overrides}
    for group, name in without_name.items():
        names = set(menus()[group].names()) - {name}
        assert names <= {text.partition("=")[2] for text in chosen if text.startswith(f"{group}=")}


def write() -> None:
    with TemporaryDirectory(prefix="blitz-") as folder, chdir(folder):
        runs = {name: read_results(train(overrides)) for name, overrides in RUNS.items()}
        found = {"machine": this_machine(), "runs": runs, "resumed": read_results(train_and_resume()), "sweep": {}}
        Path("sweep").mkdir()
        found["sweep"] = sweep(Path("sweep").absolute())
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write()

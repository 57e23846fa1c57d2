"""A run in words: the first lines of its log, its name, tags and note in MLflow, and the facts about its parts."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blitz.config.settings import NOT_IN_DATA_HASH, NOT_IN_HASH, OF_A_SWEEP
from blitz.parts.datasets import Dataset, Splits
from blitz.parts.devices import Device
from blitz.redaction import redact_command, redact_values
from blitz.run_folder import provenance
from blitz.run_folder.run_info import shortened
from blitz.runner.build import Setup
from blitz.terminal.names import briefly
from blitz.training.metrics import Evaluation
from blitz.training.selection import Best

NAME_LENGTH = 120
RECIPES = ("experiment", "debug")
# Overrides that say nothing about an experiment: where things are, and how it is recorded.
UNNAMED = (*NOT_IN_HASH, *OF_A_SWEEP, *(f"data.{key}" for key in NOT_IN_DATA_HASH))


def introduction(setup: Setup) -> list[str]:
    splits, dataset = setup.splits, setup.dataset
    channels, height, width = splits.train.images.shape[1:]
    held_out = f"{len(splits.validation.labels):,} validation, " if splits.validation else "no validation, "
    lines = [
        f"data     {dataset.name}: {len(splits.train.labels):,} training, {held_out}{len(splits.test.labels):,} test "
        f"images of {channels} x {height} x {width}, {len(dataset.classes)} classes",
        f"model    {setup.settings.model['name']}: {_num_parameters(setup):,} parameters",
        f"device   {setup.device.describe()}",
    ]
    if step := setup.learner.step:
        lines.append(f"resume   after {setup.learner.epoch} of {setup.settings.epochs} epochs, at step {step:,}")
    return lines


def name(setup: Setup, overrides: Sequence[str]) -> str:
    """As the user gave it, or made of what was overridden: the MLflow UI shows its first words."""
    if own := setup.settings.name or (setup.job.label if setup.job is not None else ""):
        return own
    pairs = [override.lstrip("+~").partition("=") for override in overrides]
    recipes = [value for key, _, value in pairs if key in RECIPES]
    changed = briefly(f"{key}{sign}{value}" for key, sign, value in pairs if key not in RECIPES and not is_unnamed(key))
    text = " ".join(filter(None, [changed, *recipes])) or f"{setup.settings.model['name']} on {setup.dataset.name}"
    return shortened(text, NAME_LENGTH)


def is_unnamed(key: str) -> bool:
    """Whether an override of this key says nothing about an experiment, but where things are and what is recorded."""
    return any(key == unnamed or key.startswith(f"{unnamed}.") for unnamed in UNNAMED)


def tags(setup: Setup, overrides: Sequence[str], facts: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """What a person filters runs by, and what the MLflow UI shows beside them."""
    settings, fingerprint = setup.settings, setup.dataset.fingerprint
    found = provenance.tags(facts)
    return {
        **found,
        "device": str(setup.device.torch),
        "precision": setup.device.precision,
        "data.fingerprint": fingerprint,
        **hashes(setup),
        "folder": str(folder.absolute()),
        **source_tags(found, command(overrides)),
        "mlflow.note.content": note(setup, overrides, facts["code"], folder, ""),
        **settings.tags,
    }


def source_tags(found: Mapping[str, str], command: str) -> dict[str, str]:
    """What the MLflow UI shows of where a run comes from."""
    return {
        "mlflow.user": found["user"],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command,
        "mlflow.source.git.commit": found["git.commit"],
        "mlflow.source.git.branch": found["git.branch"],
    }


def hashes(setup: Setup) -> dict[str, str]:
    settings, fingerprints = setup.settings, (setup.dataset.fingerprint, setup.starting_weights)
    return {"config_hash": settings.config_hash(*fingerprints), "group_hash": settings.group_hash(*fingerprints)}


def command(overrides: Sequence[str]) -> str:
    """As it is typed. Without `-m` the keys of a sweep are left out, which a job has and a single run refuses."""
    if "-m" not in overrides:
        overrides = [override for override in overrides if not override.lstrip("+").startswith("sweep.")]
    return shlex.join(["blitz", *redact_command(overrides)])


def note(
    setup: Setup,
    overrides: Sequence[str],
    code: Mapping[str, Any],
    folder: Path,
    outcome: str,
    run_id: str | None = None,
) -> str:
    """Markdown: what the run was, what came out, and how to repeat it."""
    settings = setup.settings
    steps = f"{settings.epochs} epoch{'s' * (settings.epochs > 1)} of batches of {settings.batch_size}"
    what = (
        f"{settings.model['name']} ({_num_parameters(setup):,} parameters) on {setup.dataset.name} "
        f"({len(setup.splits.train):,} training images), {settings.optimizer['name']}, {steps}, seed {settings.seed}; "
        f"{setup.device.describe()}."
    )
    own = [override for override in overrides if not override.lstrip("+").startswith(("notes=", "device.threads="))]
    commands = [command([*own, f"device.threads={setup.device.threads}"])]
    if code["commit"]:
        commands.insert(0, f"git checkout {code['commit']}")
        if code["dirty"]:
            commands.insert(1, "git apply git.diff   # an artifact of this run")
    if run_id is not None:
        commands.insert(0, f"blitz reproduce {run_id}   # or by hand:")
    again = "\n".join(["Again:", "", "```sh", *commands, "```"])
    paragraphs = [settings.notes, what, outcome, again, f"{platform.node()}:{folder.absolute()}"]
    return "\n\n".join(filter(None, paragraphs))


def outcome(test: Evaluation, best: Best, validated: bool) -> str:
    chosen = f"{best.accuracy:.2%} on the validation images" if validated else "the last"
    return f"**{test.accuracy:.2%} test accuracy** with the weights of epoch {best.epoch} ({chosen})."


def about_model(setup: Setup) -> dict[str, Any]:
    """What `load_model` builds the model from."""
    return {
        "model": redact_values({**setup.settings.model, "weights": None}),
        "classes": list(setup.dataset.classes),
        "input_shape": list(setup.splits.train.images.shape[1:]),
        "mean": list(setup.splits.mean),
        "std": list(setup.splits.std),
    }


def about_data(dataset: Dataset, splits: Splits) -> dict[str, Any]:
    sizes = {name: len(part.labels) for name, part in vars(splits).items() if hasattr(part, "labels")}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "images": sizes,
        "classes": list(dataset.classes),
        "mean": list(splits.mean),
        "std": list(splits.std),
    }


def about_device(device: Device) -> dict[str, Any]:
    return {
        "name": str(device.torch),
        "hardware": device.name,
        "precision": device.precision,
        "threads": device.threads,
        "deterministic": device.deterministic,
        "channels_last": device.channels_last,
        "compile": device.compile,
    }


def _num_parameters(setup: Setup) -> int:
    return sum(parameter.numel() for parameter in setup.learner.model.parameters())

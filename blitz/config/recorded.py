"""A run's recorded config, read back as what it is: data. What it must not decide comes from here and today."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from blitz.config.settings import NOT_IN_DATA_HASH, Settings, check
from blitz.errors import BadInput, refuse
from blitz.parts.registry import Count
from blitz.run_folder.yaml_files import UNREADABLE, reason, refuse_bomb

# What people say of a run: texts that nothing is computed from. Nothing in a recorded config is ever resolved.
WORDS = ("name", "tags", "notes")
# What the config of every run holds, from the first key to the last.
WRITTEN = (*(key for key, field in Settings.model_fields.items() if field.is_required()), "notes")


class _Facts(BaseModel):
    model_config = ConfigDict(extra="allow")


class RecordedDevice(_Facts):
    """What a run computed on."""

    name: str
    threads: Count


class _Images(_Facts):
    train: Count
    test: Count
    validation: Count | None = None


class _Data(_Facts):
    fingerprint: str
    images: _Images


class Code(_Facts):
    """What brings the code of a run back."""

    commit: Annotated[str, StringConstraints(pattern="^[0-9a-f]{7,64}$")] | None
    version: Annotated[str, StringConstraints(pattern=r"^[\w.+!-]+$")]
    dirty: bool | None = None


class _Resumed(_Facts):
    """What a run was continued with."""

    code: Code
    step: int = 0
    diff: Annotated[str, StringConstraints(pattern=r"^git\.resumed-\d+\.diff$")] | None = None


class _Result(_Facts):
    weights: dict[str, str] = {}  # SHA-256 of the initial, the best and the last
    metrics: dict[str, str] = {}  # hexadecimal floats, exact


class Provenance(_Facts):
    """What a `provenance.json` must hold; all the rest of it is kept as well."""

    device: RecordedDevice
    data: _Data
    code: Code
    result: _Result = _Result()  # of a run that ended
    resumed: list[_Resumed] = []


def read_provenance(path: Path) -> Provenance:
    """Raises BadInput for a file that is anything else."""
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise BadInput(f"{path}: not the provenance of a run, or only a part of it") from None


def read_config(path: Path) -> dict[str, Any]:
    """The values of a `config.yaml`. Raises BadInput for one that cannot be read, or that is more than data."""
    try:
        if path.read_bytes()[-1:] not in (b"", b"\n"):
            raise ValueError("its last line has no end, so it is only a part of what was written")
        refuse_bomb(path)
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except UNREADABLE as error:
        raise BadInput(f"{path}: cannot be read: {reason(error)}") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: not the config of a run")
    if missing := [key for key in WRITTEN if key not in values]:
        raise BadInput(f"{path}: not the config of a run, or only a part of one: it holds no {', no '.join(missing)}")
    refuse(f"{path}: {problem}" for problem in _more_than_data(values))
    # `sweep`: an older blitz recorded there which job of a sweep a run was.
    return {str(key): value for key, value in values.items() if key != "sweep"}


def check_recorded(config: Mapping[str, Any], path: Path) -> Settings:
    """Raises BadInput, with the file that `config` was read from: nobody has typed what is wrong in it."""
    try:
        return check(config)
    except BadInput as bad:
        raise BadInput(*(f"{path}: {problem}" for problem in bad.problems)) from None


def change(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The config with some values replaced, to be checked. Raises BadInput for anything but `KEY=VALUE`.

    A group's choice stays as it was: its recorded options would be another one's.
    """
    changed = copy.deepcopy(dict(config))
    refuse(problem for text in overrides if (problem := _replace(changed, text)))
    refuse(_more_than_data(changed))
    return changed


def without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without paths, addresses and what was said of the run, which a repetition has of its own.

    What is recorded of the steps is a part of what is compared, and stays.
    """
    kept = {key: value for key, value in config.items() if key not in ("runs_dir", *WORDS)}
    if isinstance(data := config.get("data"), Mapping):
        kept["data"] = {key: value for key, value in data.items() if key not in NOT_IN_DATA_HASH}
    if isinstance(tracking := config.get("tracking"), Mapping):
        kept["tracking"] = {key: value for key, value in tracking.items() if key == "step_loss"}
    return kept


def refuse_missing_place(settings: Settings) -> None:
    """Raises BadInput where a path is needed, and none is known here."""
    from blitz.parts.datasets.cache import ROOT, named_root
    from blitz.parts.datasets.folder import LAYOUT

    if settings.data["name"] == "folder" and named_root(settings.data["root"])[0] is None:
        why = "data=folder needs one, and none of this run is known on this host"
        raise BadInput(f"data.root: {why}; give data.root=DIR, or set {ROOT} ({LAYOUT})")


def _replace(config: dict[str, Any], text: str) -> str | None:
    """Returns what is wrong with the override, if anything."""
    from blitz.config.compose import UNREADABLE, with_id_as_text
    from blitz.config.hydra_internals import parse_override

    override = parse_override(with_id_as_text(text))
    if override is None:
        return f"{text}: {UNREADABLE}"
    key = override.key_or_group
    if override.is_delete() or override.is_add() or override.is_hydra_override() or override.is_sweep_override():
        return f"{text}: accepted: KEY=VALUE for a value of the recorded config"
    node: Any = config
    *parents, last = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return f"{key}: no such key of a config"
    if isinstance(node.get(last), dict) or (last == "name" and parents):
        return f"{text}: a choice stays as it was recorded; change values, such as {key.split('.')[0]}.OPTION"
    node[last] = override.value()
    return None


def _more_than_data(values: Mapping[Any, Any]) -> Iterator[str]:
    for path, value in leaves(values):
        key = ".".join(path)
        if "_target_" in path:
            yield f"{key}={value}: names code; a recorded config is data and is never run"
        elif isinstance(value, str) and "${" in value and path[0] not in WORDS:
            yield f"{key}={value}: an interpolation; a recorded config holds plain values"


def leaves(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in nested mappings and lists, each with its path."""
    if isinstance(value, Mapping | list | tuple) and value:
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(inner, *path, str(key))
    else:
        yield path, value

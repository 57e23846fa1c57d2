"""What Hydra accepts and nobody heeds, or takes for something else than was meant: refused before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, reduce
from itertools import accumulate
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from blitz.config.groups import CONF
from blitz.config.hydra_internals import as_text
from blitz.config.settings import OF_A_SWEEP, Checkpoint, Choice, Settings, Tracking
from blitz.config.targets import refuse_code
from blitz.errors import BadInput, no_such, refuse

ONE_NAME = "accepted: one name"
DEEPEST = 50  # brackets within brackets: for each, Hydra calls itself some ten times
LONGEST_NAME = 250  # bytes, of 255 that a file's may have: Hydra adds .yaml
# Keys that every config has, with options of their own.
PARTS = [name for name, field in Settings.model_fields.items() if field.annotation in (Choice, Tracking, Checkpoint)]
PARTS += OF_A_SWEEP
OF_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.chdir", "hydra.output_subdir")
OF_MULTIRUN = ("hydra/launcher", "hydra/sweeper")
OF_A_JOB = re.compile(r"hydra\.(job\.(num|id)|overrides|runtime)\b")  # what Hydra says of one


def refuse_without_effect(overrides: Iterable[str], multirun: bool = False, is_run: bool = True) -> None:
    """Raises BadInput for what Hydra would take and nobody heed: options of a sweep, where a single run is asked for,
    what Hydra says of a job, where Hydra itself would put a run, and keys removed that come back with their defaults.

    `is_run`: it is no config that is only printed, where those of a sweep may stand.
    """
    problems = []
    for text in overrides:
        key, _, value = text.lstrip("+~").partition("=")
        if key in OF_FOLDERS:
            problems.append(f"{text}: blitz makes a run's folder itself, in runs_dir")
        if OF_A_JOB.match(key):
            problems.append(f"{text}: Hydra sets this key itself")
        if key == "hydra" and not value.startswith("{"):
            problems.append(f"{text}: accepted: mapping of options to values")
        if key == "hydra.mode" and value == "RUN" and multirun:
            problems.append(f"{text}: contradicts -m, which asks for a sweep")
        if _depth(text) > DEEPEST:
            problems.append(f"{text}: accepted: brackets within brackets {DEEPEST} times at most")
        if _is_too_long(text):
            problems.append(f"{text}: too long for the name of a key or of a file")
        elif (key.split(".")[0] in OF_A_SWEEP or key in OF_MULTIRUN) and is_run and not multirun:
            problems.append(f"{text}: needs -m, for a sweep")
        if text.startswith("~") and key and (problem := _lasting(key)):
            problems.append(f"{text}: {problem}")
    refuse(problems)


def refuse_composed(config: DictConfig, with_plugins: bool) -> None:
    """Raises BadInput for what no composed config may hold, whoever wrote it there: code for Hydra to run, several
    choices of a part, of which the last one would count, and files that Hydra passes over for ours.
    """
    refuse_code(config, with_plugins)
    refuse_several(config)
    _refuse_folders(config)
    for source in config.hydra.runtime.config_sources:
        if source.provider.startswith("hydra.searchpath") and source.schema == "file":
            refuse_shadowed(source.path)


def _refuse_folders(config: DictConfig) -> None:
    """Raises BadInput where a recipe would have Hydra make folders, which `refuse_without_effect` finds on the command
    line.
    """
    if config.hydra.job.config_name != "config":
        return
    values = OmegaConf.to_container(config, resolve=False)
    refuse(
        f"{key}={as_text(_at(values, key))}: blitz makes a run's folder itself, in runs_dir"
        for key, ours in _folders().items()
        if _at(values, key) != ours
    )


@cache
def _folders() -> dict[str, Any]:
    """What `conf/` says of them."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"), resolve=False)
    return {key: _at(values, key) for key in OF_FOLDERS}


def _at(values: Any, key: str) -> Any:
    return reduce(lambda inner, name: inner[name], key.split("."), values)


def refuse_several(config: DictConfig) -> None:
    """Raises BadInput where a list of names is chosen for a part, of which Hydra keeps no choice. Only recipes add up.

    A primary config of the user's own, which may hold its parts as values, is left alone.
    """
    if config.hydra.job.config_name != "config":
        return
    listed = [part for part in PARTS if (CONF / part).is_dir() and part not in config.hydra.runtime.choices]
    overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    typed = {text.partition("=")[0]: text for text in overrides}
    refuse(f"{typed.get(part, f'{part}=[…]')}: {ONE_NAME}" for part in listed)


def refuse_name(config_name: str, folders: Iterable[str]) -> None:
    """Raises BadInput for a `--config-name` that stands neither in `conf/` nor in the user's own folders."""
    names = {file.stem for folder in (str(CONF), *folders) for file in Path(folder).glob("*.yaml")}
    if config_name.removesuffix(".yaml") not in names:
        raise BadInput(no_such(f"--config-name={config_name}", "config", config_name, sorted(names)))


def refuse_shadowed(config_dir: str) -> None:
    """Raises BadInput for a `--config-dir` that is no folder, or with files that Hydra would pass over for ours."""
    folder = Path(config_dir)
    if not config_dir or not folder.is_dir():
        raise BadInput(f"--config-dir={config_dir}: no such folder")
    pairs = [(folder / ours.relative_to(CONF), ours) for ours in sorted(CONF.rglob("*.yaml"))]
    shadowed = [theirs for theirs, ours in pairs if theirs.is_file() and not theirs.samefile(ours)]
    refuse(f"{file}: blitz has a file of that name, which goes first; rename yours" for file in shadowed)
    taken = [folder / name for name in _stored(ConfigStore.instance().repo) if (folder / name).is_file()]
    refuse(f"{file}: this name is taken, by blitz, Hydra or a plugin of it; rename yours" for file in taken)


def _stored(groups: Mapping[str, Any]) -> Iterator[str]:
    """The names of configs that are no files, as those of files would be."""
    for name, inner in groups.items():
        if isinstance(inner, Mapping):
            yield from (f"{name}/{below}" for below in _stored(inner))
        else:
            yield name


def _depth(text: str) -> int:
    """How many brackets are within each other."""
    return max(accumulate((character in "[{(") - (character in ")}]") for character in text), default=0)


def _is_too_long(text: str) -> bool:
    """Whether Hydra would look for a file of a name that no file can have: any key may be a group's."""
    key, _, value = text.lstrip("+~").partition("=")
    names = re.split(r"[/,\[\]]", key)
    if max(map(len, names)) <= LONGEST_NAME and (key.startswith("hydra/") or (CONF / key).is_dir()):
        names = re.split(r"[/,\[\]]", value)
    return max(len(name.encode()) for name in names) > LONGEST_NAME


def _lasting(key: str) -> str:
    """Why a key cannot be removed; empty for one that can."""
    part, _, option = key.partition(".")
    is_group = (CONF / part).is_dir()
    if key in PARTS or (part in PARTS and option == "name"):
        return f"every config has one; accepted: {f'{part}=NAME, ' if is_group else ''}{part}.OPTION=VALUE"
    if is_group and not option:  # a recipe
        return "leave it out for none"
    if part in PARTS or (part in Settings.model_fields and part != "tags"):
        return f"cannot be removed; accepted: {key}=VALUE"
    return ""

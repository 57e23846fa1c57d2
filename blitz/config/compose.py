"""`conf/` and overrides to a composed config; all mistakes are reported together, as blitz words them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from blitz.config.composer import Composer
from blitz.config.groups import CONF, with_menu
from blitz.config.hydra_internals import (
    COMPOSING_ERRORS,
    Override,
    RangeSweep,
    ValueType,
    as_text,
    compose_config,
    parse_override,
    parse_overrides,
    reword,
)
from blitz.config.refused import ONE_NAME, PARTS, refuse_several, refuse_without_effect
from blitz.config.settings import Settings, all_menus, check
from blitz.errors import BadInput, nearest, no_such

UNREADABLE = "cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)"
OF_IDS = ("model.weights", "sweep.resume")  # keys that take the start of a run's id
RESOLVING = re.compile('^\\w+ raised while resolving interpolation: "?(.*?)"?$')  # OmegaConf's words around others
NUMBER = re.compile(r"(?<![^,])\d+(e\d+)?(?![^,])")  # a whole value, or one of several


def compose(overrides: Sequence[str] = ()) -> Settings:
    """The config that `blitz OVERRIDES…` would train with, checked.

    Raises BadInput with all mistakes.
    """
    refuse_without_effect(overrides)
    overrides = as_hydra_overrides(overrides)
    try:
        return check(plain(_compose(overrides)))
    except COMPOSING_ERRORS as error:
        raise explain(overrides, error) from None


def as_hydra_overrides(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them: a tag may have any name, where Hydra wants new keys marked; an id is text."""
    return [
        f"++{override}" if override.startswith(("tags.", "tags=")) else with_id_as_text(override)
        for override in overrides
    ]


def overrides_of(settings: Settings) -> list[str]:
    """Overrides that make these settings, for those that were made in Python; without notes."""
    values = {key: value for key, value in settings.as_dict().items() if key != "notes"}
    chosen = [f"{key}={value['name']}" for key, value in values.items() if isinstance(value, dict) and "name" in value]
    base, usual = plain(_compose(chosen)), plain(_compose([]))
    found = [text for text in chosen if usual[text.partition("=")[0]]["name"] != text.partition("=")[2]]
    for key, value in values.items():
        if isinstance(value, dict):
            found += [f"{key}.{name}={as_text(inner)}" for name, inner in value.items() if inner != base[key].get(name)]
        elif value != base.get(key):
            found.append(f"{key}={as_text(value)}")
    return found


def with_id_as_text(override: str) -> str:
    """The start of a run's id may look like a number: one in 70 begins like 1234567890 or 12e4567890."""
    key, equals, value = override.partition("=")
    return key + equals + NUMBER.sub(r"'\g<0>'", value) if key.lstrip("+") in OF_IDS else override


def as_hydra_job_overrides(overrides: Iterable[str]) -> list[str]:
    """The same for the config that Hydra composes before those of a sweep's jobs: the parts in it are not theirs, and
    would refuse an option that they lack.
    """

    def is_an_option(text: str) -> bool:
        override = parse_override(text) if re.match(r"(?!hydra\.)\w+\.", text) else None
        return override is not None and not override.is_sweep_override()

    return [f"++{text}" if is_an_option(text) else text for text in as_hydra_overrides(overrides)]


def as_typed(overrides: Iterable[str]) -> list[str]:
    """Overrides as people type them: `++` is for Hydra alone, since the check after it refuses unknown keys."""
    return [text.removeprefix("++") for text in overrides]


def typed_in(overrides: Any) -> list[str]:
    """Hydra's record of a job's overrides: with what interpolations stand for, unless that is beside their key."""
    try:
        return list(overrides)
    except OmegaConfBaseException:
        texts: Any = OmegaConf.to_container(overrides, resolve=False)
        return [str(text) for text in texts]


def plain(config: DictConfig) -> dict[str, Any]:
    """The config without Hydra's own, as plain values, interpolations resolved.

    Raises BadInput for one that cannot be.
    """
    try:
        keys = [key for key in config if key != "hydra"]
        values = {str(key): "???" if OmegaConf.is_missing(config, key) else config[key] for key in keys}
        return {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in values.items()
        }
    except OmegaConfBaseException as error:
        words = RESOLVING.sub(r"\1", str(error).splitlines()[0])
        raise BadInput(f"{error.full_key}: {words}") from None


def explain(
    overrides: Sequence[str],
    error: Exception,
    folders: Sequence[str] = (),
    multirun: bool = False,
    composing: Callable[[list[str]], DictConfig] | None = None,
) -> BadInput:
    """All mistakes in the overrides, where Hydra stops at the first one and words it for its own developers.

    `composing`: a quicker way to compose others in the place of these.
    """
    problems: list[str] = []
    meant: list[str] = []
    if of_hydra := [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]:
        problems += _problems_of(of_hydra, folders)  # together: an option is one of the choice beside it
    for text in overrides:
        found, likely = _check_override(text, folders, multirun)
        problems.extend(found)
        meant.extend(likely)
    try:
        check(plain(composing(meant) if composing else _compose(meant, folders)))
    except BadInput as bad:
        problems.extend(bad.problems)
    except COMPOSING_ERRORS as still:
        error = still
    return BadInput(*(problems or [reword(error)]))


def _compose(overrides: Sequence[str], folders: Sequence[str] = ()) -> DictConfig:
    """`folders`: the user's own."""
    if folders or any(text.startswith("hydra") for text in overrides):  # such as another search path
        paths = ",".join(f"file://{Path(folder).resolve()}" for folder in folders)
        extra = [f"hydra.searchpath=[{paths}]"] if folders else []
        config = with_menu(lambda: compose_config(CONF, [*overrides, *extra]))
    else:
        builders = tuple(registry.builder(name) for registry in all_menus().values() for name in registry.names())
        config = _composer(_files(), builders).compose(overrides)
    refuse_several(config)
    return config


@lru_cache(maxsize=1)
def _composer(files: tuple[tuple[Path, int, int], ...], builders: tuple[Callable[..., Any], ...]) -> Composer:
    """One for as long as these are the files of `conf/`, and these stand on the menus."""
    return Composer(
        lambda overrides: with_menu(lambda: compose_config(CONF, overrides)),
        lambda text: parse_overrides([text])[0],
        lambda key: (CONF / key).is_dir(),
    )


def _files() -> tuple[tuple[Path, int, int], ...]:
    states = ((path, path.stat()) for path in sorted(CONF.rglob("*.yaml")))
    return tuple((path, state.st_mtime_ns, state.st_size) for path, state in states)


def _choices(group: str, folders: Sequence[str]) -> set[str]:
    """Nothing for what is no group."""
    with_yaml = {file.stem for parent in (str(CONF), *folders) for file in (Path(parent) / group).glob("*.yaml")}
    registry = all_menus().get(group)
    return with_yaml | set(registry.names() if registry else [])


def _check_override(text: str, folders: Sequence[str], multirun: bool) -> tuple[list[str], list[str]]:
    """What is wrong with an override by itself, and what to compose in its place so that other mistakes are found."""
    override = parse_override(text)
    if override is None or not override.key_or_group:
        typed = text.removeprefix("++") if text.startswith("++tags") else text
        return [f"{typed}: {UNREADABLE}"], []
    key, swept = override.key_or_group, override.is_sweep_override()
    if override.is_hydra_override():
        return [], []
    if override.is_delete():
        return _problems_of([text], folders), []
    problems = []
    if swept and not multirun:
        as_list = "" if key in PARTS else f"; a list is written {key}=[A,B]"
        problems.append(f"{text}: several values need -m, for a sweep{as_list}")
    choices = _choices(key, folders)
    if choices and not isinstance(override.value(), dict):
        wrong, meant = _check_choice(override, choices)
        return problems + wrong, meant
    # Hydra takes ++ even for a key that it does not know: our own check words it better.
    return problems, [f"++{key}={value}" for value in _values(override)[:1]] if swept else [f"++{text.lstrip('+')}"]


def _check_choice(override: Override, choices: Collection[str]) -> tuple[list[str], list[str]]:
    """What is wrong with `group=name`, and the choice that was probably meant."""
    group, value = override.key_or_group, override.value()
    if value is None:
        menu = ", ".join(sorted(choices))
        return [f"{group}=null: needs a name; leave it out for the default (accepted: {menu})"], []
    if override.get_key_element().startswith("+") and (CONF / group).is_dir():
        return [f"{override.input_line}: write it without +, {group}=NAME"], []
    several = value if isinstance(value, list) else _values(override) if override.is_sweep_override() else [value]
    names = [str(name) for name in several]
    problems = [no_such(f"{group}={name}", group, name, sorted(choices)) for name in names if name not in choices]
    likely = [nearest(name, choices) or name for name in names]
    if isinstance(value, list) and group in PARTS:
        problems.insert(0, f"{override.input_line}: {ONE_NAME}")
        value = None
    chosen = f"[{','.join(likely)}]" if isinstance(value, list) else likely[0] if likely else None
    return problems, [f"{override.get_key_element()}={chosen}"] if chosen else []


def _values(override: Override) -> list[str]:
    """The values of a sweep, as far as they are listed; of a range the first."""
    if override.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP):
        return []
    if isinstance(values := override.value(), RangeSweep):
        return [str(values.start)]
    return list(override.sweep_string_iterator())


def _problems_of(overrides: Sequence[str], folders: Sequence[str]) -> list[str]:
    """What Hydra has against overrides that only it can judge."""
    try:
        _compose(overrides, folders)
    except BadInput as bad:
        return list(bad.problems)
    except COMPOSING_ERRORS as error:
        return [reword(error)]
    return []

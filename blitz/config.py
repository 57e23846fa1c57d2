"""`conf/` and overrides to a composed config, with every mistake told at once and in our words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from blitz.errors import BadInput, did_you_mean
from blitz.settings import Settings, check

# In a checkout `conf/` stands beside the package, in a wheel inside it.
_HERE = Path(__file__).resolve().parent
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"

Outcome = TypeVar("Outcome")


def compose(overrides: Sequence[str] = ()) -> Settings:
    """The config that `blitz OVERRIDES…` would train with, checked.

    Raises BadInput, which tells all mistakes together.
    """
    try:
        return check(plain(offering_the_menu(lambda: _composed(overrides))))
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(overrides, error) from None


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, with interpolations resolved. Raises BadInput for one that cannot be."""
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise BadInput(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def offering_the_menu(composing: Callable[[], Outcome]) -> Outcome:
    """Compose; where a choice has no YAML but stands on its group's menu, make its YAML from its signature."""
    while True:
        try:
            return composing()
        except MissingConfigException as error:
            if not _offered(error.missing_cfg_file or ""):
                raise


def explained(overrides: Sequence[str], error: Exception, config_dir: str | None = None) -> BadInput:
    """All mistakes in the overrides, where Hydra stops at the first one and words it for its own developers."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as unparsed:
        return BadInput(f"{unparsed.override}: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)")
    problems: list[str] = []
    remaining: list[str] = []
    for override in parsed:
        problem = _choice_problem(override, config_dir)
        if problem:
            problems.append(problem)
        elif not override.is_delete() and not override.key_or_group.startswith("hydra"):
            remaining.append(_forced(override, config_dir))
    try:
        check(plain(offering_the_menu(lambda: _composed(remaining, config_dir))))
    except BadInput as bad:
        problems.extend(bad.problems)
    except (HydraException, OmegaConfBaseException) as still:
        if not problems:
            return BadInput(str(still).splitlines()[0])
    return BadInput(*(problems or [str(error).splitlines()[0]]))


def _composed(overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    before = GlobalHydra.instance().hydra  # a run may compose while Hydra itself is at work
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose("config", overrides=[*overrides, *extra])
    finally:
        GlobalHydra.instance().hydra = before


def _groups(config_dir: str | None) -> set[str]:
    folders = [CONF] + ([Path(config_dir)] if config_dir else [])
    return {folder.name for parent in folders for folder in parent.iterdir() if folder.is_dir()}


def _choices(group: str, config_dir: str | None) -> set[str]:
    from blitz.settings import menus

    folders = [CONF] + ([Path(config_dir)] if config_dir else [])
    with_yaml = {file.stem for parent in folders for file in (parent / group).glob("*.yaml")}
    registry = menus().get(group)
    return with_yaml | set(registry.names() if registry else [])


def _choice_problem(override: Override, config_dir: str | None) -> str | None:
    """What is wrong with `group=name`, or None."""
    group = override.key_or_group
    if group not in _groups(config_dir) or override.is_sweep_override():
        return None
    value, choices = override.value(), _choices(group, config_dir)
    if value is None or str(value) in choices:
        return None
    return (
        f"{group}={value}: no such {group}{did_you_mean(str(value), choices)} (accepted: {', '.join(sorted(choices))})"
    )


def _forced(override: Override, config_dir: str | None) -> str:
    """The override so that Hydra takes it even for a key it does not know: our own check words it better."""
    if override.key_or_group in _groups(config_dir):
        return override.input_line or ""
    if override.is_sweep_override():
        first = next(iter(override.sweep_string_iterator()))
        return f"++{override.key_or_group}={first}"
    return f"++{(override.input_line or '').lstrip('+')}"


def _offered(missing: str) -> bool:
    """Whether `group/name` stands on a menu; if so, its YAML is in Hydra's ConfigStore now."""
    from inspect import Parameter

    from blitz.settings import menus

    group, _, name = missing.removesuffix(".yaml").rpartition("/")
    registry = menus().get(group)
    if registry is None or name not in registry.names():
        return False
    node: dict[str, Any] = {"name": name}
    for option in registry.options(name):
        node[option.name] = "???" if option.default is Parameter.empty else option.default
    ConfigStore.instance().store(name=name, group=group, node=node)
    return True

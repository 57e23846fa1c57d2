"""The groups of `conf/` and of a user's own folders, and choices that stand on a menu without a YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from blitz.config.hydra_internals import parse_override
from blitz.config.settings import all_menus

# In a checkout `conf/` stands beside the package, in a wheel inside it.
_PACKAGE = Path(__file__).resolve().parents[1]
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# CIFAR ResNets by the names of the field have no YAML of their own: Hydra finds that of `cifar_resnet` without `depth`.
SHORT_NAMES = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
_ANY_DEPTH: dict[Any, Any] = {**OmegaConf.load(CONF / "model" / "cifar_resnet.yaml")}
del _ANY_DEPTH["depth"]
for _name in SHORT_NAMES:
    ConfigStore.instance().store(name=_name, group="model", node={**_ANY_DEPTH, "name": _name})

Outcome = TypeVar("Outcome")


def with_menu(composing: Callable[[], Outcome]) -> Outcome:
    """Compose; where a choice has no YAML but stands on its group's menu, make its YAML from its signature."""
    while True:
        try:
            return composing()
        except MissingConfigException as error:
            if not _store_choice(error.missing_cfg_file or ""):
                raise


def store_menu(group: str) -> None:
    """Make the YAML of each choice of a group that has none, so that Hydra lists it."""
    with_yaml = {file.stem for file in (CONF / group).glob("*.yaml")}
    for name in set(all_menus()[group].names() if group in all_menus() else ()) - with_yaml:
        _store_choice(f"{group}/{name}")


def _store_choice(missing: str) -> bool:
    """Whether `group/name` stands on a menu; if so, its YAML is in Hydra's ConfigStore now."""
    group, _, name = missing.removesuffix(".yaml").rpartition("/")
    registry = all_menus().get(group)
    if registry is None or name not in registry.names():
        return False
    node: dict[str, Any] = {"name": name}
    for option in registry.options(name):
        node[option.name] = "???" if option.default is Parameter.empty else option.default
    ConfigStore.instance().store(name=name, group=group, node=node)
    return True


def own_folders(config_dir: str | None, overrides: Iterable[str]) -> list[str]:
    """Where a user has groups and recipes: `--config-dir`, and the folders of `hydra.searchpath`."""
    given = [parse_override(text) for text in overrides if text.lstrip("+").startswith("hydra.searchpath=")]
    values = [override.value() for override in given if override is not None]
    listed = [path for value in values if isinstance(value, list) for path in value if isinstance(path, str)]
    paths = [path.removeprefix("file://") for path in listed]
    files = [path for path in paths if "://" not in path]
    return [config_dir, *files] if config_dir is not None else files

"""Code that a config names for Hydra to run: refused before it runs, but for installed launchers and sweepers.

Hydra would call whatever `_target_` names. A recipe that somebody sent is data; code comes with installed packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from blitz.config.recorded import leaves
from blitz.errors import did_you_mean, refuse

PLUGINS: dict[str, type[Launcher | Sweeper]] = {"launcher": Launcher, "sweeper": Sweeper}
LOGGING = ("job_logging", "hydra_logging")
HARMLESS = {"version", "disable_existing_loggers", "root"}  # keys of a logging group that builds nothing
DATA = "a config is data and runs no code"


def refuse_code(config: DictConfig, with_plugins: bool) -> None:
    """Raises BadInput for what Hydra would run of a composed config.

    `with_plugins`: whether its launcher and sweeper are made, from values that interpolations may bring.
    """
    refuse(_code_in(config, with_plugins))


def _code_in(config: DictConfig, with_plugins: bool) -> Iterator[str]:
    values: Any = OmegaConf.to_container(config, resolve=False)
    hydra = values["hydra"]
    if not isinstance(hydra, dict):
        yield f"hydra={hydra}: accepted: mapping of options to values"
        return
    for key in _keys(hydra.pop("callbacks", None)):
        yield f"hydra.callbacks{key}: names code; {DATA} (accepted: no callbacks)"
    for group in LOGGING:
        logging = hydra.pop(group, None)
        if logging is not None and not (isinstance(logging, dict) and _builds_nothing(logging)):
            yield (
                f"hydra.{group}: names classes that write a log; {DATA} "
                f"(accepted: hydra/{group}=none; a run writes its log itself, run.log in its folder)"
            )
    job = hydra.get("job") or {}
    copied = job["env_copy"] if isinstance(job.get("env_copy"), list) else []  # from this process's own
    for key in _keys(job.get("env_set")):
        if key.removeprefix(".") not in copied:
            yield f"hydra.job.env_set{key}: an environment variable may choose what code runs; set it in the shell"
    if with_plugins:
        for plugin in PLUGINS:
            chosen = OmegaConf.select(config, f"hydra.{plugin}")
            hydra[plugin] = OmegaConf.to_container(chosen, resolve=True) if OmegaConf.is_config(chosen) else chosen
    targets = [(path, value) for path, value in leaves(hydra, "hydra") if "_target_" in path]
    code = [problem for path, value in targets if (problem := _problem_of(path, value))]
    yield from code
    if with_plugins and not code:
        for plugin in PLUGINS:
            yield from _misfits(plugin, hydra[plugin])


def _misfits(plugin: str, chosen: Any) -> Iterator[str]:
    """What an installed launcher or sweeper would not take, by the config that its package has stored."""
    if not isinstance(chosen, dict) or "_target_" not in chosen:
        yield f"hydra.{plugin}: names no {plugin} (accepted: hydra/{plugin}=NAME of an installed one)"
        return
    for stored in ConfigStore.instance().repo["hydra"].get(plugin, {}).values():
        if getattr(stored, "node", {}).get("_target_") == chosen["_target_"]:
            try:
                OmegaConf.merge(stored.node, chosen)
            except OmegaConfBaseException as error:
                yield f"hydra.{plugin}.{error.full_key}: {str(error).splitlines()[0]}"


def _keys(value: Any) -> list[str]:
    """What a mapping has, as the ends of dotted keys; of anything else that is there, such as an interpolation, all."""
    return [f".{key}" for key in value] if isinstance(value, dict) else [""] if value is not None else []


def _builds_nothing(logging: Mapping[Any, Any]) -> bool:
    return logging.get("root", "") is None and set(logging) <= HARMLESS


def _problem_of(path: tuple[str, ...], target: Any) -> str | None:
    """What is wrong with a `_target_`, if anything: that of a plugin's part must be one that a package has stored."""
    plugin = path[1] if len(path) > 2 else ""
    if path[2:] == ("_target_",) and plugin in PLUGINS:
        installed = [f"{cls.__module__}.{cls.__name__}" for cls in Plugins.instance().discover(PLUGINS[plugin])]
        if target in installed:
            return None
        near = did_you_mean(str(target), installed)
        return f"{'.'.join(path)}={target}: no installed {plugin}{near} (accepted: hydra/{plugin}=NAME of one that is)"
    if plugin in PLUGINS and target in _brought(ConfigStore.instance().repo["hydra"].get(plugin, {})):
        return None
    return f"{'.'.join(path)}={target}: names code; {DATA}"


def _brought(group: Mapping[str, Any]) -> set[Any]:
    """All `_target_` in the configs that packages have stored below a group."""
    found = set()
    for stored in group.values():
        if isinstance(stored, dict):
            found |= _brought(stored)
        else:
            values = OmegaConf.to_container(stored.node, resolve=False)
            found |= {value for path, value in leaves(values) if path[-1:] == ("_target_",)}
    return found

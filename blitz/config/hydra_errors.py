"""What Hydra and OmegaConf have against overrides, in the words of all other mistakes."""

from __future__ import annotations

import re

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from blitz.errors import did_you_mean, in_one_line

# What is raised for overrides and YAML files that cannot be taken.
COMPOSING_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
GROUPS = tuple(f"hydra/{name}" for name in ("launcher", "sweeper", "job_logging", "hydra_logging", "help", "env"))
PLUGINS = ("launcher", "sweeper")  # whose options are those of the one that is chosen


def reworded(error: Exception) -> str:
    """One line, without what follows for Hydra's developers."""
    words, cause = in_one_line(error), error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _no_such_choice(str(error.missing_cfg_file), [str(name) for name in error.options])
    if deleting := re.fullmatch(r"Could not delete from config\. '(.+)' does not exist\.", words):
        return f"~{deleting[1]}: no such key of a config"
    if isinstance(cause, OmegaConfBaseException):
        if words.startswith("Could not override"):
            return _no_such_option(cause)
        if merging := re.match(r"Error merging override (\S+=.*)", words):
            return f"{merging[1]}: {str(cause).splitlines()[0]}"
    return re.split(r" (?:Config search path:|full_key:)", words)[0]


def _no_such_choice(path: str, names: list[str]) -> str:
    group, _, name = path.removesuffix(".yaml").rpartition("/")
    kind = group.rpartition("/")[2]
    return f"{group}={name}: no such {kind}{did_you_mean(name, names)} (accepted: {', '.join(names)})"


def _no_such_option(error: OmegaConfBaseException) -> str:
    path, name = str(error.full_key), str(error.key)
    if "/" in path:
        return f"{path}: no such group{did_you_mean(path, GROUPS)}"
    parent = path.removesuffix(name)
    names = [str(key) for key in error.parent_node or () if key != "_target_"]
    told = f"{path}: no such option{did_you_mean(name, names, parent)}"
    if plugin := next((plugin for plugin in PLUGINS if parent == f"hydra.{plugin}."), None):
        told += f"; they are those of the {plugin} that hydra/{plugin}=NAME chooses"
    return told + (f" (accepted: {', '.join(names)})" if names else "")

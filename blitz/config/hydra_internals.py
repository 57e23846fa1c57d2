"""All that blitz takes from Hydra's internals: no documentation promises any of it to the next version.

Tested on hydra-core 1.3.8 with omegaconf 2.3.1, and on hydra-core 1.4.0rc3 with omegaconf 2.4.1rc1.
"""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from fractions import Fraction
from functools import partial
from io import StringIO
from pathlib import Path
from traceback import extract_tb
from typing import Any

import hydra
from hydra import __version__, initialize_config_dir
from hydra._internal import config_loader_impl
from hydra._internal import hydra as hydra_app
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString, RangeSweep, ValueType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from blitz.errors import BadInput, did_you_mean, in_one_line, no_such, refuse
from blitz.run_folder.yaml_files import UNREADABLE, reason, refuse_bomb

__all__ = ["IntervalSweep", "Override", "RangeSweep", "ValueType"]

# What is raised for overrides and YAML files that cannot be composed.
COMPOSING_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
GROUPS = tuple(f"hydra/{name}" for name in ("launcher", "sweeper", "job_logging", "hydra_logging", "help", "env"))
# Hydra 1.3 warns where this is missing, Hydra 1.4 where it is given.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if __version__.startswith("1.3.") else {}
# Launcher -> the extra of blitz that brings it.
EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
PLUGINS = ("launcher", "sweeper")  # their options depend on which of them is chosen
MIXED = re.compile("Cannot merge (DictConfig with ListConfig|incompatible container types)")  # OmegaConf 2.3, 2.4
MAPPING = "accepted: mapping of options to values"
# What Hydra says in its own terms, as a pattern -> the same in ours.
REWORDED = {
    r"Could not delete from config\. '(.+)' does not exist\.": r"~\1: no such key of a config",
    r"Could not delete from config\. The value of '(.+)' is (.+) and not (.+)\.": r"~\1=\3: the value is \2",
    r"Could not delete '(.+)'\. No match in the defaults list": r"~\1: nothing of this name was chosen",
    r"Could not append to config\. An item is already at '(.+?)'\. .*": r"+\1: every config has it; write it without +",
    r"Error merging override (~\S+)": r"\1: cannot be removed",
    r"Could not override '(.+)@.+'\. .*": r"\1: accepted: \1=NAME, without @",
    r"Could not override '(.+?)'\. .*": r"\1: no such group",
    r"hydra\.searchpath must be a list of strings\. Got: (.*)":
        r"hydra.searchpath=\1: accepted: list of folders, such as hydra.searchpath=[DIR]",
    r"No config source registered for schema (\w+), .*":
        r"hydra.searchpath: no such scheme as \1 (accepted: file, pkg)",
    r"Ambiguous value for argument '(.+?)' .*": r"\1: accepted: one value; a list is written KEY=[A,B]",
    r"Sweeping over Hydra's configuration is not supported : '(.+)'": r"\1: accepted: one value, for the whole sweep",
}  # fmt: skip


def read_flags(arguments: Sequence[str]) -> Namespace:
    """A command line as Hydra's own parser reads it, with overrides anywhere between the flags."""
    parser: ArgumentParser = get_args_parser()
    parser.exit_on_error = False
    try:
        flags, unknown = parser.parse_known_intermixed_args(arguments)
    except ArgumentError as error:
        raise BadInput(in_one_line(error)) from None
    refuse(f"{flag}: no such flag; see blitz --help and blitz --hydra-help" for flag in unknown)
    return flags


@contextmanager
def checked_configs(
    check: Callable[[DictConfig, bool], None], compose: Callable[[Callable[[], DictConfig]], DictConfig]
) -> Iterator[None]:
    """While this lasts, an app of Hydra composes with `compose(composing)`, which may call `composing` again, and uses
    no config that `check(config, with_plugins)` raises for.

    That is earlier than Hydra makes callbacks, loggers, launcher or sweeper of it. Hydra sends its loader to the
    processes of a launcher, where jobs are composed again, and both functions go with it.
    """
    of_hydra = hydra_app.Hydra

    class Checked(of_hydra):  # type: ignore[misc, valid-type]
        def __init__(self, task_name: str, config_loader: Any) -> None:
            super().__init__(task_name=task_name, config_loader=config_loader)
            config_loader._load_configuration_impl = partial(_load, config_loader, check, compose)

        def show_cfg(self, **asked: Any) -> None:
            printed = StringIO()
            try:
                with redirect_stderr(printed):
                    super().show_cfg(**asked)
            except (SystemExit, IndexError):  # the latter for brackets
                raise BadInput(f"--package={asked['package']}: no such key of the config that is printed") from None
            sys.stderr.write(printed.getvalue())

    hydra_app.Hydra = Checked  # type: ignore[misc]
    try:
        yield
    finally:
        hydra_app.Hydra = of_hydra  # type: ignore[misc]


def _load(loader: Any, check: Callable[..., None], compose: Callable[..., DictConfig], **arguments: Any) -> DictConfig:
    with _sources_read():
        config = compose(lambda: type(loader)._load_configuration_impl(loader, **arguments))
    check(config, arguments["run_mode"] == RunMode.MULTIRUN)
    verbose = config.hydra.verbose
    names = verbose if OmegaConf.is_list(verbose) else [verbose]
    if not isinstance(verbose, bool) and not all(isinstance(name, str) for name in names):
        raise BadInput(
            f"hydra.verbose={as_text(verbose)}: accepted: true, false, the name of a logger or a list of these"
        )
    return config


@contextmanager
def _sources_read() -> Iterator[None]:
    """Raises BadInput for a YAML file that cannot be read, for defaults lists that are none or lead back to themselves,
    and for a folder of hydra.searchpath that is not there, of which Hydra warns.
    """
    Plugins.instance()  # which fills the registry
    of_files: Any = SourcesRegistry.instance().resolve("file")
    load_config = of_files.load_config
    paths: list[Path] = []  # in the order they were read

    def read(source: Any, config_path: str) -> Any:
        path = Path(source.path, config_path)
        path = path if path.suffix == ".yaml" else path.with_name(f"{path.name}.yaml")
        if not path.exists():
            return load_config(source, config_path)  # which raises what the composing knows
        paths.append(path)
        try:
            refuse_bomb(path)
            found = load_config(source, config_path)
            values: Any = OmegaConf.to_container(found.config, resolve=False)
            of_hydra = values.get("hydra", {}) if isinstance(values, dict) else {}
            if found.header["package"] == "_global_" and not isinstance(of_hydra, dict):
                raise ValueError(f"hydra={as_text(of_hydra)}: accepted: mapping of options to values")
            return found
        except UNREADABLE as error:
            raise BadInput(f"{path}: cannot be read: {reason(error)}") from None

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "provider=", UserWarning)
        of_files.load_config = read
        try:
            yield
        except UserWarning as missing:
            path = re.sub(r"provider=.*?, path=(.*) is not available\.", r"\1", str(missing), flags=re.DOTALL)
            raise BadInput(f"hydra.searchpath=[{path}]: no such folder") from None
        except RecursionError as error:
            if not paths or "defaults_list" not in "".join(frame.filename for frame in extract_tb(error.__traceback__)):
                raise
            raise BadInput(f"{paths[-1]}: its defaults list leads back to itself") from None
        except ValueError as error:
            if not str(error).startswith(("Unsupported type in defaults", "Unsupported item value in defaults")):
                raise
            raise BadInput(f"{paths[-1]}: defaults: accepted: a list of names and of GROUP: NAME") from None
        finally:
            of_files.load_config = load_config


def compose_config(folder: Path, overrides: Sequence[str]) -> DictConfig:
    """The config `config` of a folder with Hydra's own, also while Hydra is running an app in this process."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), **VERSION_BASE), _sources_read():
            return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = running


def parse_override(text: str) -> Override | None:
    """None for what cannot be read."""
    try:
        return parse_overrides([text])[0]
    except HydraException:
        return None


def as_text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(as_text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{as_text(key)}: {as_text(inner)}' for key, inner in value.items())}}}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return repr(value)
    unquoted = parse_override(f"x={value}")
    if unquoted is not None and not unquoted.is_sweep_override() and unquoted.value() == value:
        return value
    return QuotedString(value, Quote.single).with_quotes()


def parse_overrides(texts: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """The `loader` finds the values of `glob`. Raises HydraException, and BadInput for numbers that are too long."""
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides(list(texts))
    except ValueError:
        most = sys.get_int_max_str_digits()
        too_long = [text for text in texts if re.search(rf"[\d_]{{{most + 1}}}", text)]
        refuse(f"{text}: accepted: numbers of at most {most:,} digits" for text in too_long)
        raise


def number_of_values(override: Override) -> int:
    """Of a list or range, which is not expanded. Raises BadInput for a range that has no number of them."""
    values = override.value()
    if not isinstance(values, RangeSweep):
        return sum(1 for _ in override.sweep_string_iterator())
    try:
        limits: list[Any] = [values.start, values.stop, values.step]
        start, stop, step = map(Fraction, limits)
        return max(0, math.ceil((stop - start) / step))
    except (OverflowError, ValueError, ZeroDivisionError):  # infinity, NaN, a step of 0
        raise BadInput(
            f"{override.input_line}: accepted: range(START,STOP,STEP) with three numbers, STEP not 0"
        ) from None


def product(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides of each job that their lists make."""
    (jobs,) = BasicSweeper.split_arguments(list(overrides), None)
    return jobs


def set_values(config: DictConfig, values: Sequence[Override], overrides: Sequence[Override]) -> None:
    """Set values in a composed config, as Hydra does last; `overrides` are all that its job was given."""
    config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
    config.hydra.overrides.task = [override.input_line for override in overrides]
    dirname = getattr(config_loader_impl, "get_overrides_dirname", None)
    if dirname is not None:  # Hydra 1.4 has a resolver for it
        form = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = dirname(
            list(overrides), kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys
        )


def reword(error: Exception) -> str:
    """What Hydra or OmegaConf has against an override, as blitz words all other mistakes: in one line."""
    words, cause = in_one_line(error), error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        if group == "hydra/launcher" and name in EXTRAS:
            return f"{group}={name}: not installed; pip install 'blitz[{EXTRAS[name]}]'"
        return no_such(f"{group}={name}", group.rpartition("/")[2], name, map(str, error.options))
    if isinstance(cause, OmegaConfBaseException):
        if not words:
            return f"{cause.full_key}: {str(cause).splitlines()[0]}"
        if words.startswith("Could not override"):
            return _no_such_option(cause)
        if merging := re.match(r"Error merging override (\S+=.*)", words):
            return f"{merging[1].removeprefix('++')}: {str(cause).splitlines()[0]}"
    if (
        composing := re.match(r"In '(.+?)': \w+ raised while composing config", words)
    ) and error.__context__ is not None:
        cause = error.__context__
        if isinstance(cause, OmegaConfBaseException) and re.match(r"Key '.*' (is )?not in", str(cause)):
            return f"{composing[1]}: {_no_such_option(cause)}"
        where = getattr(cause, "full_key", None)
        return f"{composing[1]}: {f'{where}: ' if where else ''}{MIXED.sub(MAPPING, str(cause).splitlines()[0])}"
    if isinstance(error, OmegaConfBaseException) and error.full_key and words.startswith("Interpolation key"):
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    for pattern, wording in REWORDED.items():
        if re.fullmatch(pattern, words):
            return re.sub(pattern, wording, words)
    return re.split(r" (?:Config search path:|full_key:|See https://hydra)", words)[0]


def _no_such_option(error: OmegaConfBaseException) -> str:
    path, name = str(error.full_key), str(error.key)
    if "/" in path:
        return f"{path}: no such group{did_you_mean(path, GROUPS)}"
    parent = path.removesuffix(name)
    names = [str(key) for key in error.parent_node or () if key != "_target_"]
    message = f"{path}: no such option{did_you_mean(name, names, parent)}"
    if plugin := next((plugin for plugin in PLUGINS if parent == f"hydra.{plugin}."), None):
        message += f"; options depend on the {plugin} that hydra/{plugin}=NAME chooses"
    return message + (f" (accepted: {', '.join(names)})" if names else "")

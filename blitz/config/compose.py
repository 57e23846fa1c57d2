"""`conf/` and overrides to a composed config; all mistakes are reported together, as blitz words them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from inspect import Parameter
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from blitz.config.composer import Composer
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
from blitz.config.settings import Checkpoint, Choice, Settings, Tracking, check, menus
from blitz.config.targets import refuse_code
from blitz.errors import BadInput, nearest, no_such, refuse

# In a checkout `conf/` stands beside the package, in a wheel inside it.
_PACKAGE = Path(__file__).resolve().parents[1]
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# CIFAR ResNets by the names of the field have no YAML of their own: Hydra finds that of `cifar_resnet` without `depth`.
SHORT_NAMES = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
_ANY_DEPTH: dict[Any, Any] = {**OmegaConf.load(CONF / "model" / "cifar_resnet.yaml")}
del _ANY_DEPTH["depth"]
for _name in SHORT_NAMES:
    ConfigStore.instance().store(name=_name, group="model", node={**_ANY_DEPTH, "name": _name})

UNREADABLE = "cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)"
ONE_NAME = "accepted: one name"
OF_IDS = ("model.weights", "sweep.resume")  # keys that take the start of a run's id
LONGEST_NAME = 250  # bytes, of 255 that a file's may have: Hydra adds .yaml
NUMBER = re.compile(r"(?<![^,])\d+(e\d+)?(?![^,])")  # a whole value, or one of several
# Keys that every config has, with options of their own.
PARTS = [name for name, field in Settings.model_fields.items() if field.annotation in (Choice, Tracking, Checkpoint)]
PARTS.append("sweep")
OF_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.chdir", "hydra.output_subdir")
OF_A_JOB = re.compile(r"hydra\.(job\.(num|id)|overrides|runtime)\b")  # what Hydra says of one

Outcome = TypeVar("Outcome")


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


def plain(config: DictConfig) -> dict[str, Any]:
    """The config without Hydra's own, as plain values, interpolations resolved.

    Raises BadInput for one that cannot be.
    """
    try:
        values = {str(key): config[key] for key in config if key != "hydra"}
        return {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in values.items()
        }
    except OmegaConfBaseException as error:
        raise BadInput(f"{error.full_key}: {str(error).splitlines()[0]}") from None


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
    for name in set(menus()[group].names() if group in menus() else ()) - with_yaml:
        _store_choice(f"{group}/{name}")


def refuse_without_effect(overrides: Iterable[str], multirun: bool = False) -> None:
    """Raises BadInput for what Hydra would take and nobody heed: options of a sweep, where a single run is asked for,
    what Hydra says of a job, where Hydra itself would put a run, and keys removed that come back with their defaults.
    """
    problems = []
    for text in overrides:
        key, _, value = text.lstrip("+~").partition("=")
        if key in OF_FOLDERS:
            problems.append(f"{text}: blitz makes a run's folder itself, in runs_dir")
        if OF_A_JOB.match(key):
            problems.append(f"{text}: Hydra sets this key itself")
        if key == "hydra.mode" and value == "RUN" and multirun:
            problems.append(f"{text}: contradicts -m, which asks for a sweep")
        if _is_too_long(text):
            problems.append(f"{text}: too long for the name of a key or of a file")
        elif (key.split(".")[0] == "sweep" or key in ("hydra/launcher", "hydra/sweeper")) and not multirun:
            problems.append(f"{text}: needs -m, for a sweep")
        if text.startswith("~") and (problem := _lasting(key)):
            problems.append(f"{text}: {problem}")
    refuse(problems)


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


def refuse_composed(config: DictConfig, with_plugins: bool) -> None:
    """Raises BadInput for what no composed config may hold, whoever wrote it there: code for Hydra to run, several
    choices of a part, of which the last one would count, and files that Hydra passes over for ours.
    """
    refuse_code(config, with_plugins)
    refuse_several(config)
    for source in config.hydra.runtime.config_sources:
        if source.provider.startswith("hydra.searchpath") and source.schema == "file":
            refuse_shadowed(source.path)


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


def own_folders(config_dir: str | None, overrides: Iterable[str]) -> list[str]:
    """Where a user has groups and recipes: `--config-dir`, and the folders of `hydra.searchpath`."""
    given = [parse_override(text) for text in overrides if text.lstrip("+").startswith("hydra.searchpath=")]
    values = [override.value() for override in given if override is not None]
    paths = [str(path).removeprefix("file://") for value in values if isinstance(value, list) for path in value]
    files = [path for path in paths if "://" not in path]
    return [config_dir, *files] if config_dir is not None else files


def refuse_name(config_name: str, folders: Iterable[str]) -> None:
    """Raises BadInput for a `--config-name` that stands neither in `conf/` nor in the user's own folders."""
    names = {file.stem for folder in (str(CONF), *folders) for file in Path(folder).glob("*.yaml")}
    if config_name.removesuffix(".yaml") not in names:
        raise BadInput(no_such(f"--config-name={config_name}", "config", config_name, sorted(names)))


def refuse_shadowed(config_dir: str) -> None:
    """Raises BadInput for a `--config-dir` that is no folder, or with files that Hydra would pass over for ours."""
    folder = Path(config_dir)
    if not folder.is_dir():
        raise BadInput(f"--config-dir={config_dir}: no such folder")
    pairs = [(folder / ours.relative_to(CONF), ours) for ours in sorted(CONF.rglob("*.yaml"))]
    shadowed = [theirs for theirs, ours in pairs if theirs.is_file() and not theirs.samefile(ours)]
    refuse(f"{file}: blitz has a file of that name, which goes first; rename yours" for file in shadowed)


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
        builders = tuple(registry.builder(name) for registry in menus().values() for name in registry.names())
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
    registry = menus().get(group)
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


def _store_choice(missing: str) -> bool:
    """Whether `group/name` stands on a menu; if so, its YAML is in Hydra's ConfigStore now."""
    group, _, name = missing.removesuffix(".yaml").rpartition("/")
    registry = menus().get(group)
    if registry is None or name not in registry.names():
        return False
    node: dict[str, Any] = {"name": name}
    for option in registry.options(name):
        node[option.name] = "???" if option.default is Parameter.empty else option.default
    ConfigStore.instance().store(name=name, group=group, node=node)
    return True

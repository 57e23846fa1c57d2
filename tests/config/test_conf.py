"""Every file under conf/, as it is found: complete, explained, and the same as the code says."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from blitz.cli import HELP
from blitz.config.compose import compose
from blitz.config.groups import CONF, SHORT_NAMES
from blitz.config.settings import Settings, Sweep, Tracking, all_menus

MENUS = all_menus()
RECIPES = ("experiment", "debug")  # groups whose files change keys anywhere in a config


def found(*folders: str) -> list[Path]:
    """The YAML files of these groups; none at all is a mistake of the test's."""
    files = [file for folder in folders for file in sorted((CONF / folder).glob("*.yaml"))]
    assert len(files) >= len(folders), folders
    return files


def ids(value: Any) -> str | None:
    return str(value.relative_to(CONF)) if isinstance(value, Path) else None


CHOICES = found(*MENUS, "tracking")
EXPERIMENTS = found("experiment")
CONFIG = CONF / "config.yaml"


def values(file: Path) -> dict[str, Any]:
    container = OmegaConf.to_container(OmegaConf.load(file))  # as Hydra reads it: 1e-3 is a number
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def entries(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value node of everything in a YAML document that is not a mapping itself, or an empty one."""
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from entries(value, f"{path}{key.value}.")
        else:
            yield f"{path}{key.value}", value


def unexplained(file: Path) -> list[str]:
    """The keys without a comment behind their value."""
    text = file.read_text()
    lines = text.splitlines()
    return [
        key
        for key, value in entries(yaml.compose(text))
        if not lines[value.end_mark.line][value.end_mark.column :].lstrip().startswith("#")
    ]


def leaves(mapping: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def at(mapping: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        mapping = mapping[key]
    return mapping


def choices_in(file: Path) -> dict[str, str | None]:
    """Group -> name, from a file's defaults list."""
    pairs = [pair for entry in values(file).get("defaults", []) if isinstance(entry, dict) for pair in entry.items()]
    return {group.removeprefix("override ").removeprefix("/"): name for group, name in pairs}


def exactly(value: Any) -> str:
    """Tells 1 from 1.0 and from true, but not a list from a tuple."""
    return json.dumps(value)


# The groups


def test_every_folder_is_a_group_of_the_defaults_list_and_named_on_the_help_page():
    folders = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    assert folders == {*MENUS, "tracking", *RECIPES}
    assert folders == {group for group in choices_in(CONFIG) if not group.startswith("hydra/")}
    listed = HELP.partition("Groups: ")[2].partition("Hydra's own flags")[0]
    assert set(listed.split()) == folders


def test_every_file_is_in_a_group():
    files = {file for file in CONF.rglob("*") if file.is_file()}
    assert files == {CONFIG, *CHOICES, *found(*RECIPES)}


@pytest.mark.parametrize("group", MENUS)
def test_every_name_on_a_menu_has_a_file_and_the_reverse(group):
    without = set(SHORT_NAMES) if group == "model" else set()
    assert {file.stem for file in found(group)} == set(MENUS[group].names()) - without


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_short_name_composes_to_all_options_with_the_defaults_of_the_signature(name):
    assert compose([f"model={name}"]).model == MENUS["model"].check({"name": name})
    assert compose([f"model={name}", "model.shortcut=B"]).model["shortcut"] == "B"


def test_every_kind_of_tracking_has_a_file_and_the_reverse():
    accepted = Tracking.model_fields["name"].annotation
    assert {file.stem for file in found("tracking")} == set(accepted.__args__)  # type: ignore[union-attr]


# One choice


@pytest.mark.parametrize("file", CHOICES, ids=ids)
def test_a_choice_is_named_as_its_file(file):
    assert next(iter(values(file).items())) == ("name", file.stem)


@pytest.mark.parametrize("file", found(*MENUS), ids=ids)
def test_a_choice_lists_every_option_in_order_with_the_default_of_the_signature(file):
    options = MENUS[file.parent.name].options(file.stem)
    written = {key: value for key, value in values(file).items() if key != "name"}
    assert list(written) == [option.name for option in options]
    different = {
        option.name: (written[option.name], option.default)
        for option in options
        if option.default is not inspect.Parameter.empty and exactly(written[option.name]) != exactly(option.default)
    }
    assert different == {}


@pytest.mark.parametrize("file", found("tracking"), ids=ids)
def test_tracking_lists_every_field_with_its_default(file):
    assert exactly(values(file)) == exactly({**Tracking().model_dump(), "name": file.stem})


@pytest.mark.parametrize("file", CHOICES, ids=ids)
def test_a_choice_opens_with_a_comment_and_explains_every_option(file):
    opening = file.read_text().splitlines()[0]
    assert opening.startswith("# ")
    assert len(opening) > len("# A few words")
    assert unexplained(file) == ["name"]


@pytest.mark.parametrize("file", [CONFIG, *CHOICES, *found(*RECIPES)], ids=ids)
def test_lines_are_short_and_tidy(file):
    text = file.read_text()
    assert text.endswith("\n")
    assert [line for line in text.splitlines() if len(line) > 120 or line != line.rstrip() or "\t" in line] == []


# config.yaml


def test_the_defaults_are_those_of_the_settings():
    written = {key: value for key, value in values(CONFIG).items() if key not in ("defaults", "hydra")}
    chosen = set(MENUS) | {"tracking"}
    assert list(written) == [
        *(key for key in Settings.model_fields if key not in {*chosen, "checkpoint"}),
        "checkpoint",
        "sweep",
    ]
    defaults = Settings.model_construct().model_dump(exclude=chosen) | {"sweep": Sweep().model_dump()}
    assert exactly(written) == exactly({key: at(defaults, key) for key in written})


def test_every_key_of_the_defaults_is_explained():
    assert CONFIG.read_text().startswith("# ")
    assert [key for key in unexplained(CONFIG) if not key.startswith(("hydra.", "defaults"))] == []


def test_the_defaults_list_names_choices_that_exist():
    for group, name in choices_in(CONFIG).items():
        if not group.startswith("hydra/"):
            assert name is None if group in RECIPES else (CONF / group / f"{name}.yaml").is_file(), group


# Recipes


@pytest.mark.parametrize("file", found(*RECIPES), ids=ids)
def test_a_recipe_composes_and_says_what_it_is(file):
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")
    record = compose([f"{file.parent.name}={file.stem}"]).as_dict()
    written = {key: value for key, value in values(file).items() if key not in ("defaults", "hydra")}
    assert {key: at(record, key) for key, _ in leaves(written)} == dict(leaves(written))
    assert {group: record[group]["name"] for group in choices_in(file)} == choices_in(file)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=ids)
def test_an_experiment_says_how_it_is_run_and_what_to_expect(file):
    text = file.read_text()
    assert re.search(rf"^# command   blitz .*\bexperiment={file.stem}\b", text, re.MULTILINE)
    assert re.search(r"^# time      (\d+ (s|min)\b|not measured: )", text, re.MULTILINE)
    accuracy = r"\d+\.\d+ (± \d+\.\d+ )?% test accuracy \(.*n = \d+"
    assert re.search(rf"^# result    ({accuracy}|not measured$)", text, re.MULTILINE)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=ids)
def test_an_experiment_holds_deltas_only(file):
    """No choice that is the default, and no value that the choices bring along."""
    chosen = choices_in(file)
    assert chosen.items() & choices_in(CONFIG).items() == set()
    without = compose([f"{group}={name}" for group, name in chosen.items()]).as_dict()
    written = {key: value for key, value in values(file).items() if key not in ("defaults", "hydra")}
    assert [key for key, value in leaves(written) if at(without, key) == value] == []


@pytest.mark.parametrize("debug", [file.stem for file in found("debug")])
@pytest.mark.parametrize("experiment", [file.stem for file in EXPERIMENTS])
def test_a_debug_recipe_goes_over_any_experiment(experiment, debug):
    record = compose([f"experiment={experiment}", f"debug={debug}", "data=digits", "data.mean=null", "data.std=null"])
    written = {key: value for key, value in values(CONF / "debug" / f"{debug}.yaml").items() if key != "defaults"}
    assert {key: at(record.as_dict(), key) for key, _ in leaves(written)} == dict(leaves(written))

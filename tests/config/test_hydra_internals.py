"""Hydra's internals do what blitz takes them for, in whichever version of Hydra is installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import blitz
from blitz.config import hydra_internals
from blitz.config.groups import CONF
from blitz.config.hydra_internals import (
    COMPOSING_ERRORS,
    VERSION_BASE,
    ValueType,
    as_text,
    compose_config,
    parse_override,
    parse_overrides,
    product,
    read_flags,
    reword,
    set_values,
)

PACKAGE = Path(blitz.__file__).parent
PRIVATE = ("hydra._internal", "hydra.core.override_parser", "hydra.core.global_hydra", "hydra.core.config_loader")


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_one_file_imports_hydras_internals():
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "hydra_plugins").glob("*.py")]
    private = {file for file in files if any(name.startswith(PRIVATE) for name in imported(file))}
    assert private == {Path(hydra_internals.__file__)}


def test_flags_may_stand_between_overrides():
    assert read_flags([]).overrides == []
    flags = read_flags(["a=1", "-m", "b=2", "--config-dir", "DIR", "c=3"])
    assert (flags.overrides, flags.multirun, flags.config_dir) == (["a=1", "b=2", "c=3"], True, "DIR")


def test_an_override_has_a_key_a_value_and_a_type():
    listed, interval, deleted = parse_overrides(["optimizer.lr=0.1,0.2", "seed=interval(1,2)", "~tags"])
    assert (listed.key_or_group, listed.is_sweep_override()) == ("optimizer.lr", True)
    assert list(listed.sweep_string_iterator()) == ["0.1", "0.2"]
    assert interval.value_type == ValueType.INTERVAL_SWEEP
    assert deleted.is_delete()
    assert parse_override("seed=[1") is None


@pytest.mark.parametrize(
    "value",
    ["a b", "a,b", "it's", "123", "1e5", "true", "null", "", "a:b", "/some/where", "[x", " x", "sqlite:///a.db",
     "{a: b}", 1e-05, 3, None, True, float("inf"), [1, "2", "c d"], {"a": "b, c", "d": None}],
)  # fmt: skip
def test_a_value_as_text_is_read_back_as_it_was(value: object) -> None:
    override = parse_override(f"x={as_text(value)}")
    assert override is not None
    assert (override.value(), override.is_sweep_override()) == (value, False)


def test_lists_make_a_product():
    jobs = product(parse_overrides(["a=1,2", "b=x", "c=range(0,2)"]))
    assert jobs == [["a=1", "b=x", "c=0"], ["a=1", "b=x", "c=1"], ["a=2", "b=x", "c=0"], ["a=2", "b=x", "c=1"]]


def test_composing_leaves_a_running_hydra_as_it_was():
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        running = GlobalHydra.instance().hydra
        assert compose_config(CONF, ["seed=7"]).seed == 7
        with pytest.raises(COMPOSING_ERRORS):
            compose_config(CONF, ["model=none_such"])
        assert GlobalHydra.instance().hydra is running


def test_set_values_does_what_hydra_does_last():
    overrides = ["seed=7", "optimizer.lr=0.3", "++tags.author=me", "~eval_flip"]
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        theirs = loader.load_configuration("config", overrides, RunMode.RUN)
        ours = loader.load_configuration("config", [], RunMode.RUN)
    assert isinstance(ours, DictConfig)
    parsed = parse_overrides(overrides)
    set_values(ours, parsed, parsed)
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)


def test_reword_names_the_extra_that_brings_a_launcher() -> None:
    missing = MissingConfigException("", "hydra/launcher/ray", ["basic"])
    assert reword(missing) == "hydra/launcher=ray: not installed; pip install 'blitz[ray]'"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra/launcher=joblb", "hydra/launcher=joblb: no such launcher; did you mean joblib? (accepted: basic, "),
        ("hydra/lancher=joblib", "hydra/lancher: no such group; did you mean hydra/launcher?"),
        ("hydra.launcher.n_jobs=2", "hydra.launcher.n_jobs: no such option; options depend on the launcher that "),
        ("hydra.job.chdri=true", "hydra.job.chdri: no such option; did you mean hydra.job.chdir? (accepted: "),
        ("hydra.job.num=two", "hydra.job.num=two: Value 'two' of type 'str' could not be converted to Integer"),
        ("~optimizer.speed", "~optimizer.speed: no such key of a config"),
    ],
)
def test_reword_names_key_value_and_what_is_accepted(override: str, message: str) -> None:
    with pytest.raises(COMPOSING_ERRORS) as raised:
        compose_config(CONF, [override])
    assert reword(raised.value).startswith(message)
    assert "\n" not in reword(raised.value)

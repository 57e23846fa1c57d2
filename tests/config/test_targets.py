"""No config runs code, wherever in Hydra's part it names some: on the command line, in a recipe, in a sweep's job."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal import hydra as hydra_app
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from support.processes import finished
from support.shell import blitz, refused

from blitz.config.groups import CONF, with_menu
from blitz.config.hydra_internals import checked_configs
from blitz.config.targets import refuse_code
from blitz.errors import BadInput

RUN = ["data=digits", "tracking=none", "epochs=1", "batch_size=512", "device.threads=1"]
OPEN = "{_target_: builtins.open, file: made, mode: w}"
FILE = "{version: 1, root: {handlers: [x]}, handlers: {x: {class: logging.FileHandler, filename: made}}}"
CALLBACK = ["hydra.callbacks.x: names code; a config is data and runs no code (accepted: no callbacks)"]


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("made"),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, in which no code may make `made`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Evil()))
    yield tmp_path
    assert not (tmp_path / "made").exists()


def recipe(folder: Path, name: str, **hydra: object) -> None:
    content = OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra}))
    (folder / f"own/experiment/{name}.yaml").write_text(f"# @package _global_\n{content}")


@pytest.mark.parametrize(
    "target",
    [
        "{_target_: joblib.load, filename: evil.pickle}",
        OPEN,
        "{_target_: shutil.copy, src: evil.pickle, dst: made}",
        "{_target_: os.makedirs, name: made}",
        "{_target_: logging.FileHandler, filename: made}",
    ],
)
@pytest.mark.parametrize("flags", ["", "-m", "--cfg job", "--cfg all --resolve"])
def test_callback_is_refused(folder: Path, target: str, flags: str) -> None:
    assert refused(*RUN, *flags.split(), f"+hydra.callbacks.x={target}") == CALLBACK


@pytest.mark.parametrize("flags", ["--info config", "--info all", "--hydra-help"])
def test_callback_is_refused_by_what_only_shows_it(folder: Path, flags: str) -> None:
    ended = blitz(*flags.split(), f"+hydra.callbacks.x={OPEN}")
    assert (ended.code, ended.told) == (2, [f"blitz: {CALLBACK[0]}"])


@pytest.mark.parametrize("flags", [[], ["-m"], ["-m", "seed=0,1", "hydra/sweeper=basic"]])
def test_callback_of_a_recipe_is_refused(folder: Path, flags: list[str]) -> None:
    recipe(folder, "mine", callbacks={"x": OmegaConf.create(OPEN)})
    assert refused(*RUN, *flags, "--config-dir", "own", "experiment=mine") == CALLBACK


def test_callback_of_a_primary_config_is_refused(folder: Path) -> None:
    (folder / "own/mine.yaml").write_text(f"defaults: [config, _self_]\nhydra: {{callbacks: {{x: {OPEN}}}}}\n")
    assert CALLBACK[0] in refused(*RUN, "--config-dir", "own", "--config-name", "mine")


@pytest.mark.parametrize("group", ["job_logging", "hydra_logging"])
@pytest.mark.parametrize(
    "override",
    ["hydra/GROUP=default", "hydra.GROUP.root={level: INFO}", "hydra.GROUP.root=${oc.select:hydra.job.num,null}",
     "+hydra.GROUP.handlers={x: {class: logging.FileHandler, filename: made}}"],
)  # fmt: skip
def test_logging_group_is_refused(folder: Path, group: str, override: str) -> None:
    (problem,) = refused(*RUN, override.replace("GROUP", group))
    assert problem.startswith(f"hydra.{group}: names classes that write a log; a config is data and runs no code (acc")


@pytest.mark.parametrize("sweeper", ["blitz", "basic"])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_logging_of_a_job_in_a_sweep_is_refused(folder: Path, sweeper: str, launcher: str) -> None:
    recipe(folder, "fine")
    recipe(folder, "mine", job_logging=OmegaConf.create(FILE))
    chosen = [f"hydra/sweeper={sweeper}", f"hydra/launcher={launcher}"]
    (problem,) = refused(*RUN, *chosen, "-m", "--config-dir", "own", "experiment=fine,mine")
    assert problem.startswith("hydra.job_logging: names classes")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ([f"+hydra.launcher.x={OPEN}"], "hydra.launcher.x._target_=builtins.open: names code; a config is data"),
        ([f"+hydra.sweeper.x=[{OPEN}]"], "hydra.sweeper.x.0._target_=builtins.open: names code; a config is data"),
        ([f"+hydra.help.x={OPEN}"], "hydra.help.x._target_=builtins.open: names code; a config is data"),
        (["-m", "+hydra.launcher.x=${x}", f"+x={OPEN}"], "hydra.launcher.x._target_=builtins.open: names code"),
        (["hydra.launcher._target_=os.system"], "hydra.launcher._target_=os.system: no installed launcher (accepted: "),
        (["hydra.sweeper._target_=hydra_plugins.blitz.BlizSweeper"],
         "hydra.sweeper._target_=hydra_plugins.blitz.BlizSweeper: no installed sweeper; did you mean "
         "hydra_plugins.blitz.BlitzSweeper? (accepted: hydra/sweeper=NAME of one that is)"),
        (["hydra.launcher._target_=hydra_plugins.blitz.BlitzSweeper"], "hydra.launcher._target_=hydra_plugins.b"),
        (["+hydra.job.env_set.PATH=own"], "hydra.job.env_set.PATH: an environment variable may choose what code runs"),
    ],
)  # fmt: skip
def test_target_that_is_no_installed_plugin_is_refused(folder: Path, overrides: list[str], problem: str) -> None:
    (told,) = refused(*RUN, *overrides)
    assert told.startswith(problem)


def test_target_that_an_interpolation_makes_is_refused(folder: Path) -> None:
    recipe(folder, "mine", sweeper={"x": f"${{oc.decode:'{OPEN}'}}"})
    (problem,) = refused(*RUN, "-m", "--config-dir", "own", "experiment=mine")
    assert problem.startswith("hydra.sweeper.x._target_=builtins.open: names code")


def test_variable_of_a_recipe_is_refused(folder: Path) -> None:
    recipe(folder, "mine", job={"env_set": {"oc": "own"}, "env_copy": "${oc.decode:'[]'}"})
    (problem,) = refused(*RUN, "--config-dir", "own", "experiment=mine")
    assert problem.startswith("hydra.job.env_set.oc: an environment variable may choose what code runs")


def test_foreign_launcher_is_refused(folder: Path) -> None:
    (folder / "own/hydra/launcher").mkdir(parents=True)
    (folder / "own/hydra/launcher/mine.yaml").write_text("_target_: own.Launcher\n")
    (problem,) = refused(*RUN, "-m", "--config-dir", "own", "hydra/launcher=mine")
    assert problem.startswith("hydra.launcher._target_=own.Launcher: no installed launcher")


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--exp"])
def test_experimental_rerun_is_refused(folder: Path, flag: str) -> None:
    (problem,) = refused(flag, "evil.pickle")
    assert problem.startswith("--experimental-rerun=evil.pickle: runs whatever code the file holds; blitz reproduce RU")


def test_variables_that_are_copied_are_no_code(folder: Path) -> None:
    assert blitz(*RUN, "--cfg", "job", "hydra.job.env_copy=[PATH]").code == 0


def test_loader_that_was_sent_to_a_worker_refuses_code() -> None:
    with checked_configs(refuse_code, with_menu):
        app = hydra_app.Hydra.create_main_hydra2("job", create_config_search_path(str(CONF)))
    try:
        sent = pickle.loads(pickle.dumps(app.config_loader))
        config = sent.load_configuration(config_name="config", overrides=["seed=1"], run_mode=RunMode.MULTIRUN)
        assert sent.load_sweep_config(config, ["seed=2"]).seed == 2
        with pytest.raises(BadInput, match=r"^hydra\.callbacks\.x: names code"):
            sent.load_sweep_config(config, [f"+hydra.callbacks.x={OPEN}"])
    finally:
        GlobalHydra.instance().clear()


PLUGIN = """\
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore

class MineLauncher(BasicLauncher):
    def __init__(self, part): self.part = part

part = {"_target_": "fractions.Fraction", "numerator": 1}
node = {"_target_": "hydra_plugins.mine.MineLauncher", "part": part}
ConfigStore.instance().store(group="hydra/launcher", name="mine", node=node, provider="mine")
"""


@pytest.mark.slow
def test_launcher_that_a_package_brings_is_used(tmp_path: Path) -> None:
    (tmp_path / "package/hydra_plugins").mkdir(parents=True)
    (tmp_path / "package/hydra_plugins/mine.py").write_text(PLUGIN)
    shown = finished(tmp_path, *RUN, "-m", "seed=0,1", "hydra/launcher=mine", PYTHONPATH=str(tmp_path / "package"))
    assert shown[::2] == (0, "")
    assert len(list(tmp_path.glob("runs/*/provenance.json"))) == 2
    assert json.loads(next(tmp_path.glob("runs/*/provenance.json")).read_text())["result"]

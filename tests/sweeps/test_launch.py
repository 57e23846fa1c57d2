"""How many jobs run side by side, which GPU each has, and what is handed to a launcher."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from support.recorded import client

from blitz.config.compose import compose
from blitz.config.recorded import RecordedDevice
from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.parts.devices import Device, usable_cores
from blitz.run_folder.run_info import FAILED, KILLED, RunInfo
from blitz.runner.build import device_of
from blitz.sweeps import launch
from blitz.sweeps.budget import Budget
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import INTERRUPT, PLAN, STOP, JobOptions, Outcome, begin, write_outcome
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.plan import Plan
from blitz.sweeps.run_job import own_gpu


def launcher(name: str, **options: Any) -> DictConfig:
    return OmegaConf.create({"hydra": {"launcher": {"_target_": f"hydra_plugins.x.{name}", **options}}})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (launcher("BasicLauncher"), 1),
        (launcher("JoblibLauncher", n_jobs=2), 2),
        (launcher("JoblibLauncher", n_jobs=20), 10),  # there are ten jobs
        (launcher("JoblibLauncher", n_jobs=-1), 8),
        (launcher("JoblibLauncher", n_jobs=-3), 6),
        (launcher("JoblibLauncher", n_jobs=-30), 1),
        (launcher("JoblibLauncher", n_jobs=None), 1),
        (launcher("LocalLauncher"), 8),
        (launcher("SlurmLauncher"), 1),  # on machines of their own
    ],
)
def test_jobs_side_by_side(monkeypatch: pytest.MonkeyPatch, config: DictConfig, expected: int) -> None:
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    assert launch.at_once(config, 10) == expected


def settings(*overrides: str) -> Settings:
    return compose(["data=synthetic", *overrides])


def device(*overrides: str, **share: Any) -> Device:
    found = settings(*overrides)
    return device_of(found.device, found.images_at_once, **share)


def test_a_job_takes_the_cores_that_it_has_for_itself_where_threads_are_left_to_blitz() -> None:
    threads = {cores: device("batch_size=64", cores=cores).threads for cores in (None, 1, 2)}
    assert threads == {None: usable_cores(), 1: 1, 2: 2}
    assert device("batch_size=4", cores=4).threads == 1
    assert device("batch_size=64", "device.threads=3", cores=2).threads == 3


@pytest.mark.parametrize(("n_jobs", "number", "cores"), [(2, 5, 4), (2, 1, None), (3, 5, 2), (20, 10, 1), (1, 5, None)])
def test_cores_are_shared_by_the_jobs_that_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int, number: int, cores: int | None
) -> None:
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    assert launch.cores_for_each(launcher("JoblibLauncher", n_jobs=n_jobs), number) == cores


def test_jobs_are_spread_over_gpus_unless_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with own_gpu(tmp_path, 1) as first, own_gpu(tmp_path, 1) as second:
        assert (first, second) == (0, 1)
    with own_gpu(tmp_path, None) as alone:
        assert alone is None  # one after another: each has the first
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    chosen = {
        text: device(*text.split(), gpu=1).torch.index
        for text in ("device=auto", "device=cuda", "device=cuda device.index=0", "device=cpu")
    }
    assert chosen == {"device=auto": 1, "device=cuda": 1, "device=cuda device.index=0": 0, "device=cpu": None}
    continued = {name: device(before=RecordedDevice(name=name, threads=1), gpu=1).torch for name in ("cuda:0", "cpu")}
    assert continued == {"cuda:0": torch.device("cuda:1"), "cpu": torch.device("cpu")}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with own_gpu(tmp_path, 1) as one:
        assert one is None


ENDLESS = Budget(lambda: False)


def job(number: int, *overrides: str) -> SweepJob:
    hydra = {"sweep": {"dir": "elsewhere"}, "job": {"name": "blitz"}}
    config = OmegaConf.create({"optimizer": {"lr": number}, "hydra": hydra})
    return SweepJob(number, Combination(overrides, overrides[-1:]), config, settings())


def test_jobs_get_the_configs_that_were_checked_and_their_numbers() -> None:
    jobs = [job(number, f"optimizer.lr={number}") for number in (0, 1, 3, 4, 5, 9)]
    frozen = launch.CheckedConfigs.of(jobs)
    jobs[3].config.optimizer.lr = 77  # whatever becomes of them later
    found = frozen.load_sweep_config(OmegaConf.create({"hydra": {"sweep": {"dir": "here"}}}), ["optimizer.lr=4"])
    assert (found.optimizer.lr, found.hydra.sweep.dir, found.hydra.job.name) == (4, "here", "4")


def test_a_job_that_once_saved_itself_is_not_launched_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launched = []

    def saves_once(*_: object) -> str:
        launched.append(1)
        if len(launched) == 1:  # its batch system stopped it
            begin(tmp_path, 0)
            write_outcome(tmp_path, 0, Outcome(KILLED))
        return "no machine is free"

    monkeypatch.setattr(launch, "_launched", saves_once)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": ""}}})
    nothing: Any = None
    JobOptions().save(tmp_path)
    outcomes, _ = launch.launch(nothing, nothing, config, [job(0, "seed=0")], tmp_path, ENDLESS)
    assert outcomes == {0: Outcome(FAILED, "no machine is free")}
    assert len(launched) == 2


def test_jobs_hear_of_an_interrupt_in_the_last_moment_too(tmp_path: Path) -> None:
    with launch._interruptible(tmp_path, ENDLESS) as interrupt:
        interrupt.request(signal.SIGTERM)
    assert (tmp_path / STOP).exists()
    assert (tmp_path / INTERRUPT).exists()


PLACES = ("data.root=/mine", "tracking.uri=sqlite:////mine.db", "+tags.author=me", "runs_dir=/mine/runs")


def plan(tmp_path: Path, *overrides: str) -> Plan:
    found = Plan.of("s", ["seed=0,1", *overrides], [job(2, *overrides, "seed=1")])
    found.save(tmp_path)
    return found


def test_a_plan_comes_back_without_what_is_said_anew_each_time(tmp_path: Path) -> None:
    made = plan(tmp_path, "epochs=3", "hydra.launcher.n_jobs=2", "sweep.points=x.csv", *PLACES)
    found = Plan.load(tmp_path / PLAN, trusted=True)
    assert found.jobs == {2: Combination(("epochs=3", *PLACES, "seed=1"), ("seed=1",))}
    assert found.identities == made.identities
    assert found.arguments == made.arguments


def test_paths_and_addresses_of_a_plan_from_a_store_are_not_taken(tmp_path: Path) -> None:
    plan(tmp_path, "epochs=3", *PLACES)
    assert Plan.load(tmp_path / PLAN, trusted=False).jobs[2].overrides == ("epochs=3", "seed=1")


def test_a_plan_from_a_store_is_data_and_no_more(tmp_path: Path) -> None:
    plan(tmp_path, "notes=${oc.env:HOME}")
    assert Plan.load(tmp_path / PLAN, trusted=True).jobs  # one's own may say what one's recipes may
    plan(tmp_path, "optimizer.name=${oc.env:HOME}")
    with pytest.raises(BadInput, match=r"^optimizer\.name=\$\{oc\.env:HOME\}: an interpolation"):
        Plan.load(tmp_path / PLAN, trusted=False)
    (tmp_path / PLAN).write_text('{"id": "../../elsewhere", "arguments": [], "jobs": []}')
    with pytest.raises(BadInput, match="not the id of a sweep"):
        Plan.load(tmp_path / PLAN, trusted=False)


def test_credentials_of_a_plan_are_given_again(tmp_path: Path) -> None:
    plan(tmp_path, "tracking.uri=postgresql://me:secret@host/db", "epochs=3")
    assert "secret" not in (tmp_path / PLAN).read_text()
    assert Plan.load(tmp_path / PLAN, trusted=True).jobs[2].overrides == ("epochs=3", "seed=1")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"jobs": 3}', '{"id": "s", "arguments": [], "jobs": [{"number": 1}]}']
)
def test_a_file_that_is_no_plan_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(BadInput, match=r"sweep\.json: not the plan of a sweep"):
        Plan.load(tmp_path / PLAN, trusted=True)


def test_a_sweep_is_found_here_first_and_by_the_start_of_its_id(tmp_path: Path) -> None:
    names = ("2026-01-01_00-00-00_aaaa", "2026-01-02_00-00-00_bbcc", "2026-01-02_00-00-00_bbbb")
    for started_at, name in enumerate(names):
        folder = tmp_path / "sweeps" / name
        folder.mkdir(parents=True)
        Plan.of(name, [], []).save(folder)
        RunInfo(name, None, "e", name, started_at, {}, {}, {}).save(folder)
    assert Plan.find("last", str(tmp_path), None).id.endswith("bbbb")  # by when it was begun, not by its folder's name
    assert Plan.find("2026-01-01", str(tmp_path), None).id.endswith("aaaa")
    with pytest.raises(BadInput, match="more than one sweep starts like this"):
        Plan.find("2026-01-02", str(tmp_path), None)
    with pytest.raises(BadInput, match=r"no such sweep in .*; did you mean 2026-01-02_00-00-00_bbbb"):
        Plan.find("2026-01-02_00-00-00_bbxb", str(tmp_path), None)


def test_a_sweep_is_found_in_the_store_by_its_runs_id_too(here: Path) -> None:
    found = client()
    run = found.create_run(found.create_experiment("e"), tags={"sweep": "abc", "sweep.jobs": "1"})
    plan(here, "epochs=3")
    found.log_artifact(run.info.run_id, str(here / PLAN))
    for wanted in ("abc", "ab", run.info.run_id, run.info.run_id[:6]):
        assert list(Plan.find(wanted, "runs", f"sqlite:///{here}/mlflow.db").jobs) == [2]

"""`blitz -m`: all jobs checked before any starts, each end known, the failures told together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run
from processes import QUICK, finished, start, wait_for
from recorded import runs
from shell import blitz as command
from shell import refused

SHORT = [*QUICK, "data.limit=100", "epochs=1", "tracking.system_metrics=null"]


def jobs(uri: str | None = None) -> list[Run]:
    """What the store has of the one sweep, in the order the jobs began."""
    found = sorted(runs(uri), key=lambda run: run.info.start_time)
    assert len({run.data.tags["sweep"] for run in found}) == 1
    return found


def test_jobs_are_named_by_what_differs_and_share_a_tag(here: Path) -> None:
    ended = command("-m", *SHORT, "optimizer.lr=0.1,0.01", "seed=0,1", "tags.author=me")
    assert (ended.code, ended.told) == (0, [])
    found = jobs()
    names = ["lr=0.1 seed=0", "lr=0.1 seed=1", "lr=0.01 seed=0", "lr=0.01 seed=1"]
    assert [run.info.run_name for run in found] == names
    (folder,) = (here / "runs" / "sweeps").iterdir()
    assert found[0].data.tags["sweep"] == folder.name
    accuracy = max(run.data.metrics["val/accuracy"] for run in found)
    (line,) = [line for line in ended.output.splitlines() if line.startswith("best ")]
    assert f": {accuracy:.2%} on the validation images; blitz reproduce " in line


def test_a_job_reproduces_and_is_no_part_of_the_sweep_then(here: Path) -> None:
    assert command("-m", *SHORT, "seed=0,1").code == 0
    second = jobs()[1]
    ended = command("reproduce", second.info.run_id)
    assert "verdict  identical" in ended.output
    assert runs()[0].data.tags.get("sweep") is None
    assert runs()[0].data.tags["config_hash"] == second.data.tags["config_hash"]


def test_mistakes_of_all_jobs_are_told_before_the_first_one_starts(here: Path) -> None:
    assert refused("-m", *SHORT, "optimizer.lr=0.1,0,-1", "seed=0,1", "epohcs=3") == [
        "epohcs: no such key of a config; did you mean epochs?"
    ]
    assert refused("-m", *SHORT, "optimizer.lr=0.1,0", "seed=0,1") == [
        "optimizer.lr=0: accepted: number > 0 (in 2 of 4 jobs, the first of them lr=0 seed=0)"
    ]
    assert refused("-m", *SHORT, "optimizer=sgd,adam", "optimizer.momentum=0.9")[0].startswith(
        "optimizer.momentum: no such option of adam"
    )
    assert not (here / "runs").exists()
    assert runs() == []


def test_a_job_that_is_there_twice_is_told_and_runs_once(here: Path) -> None:
    ended = command("-m", *SHORT, "seed=0,1,0")
    assert ended.code == 0
    assert ended.told == ["blitz: job 2 (seed=0) is the same as job 0, and is left out"]
    assert [run.info.run_name for run in jobs()] == ["seed=0", "seed=1"]


def test_a_dry_run_lists_the_jobs_and_starts_none(here: Path) -> None:
    ended = command("-m", *SHORT, "model=net,mlp", "seed=range(2)", "sweep.dry_run=true")
    assert ended.code == 0
    assert [line.split(maxsplit=1) for line in ended.output.splitlines()[1:5]] == [
        ["0", "model=net seed=0"], ["1", "model=net seed=1"], ["2", "model=mlp seed=0"], ["3", "model=mlp seed=1"],
    ]  # fmt: skip
    assert ended.output.splitlines()[5] == "4 jobs; sweep.dry_run=true: none was started"
    assert not (here / "runs").exists()
    assert runs() == []


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
def test_failures_are_listed_at_the_end_with_reason_and_log(here: Path, on_failure: str) -> None:
    ended = command("-m", *SHORT, "optimizer.lr=0.01,1e30,0.02", f"sweep.on_failure={on_failure}")
    assert ended.code == 1
    reason = (
        "NonFiniteLoss: the loss of step 2 (epoch 1) is not finite; a smaller optimizer.lr, a warm-up or clip_norm=1"
    )
    assert ended.told[-2].startswith(f"blitz: job 1 (lr=1e+30) failed: {reason}")
    log = Path(ended.told[-2].rpartition("its log: ")[2])
    assert "NonFiniteLoss" in log.read_text()
    not_started = ", 1 not started (sweep.on_failure=stop)" if on_failure == "stop" else ""
    assert ended.told[-1] == f"blitz: 1 of 3 jobs failed{not_started}"
    assert [run.info.status for run in jobs()] == ["FINISHED", "FAILED", *["FINISHED"] * (on_failure == "continue")]


def test_a_sweep_without_a_store_runs_as_well(here: Path) -> None:
    ended = command("-m", *SHORT, "seed=0,1", "tracking=none")
    assert ended.code == 0
    assert runs() == []
    assert len(list((here / "runs").glob("*/config.yaml"))) == 2


@pytest.mark.slow
def test_jobs_do_not_see_files_that_are_edited_meanwhile(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    recipe = tmp_path / "own" / "experiment" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.03\n")
    sweep = start(tmp_path, "-m", *SHORT, "epochs=20", "experiment=mine", "seed=0,1,2", "--config-dir", "own")
    wait_for(sweep, "epoch 1/20")
    recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.04\n")
    sweep.communicate(timeout=300)
    found = jobs(f"sqlite:///{tmp_path}/mlflow.db")
    assert [run.data.params["optimizer.lr"] for run in found] == ["0.03"] * 3


@pytest.mark.slow
def test_a_parallel_job_that_is_killed_is_launched_again(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = start(tmp_path, "-m", *SHORT, "epochs=200", "seed=0,1,2,3", *parallel)
    wait_for(sweep, "epoch 2/200")
    workers = [child for child in psutil.Process(sweep.pid).children() if "loky" in " ".join(child.cmdline())]
    trainers = [worker for worker in workers if any("writer" in " ".join(c.cmdline()) for c in worker.children())]
    trainers[0].kill()
    _, errors = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, errors
    assert "launching them again" in errors
    found = jobs(f"sqlite:///{tmp_path}/mlflow.db")
    done = [run.info.run_name for run in found if run.info.status == "FINISHED"]
    assert sorted(done) == ["seed=0", "seed=1", "seed=2", "seed=3"]
    (sweep_folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    outcomes = [json.loads(file.read_text())["status"] for file in sweep_folder.glob("*.json")]
    assert outcomes == ["FINISHED"] * 4


@pytest.mark.slow
def test_a_parallel_sweep_lists_every_failure(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    code, _, errors = finished(tmp_path, "-m", *SHORT, "optimizer.lr=1e30,0.01,1e31", *parallel)
    assert code == 1
    assert "blitz: job 0 (lr=1e+30) failed: NonFiniteLoss" in errors
    assert "blitz: job 2 (lr=1e+31) failed: NonFiniteLoss" in errors
    assert errors.splitlines()[-1] == "blitz: 2 of 3 jobs failed"
    assert "Traceback" not in errors

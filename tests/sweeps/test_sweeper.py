"""`blitz -m`: all jobs checked before any starts, each end known, the failures reported together."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf
from support import packages
from support.pictures import make_images
from support.processes import (
    PATIENCE,
    QUICK,
    Server,
    finished,
    held,
    in_a_terminal,
    kill_with_its_children,
    start,
    until,
)
from support.recorded import artifacts, client, runs, sweeps
from support.shell import Ended, refused
from support.shell import blitz as command

import blitz
from blitz.config.settings import Settings
from blitz.parts.registry import Registry
from blitz.run_folder.run_info import FAILED, FINISHED, RunInfo, runs_in
from blitz.runner import run as runner
from blitz.runner.build import JobInfo
from blitz.runner.record import Record
from blitz.sweeps import rounds
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import INTERRUPT, STOP, Outcome, read_outcomes
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.results import Results
from blitz.tracking.sending import Delivery

SHORT = [*QUICK, "data.limit=100", "epochs=1", "tracking.system_metrics=null"]
PARTS = """\
from torch.optim import SGD

def sgd(params, *, lr: float = 0.05):
    return SGD(params, lr=lr)
"""
PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


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
    (parent,) = sweeps()
    (best,) = [run for run in found if run.info.run_id == parent.data.tags["sweep.best"]]
    (line,) = [line for line in ended.output.splitlines() if line.startswith("best ")]
    accuracy = best.data.metrics["val/accuracy"]
    reported = f"{accuracy:.2%} on the validation images; blitz reproduce {best.info.run_id}"
    assert line == f"best     {best.info.run_name}: {reported}"


def test_results_table_is_printed_and_stored_with_the_sweeps_run(here: Path) -> None:
    ended = command("-m", *SHORT, "optimizer.lr=0.1,0.01", "seed=0,1")
    (parent,) = sweeps()
    children = jobs()
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.info.run_name == "lr=0.1,0.01 seed=0,1"
    assert parent.info.status == "FINISHED"
    tags = parent.data.tags
    assert tags["mlflow.source.name"].startswith("blitz -m data=digits")
    (best,) = [run for run in children if run.info.run_id == tags["sweep.best"]]
    assert tags["sweep.best.optimizer.lr"] == best.data.params["optimizer.lr"]
    assert float(tags["sweep.best.objective"]) == best.data.metrics["objective"]
    assert parent.data.params["epochs"] == "1"
    assert "optimizer.lr" not in parent.data.params
    heading = next(line for line in ended.output.splitlines() if line.split()[:2] == ["lr", "objective"])
    assert heading.split() == ["lr", "objective", "n", "time", "best", "run"]
    folder = Path(tags["folder"])
    assert artifacts(parent.info.run_id) >= {"results.md", "results.csv", "sweep.json", "overrides.yaml"}
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    for row in rows:
        of_row = [run for run in children if run.data.params["optimizer.lr"] == row["optimizer.lr"]]
        found = [run.data.metrics["objective"] for run in of_row]
        assert float(row["objective"]) == pytest.approx(sum(found) / 2)
        assert row["n"] == "2"
    assert float(rows[0]["objective"]) >= float(rows[1]["objective"])
    assert rows[0]["optimizer.lr"] == best.data.params["optimizer.lr"]
    assert "| lr | objective |" in (folder / "results.md").read_text()
    assert "| lr | objective |" in tags["mlflow.note.content"]


def finished_job(number: int, objective: float, **swept: object) -> tuple[SweepJob, Outcome]:
    overrides = tuple(f"{key}={value}" for key, value in swept.items())
    settings = blitz.compose(["data=digits", *overrides])
    return SweepJob(number, Combination(overrides, overrides), DictConfig({}), settings), Outcome(
        FINISHED, objective=objective, run_id=f"{number}" * 32
    )


def results(*ended: tuple[SweepJob, Outcome]) -> Results:
    return Results([job for job, _ in ended], {job.number: outcome for job, outcome in ended})


def test_best_run_is_one_of_the_settings_with_the_best_mean_over_seeds() -> None:
    found = results(
        finished_job(0, 0.1, batch_size=24, seed=0),
        finished_job(1, 0.9, batch_size=24, seed=1),  # the luckiest of all
        finished_job(2, 0.6, batch_size=32, seed=0),
        finished_job(3, 0.7, batch_size=32, seed=1),
    )
    assert found.best is not None
    assert found.best[0].number == 3
    assert found.tags()["sweep.best.batch_size"] == "32"
    assert found.comparison.rows[0].values == {"batch_size": "32"}


def test_best_run_is_none_without_an_objective(capsys: pytest.CaptureFixture[str]) -> None:
    job, _ = finished_job(0, 0.0, batch_size=24, seed=0)
    other, _ = finished_job(1, 0.0, batch_size=24, seed=1)
    found = results((job, Outcome(FAILED, "why")), (other, Outcome(FINISHED)))
    assert (found.best, found.tags()) == (None, {})
    found.print()
    reported = capsys.readouterr()
    assert "best " not in reported.out.splitlines()[-1]
    assert reported.err == "blitz: job 0 (batch_size=24 seed=0) failed: why\n"


def test_best_run_says_which_images_its_accuracy_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    both = [finished_job(0, 0.5, **{"data.validation": 0}), finished_job(1, 0.6, **{"data.validation": 0.1})]
    results(*both).print()
    output = capsys.readouterr().out
    assert "best     validation=0.1: 60.00% on the validation images" in output
    assert "Without validation images it is the training accuracy that counts" in output
    results(both[0]).print()
    assert "50.00% on the training images" in capsys.readouterr().out


@pytest.mark.slow
def test_images_are_listed_once_for_all_jobs_that_train_on_them(here: Path) -> None:
    (make_images(here / "images", train=8, test=2, size=(16, 16)) / "train" / "light" / ".hidden").touch()
    asked = ["data=folder", "data.root=images", "data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]", "model=mlp"]
    asked += ["batch_size=4", "epochs=1", "device.threads=1", "tracking=none", "tracking.figures=false"]
    listed = "1 entry left out that are no images: train/light/.hidden"
    for swept, times in (("seed=0,1", 1), ("data.limit=8,4", 2)):
        ended = command("-m", *asked, swept)
        assert (ended.code, ended.output.count("test     accuracy")) == (0, 2), ended
        assert ended.output.count(listed) == times
    assert re.findall(r"folder: (\d+) training", ended.output) == ["8", "4"]


@pytest.mark.slow
def test_figures_are_stored_with_the_sweeps_run(here: Path) -> None:
    asked = [text for text in SHORT if not text.startswith(("tracking.figures", "epochs"))]
    assert command("-m", *asked, "epochs=2", "optimizer.lr=0.1,0.01", "optimizer.momentum=0,0.9", "seed=0,1").code == 0
    (parent,) = sweeps()
    names = ("heat_map", "learning_curves", "objective_by_optimizer_lr", "objective_by_optimizer_momentum")
    assert {"results.html", *(f"figures/{name}.png" for name in names)} <= artifacts(parent.info.run_id)
    page = Path(parent.data.tags["folder"], "results.html").read_text()
    assert f"<h1>Sweep {parent.data.tags['sweep']}</h1>" in page
    assert all(f'data-run="/#/runs/{run.info.run_id}"' in page for run in jobs())


@pytest.mark.slow
def test_best_is_the_best_run_of_the_last_sweep(here: Path) -> None:
    (problem,) = refused("evaluate", "best")
    assert problem == "best: no sweep was started here (accepted: a run id, the start of one, last, or best)"
    assert command("-m", *SHORT, "optimizer.lr=0.1,0.01", "epochs=2").code == 0
    (parent,) = sweeps()
    best = parent.data.tags["sweep.best"]
    assert command(*SHORT, "seed=5").code == 0  # it is the last run
    assert f"run      {best}" in command("evaluate", "best").output
    assert best[:8] in command("compare", "best").output
    assert command(*SHORT, "model.weights=best").code == 0
    assert runs()[0].data.params["model.weights"] == best
    assert command("-m", *SHORT, "seed=0,1", "tracking=none").code == 0
    (problem,) = refused("reproduce", "best")
    assert re.fullmatch(
        r"best: the last sweep, \S+, names no best run: it has not ended, .* or its runs are in no store", problem
    )


@pytest.mark.slow
def test_sweeps_run_is_refused_by_verbs_that_need_a_trained_run(here: Path) -> None:
    assert command("-m", *SHORT, "optimizer.lr=0.1,1e-9").code == 0
    (parent,) = sweeps()
    tags = parent.data.tags
    sweep = tags["sweep"]
    error = f"{parent.info.run_id}: a sweep, and no run that was trained; blitz compare --sweep {sweep} lists its runs"
    for verb in ("reproduce", "evaluate", "resume"):
        assert refused(verb, parent.info.run_id) == [error]
    (reported,) = refused("evaluate", jobs()[1].info.run_id)  # not the better one
    assert "a sweep keeps those of its best jobs" in reported
    assert "images, test" in command("evaluate", tags["sweep.best"]).output


@pytest.mark.slow
def test_skip_finished_trains_only_what_no_run_has_finished(here: Path) -> None:
    assert command("-m", *SHORT, "seed=0,1").code == 0
    first = {run.info.run_id for run in jobs()}
    ended = command("-m", *SHORT, "seed=0,1", "sweep.skip_finished=true")
    assert (ended.code, ended.told) == (0, [])
    skipped = [line for line in ended.output.splitlines() if line.startswith("skipped  job")]
    assert len(skipped) == 2
    assert all(run in "".join(skipped) for run in first)
    assert {run.info.run_id for run in jobs()} == first
    assert len(sweeps()) == 1
    ended = command("-m", *SHORT, "seed=0,1,2", "sweep.skip_finished=true")
    assert len(runs()) == 3
    newest = sweeps()[0]
    assert set(newest.data.tags["sweep.skipped"].split()) == first
    rows = [line for line in command("compare", "--sweep", "last", "--all").output.splitlines() if "FINISHED" in line]
    assert rows == []  # all have finished, which goes without saying
    assert command("compare", "--sweep", "last", "--format", "json").output.count('"status": "FINISHED"') == 3
    client().set_tag(first.pop(), "git.commit", "0" * 40)
    ended = command("-m", *SHORT, "seed=0,1", "sweep.skip_finished=true", "sweep.dry_run=true")
    reported = "1 of 2 jobs have finished already, with other code than there is now (the tags git.commit and git.diff)"
    assert ended.told == [f"blitz: {reported}"]


@pytest.mark.slow
def test_skip_finished_counts_a_run_for_one_job_only(here: Path) -> None:
    sweep = [*SHORT, "tags.who=a,b"]
    assert command("-m", *sweep).code == 0
    first, _ = jobs()
    client().set_terminated(first.info.run_id, "KILLED")
    ended = command("-m", "sweep.resume=last", "sweep.dry_run=true")
    assert ended.output.splitlines()[0].startswith("skipped  job 1 (who=b) has finished already (run ")
    assert "1 job; sweep.dry_run=true: none was started" in ended.output.splitlines()
    assert command("-m", "sweep.resume=last").code == 0
    done = [run.data.tags["who"] for run in jobs() if run.info.status == "FINISHED"]
    assert sorted(done) == ["a", "b"]
    reported = refused("-m", "sweep.resume=last", "sweep.samples=3")
    assert reported[0].startswith("sweep.samples=3: cannot be changed on resume of sweep ")
    ended = command("-m", *sweep, "sweep.skip_finished=true")
    assert ended.output.count("skipped  job") == 2


@pytest.mark.slow
def test_resume_command_names_the_folder_and_the_store(here: Path) -> None:
    where = ["runs_dir=elsewhere", "tracking.uri=sqlite:///other.db"]
    ended = command("-m", *SHORT, *where, "optimizer.lr=0.01,1e30")
    (line,) = [line for line in ended.output.splitlines() if line.startswith("resume   blitz ")]
    assert line.split()[-2:] == where
    ended = command(*line.split()[2:])
    assert (ended.code, ended.output.count("skipped  job")) == (1, 1)
    assert line in ended.output.splitlines()
    assert not (here / "runs").exists()


@pytest.mark.slow
def test_resume_trains_the_jobs_that_failed(here: Path) -> None:
    ended = command("-m", *SHORT, "optimizer.lr=0.01,1e30,0.02", "sweep.on_failure=stop")
    assert ended.code == 1
    (sweep,) = sweeps()
    assert sweep.info.status == "FAILED"
    name = sweep.data.tags["sweep"]
    assert f"resume   blitz -m sweep.resume={name}" in ended.output.splitlines()
    ended = command("-m", "sweep.resume=last")
    assert ended.code == 1
    assert [line.split(" (")[0] for line in ended.output.splitlines() if line.startswith("skipped")] == [
        "skipped  job 0"
    ]
    assert sorted(run.info.status for run in jobs()) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    (again,) = sweeps()
    assert again.info.run_id == sweep.info.run_id
    ended = command("-m", f"sweep.resume={name[:-2]}")
    assert (ended.code, ended.output.count("skipped  job")) == (1, 2)
    # a job has one line, however often it was begun; how often, the store knows
    assert sum(line.startswith("1e+30") for line in ended.output.splitlines()) == 1
    assert "2 attempts left out: not finished." in command("compare", "--sweep", name).output.splitlines()


@pytest.mark.slow
def test_resume_needs_nothing_but_the_store(here: Path) -> None:
    asked = ["model=net,mlp", "seed=0,1"]
    assert command("-m", *SHORT, *asked, "name=mine").code == 0
    (sweep,) = sweeps()
    first = jobs()
    shutil.rmtree(here / "runs")
    client().delete_run(first[-1].info.run_id)
    ended = command("-m", f"sweep.resume={sweep.data.tags['sweep']}", "tracking.figures=false")
    assert (ended.code, ended.told) == (0, [])
    assert ended.output.count("skipped  job") == 3
    (again,) = sweeps()
    assert (again.info.run_id, again.info.status) == (sweep.info.run_id, "FINISHED")
    newest = jobs()[-1]
    assert newest.info.run_id not in {run.info.run_id for run in first}
    assert newest.data.tags["config_hash"] == first[-1].data.tags["config_hash"]
    assert newest.data.tags["mlflow.parentRunId"] == sweep.info.run_id


@pytest.mark.slow
def test_resume_refuses_another_config(here: Path) -> None:
    assert refused("-m", "sweep.resume=last")[0].startswith("sweep.resume=last: no such sweep in runs/sweeps and in ")
    recipe = here / "own" / "experiment" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.03\n")
    groups = ["--config-dir", "own"]
    ended = command("-m", *SHORT, "experiment=mine", "optimizer.weight_decay=0,1e30", *groups)
    assert ended.code == 1
    (sweep,) = sweeps()
    name = sweep.data.tags["sweep"]
    assert f"resume   blitz -m sweep.resume={name} --config-dir {here}/own" in ended.output
    reported = refused("-m", "sweep.resume=last", "epochs=2", *groups)
    assert reported[0].startswith(
        f"epochs=2: cannot be changed on resume of sweep {name} (allowed: tracking, checkpoint, "
    )
    recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.04\n")
    (changed,) = refused("-m", "sweep.resume=last", *groups)
    assert changed.startswith(f"sweep.resume={name}: job 0 (weight_decay=0) has another config now than when ")
    assert refused("-m", f"sweep.resume={name[:-1]}x")[0].endswith(f"did you mean {name}?")


@pytest.mark.slow
def test_points_are_combined_with_everything_else_that_is_swept(here: Path) -> None:
    (here / "points.csv").write_text("optimizer.lr,model,tags.author\n0.1,mlp,me\n0.01,,\n")
    ended = command("-m", *SHORT, "sweep.points=points.csv", "seed=0,1")
    assert ended.code == 0, ended
    params = [(run.data.params["optimizer.lr"], run.data.params["model.name"]) for run in jobs()]
    assert params == [("0.1", "mlp")] * 2 + [("0.01", "net")] * 2
    assert [run.data.tags.get("author") for run in jobs()] == ["me", "me", None, None]
    (here / "points.csv").unlink()
    assert command("-m", "sweep.resume=last").output.count("skipped  job") == 4  # the file is not needed any more


@pytest.mark.slow
def test_weights_of_the_best_jobs_alone_are_kept_and_sent(here: Path) -> None:
    assert command("-m", *SHORT, "seed=3,4", "optimizer.lr=0.001,0.1,0.01").code == 0
    found = jobs()
    by_rate: dict[str, list[float]] = {}
    for run in found:
        by_rate.setdefault(run.data.params["optimizer.lr"], []).append(run.data.metrics["objective"])
    for run in found:
        kept = {file.name for file in (Path(run.data.tags["folder"]) / "checkpoints").iterdir()}
        objective, rate = run.data.metrics["objective"], run.data.params["optimizer.lr"]
        others = [statistics.fmean(values) for key, values in by_rate.items() if key != rate]
        is_best = objective == max(by_rate[rate]) and objective >= max(others)
        assert kept == ({"best.pt"} if is_best else set()), run.info.run_name
        assert ("checkpoints/best.pt" in artifacts(run.info.run_id)) is is_best
    (parent,) = sweeps()
    assert "checkpoints/best.pt" in artifacts(parent.data.tags["sweep.best"])
    assert command("-m", *SHORT, "seed=0,1", "checkpoint.keep=all").code == 0
    for run in runs()[:2]:
        assert len(list((Path(run.data.tags["folder"]) / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        (["seed=range(0,0)"], "seed=range(0,0): holds no value, and the sweep no job"),
        (["optimizer.lr=interval(0,1)"], "optimizer.lr=interval(0,1): needs sweep.samples=N"),
        (["sweep.samples=2"], "sweep.samples=2: nothing to draw from"),
        (["sweep.points=none.csv"], "sweep.points=none.csv: No such file"),
        (["sweep.points=wrong.csv", "seed=0,1"],
         "wrong.csv: optimizer.lrr: no such option of sgd; did you mean optimizer.lr?"),
        (["sweep.points=right.csv", "optimizer.lr=1"], "optimizer.lr: is given by right.csv and on the command line"),
        (["sweep.resume=x"], "sweep.resume=x: no such sweep in runs/sweeps"),
        (["sweep.on_failure=stpo", "seed=0,1"], "sweep.on_failure=stpo: accepted: continue or stop"),
        (["device=cpu", "device.precision=fp32,fp16"], "device.precision=fp16: a CPU gains nothing from it"),
        (["micro_batch_size=1", "data.limit=10,100"], "batch_size=32: accepted: at most 10, the number of training"),
        (["data=folder", "data.root=nowhere", "seed=0,1"], "data.root=nowhere: does not exist"),
        (["mix=none,cutmix", "loss=multi_margin"], "mix=cutmix: loss=multi_margin takes no soft labels"),
        (["model=net,mlp", "model.weights=none.pt"], "model.weights=none.pt: no such file"),
        (["hydra.sweep.dir=elsewhere", "seed=0,1"], "hydra.sweep.dir=elsewhere: blitz makes a run's folder itself"),
        (["sweep.skip_finished=true", "tracking=none", "seed=0,1"], "sweep.skip_finished=true: needs a store"),
        (["sweep.resume=2026"], "sweep.resume=2026: no such sweep in runs/sweeps"),
        (["sweep.points=chosen.csv", "model.dropout=0.1", "sweep.resume=last"],
         "sweep.resume=last: no such sweep in runs/sweeps"),
        (["eval_batch_size=interval(16,20)", "sweep.samples=5"],
         "eval_batch_size=interval(16,20): accepted: integer >= 1; int(interval(A,B)) draws whole numbers"),
        (["model=glob(xyz*)"], "model=glob(xyz*): holds no value, and the sweep no job"),
        (["sweep.dry_run=false,true"], "sweep.dry_run=false,true: accepted: one value, which is about the whole sweep"),
        (["sweep.samples=2,3", "optimizer.lr=interval(0,1)"], "sweep.samples=2,3: accepted: one value"),
        (["sweep.samples=0", "optimizer.lr=interval(0,1)"], "sweep.samples=0: accepted: integer >= 1"),
        (["sweep.seed=-1", "sweep.samples=2", "optimizer.lr=interval(0,1)"], "sweep.seed=-1: accepted: "),
        (["sweep.samples=1000000", "optimizer.lr=interval(0,1)"],
         "sweep.samples=1000000: 1,000,000 jobs; accepted: at most 100,000"),
        (["sweep.samples=2", "epochs=int(interval(1,3))"], "epochs: is drawn, and given as well"),
        (["sweep.go_on=/tmp", "seed=0,1"], "sweep.go_on: no such option"),
        (["runs_dir=a,b"], "runs_dir: accepted: the same for all jobs of a sweep (in 1 of 2 jobs"),
        (["tracking=none,mlflow"], "tracking.name: accepted: the same for all jobs of a sweep"),
        (["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: accepted"),
        (["seed=0,1", "hydra.launcher.n_jobs=2"],
         "hydra.launcher.n_jobs: no such option; options depend on the launcher that hydra/launcher=NAME chooses"),
        (["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.njobs=2"],
         "hydra.launcher.njobs: no such option; did you mean hydra.launcher.n_jobs?"),
        (["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=two"],
         "hydra.launcher.n_jobs=two: Value 'two' of type 'str' could not be converted to Integer"),
        (["seed=0,1", "hydra/launcher=joblb"],
         "hydra/launcher=joblb: no such launcher; did you mean joblib? (accepted: basic, joblib, ray"),
        (["seed=0,1", "hydra/lancher=joblib"], "hydra/lancher: no such group; did you mean hydra/launcher?"),
    ],
)  # fmt: skip
def test_mistake_in_a_sweep_starts_nothing(here: Path, wrong: list[str], reported: str) -> None:
    (here / "chosen.csv").write_text("model\nmlp\nvit\n")
    (here / "wrong.csv").write_text("optimizer.lrr\n0.1\n")
    (here / "right.csv").write_text("optimizer.lr\n0.1\n")
    store = (here / "mlflow.db").read_bytes()
    (line,) = refused("-m", *SHORT, *wrong)
    assert line.startswith(reported)
    assert not list(here.glob("runs*"))
    assert (here / "mlflow.db").read_bytes() == store


@pytest.mark.slow
def test_reproduction_of_a_job_is_no_part_of_the_sweep(here: Path) -> None:
    assert command("-m", *SHORT, "seed=0,1").code == 0
    second = jobs()[1]
    ended = command("reproduce", second.info.run_id)
    assert "verdict  identical" in ended.output
    assert runs()[0].data.tags.get("sweep") is None
    assert runs()[0].data.tags["config_hash"] == second.data.tags["config_hash"]


def test_preflight_reports_the_mistakes_of_all_jobs_before_the_first_one_starts(here: Path) -> None:
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


def test_duplicate_job_is_reported_and_skipped(here: Path) -> None:
    ended = command("-m", *SHORT, "seed=0,1,0")
    assert ended.code == 0
    assert ended.told == ["blitz: job 2 (seed=0) is a duplicate of job 0; skipped"]
    assert [run.info.run_name for run in jobs()] == ["seed=0", "seed=1"]


def test_dry_run_lists_the_jobs_and_starts_none(here: Path) -> None:
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


@pytest.mark.slow
def test_resume_without_a_store_reads_the_sweeps_folder(here: Path) -> None:
    assert command("-m", *SHORT, "tracking=none", "optimizer.lr=0.01,1e30,0.02").code == 1
    for _ in range(2):
        ended = command("-m", "sweep.resume=last", "tracking=none")
        assert ended.code == 1
        assert [line.split()[2] for line in ended.output.splitlines() if line.startswith("skipped")] == ["0", "2"]
    assert len(list((here / "runs").glob("*/config.yaml"))) == 5
    (sweep,) = (here / "runs" / "sweeps").iterdir()
    (sweep / "0.json").write_text("")  # a power cut
    ended = command("-m", "sweep.resume=last", "tracking=none")
    assert [line.split()[2] for line in ended.output.splitlines() if line.startswith("skipped")] == ["0", "2"]


def test_exit_called_by_a_job_fails_that_job_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = runner.new_run

    def leaving(settings: Settings, overrides: Sequence[str], *, job: JobInfo) -> Record:
        if settings.seed == 0:
            sys.exit("enough")
        return real(settings, overrides, job=job)

    monkeypatch.setattr(runner, "new_run", leaving)
    ended = command("-m", *SHORT, "seed=0,1")
    assert ended.code == 1
    assert ended.told[-2:] == ["blitz: job 0 (seed=0) failed: SystemExit: enough", "blitz: 1 of 2 jobs failed"]
    assert [run.info.run_name for run in jobs()] == ["seed=1"]


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, ValueError])  # the latter as Hydra raises it for overrides
def test_launcher_that_raises_ends_the_sweep_as_failed(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def launching(*_: object) -> None:
        raise error("no processes left")

    monkeypatch.setattr(rounds, "launch", launching)
    ended = command("-m", *SHORT, "seed=0,1")
    assert ended.code == 1  # it is not the user's mistake
    assert ended.told[-1].startswith(f"blitz: the run failed: {error.__name__}: no processes left; ")
    assert [sweep.info.status for sweep in sweeps()] == ["FAILED"]


@pytest.mark.slow
def test_figures_that_cannot_be_made_cost_one_warning(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no store there")

    monkeypatch.setattr(Results, "save_figures", failing)
    ended = command("-m", *SHORT, "tracking.figures=true", "seed=0")
    (reported,) = ended.told
    assert ended.code == 0
    assert reported.endswith("not all tables, figures and weights could be saved: no store there")
    assert [sweep.info.status for sweep in sweeps()] == ["FINISHED"]


@pytest.mark.slow
def test_skip_finished_keeps_the_number_of_threads_of_parallel_jobs(here: Path) -> None:
    asked = [text for text in SHORT if not text.startswith("device.threads")]
    for seeds in ("0,1", "0,1,2"):
        code, _, errors = finished(here, "-m", *asked, f"seed={seeds}", "sweep.skip_finished=true", *PARALLEL)
        assert code == 0, errors
    found = runs()
    assert len(found) == 3
    assert len({run.data.params["device.threads"] for run in found}) == 1


@pytest.mark.slow
def test_weights_of_last_are_those_of_one_run_for_all_jobs_also_on_resume(here: Path) -> None:
    assert command(*SHORT).code == 0
    (first,) = runs()
    assert command("-m", *SHORT, "model.weights=last", "optimizer.lr=0.01,0.02").code == 0
    started = [run for run in runs() if run.info.run_id != first.info.run_id]
    assert [run.data.params["model.weights"] for run in started] == [first.info.run_id] * 2
    ended = command("-m", "sweep.resume=last")
    assert (ended.code, ended.output.count("skipped  job")) == (0, 2)
    assert refused("-m", *SHORT, "model.weights=nope,last")[0].startswith("nope: no such run in ")


@pytest.mark.slow
def test_tracking_none_sweeps_without_a_store(here: Path) -> None:
    ended = command("-m", *SHORT, "seed=0,1", "tracking=none")
    assert ended.code == 0
    assert runs() == []
    assert len(list((here / "runs").glob("*/config.yaml"))) == 2


def test_config_files_that_are_edited_after_the_start_change_no_job(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = here / "own" / "experiment" / "mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.03\n")
    real = runner.new_run

    def run_and_edit(settings: Settings, overrides: Sequence[str], *, job: JobInfo) -> Record:
        recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.04\n")
        return real(settings, overrides, job=job)

    monkeypatch.setattr(runner, "new_run", run_and_edit)
    assert command("-m", *SHORT, "experiment=mine", "seed=0,1", "--config-dir", "own").code == 0
    assert [run.data.params["optimizer.lr"] for run in jobs()] == ["0.03"] * 2


@pytest.mark.slow
def test_retry_of_a_parallel_job_that_was_killed(here: Path) -> None:
    sweep = start(here, "-m", *SHORT, "epochs=100", "seed=0,1,2", *PARALLEL)
    with held(sweep, here, 1) as trainers:
        next(iter(trainers.values())).kill()
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert "; relaunching" in errors
    found = jobs()
    done = [run.info.run_name for run in found if run.info.status == "FINISHED"]
    assert sorted(done) == ["seed=0", "seed=1", "seed=2"]
    (sweep_folder,) = (here / "runs" / "sweeps").iterdir()
    assert [outcome.status for outcome in read_outcomes(sweep_folder).values()] == ["FINISHED"] * 3


@contextmanager
def at_its_end(trainer: psutil.Process, run: Path) -> Iterator[None]:
    """The run has finished, and its process waits for the writer, which is suspended until the block ends."""
    children = trainer.children(recursive=True)
    for child in children:
        child.suspend()
    trainer.resume()
    until(lambda: RunInfo.load(run).status == FINISHED)
    try:
        yield
    finally:
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.resume()


def runs_of_job(run: Path) -> list[Path]:
    """The runs of the job that this is one of."""
    number = RunInfo.load(run).tags["sweep.job"]
    return [folder for folder, about in runs_in(run.parent) if about.tags["sweep.job"] == number]


@pytest.mark.slow
def test_retry_takes_the_run_of_a_job_that_was_killed_after_its_end(here: Path) -> None:
    sweep = start(here, "-m", *SHORT, "epochs=100", "seed=0,1", *PARALLEL)
    with held(sweep, here, 1) as trainers:
        run, trainer = next(iter(trainers.items()))
        with at_its_end(trainer, run):
            trainer.kill()
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert runs_of_job(run) == [run]
    until(lambda: [found.info.status for found in jobs()] == ["FINISHED"] * 2)  # its writer outlives it
    assert sorted(str(found.info.run_name) for found in jobs()) == ["seed=0", "seed=1"]


@pytest.mark.slow
def test_resume_takes_the_run_of_a_job_that_was_killed_after_its_end(here: Path) -> None:
    sweep = start(here, "-m", *SHORT, "epochs=60", "seed=0,1")
    with held(sweep, here, 1) as trainers:
        ((run, trainer),) = trainers.items()
        with at_its_end(trainer, run):
            kill_with_its_children(sweep)
    about = RunInfo.load(run)
    assert about.store is not None
    assert not Delivery(run, about.store, about).complete
    ended = command("-m", "sweep.resume=last")
    assert (ended.code, ended.output.count("skipped  job 0 (seed=0) has finished already")) == (0, 1), ended
    assert runs_of_job(run) == [run]
    assert Delivery(run, about.store, about).complete
    assert [found.info.status for found in jobs()] == ["FINISHED"] * 2
    assert [found.info.status for found in sweeps()] == ["FINISHED"]


@pytest.mark.slow
def test_terminal_that_is_closed_ends_the_sweep(here: Path) -> None:
    with ExitStack() as trainers:
        with in_a_terminal(here, "-m", *SHORT, "epochs=100", "seed=0,1,2", *PARALLEL) as sweep:
            trainers.enter_context(held(sweep, here, 2))
        until(lambda: list(here.glob(f"runs/sweeps/*/{INTERRUPT}")))  # before they continue
    assert sweep.wait(timeout=PATIENCE) == 143
    assert [run.info.status for run in sweeps()] == ["KILLED"]
    assert [run.info.status for run in jobs()] == ["KILLED"] * 2
    (sweep_folder,) = (here / "runs" / "sweeps").iterdir()
    assert {outcome.status for outcome in read_outcomes(sweep_folder).values()} <= {"KILLED", "NOT STARTED"}


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "number"), [([], signal.SIGTERM), (PARALLEL, signal.SIGINT)])
def test_resume_of_a_sweep_that_a_signal_stopped(here: Path, parallel: list[str], number: signal.Signals) -> None:
    number_of_jobs = 3 if parallel else 2  # one of them does not begin
    seeds = f"seed=range({number_of_jobs})"
    sweep = start(here, "-m", *SHORT, "epochs=100", seeds, *parallel, own_group=True)
    with held(sweep, here, number_of_jobs - 1):
        if number == signal.SIGINT:
            os.killpg(sweep.pid, number)  # as a terminal does: to the workers as well
        else:
            sweep.send_signal(number)
        if parallel:  # else the sweep itself is held up
            until(lambda: list(here.glob(f"runs/sweeps/*/{INTERRUPT}")))
    output, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 128 + number, errors
    assert "Traceback" not in errors
    stopped = jobs()
    assert {run.info.status for run in stopped} == {"KILLED"}
    assert len(stopped) == number_of_jobs - 1
    (parent,) = sweeps()
    assert parent.info.status == "KILLED"
    name = parent.data.tags["sweep"]
    (line,) = [line for line in output.splitlines() if line.startswith("resume   blitz ")]
    asked = line.removeprefix("resume   blitz ").split()
    assert asked == ["-m", f"sweep.resume={name}", *parallel]
    ended = command(*asked[:2])  # one after another, in this process
    assert ended.code == 0, ended
    assert ended.output.count("resume   after ") == len(stopped)
    found = jobs()
    assert [run.info.status for run in found] == ["FINISHED"] * number_of_jobs
    assert {run.info.run_id for run in stopped} <= {run.info.run_id for run in found}
    assert sweeps()[0].info.status == "FINISHED"


@pytest.mark.slow
def test_resume_of_a_sweep_that_was_killed_continues_its_run(here: Path) -> None:
    sweep = start(here, "-m", *SHORT, "epochs=60", "seed=0,1")
    with held(sweep, here, 1):
        kill_with_its_children(sweep)
    ended = command("-m", "sweep.resume=last")
    assert ended.code == 0, ended
    assert ended.output.count("resume   after ") == 1
    assert [run.info.status for run in jobs()] == ["FINISHED"] * 2
    assert [run.info.status for run in sweeps()] == ["FINISHED"]


@pytest.mark.slow
def test_workers_of_a_sweep_that_was_killed_begin_no_more_jobs(here: Path) -> None:
    with start(here, "-m", *SHORT, "epochs=100", "seed=0,1,2,3", *PARALLEL) as sweep:
        with held(sweep, here, 2) as trainers:
            workers = list(trainers.values())
            sweep.kill()
            sweep.wait()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
        assert not alive
    (folder,) = (here / "runs" / "sweeps").iterdir()
    assert len(list(folder.glob("*.begun"))) == 2
    ended = command("-m", "sweep.resume=last")
    assert (ended.code, ended.output.count("skipped  job")) == (0, 2), ended
    assert len(list((here / "runs").glob("*/config.yaml"))) == 4


@pytest.mark.slow
def test_parallel_jobs_share_the_cores_and_all_failures_are_listed(here: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    asked = [text for text in SHORT if not text.startswith("device.threads")]
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={cores}"]
    code, _, errors = finished(here, "-m", *asked, "optimizer.lr=1e30,0.01,1e31", *launcher)
    assert code == 1
    assert "blitz: job 0 (lr=1e+30) failed: NonFiniteLoss" in errors
    assert "blitz: job 2 (lr=1e+31) failed: NonFiniteLoss" in errors
    assert errors.splitlines()[-1] == "blitz: 2 of 3 jobs failed"
    assert "Traceback" not in errors
    assert [run.data.params["device.threads"] for run in jobs()] == [str(cores // min(3, cores))] * 3
    assert len({run.data.tags["config_hash"] for run in jobs()}) == 3


@pytest.mark.slow
def test_on_failure_stop_begins_no_more_parallel_jobs(here: Path) -> None:
    swept = ["optimizer.lr=1e30,0.01,0.02,0.03,0.04", "sweep.on_failure=stop"]
    sweep = start(here, "-m", *SHORT, "epochs=100", *swept, *PARALLEL)
    with held(sweep, here, lambda: list(here.glob(f"runs/sweeps/*/{STOP}"))):
        pass  # whichever worker begins first, the job beside the one that fails ends after it
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 1
    statuses = {run.info.run_name: run.info.status for run in jobs()}
    assert statuses.pop("lr=1e+30") == "FAILED"
    assert statuses in ({}, {"lr=0.01": "FINISHED"})
    not_started = 4 - len(statuses)
    assert errors.splitlines()[-1] == f"blitz: 1 of 5 jobs failed, {not_started} not started (sweep.on_failure=stop)"


@pytest.mark.slow
def test_ctrl_c_twice_ends_a_parallel_sweep_at_once(here: Path) -> None:
    sweep = start(here, "-m", *SHORT, "epochs=400", "seed=0,1,2", *PARALLEL, own_group=True)
    with held(sweep, here, 2):  # so that there is something to stop at once
        workers = psutil.Process(sweep.pid).children(recursive=True)
        os.killpg(sweep.pid, signal.SIGINT)
        assert sweep.stderr is not None
        assert "Ctrl-C again stops at once" in sweep.stderr.readline()
        os.killpg(sweep.pid, signal.SIGINT)
        output, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130
    assert "Traceback" not in errors
    assert "resume   blitz -m sweep.resume=" in output
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert alive == []
    assert sweeps()[0].info.status == "KILLED"


@pytest.mark.slow
def test_sync_sends_a_sweep_with_its_jobs_below_it(here: Path) -> None:
    server = Server(here / "server")
    away = [f"tracking.uri={server.uri}", "tracking.offline=allow"]
    ended = command("-m", *SHORT, "seed=0,1", *away)
    assert ended.code == 0, ended
    server.start()
    try:
        ended = command("sync")
        assert ended.code == 0, ended
        (parent,) = sweeps(server.uri)
        found = jobs(server.uri)
        assert [run.info.status for run in (parent, *found)] == ["FINISHED"] * 3
        assert {run.data.tags["mlflow.parentRunId"] for run in found} == {parent.info.run_id}
        assert "results.md" in artifacts(parent.info.run_id, uri=server.uri)
    finally:
        server.stop()


@pytest.mark.slow
def test_retry_of_a_submitit_job_waits_for_the_other_jobs(here: Path) -> None:
    sweep = start(here, "-m", *SHORT, "epochs=100,300", "hydra/launcher=submitit_local")
    with held(sweep, here, 2) as trainers:
        tasks = {RunInfo.load(folder).tags["sweep.job"]: trainer for folder, trainer in trainers.items()}
        tasks["0"].kill()
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert "1 job did not finish" in errors
    found = sorted(jobs(), key=lambda run: run.data.tags["sweep.job"])
    assert [(run.info.status, run.data.tags.get("resumed")) for run in found] == [("FINISHED", "1"), ("FINISHED", None)]


@pytest.mark.slow
def test_option_that_the_default_choice_lacks_is_taken_if_all_swept_choices_have_it(here: Path) -> None:
    asked = ["model=mlp,vit", "model.dropout=0.2", "optimizer=adam,adamw", "optimizer.beta1=0.8"]
    ended = command("-m", *SHORT, *asked, "sweep.dry_run=true")
    assert ended.code == 0
    assert [line.split()[1:] for line in ended.output.splitlines()[1:3]] == [
        ["model=mlp", "optimizer=adam"],
        ["model=mlp", "optimizer=adamw"],
    ]
    assert command("-m", *SHORT, "model=mlp,mlp", "model.dropout=0.2").code == 0
    (run,) = jobs()
    assert run.data.params["model.dropout"] == "0.2"
    assert run.data.tags["mlflow.source.name"].count("+") == 0


def recipe(here: Path, **hydra: object) -> list[str]:
    """What chooses a recipe with these values for Hydra."""
    (here / "own/experiment").mkdir(parents=True)
    (here / "own/experiment/mine.yaml").write_text(f"# @package _global_\n{OmegaConf.to_yaml({'hydra': hydra})}")
    return ["--config-dir", "own", "experiment=mine"]


def listed(ended: Ended) -> list[str]:
    """What differs between the jobs that a dry run lists."""
    assert (ended.code, ended.told) == (0, [])
    lines = ended.output.splitlines()
    (end,) = (number for number, line in enumerate(lines) if line.endswith("sweep.dry_run=true: none was started"))
    return [" ".join(line.split()[1:]) for line in lines[1:end]]


@pytest.mark.slow
def test_recipe_lists_what_is_swept_and_what_is_typed_goes_first(here: Path) -> None:
    params = {"optimizer.lr": "0.1,0.01", "seed": "range(2)", "model": {"hidden": [9]}}
    asked = ["-m", *SHORT, *recipe(here, sweeper={"params": params}), "model=mlp", "sweep.dry_run=true"]
    assert listed(command(*asked)) == ["lr=0.1 seed=0", "lr=0.1 seed=1", "lr=0.01 seed=0", "lr=0.01 seed=1"]
    assert listed(command(*asked, "optimizer.lr=0.3", "seed=7,8")) == ["seed=7", "seed=8"]
    assert listed(command(*asked, "optimizer.lr=0.3", "seed=5")) == [""]


def test_recipe_draws_what_it_sweeps(here: Path) -> None:
    chosen = recipe(here, sweeper={"params": {"optimizer.lr": "tag(log, interval(0.01, 1))"}})
    assert len(set(listed(command("-m", *SHORT, *chosen, "sweep.samples=3", "sweep.dry_run=true")))) == 3


@pytest.mark.slow
def test_recipe_of_the_package_is_a_sweep(here: Path) -> None:
    rates, seeds = ("0.1", "0.03", "0.01"), range(3)
    jobs = [f"lr={rate} seed={seed}" for rate in rates for seed in seeds]
    assert listed(command("-m", "experiment=lr_sweep", "sweep.dry_run=true")) == jobs


@pytest.mark.parametrize("asked", [[], ["seed=1"]])
def test_recipe_that_sweeps_is_refused_without_m(here: Path, asked: list[str]) -> None:
    chosen = recipe(here, sweeper={"params": {"optimizer.lr": "0.1,0.01", "seed": "0,1"}})
    assert refused(*SHORT, *chosen, *asked) == [
        "hydra.sweeper.params: a recipe sweeps optimizer.lr, seed: needs -m, for a sweep"
    ]
    assert not list(here.glob("runs*"))


@pytest.mark.parametrize(
    ("sweeper", "problem"),
    [
        (
            {"params": {"sweep.seed": 1}},
            "hydra.sweeper.params.sweep.seed: accepted: the dotted key of a job's value or ",
        ),
        (
            {"params": {"hydra/launcher": "joblib"}},
            "hydra.sweeper.params.hydra/launcher: accepted: the dotted key of a ",
        ),
        ({"params": {"optimizer.lrr": "1,2"}}, "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?"),
        ({"params": [1]}, "hydra.sweeper.params=[1]: accepted: mapping of keys to what is swept"),
        ({"prams": {"seed": 1}}, "hydra.sweeper.prams: no such option; did you mean params? (accepted: params)"),
    ],
)
def test_mistake_in_what_a_recipe_sweeps(here: Path, sweeper: dict[str, object], problem: str) -> None:
    (line,) = refused("-m", *SHORT, *recipe(here, sweeper=sweeper))
    assert line.startswith(problem)
    assert not list(here.glob("runs*"))


@pytest.mark.slow
def test_resume_of_a_sweep_that_a_recipe_lists(here: Path) -> None:
    asked = ["-m", *SHORT, *recipe(here, sweeper={"params": {"seed": "0,1"}})]
    assert command(*asked).code == 0
    assert sorted(run.info.run_name for run in jobs()) == ["seed=0", "seed=1"]
    (parent,) = sweeps()
    assert parent.info.run_name == "seed=0,1"
    for again in ([*asked, "sweep.resume=last"], ["-m", "--config-dir", "own", "sweep.resume=last"]):
        ended = command(*again)
        assert (ended.code, ended.output.count("skipped  job")) == (0, 2)
    assert len(jobs()) == 2


@pytest.mark.parametrize("swept", ["model=net,mine", "model=glob(mi*)"])
def test_choice_without_a_yaml_is_swept(here: Path, models: Registry, swept: str) -> None:
    models.add("mine", models.builder("net"))
    ended = command("-m", *SHORT, swept, "seed=0,1", "sweep.dry_run=true")
    assert listed(ended)[-2:] == ["model=mine seed=0", "model=mine seed=1"]


def test_choice_without_a_yaml_is_swept_from_points(here: Path, models: Registry) -> None:
    models.add("mine", models.builder("net"))
    (here / "points.csv").write_text("model,seed\nnet,1\nmine,2\n")
    ended = command("-m", *SHORT, "sweep.points=points.csv", "sweep.dry_run=true")
    assert (ended.code, ended.told) == (0, [])
    assert "model=mine seed=2" in ended.output


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [PARALLEL, ["hydra/sweeper=basic"]])
def test_parts_of_an_installed_package_are_swept(here: Path, chosen: list[str]) -> None:
    package = packages.install(here / "package", "blitz.optimizers", {"mine": "sgd", "broken": "nothing"}, PARTS)
    asked = [*SHORT, *chosen, "optimizer=sgd,mine"]
    code, _, errors = finished(here, "-m", *asked, PYTHONPATH=packages.path(package))
    assert code == 0
    assert {line.split()[1] for line in errors.splitlines()} == {"optimizer=broken:"}
    assert {(run.data.params["optimizer.name"], run.info.status) for run in runs()} == {
        ("mine", "FINISHED"),
        ("sgd", "FINISHED"),
    }


@pytest.mark.slow
def test_sweeper_refuses_the_jobs_of_another_program(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("import hydra\nhydra.main(config_path=None, version_base='1.3')(lambda config: print(config))()\n")
    ended = subprocess.run(
        [sys.executable, app, "-m", "+x=1,2", "hydra/sweeper=blitz"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "hydra/sweeper=blitz: sweeps the jobs of blitz alone; choose another, such as hydra/sweeper=basic\n"
    )
    assert list(tmp_path.iterdir()) == [app]


def test_preflight_reports_which_jobs_have_a_mistake(here: Path) -> None:
    (here / "points.yaml").write_text("- {optimizer: null}\n- {model: null}\n")
    reported = refused("-m", *SHORT, "sweep.points=points.yaml")
    assert [line.split(":")[1].strip() for line in reported] == ["optimizer=null", "model=null"]
    assert [line.split("(")[-1] for line in reported] == [
        "in 1 of 2 jobs, the first of them optimizer=null)",
        "in 1 of 2 jobs, the first of them model=null)",
    ]
    assert refused("-m", *SHORT, "model=net,resnet20,mlp", "model.hidden=[3]") == [
        "model.hidden: no such option of net (in 1 of 3 jobs, the first of them model=net)",
        "model.hidden: no such option of resnet20 (in 1 of 3 jobs, the first of them model=resnet20)",
    ]


def test_preflight_reports_the_first_twenty_of_many_mistakes(here: Path) -> None:
    reported = refused("-m", *SHORT, "optimizer.lr=range(-50,0)")
    assert len(reported) == 21
    assert reported[0] == "optimizer.lr=-50: accepted: number > 0 (in 1 of 50 jobs, the first of them lr=-50)"
    assert reported[-1] == "and 30 more mistakes like these"


def test_dry_run_prints_a_value_of_two_lines_in_one(here: Path) -> None:
    ended = command("-m", *SHORT, "notes='a\nb',c", "sweep.dry_run=true")
    assert [line.strip() for line in ended.output.splitlines()[1:4]] == [
        "0  notes='a b'",
        "1  notes=c",
        "2 jobs; sweep.dry_run=true: none was started",
    ]


def test_overrides_of_another_sweepers_jobs_are_recorded_as_typed(here: Path) -> None:
    asked = [*SHORT, "model=mlp", "model.dropout=0.2", "seed=0,1", "tags.by=me"]
    assert command("-m", *asked, "hydra/sweeper=basic").code == 0
    first, _ = runs()
    typed = (Path(first.data.tags["folder"]) / "overrides.yaml").read_text().splitlines()
    assert {"- data=digits", "- data.limit=100", "- model.dropout=0.2", "- seed=1"} <= set(typed)
    assert first.data.tags["by"] == "me"

"""`sweep.budget` and `sweep.max_images`: the jobs that run are paused, and the sweep can be resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.processes import QUICK, finished
from support.recorded import runs, sweeps
from support.shell import blitz as command
from support.shell import refused
from sweeps.test_search import PARALLEL, bits, by_job

from blitz.config.settings import Sweep
from blitz.errors import BadInput
from blitz.run_folder.run_info import RunInfo, runs_in
from blitz.sweeps.budget import Budget, seconds_of
from blitz.sweeps.progress import TrainedImages

SHORT = [*QUICK, "data.limit=100", "tracking.system_metrics=null", "report_every=1"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30min", 1800), ("2h", 7200), ("1h30min", 5400), ("0.5s", 0.5), ("1d", 86400)]
)
def test_a_time_is_written_with_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["2", "2 h", "h", "-1h", "0s", "2hours", "", "1e3s", "1h 30min"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadInput, match="accepted: a time such as 90s, 30min, 2h, 1h30min or 1d"):
        seconds_of(text)


@pytest.mark.parametrize("asked", ["sweep.budget=soon", "sweep.budget=2", "sweep.max_images=0"])
def test_a_budget_that_makes_no_sense_starts_nothing(here: Path, asked: str) -> None:
    (line,) = refused("-m", *SHORT, "seed=0,1", asked)
    assert line.startswith(f"{asked}: accepted: {'a time such as' if 'budget' in asked else 'integer >= 1'}")
    assert not (here / "runs").exists()


def run_folder(runs_dir: Path, name: str, sweep: str, *rows: dict[str, float]) -> None:
    folder = runs_dir / name
    folder.mkdir(parents=True)
    RunInfo(name, None, "e", "n", 0, {"batch_size": "32"}, {"sweep": sweep}, {"rows": "100"}).save(folder)
    lines = [json.dumps({"time": 0, **row}) + "\n" for row in rows]
    (folder / "metrics.jsonl").write_text("".join(lines) + '{"step": 9')  # still being written


def test_images_are_counted_by_the_journals(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "mine"
    trained = TrainedImages(sweep)
    assert trained.count() == 0
    run_folder(tmp_path, "a", "mine", {"step": 4, "train/step_loss": 1.0}, {"step": 1, "train/loss": 1.0})
    assert trained.count() == 100  # four steps of 32 images or less are an epoch of 100
    run_folder(tmp_path, "b", "mine", {"step": 6, "train/step_loss": 1.0})
    run_folder(tmp_path, "c", "other", {"step": 6, "train/step_loss": 1.0})
    run_folder(tmp_path, "d", "mine")
    assert trained.count() == 100 + 100 + 2 * 32
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 3, "time": 0, "train/loss": 1.0}\n')
    assert trained.count() == 300 + 100 + 2 * 32


def test_without_a_budget_there_is_no_end(tmp_path: Path) -> None:
    assert not Budget.of(Sweep(), tmp_path).is_spent()
    assert not Budget.of(Sweep(budget="1d", max_images=1), tmp_path).is_spent()


@pytest.mark.slow
def test_a_sweep_that_has_spent_its_budget_pauses_and_can_be_resumed(here: Path) -> None:
    endless = [*SHORT, "seed=0,1,2", "epochs=1000000", "optimizer.lr=0.001", "sweep.max_images=1"]
    code, output, errors = finished(here, "-m", *endless, *PARALLEL)
    assert code == 0, errors
    found = runs()
    assert 1 <= len(found) <= 2
    assert {run.info.status for run in found} == {"SCHEDULED"}
    assert all("its sweep has spent its budget" in run.data.tags["paused"] for run in found)
    (parent,) = sweeps()
    assert parent.info.status == "SCHEDULED"
    assert any(line.startswith("resume   blitz -m sweep.resume=") for line in output.splitlines())
    ended = command("-m", "sweep.resume=last", "sweep.max_images=1")
    assert ended.code == 0, ended
    known = {run.info.run_id for run in found}
    (first,) = [run for run in runs() if run.data.tags["sweep.job"] == "0"]  # for the others nothing is left
    assert first.info.status == "SCHEDULED"
    assert ("resumed" in first.data.tags) == (first.info.run_id in known)  # the other may have spent all before it
    assert {run.info.run_id for run in runs()} == {first.info.run_id, *known}


@pytest.mark.slow
def test_a_run_that_was_paused_has_the_bits_of_one_that_never_stopped(here: Path) -> None:
    asked = [*SHORT, "epochs=3", "tracking=none"]
    assert command(*asked, "runs_dir=alone", "seed=0").code == 0
    assert command("-m", *asked, "seed=0", "checkpoint.keep=all", "sweep.budget=0.001s").code == 0
    assert command("-m", "sweep.resume=last", "tracking=none").code == 0
    ((folder, about),) = by_job(here).values()
    ((alone, _),) = runs_in(here / "alone")
    assert about.status == "FINISHED"
    found, expected = bits(folder), bits(alone)
    del found["config"], expected["config"]  # which checkpoints were kept
    assert found == expected

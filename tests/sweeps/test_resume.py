"""`sweep.resume`: what is typed beside it reaches every job, or is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes import QUICK
from support.shell import blitz as command

from blitz.config.recorded import read_config
from blitz.errors import BadInput
from blitz.run_folder.run_info import RunInfo
from blitz.sweeps.plan import for_continued_runs


def run_folder(tmp_path: Path, store: str | None) -> Path:
    RunInfo("r", store, "e", "n", 0, {}, {}, {}, "KILLED").save(tmp_path)
    return tmp_path


def test_resume_hands_on_what_a_run_can_be_continued_with(tmp_path: Path) -> None:
    asked = ["data.root=/mine", "+tracking.offline=allow", "checkpoint_every=5", "runs_dir=other", "tracking.uri=x"]
    expected = ["data.root=/mine", "tracking.offline=allow", "checkpoint_every=5"]
    assert for_continued_runs(asked, {3: run_folder(tmp_path, "x")}, tracked=True) == expected


def test_resume_refuses_by_name_what_a_continued_run_would_ignore(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        for_continued_runs(["tags.by=me", "checkpoint.keep=all"], {3: run_folder(tmp_path, "x")}, tracked=True)
    first, second = error.value.problems
    assert first.startswith(
        "tags.by=me: cannot be changed for job 3, which continues its run (allowed: checkpoint_every"
    )
    assert second.startswith("checkpoint.keep=all: cannot be changed for job 3")
    assert for_continued_runs(["tags.by=me"], {}, tracked=True) == []  # all jobs start anew, with the tag


def test_resume_without_a_store_continues_runs_without_one_alone(tmp_path: Path) -> None:
    assert for_continued_runs(["tracking=none"], {0: run_folder(tmp_path, None)}, tracked=False) == []
    with pytest.raises(BadInput, match="tracking=none: cannot be changed for job 0"):
        for_continued_runs(["tracking=none"], {0: run_folder(tmp_path, "x")}, tracked=False)


@pytest.mark.slow
def test_resume_of_a_sweep_changes_the_runs_that_it_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [*QUICK, "data.limit=100", "epochs=1", "tracking=none", "checkpoint.keep=all", "seed=0,1"]
    assert command("-m", *asked).code == 0
    (stopped,) = [path.parent for path in tmp_path.glob("runs/*/config.yaml") if read_config(path)["seed"] == 1]
    text = (stopped / "mlflow.json").read_text()
    (stopped / "mlflow.json").write_text(text.replace('"status": "FINISHED"', '"status": "KILLED"'))
    (outcome,) = tmp_path.glob("runs/sweeps/*/1.json")
    outcome.unlink()
    resume = ["-m", "sweep.resume=last", "tracking=none", "checkpoint_every=7"]
    ended = command(*resume, "notes=more")
    assert ended.code == 2
    (line,) = ended.told
    assert line.startswith("blitz: notes=more: cannot be changed for job 1, which continues its run (allowed: ")
    ended = command(*resume)
    assert (ended.code, ended.output.count("skipped  job")) == (0, 1), ended
    assert len(list(tmp_path.glob("runs/*/config.yaml"))) == 2
    assert read_config(stopped / "config.yaml")["checkpoint_every"] == 7

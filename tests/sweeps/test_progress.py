"""The line about a sweep that is under way: how many jobs are done, the best so far, and how long it takes yet."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from omegaconf import DictConfig

import blitz
from blitz.run_folder.run_info import FAILED, FINISHED, PAUSED, RunInfo
from blitz.sweeps import progress
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import Outcome, begin, write_outcome
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.progress import Progress, shown
from blitz.terminal.text import Unbroken


def jobs(number: int) -> list[SweepJob]:
    settings = blitz.compose(["data=digits", "epochs=4"])
    labels = [(f"seed={n}",) for n in range(number)]
    return [SweepJob(n, Combination(label, label), DictConfig({}), settings) for n, label in enumerate(labels)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "sweeps" / "s"
    folder.mkdir(parents=True)
    return folder


def trained(sweep: Path, name: str, epochs: int) -> None:
    folder = sweep.parent.parent / name
    folder.mkdir(exist_ok=True)
    RunInfo(name, None, "e", name, 0, {"batch_size": "4"}, {"sweep": sweep.name}, {"rows": "100"}).save(folder)
    rows = [json.dumps({"step": epoch, "time": 0, "train/loss": 1.0}) for epoch in range(1, epochs + 1)]
    (folder / "metrics.jsonl").write_text("\n".join([*rows, ""]))


def test_what_is_said_of_a_sweep(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    earlier = {0: Outcome(FINISHED, objective=0.5), 1: Outcome(PAUSED, objective=0.25)}
    found = Progress(sweep, jobs(6), earlier, epochs=12)
    assert found.text() == "1 of 6 done  1 paused  best 50.00% (seed=0)"
    for number in (2, 3, 4):
        begin(sweep, number)
    trained(sweep, "b", 3)
    write_outcome(sweep, 3, Outcome(FAILED, "why"))
    write_outcome(sweep, 4, Outcome(FINISHED, objective=0.75))
    assert found.text() == "1 of 6 done  1 paused  best 50.00% (seed=0)"  # at most a second old
    clock[0] = 30.0  # for 3 epochs of 12
    assert found.text() == "2 of 6 done  1 running  1 paused  1 failed  best 75.00% (seed=4)  0:01:30 left"


def test_what_was_trained_before_the_round_takes_no_time(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    trained(sweep, "a", 4)
    found = Progress(sweep, jobs(2), {}, epochs=2)
    clock[0] = 10.0
    assert found.text() == "0 of 2 done"
    trained(sweep, "a", 5)
    clock[0] = 20.0
    assert found.text() == "0 of 2 done  0:00:20 left"


def test_in_a_pipe_a_line_is_printed_now_and_then(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    found = Progress(sweep, jobs(2), {}, epochs=2)
    look = progress._line_now_and_then(found)
    look()
    clock[0] = 31.0
    look()
    clock[0] = 62.0
    look()  # nothing has changed
    write_outcome(sweep, 0, Outcome(FINISHED, objective=0.5))
    clock[0] = 93.0
    look()
    assert capsys.readouterr().out.splitlines() == [
        "sweep    0 of 2 done",
        "sweep    1 of 2 done  best 50.00% (seed=0)",
    ]
    with shown(found, Unbroken(io.StringIO())):
        pass

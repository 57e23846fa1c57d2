"""What the jobs of a sweep and the sweep tell each other by files, also from processes that were killed."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from blitz.run_folder.files import sole_trainer
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED, PAUSED, RunInfo
from blitz.sweeps import folder
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import INTERRUPT, NOT_STARTED, PAUSE_ALL, STOP, Outcome
from blitz.sweeps.plan import Plan
from blitz.sweeps.run_job import train
from blitz.terminal.signals import SPENT

HOLDS = """
import sys
from pathlib import Path
from blitz.sweeps.folder import gpu_slot, sole_job
with sole_job(Path(sys.argv[1]), 3) as is_ours, gpu_slot(Path(sys.argv[1]), 2) as index:
    print(is_ours, index, flush=True)
    sys.stdin.read()
"""


def holder(sweep: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that trains job 3, and what it was given."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(sweep)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=60)


def test_a_job_has_one_process_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    process, told = holder(tmp_path)
    assert told == "True 0"
    assert folder.is_any_trained(tmp_path)
    with folder.sole_job(tmp_path, 3) as is_ours:
        assert not is_ours
    with folder.sole_job(tmp_path, 4) as is_ours:
        assert is_ours
    killed(process)
    assert not folder.is_any_trained(tmp_path)
    with folder.sole_job(tmp_path, 3) as is_ours:
        assert is_ours


def test_gpu_slots_are_taken_in_turn_and_released(tmp_path: Path) -> None:
    first, told = holder(tmp_path)
    assert told.endswith(" 0")
    second, told = holder(tmp_path)
    assert told.endswith(" 1")
    third, told = holder(tmp_path)
    assert told.endswith(" 0")  # more jobs than GPUs share them evenly
    fourth, told = holder(tmp_path)
    assert told.endswith(" 1")
    killed(second)
    again, told = holder(tmp_path)
    assert told.endswith(" 1")
    for process in (first, third, fourth, again):
        killed(process)


def test_jobs_are_counted_as_they_begin_until_none_may(tmp_path: Path) -> None:
    assert [folder.begin(tmp_path, number) for number in (0, 1, 1)] == [True, True, True]
    assert folder.times_begun(tmp_path) == {0: 1, 1: 2}
    (tmp_path / STOP).touch()
    assert not folder.begin(tmp_path, 2)
    assert folder.times_begun(tmp_path) == {0: 1, 1: 2}
    assert folder.read_outcomes(tmp_path) == {2: Outcome(NOT_STARTED)}
    folder.clear_outcomes(tmp_path)
    assert folder.begin(tmp_path, 2)
    assert folder.times_begun(tmp_path) == {2: 1}


def test_outcomes_come_back_as_they_were_and_other_files_are_none(tmp_path: Path) -> None:
    outcomes = {0: Outcome(FINISHED, "", 0.25, 1.5, "runs/x", "ab"), 12: Outcome(FAILED, "why")}
    for number, outcome in outcomes.items():
        folder.write_outcome(tmp_path, number, outcome)
    (tmp_path / "sweep.json").write_text("{}")
    (tmp_path / "mlflow.json").write_text("{}")
    assert folder.read_outcomes(tmp_path) == outcomes


def test_a_job_that_begins_again_has_no_end_yet(tmp_path: Path) -> None:
    assert folder.begin(tmp_path, 0)
    folder.write_outcome(tmp_path, 0, Outcome(KILLED))
    assert folder.begin(tmp_path, 0)
    assert folder.read_outcomes(tmp_path) == {}
    assert folder.times_begun(tmp_path) == {0: 2}


@pytest.mark.parametrize(("message", "expected"), [(INTERRUPT, signal.SIGINT), (PAUSE_ALL, SPENT)])
def test_an_interrupt_is_passed_on_to_jobs_that_run_and_only_then(tmp_path: Path, message: str, expected: int) -> None:
    requested: SimpleQueue[int] = SimpleQueue()
    with folder.calling_when_interrupted(tmp_path, requested.put):
        (tmp_path / STOP).touch()
        with pytest.raises(Empty):
            requested.get(timeout=3 * folder.LOOK_EVERY)
        (tmp_path / message).touch()
        assert requested.get(timeout=600) == expected


def test_a_sweep_is_abandoned_where_its_process_here_is_gone(tmp_path: Path) -> None:
    assert not folder.is_abandoned(tmp_path)  # nothing is known of it

    def is_abandoned(host: str) -> bool:
        RunInfo("s", None, "e", "s", 0, {}, {"host": host}, {}).save(tmp_path)
        return folder.is_abandoned(tmp_path)

    with sole_trainer(tmp_path):
        assert not is_abandoned(platform.node())
    assert is_abandoned(platform.node())
    assert not is_abandoned("another")


def test_resume_continues_the_newest_run_of_a_job_that_did_not_finish(tmp_path: Path) -> None:
    def run(name: str, sweep: str, job: int, status: str, started_at: int) -> None:
        folder = tmp_path / name
        folder.mkdir()
        tags = {"sweep": sweep, "sweep.job": str(job)}
        about = RunInfo(name, None, "e", name, started_at, {}, tags, {}, status)
        about.save(folder)

    run("a", "s", 0, "KILLED", 1)
    run("b", "s", 0, "RUNNING", 2)
    run("c", "s", 0, "FAILED", 3)
    run("d", "s", 1, "FINISHED", 1)
    run("e", "other", 2, "KILLED", 1)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "mlflow.json").write_text(json.dumps({"half": 1}))
    sweep = folder.folder_of(str(tmp_path), "s")
    assert {number: path for number, (path, _) in folder.unfinished_runs(sweep, [0, 1]).items()} == {0: tmp_path / "b"}
    assert folder.unfinished_runs(sweep, [1]) == {}
    assert {number: path for number, (path, _) in folder.finished_runs(sweep).items()} == {1: tmp_path / "d"}


def test_a_job_that_fails_when_it_is_continued_keeps_what_its_search_has_decided_by(tmp_path: Path) -> None:
    run, sweep = tmp_path / "runs" / "one", tmp_path / "runs" / "sweeps" / "s"
    for place in (run, sweep):
        place.mkdir(parents=True)
    RunInfo("r", None, "e", "r", 0, {}, {"sweep.rungs": '{"3.0": 0.5, "1.0": 0.4}'}, {}, PAUSED).save(run)
    Plan("s", [], {0: Combination((), ())}, {0: ""}).save(sweep)
    folder.JobOptions(runs={"0": str(run)}).save(sweep)
    outcome = train({"epochs": "nope"}, [], sweep, 0)  # whose config is refused
    assert (outcome.status, outcome.rungs) == (FAILED, ((1.0, 0.4), (3.0, 0.5)))
    assert folder.read_outcomes(sweep) == {0: outcome}

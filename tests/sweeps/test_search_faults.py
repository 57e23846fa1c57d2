"""Faults in each search: what is killed, stopped or fails leads to the decisions of a sweep that nothing befell."""

from __future__ import annotations

import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from support.processes import PATIENCE, finished, held, kill_with_its_children, start, until
from support.recorded import Note, runs
from support.shell import blitz as command
from sweeps.test_search import HALVING, LR, PARALLEL, RATES, SHORT, TPE, bits, by_job, decided, jobs_in, the_sweep

from blitz.run_folder.run_info import RunInfo, runs_in
from blitz.sweeps.folder import times_begun

pytestmark = pytest.mark.slow

# Sweeps in a child that gets a signal right before or after its nth change of a file in the sweep's folder, and is
# resumed in another: a kill at each change of the decisions, and at every 13th of any file; Ctrl-C at some.
AT_CHANGES = """
import os, signal, sys
from itertools import count
from pathlib import Path
from blitz import cli

asked = sys.argv[1:]

def blitz(*arguments):
    sys.argv = ["blitz", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)

def in_a_child(*arguments, prepare=lambda: None):
    child = os.fork()
    if not child:
        prepare()
        os._exit(blitz(*arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def send(number, left, of):
    replace = os.replace
    def replaced(source, target, **options):
        nonlocal left
        counts = "/sweeps/" in str(target) and Path(target).name.endswith(of)
        for change in (lambda: None, lambda: replace(source, target, **options)):
            change()
            left -= counts
            if counts and left == 0:
                os.kill(os.getpid(), number)
    os.replace = replaced

def stopped(number, left, of=""):
    name = f"{signal.Signals(number).name} {left}{of}"
    runs = f"runs_dir='stopped/{name}'"
    ended = in_a_child("-m", *asked, runs, prepare=lambda: send(number, left, of))
    if ended == 0:
        return False
    assert ended == (130 if number == signal.SIGINT else -number), ended
    if list(Path("stopped", name).glob("sweeps/*/mlflow.json")):  # else nothing had begun
        assert in_a_child("-m", "sweep.resume=last", "tracking=none", runs) == 0, name
        print(f"\\nresumed {name}", flush=True)
    return True

assert blitz("-m", *asked, "runs_dir=whole") == 0  # all is imported and warm before the first child
for left in count(1):  # odd ones are before a change, even ones after it
    if not stopped(signal.SIGKILL, left, "decisions.jsonl"):
        break
last = next(left for left in count(1, 13) if not stopped(signal.SIGKILL, left))
for left in range(8, last - 13, 26):
    assert stopped(signal.SIGINT, left)
"""
SMALL = [
    "data=synthetic", "data.train_size=60", "data.test_size=20", "data.image_size=16", "data.validation=0.2",
    "batch_size=12", "device.threads=1", "model=mlp", "tracking=none", "tracking.figures=false", "report_every=1",
    "tracking.system_metrics=null", "checkpoint.keep=all",
]  # fmt: skip
RACE = ["search=race", "search.max_seeds=4"]


@pytest.mark.parametrize(
    ("asked", "decisions", "changes"),
    [
        # Two rungs, 4 jobs at the first and 2 at the second, 1 to its end: 7 outcomes, 3 rounds.
        (
            ["optimizer.lr=0.0001,0.05,0.1,0.2", "epochs=3", *HALVING, "search.factor=2", "search.rungs=[0.5,1.5]"],
            2, 2 + 7 + 3,
        ),
        # Six jobs, and one more at least: 7 outcomes, 2 rounds, and the plan with what was added.
        (["optimizer.lr=0.05,0.1", "seed=0,1,2", "epochs=1", *RACE], 1, 1 + 7 + 2 + 1),
        # Three rounds of one job, each proposed, planned, trained to a rung and further; the third is not drawn.
        ([LR, "epochs=2", *TPE, "sweep.samples=3", "search.prune=true", "search.rungs=[1]"], 3, 3 * 5),
    ],
    ids=["halving", "race", "tpe"],
)  # fmt: skip
def test_a_search_that_was_stopped_at_any_change_of_a_file_makes_the_same_decisions(
    tmp_path: Path, asked: list[str], decisions: int, changes: int, record_property: Note
) -> None:
    """`decisions` and `changes`: how often at least the file of that name and all files of the sweep are written."""
    script = [sys.executable, "-W", "ignore", "-c", AT_CHANGES, *SMALL, *asked]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr)
    resumed = [line.removeprefix("resumed ") for line in done.stdout.splitlines() if line.startswith("resumed ")]
    assert len([name for name in resumed if name.endswith("decisions.jsonl")]) >= 2 * decisions
    assert len([name for name in resumed if not name.endswith("decisions.jsonl")]) >= 2 * changes // 13
    whole = tmp_path / "whole"
    expected, decided_on = jobs_in(whole), decided(next(whole.glob("sweeps/*")))
    states = {job: about.status for job, (_, about) in expected.items()}
    for name in resumed:
        stopped = tmp_path / "stopped" / name
        assert decided(next(stopped.glob("sweeps/*"))) == decided_on, name
        found = jobs_in(stopped)
        assert {job: about.status for job, (_, about) in found.items()} == states
        for job, (folder, about) in found.items():
            if about.status == "FINISHED":
                assert bits(folder) == bits(expected[job][0])
    record_property("tries", len(resumed))


def test_a_parallel_search_that_was_killed_makes_the_same_decisions(here: Path, tmp_path: Path) -> None:
    asked = ["-m", *SHORT, RATES, "epochs=3", *HALVING, "search.rungs=[1]", "tracking=none"]
    killed = tmp_path / "killed"
    killed.mkdir()
    process = start(killed, *asked, *PARALLEL)
    until(lambda: list(killed.glob("runs/sweeps/*/1.json")) or process.poll() is not None)
    kill_with_its_children(process)
    code, _, errors = finished(killed, "-m", "sweep.resume=last", "tracking=none", *PARALLEL)
    assert code == 0, errors
    assert command(*asked).code == 0
    assert decided(the_sweep(killed)) == decided(the_sweep(here))


@pytest.mark.parametrize(
    "asked",
    [
        [RATES, "epochs=60", *HALVING, "search.rungs=[50]"],
        ["optimizer.lr=0.05,0.1", "seed=0,1,2", "epochs=60", *RACE],
        [LR, "epochs=60", *TPE, "sweep.samples=4", "search.batch=2"],
    ],
    ids=["halving", "race", "tpe"],
)
def test_kill_of_a_worker_in_a_search(here: Path, tmp_path: Path, asked: list[str]) -> None:
    asked = ["-m", *SHORT, *asked, "tracking=none"]
    killed = tmp_path / "killed"
    killed.mkdir()
    sweep = start(killed, *asked, *PARALLEL)
    with held(sweep, killed, 1) as trainers:
        next(iter(trainers.values())).kill()
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert max(times_begun(the_sweep(killed)).values()) > 1
    assert command(*asked).code == 0
    assert decided(the_sweep(killed)) == decided(the_sweep(here))


def test_tpe_that_was_killed_makes_the_same_proposals(here: Path, tmp_path: Path) -> None:
    asked = [
        "-m", *SHORT, "model=mlp", LR, "micro_batch_size=int(interval(8,32))", "epochs=2", *TPE, "sweep.samples=4",
        "search.prune=true", "search.rungs=[1]", "tracking=none",
    ]  # fmt: skip
    assert command(*asked).code == 0
    killed = tmp_path / "killed"
    killed.mkdir()
    process = start(killed, *asked)
    until(lambda: list(killed.glob("runs/sweeps/*/2.json")) or process.poll() is not None)
    kill_with_its_children(process)
    code, _, errors = finished(killed, "-m", "sweep.resume=last", "tracking=none", *PARALLEL)  # still one a round
    assert code == 0, errors
    assert decided(the_sweep(killed)) == decided(the_sweep(here))
    assert sum(line["decision"] == "propose" for line in decided(the_sweep(here))) == 4
    assert {number: about.status for number, (_, about) in by_job(killed).items()} == {
        number: about.status for number, (_, about) in by_job(here).items()
    }


@pytest.mark.parametrize(
    ("asked", "stopped", "resumed"),
    [
        (
            ["optimizer.lr=0.05,1e30,0.1", "epochs=3", *HALVING, "search.rungs=[1]"],
            ["SCHEDULED", "FAILED"], ["FAILED", "FAILED", "FINISHED", "SCHEDULED"],
        ),
        (
            ["optimizer.lr=0.05,1e30", "seed=0,1,2", "epochs=1", *RACE],
            ["FINISHED"] * 3 + ["FAILED"], ["FAILED"] * 4 + ["FINISHED"] * 3,
        ),
        (
            ["optimizer.lr=tag(log,interval(1e29,1e30))", "epochs=1", *TPE, "sweep.samples=3"],
            ["FAILED"], ["FAILED"] * 4,
        ),
    ],
    ids=["halving", "race", "tpe"],
)  # fmt: skip
def test_on_failure_stop_ends_a_search_and_resuming_it_continues(
    here: Path, asked: list[str], stopped: list[str], resumed: list[str]
) -> None:
    ended = command("-m", *SHORT, *asked, "sweep.on_failure=stop", "tracking=none")
    assert ended.code == 1
    assert [about.status for _, about in by_job(here).values()] == stopped
    ended = command("-m", "sweep.resume=last", "tracking=none")
    assert ended.code == 1  # it fails again, and the search continues without it
    assert sorted(about.status for _, about in runs_in(here / "runs")) == resumed


@pytest.mark.parametrize(
    ("first", "asked"),
    [
        (["optimizer.lr=0.1", "seed=0,1,2,3", "epochs=1"], ["optimizer.lr=0.05,0.1", "seed=0,1,2", "epochs=1", *RACE]),
        ([LR, "epochs=1", *TPE, "sweep.samples=2"], [LR, "epochs=1", *TPE, "sweep.samples=4"]),
    ],
    ids=["race", "tpe"],
)
def test_skip_finished_takes_what_another_sweep_has_trained(
    here: Path, tmp_path: Path, first: list[str], asked: list[str]
) -> None:
    assert command("-m", *SHORT, *first).code == 0
    earlier = len(runs())
    ended = command("-m", *SHORT, *asked, "sweep.skip_finished=true")
    skipped = ended.output.count("skipped  job")
    assert (ended.code, skipped > 0) == (0, True)
    alone = tmp_path / "alone"
    alone.mkdir()
    with chdir(alone):
        assert command("-m", *SHORT, *asked).code == 0
    assert decided(newest_of(here)) == decided(the_sweep(alone))
    assert len(runs()) == earlier + len(by_job(alone)) - skipped


def test_what_another_sweep_has_finished_takes_nobodys_place_in_halving(here: Path) -> None:
    assert command("-m", *SHORT, "epochs=3", "optimizer.lr=0.0001").code == 0
    asked = [*SHORT, "epochs=3", RATES, *HALVING, "search.rungs=[1]"]
    assert command("-m", *asked, "sweep.skip_finished=true").code == 0
    assert [line["decision"] for line in decided(newest_of(here))] == ["go on", "pause"]
    assert len(runs()) == 3


def newest_of(here: Path) -> Path:
    return max(here.glob("runs/sweeps/*"), key=lambda folder: RunInfo.load(folder).started_at)

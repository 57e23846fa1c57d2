"""kill -9 at any moment: what is left goes on, and comes out with the bits of a run that was never killed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import PATIENCE, QUICK, finished, kill_with_its_children, start
from support.recorded import Note, assert_the_store_has_all_of, journal

from blitz.run_folder.journal import is_result
from blitz.tracking.sending import sole_sender
from blitz.training import checkpoint

# Trains in a child that sends itself a signal at its nth touch of a file, then goes on in another, for every n there
# is; with a signal that can be handled, only until there is a record to go on with.
AT_EVERY_TOUCH = """
import os, signal, stat, sys, traceback
from pathlib import Path
import blitz
from blitz.runner import run as runner

number = signal.Signals[sys.argv[1]]
asked = [
    "data=synthetic", "data.train_size=60", "data.test_size=20", "data.image_size=16", "data.validation=0.2",
    "batch_size=12", "epochs=2", "device.threads=1", "tracking=none", "tracking.figures=false", "report_every=1",
    "tracking.system_metrics=null", "tracking.step_loss=2", "checkpoint_every=3", "ema=0.9", "optimizer.lr=0.05",
    "optimizer.momentum=0.9",
]

def in_a_child(work, touches=None):
    child = os.fork()
    if not child:
        if touches is not None:
            kill_at(touches)
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]

def kill_at(touches):
    left = touches
    def touched(event, arguments):
        nonlocal left
        changes = event in ("os.rename", "os.remove", "os.mkdir") or event == "open" and arguments[2] & os.O_ACCMODE
        if changes and str(arguments[0]).startswith("killed"):
            left -= 1
            if not left:
                os.kill(os.getpid(), number)
    sys.addaudithook(touched)
    fsync = os.fsync
    def synced(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):  # a kill that a name survives or not, as before it
            return fsync(descriptor)
        touched("os.rename", ["killed"])  # before it, and before whatever comes next
        fsync(descriptor)
        touched("os.rename", ["killed"])
    os.fsync = synced
    write = runner.Record.log_progress
    def recorded(*arguments):
        try:
            return write(*arguments)
        finally:
            touched("os.rename", ["killed"])
    runner.Record.log_progress = recorded

settings = blitz.compose(asked)

def train(runs):
    blitz.run(settings.model_copy(update={"runs_dir": str(runs)}))

train("whole")  # all is imported and warm before the first child
for touches in range(1, 1000):
    runs = Path(f"killed/{touches}")
    ended = in_a_child(lambda: train(runs), touches)
    if ended == 0:
        break
    folders = list(runs.glob("*")) if runs.exists() else []
    if number != signal.SIGKILL:
        if folders and (folders[0] / "mlflow.json").exists():
            break
        assert not folders, (touches, list(folders[0].iterdir()))
        print("nothing", touches)
        continue
    assert ended == signal.SIGKILL, ended
    if not folders or not (folders[0] / "mlflow.json").exists():
        print("nothing", touches)
        continue
    again = in_a_child(lambda: runner.resume(folders[0]))
    assert again == 0, (touches, again)
    print("resumed", touches)
"""


def comparable(folder: Path) -> dict[str, object]:
    last, best = (checkpoint.load(folder / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    del last["record"], last["journal"]
    measured = {
        name: [(step, value.hex()) for step, value in points]
        for name, points in journal(folder).items()
        if is_result(name)
    }
    weights = json.loads((folder / "provenance.json").read_text())["result"]["weights"]
    return {
        "last": checkpoint.fingerprint(last),
        "best": checkpoint.fingerprint(best),
        "metrics": measured,
        "weights": weights,
    }


@pytest.mark.slow
def test_kill_9_at_every_touch_of_a_file(tmp_path: Path, record_property: Note) -> None:
    script = [sys.executable, "-W", "ignore", "-c", AT_EVERY_TOUCH, "SIGKILL"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (whole,) = (tmp_path / "whole").iterdir()
    expected = comparable(whole)
    resumed = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("resumed ")]
    nothing = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("nothing ")]
    assert len(resumed) > 40
    record_property("tries", len(resumed) + len(nothing))
    assert max(nothing, default=0) < min(resumed)  # only before the record began is there nothing to go on with
    for touches in resumed:
        (folder,) = (tmp_path / "killed" / str(touches)).iterdir()
        assert comparable(folder) == expected, touches
        assert not list(folder.rglob("*.unfinished"))


@pytest.mark.slow
def test_an_interrupt_at_every_touch_before_the_record_begins_leaves_no_folder(
    tmp_path: Path, record_property: Note
) -> None:
    script = [sys.executable, "-W", "ignore", "-c", AT_EVERY_TOUCH, "SIGINT"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tries = len(done.stdout.splitlines())
    assert tries > 20
    record_property("tries", tries)


# Whatever keeps a state; tests/runner/test_resume.py stops runs with each choice that there is.
COMBINATIONS = [
    ["optimizer=sgd", "optimizer.momentum=0.9", "schedule=cosine", "ema=0.99", "clip_norm=1", "micro_batch_size=12"],
    [
        "model=mlp", "optimizer=nadam", "schedule=one_cycle", "mix=mixup", "device.precision=bf16", "eval_every=3",
        "eval_flip=true", "device.threads=2",
    ],
    ["model=resnet20", "optimizer=muon", "schedule=trapezoid", "augment=trivial", "epochs=5", "data.limit=200"],
]  # fmt: skip


def ended_within(process: subprocess.Popen[str], seconds: float) -> str | None:
    """What a process that ended wrote as errors; None if it goes on."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        return None


def windows(folder: Path) -> int:
    """How many mean losses its runs have journaled; how many samples of the machine's state hangs on their time."""
    return sum(path.read_bytes().count(b'"train/step_loss"') for path in folder.glob("runs/*/metrics.jsonl"))


def ended_before(process: subprocess.Popen[str], folder: Path, number: int) -> str | None:
    """As `ended_within`, but waits until its run has journaled more than so many of them."""
    while windows(folder) <= number:
        if (errors := ended_within(process, 0.02)) is not None:
            return errors
    return None


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COMBINATIONS)))
def test_real_processes_that_are_killed_at_random_moments(
    number: int, tmp_path: Path, empty_store: Path, record_property: Note
) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)  # of a failure
    chance = random.Random(seed)
    asked = [*QUICK, "epochs=12", "tracking.step_loss=5", "checkpoint_every=17", *COMBINATIONS[number]]
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        shutil.copy(empty_store, tmp_path / name)
    began = time.monotonic()
    assert finished(tmp_path / "whole", *asked)[0] == 0
    usual = time.monotonic() - began
    number_of_windows = windows(tmp_path / "whole")
    store = f"sqlite:///{tmp_path}/cut/mlflow.db"
    command, kills = asked, 0
    while True:
        process = start(tmp_path / "cut", *command)
        if kills == 0:  # by what it did: a clock alone might be too late for a run that is quicker than the first
            errors = ended_before(process, tmp_path / "cut", int(chance.uniform(0, 0.9) * number_of_windows))
        else:  # by the clock: its start and its end have a chance too
            errors = ended_within(process, chance.uniform(0.25, 0.8) * usual if kills < 2 else PATIENCE)
        if errors is not None:
            break
        kills += 1
        if chance.random() < 0.5:
            kill_with_its_children(process)
        else:  # its writer lives on, and marks the run
            process.kill()
            process.communicate(timeout=PATIENCE)
        if records := list((tmp_path / "cut").glob("runs/*/mlflow.json")):
            command = ["resume", "last"]
            if json.loads(records[0].read_text())["status"] == "FINISHED":  # it was killed while it sent the rest
                command = ["sync"]
    assert process.returncode == 0, errors
    assert kills
    record_property("tries", kills)
    (whole,), (cut,) = (
        [file.parent for file in tmp_path.glob(f"{name}/runs/*/mlflow.json")] for name in ("whole", "cut")
    )
    assert comparable(cut) == comparable(whole)
    with sole_sender(cut, seconds=60):  # the writer of a process that was killed may still be at work
        run = assert_the_store_has_all_of(cut, store)
    assert run.info.status == "FINISHED"
    assert "ended" not in run.data.tags

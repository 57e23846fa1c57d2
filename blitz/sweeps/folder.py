"""A sweep's folder, `RUNS_DIR/sweeps/ID`: how each job began and ended, whatever a launcher makes of it.

Jobs may be other processes, on other machines: files are all that they and the sweep tell each other by.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from filelock import FileLock, Timeout

from blitz.errors import BadInput
from blitz.run_folder.files import is_locked, write_whole
from blitz.run_folder.run_info import ABOUT, RunInfo

FINISHED, FAILED, KILLED, NOT_STARTED = "FINISHED", "FAILED", "KILLED", "NOT STARTED"
# Files: no more jobs are to begin; those that run are to save and end as well.
STOP, INTERRUPT = "stop", "interrupt"
LOOK_EVERY = 0.2  # seconds between two looks for an interrupt


@dataclass(frozen=True)
class Outcome:
    """The end of one job."""

    status: str
    why: str = ""  # it failed
    objective: float | None = None
    seconds: float | None = None  # wall time
    folder: str | None = None
    run_id: str | None = None
    group: str = ""  # the same for jobs that differ in their seed alone


def folder_of(runs_dir: str, sweep: str) -> Path:
    return Path(runs_dir) / "sweeps" / sweep


def begin(sweep: Path, number: int) -> bool:
    """Note that a job begins; False where none is to begin any more."""
    if (sweep / STOP).exists():
        write_outcome(sweep, number, Outcome(NOT_STARTED))
        return False
    (sweep / f"{number}.json").unlink(missing_ok=True)  # of an attempt that was stopped
    with (sweep / f"{number}.begun").open("a") as file:
        file.write(".")
    return True


@contextmanager
def sole_job(sweep: Path, number: int, patience: float = 0.0) -> Iterator[bool]:
    """Whether no other process trains this job. The lock goes with the job's process, however that ends.

    `patience`: seconds to wait for it, since who only looks whether a job is trained has the lock for a moment as well.
    """
    lock = FileLock(sweep / f".{number}.lock", timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_any_trained(sweep: Path) -> bool:
    """Whether a process trains a job of this sweep."""
    for path in sweep.glob(".[0-9]*.lock"):
        with sole_job(sweep, int(path.name.split(".")[1])) as is_free:
            if not is_free:
                return True
    return False


def is_abandoned(sweep: Path) -> bool:
    """Whether the sweep's process was one of this host and is gone, with jobs left that a launcher was handed."""
    try:
        about = RunInfo.load(sweep)
    except BadInput:  # nothing tells that it is
        return False
    return about.host == platform.node() and not is_locked(sweep)


def times_begun(sweep: Path) -> dict[int, int]:
    return {int(file.stem): file.stat().st_size for file in sweep.glob("*.begun")}


def write_outcome(sweep: Path, number: int, outcome: Outcome) -> None:
    write_whole(sweep / f"{number}.json", json.dumps(asdict(outcome)) + "\n")


def read_outcomes(sweep: Path) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    for file in sweep.glob("*.json"):
        if file.stem.isdigit():
            with contextlib.suppress(ValueError, TypeError):  # emptied by a power cut: the job has no end
                found[int(file.stem)] = Outcome(**json.loads(file.read_text()))
    return found


def clear_outcomes(sweep: Path) -> None:
    """Make ready to go on: what a job left of itself besides its run is forgotten."""
    for file in (*sweep.glob("*.begun"), *sweep.glob("[0-9]*.json"), sweep / STOP, sweep / INTERRUPT):
        file.unlink(missing_ok=True)


def unfinished_runs(runs_dir: str, sweep: str) -> dict[int, Path]:
    """The newest run folder of each job that was begun here and has not come to an end: killed, or stopped."""
    found: dict[int, RunInfo] = {}
    folders: dict[int, Path] = {}
    for path in Path(runs_dir).glob(f"*/{ABOUT}"):
        try:
            about = RunInfo.load(path.parent)
        except BadInput:
            continue  # being written, or damaged: the job begins again
        if about.tags.get("sweep") != sweep or about.status not in ("RUNNING", KILLED):
            continue
        number = int(about.tags["sweep.job"])
        if number not in found or found[number].started_at < about.started_at:
            found[number], folders[number] = about, path.parent
    return folders


def is_among_the_best(sweep: Path, group: str, objective: float) -> bool:
    """Whether no job of its group that has ended was better, and no other group was on average."""
    found: dict[str, list[float]] = {group: [objective]}
    for outcome in read_outcomes(sweep).values():
        if outcome.objective is not None:
            found.setdefault(outcome.group, []).append(outcome.objective)
    own = found.pop(group)
    return objective == max(own) and all(objective >= fmean(others) for others in found.values())


@contextmanager
def calling_when_interrupted(sweep: Path, request: Callable[[], None]) -> Iterator[None]:
    """Have `request` called, from a thread, soon after the sweep was told to stop."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            if (sweep / INTERRUPT).exists():
                request()
                return

    thread = threading.Thread(target=look, name="blitz-sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def place(sweep: Path, number: int) -> Iterator[int]:
    """One of `number` places, which jobs on this machine take in turn: none has two jobs while another has none.

    The lock goes with the job's process, however that ends.
    """
    for index in itertools.count():
        lock = FileLock(sweep / f".gpu-{platform.node()}-{index}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        try:
            yield index % number
        finally:
            lock.release()
        return

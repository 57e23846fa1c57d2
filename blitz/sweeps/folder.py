"""A sweep's folder, `RUNS_DIR/sweeps/ID`: how each job started and ended, whatever its launcher returns.

Jobs may be processes on other machines: files are all that they and the sweep have in common.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
import secrets
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from blitz.errors import BadInput
from blitz.run_folder.files import is_locked, try_lock, write_whole
from blitz.run_folder.run_info import FINISHED, KILLED, PAUSED, RUNNING, SWEEP, SWEEP_JOB, RunInfo, runs_in
from blitz.terminal.repeating import repeating
from blitz.terminal.signals import SPENT

NOT_STARTED = "NOT STARTED"  # the status of a job that has no run
UNFINISHED = (RUNNING, KILLED, PAUSED)  # those of runs that can be continued
# Files: no more jobs are to start; those that run are to save a checkpoint and end as well; or to be paused.
STOP, INTERRUPT, PAUSE_ALL = "stop", "interrupt", "pause"
OPTIONS = "jobs.json"
PLAN = "sweep.json"  # also an artifact of the sweep's run
LOOK_EVERY = 0.2  # seconds between two looks for an interrupt


@dataclass(frozen=True)
class JobOptions:
    """What the jobs of a sweep get besides their configs: `jobs.json` in its folder."""

    on_failure: str = "continue"
    cores: int | None = None  # processor cores that each has for itself; None: all
    until: Mapping[str, float] = field(default_factory=dict)  # job -> epochs after which it is paused
    runs: Mapping[str, str] = field(default_factory=dict)  # job -> folder of the run that it continues
    overrides: Sequence[str] = ()  # with which those are continued

    def save(self, sweep: Path) -> None:
        write_whole(sweep / OPTIONS, json.dumps(asdict(self)) + "\n", synced=False)

    @classmethod
    def load(cls, sweep: Path) -> JobOptions:
        path = sweep / OPTIONS
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(f"{path}: cannot be read, so no job can be started: {error}") from None


@dataclass(frozen=True)
class Outcome:
    """The end of one job, or its pause."""

    status: str
    why: str = ""  # it failed
    objective: float | None = None
    seconds: float | None = None  # wall time
    folder: str | None = None
    run_id: str | None = None
    rungs: Sequence[tuple[float, float]] = ()  # epochs at which a search has paused it, and its objective there


def folder_of(runs_dir: str, sweep: str) -> Path:
    return Path(runs_dir) / "sweeps" / sweep


def make_folder(runs_dir: str, sweep: str | None) -> Path:
    """The folder of this sweep, or of a new one. Raises BadInput where none can be made."""
    folder = folder_of(runs_dir, sweep or f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}")
    try:
        folder.mkdir(parents=True, exist_ok=sweep is not None)
    except OSError as error:
        raise BadInput(f"runs_dir={runs_dir}: no folder can be made there ({error.strerror})") from None
    return folder


def begin(sweep: Path, number: int) -> bool:
    """Note that a job starts; False where no more jobs are to start."""
    if (sweep / STOP).exists():
        write_outcome(sweep, number, Outcome(NOT_STARTED))
        return False
    (sweep / f"{number}.json").unlink(missing_ok=True)  # of an attempt that was stopped
    with (sweep / f"{number}.begun").open("a") as file:
        file.write(".")
    return True


def sole_job(sweep: Path, number: int, patience: float = 0.0) -> AbstractContextManager[bool]:
    """Whether no other process trains this job. The lock goes with the job's process, however that ends.

    `patience`: seconds to wait for it, since `is_any_trained` holds it for a moment as well.
    """
    return try_lock(sweep / f".{number}.lock", patience)


def is_any_trained(sweep: Path) -> bool:
    """Whether a process trains a job of this sweep."""
    for path in sweep.glob(".[0-9]*.lock"):
        with sole_job(sweep, int(path.name.split(".")[1])) as is_free:
            if not is_free:
                return True
    return False


def refuse_while_trained(sweep: Path) -> None:
    """Raises BadInput as long as jobs of the sweep have a process: those of a batch system outlive the sweep's own."""
    if is_any_trained(sweep):
        raise BadInput(f"sweep.resume={sweep.name}: some jobs are still being trained; wait for them")


def is_abandoned(sweep: Path) -> bool:
    """Whether the sweep's process was one of this host and is gone, with jobs left that a launcher was handed."""
    try:
        about = RunInfo.load(sweep)
    except BadInput:  # it has no record yet
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
                outcome = Outcome(**json.loads(file.read_text()))
                found[int(file.stem)] = replace(
                    outcome, rungs=tuple((at, objective) for at, objective in outcome.rungs)
                )
    return found


def forget_outcomes(sweep: Path, jobs: Iterable[int]) -> None:
    """Of jobs that are trained again, or further: the runs' own records stay."""
    for number in jobs:
        (sweep / f"{number}.json").unlink(missing_ok=True)


def clear_outcomes(sweep: Path) -> None:
    """Remove what jobs left besides their runs, before the sweep is resumed."""
    messages = [sweep / name for name in (STOP, INTERRUPT, PAUSE_ALL)]
    for file in (*sweep.glob("*.begun"), *sweep.glob("[0-9]*.json"), *messages):
        file.unlink(missing_ok=True)


def unfinished_runs(sweep: Path, numbers: Collection[int]) -> dict[int, tuple[Path, RunInfo]]:
    """The newest run of each of these jobs that has started and neither finished nor failed."""
    found = _runs(sweep, UNFINISHED)
    return {number: run for number, run in found.items() if number in numbers}


def finished_runs(sweep: Path) -> dict[int, tuple[Path, RunInfo]]:
    """The newest finished run of each job that has one: also of those whose process was killed before it said so."""
    return _runs(sweep, (FINISHED,))


def newest_run(
    sweep: Path, number: int, statuses: Collection[str] = (*UNFINISHED, FINISHED)
) -> tuple[Path, RunInfo] | None:
    """The newest run of a job with one of these statuses."""
    return _runs(sweep, statuses).get(number)


def _runs(sweep: Path, statuses: Collection[str]) -> dict[int, tuple[Path, RunInfo]]:
    return {
        int(about.tags[SWEEP_JOB]): (folder, about)
        for folder, about in runs_in(sweep.parent.parent)
        if about.tags.get(SWEEP) == sweep.name and about.status in statuses
    }


def calling_when_interrupted(sweep: Path, request: Callable[[int], None]) -> AbstractContextManager[None]:
    """Have `request` called, from a thread, soon after the sweep is interrupted or has spent its budget."""

    def look() -> None:
        if (sweep / PAUSE_ALL).exists():
            request(SPENT)
        elif (sweep / INTERRUPT).exists():
            request(signal.SIGINT)

    return repeating(look, LOOK_EVERY)


@contextmanager
def gpu_slot(sweep: Path, number: int) -> Iterator[int]:
    """One of `number` GPUs of this machine: none has two jobs while another has none.

    The lock goes with the job's process, however that ends.
    """
    for index in itertools.count():
        with try_lock(sweep / f".gpu-{platform.node()}-{index}.lock") as is_ours:
            if is_ours:
                yield index % number
                return

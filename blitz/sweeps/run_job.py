"""One job of a sweep, in whatever process its launcher starts it: its outcome goes into the sweep's folder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from blitz.config.settings import Settings, check
from blitz.errors import BadInput, RunFailed
from blitz.redaction import redact
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED, PAUSED, RunInfo
from blitz.runner.build import JobInfo
from blitz.sweeps import folder
from blitz.sweeps.cluster import is_copy
from blitz.sweeps.finished import outcome_of
from blitz.sweeps.folder import NOT_STARTED, PLAN, STOP, Outcome
from blitz.sweeps.plan import Plan
from blitz.sweeps.weights import prune
from blitz.terminal.names import title_of_job
from blitz.terminal.signals import Paused, graceful
from blitz.terminal.status import above
from blitz.terminal.text import print_line
from blitz.tracking import store


def train(values: Mapping[str, Any], overrides: Sequence[str], sweep: Path, number: int) -> Outcome:
    """Train the job that a composed config describes, or continue its run, and write down its outcome.

    What it raises ends up in its outcome: a failure is this job's alone, and an interrupt is the sweep's to handle.
    Raises BadInput where the sweep's folder lacks what it needs to start.
    """
    _exit_if_abandoned(sweep)
    options, label = folder.JobOptions.load(sweep), Plan.load(sweep / PLAN, trusted=True).jobs[number].label
    with (
        folder.sole_job(sweep, number, patience=1.0) as is_ours,
        graceful() as interrupt,
        redirect_stdout(above(sys.stdout)),  # the sweep's own line, which another process draws
    ):
        began_before = number in folder.times_begun(sweep)
        if not is_ours or interrupt.requested or not folder.begin(sweep, number):
            return Outcome(NOT_STARTED)
        outcome, earlier = Outcome(KILLED), _earlier_run(sweep, number, options, began_before)
        print_line(f"{'job':8} {number}  {label}".rstrip())
        try:
            with folder.calling_when_interrupted(sweep, interrupt.request), own_gpu(sweep, options.cores) as gpu:
                until = options.until.get(str(number))
                job = JobInfo(sweep.name, number, label, options.cores, gpu, until)
                outcome = _run(_settings(values, sweep), overrides, job, options, earlier)
        except KeyboardInterrupt as stop:  # the run has saved its checkpoint; this stops a sweep in the same process
            outcome = Outcome(PAUSED if isinstance(stop, Paused) else KILLED)
            interrupt.request(signal.SIGTERM)
        except (Exception, SystemExit) as error:  # somebody else's part may call sys.exit
            why = str(error) if isinstance(error, BadInput | RunFailed) else f"{type(error).__name__}: {error}"
            text = redact("; ".join([*why.splitlines(), *getattr(error, "__notes__", ())]))
            outcome = Outcome(FAILED, text, rungs=_rungs(earlier))
            print_line(redact(f"blitz: {title_of_job(number, label)} failed: {outcome.why}"), sys.stderr)
            if options.on_failure == "stop":
                (sweep / STOP).touch()
        folder.write_outcome(sweep, number, outcome)
        prune(sweep)
        _exit_if_abandoned(sweep)
        return outcome


def _earlier_run(sweep: Path, number: int, options: folder.JobOptions, began_before: bool) -> Path | None:
    """The folder of the run that the job continues.

    Where it began before, its process was killed, and some launchers start it again by themselves.
    """
    if began_before and (newest := folder.newest_run(sweep, number)) is not None:
        return newest[0]
    run = options.runs.get(str(number))
    return Path(run) if run is not None else None


def _settings(values: Mapping[str, Any], sweep: Path) -> Settings:
    """Raises BadInput for a store that is a file, where the sweep has another file of this name."""
    settings = check(values)
    uri = store.resolve(settings.tracking.uri)
    if is_copy(sweep) and settings.tracking.name != "none" and store.sqlite_path(uri):
        raise BadInput(
            f"tracking.uri={redact(uri)}: each machine of the cluster has such a file of its own; accepted: an MLflow "
            "server or a database that all of them reach, or tracking=none"
        )
    return settings


def _run(
    settings: Settings, overrides: Sequence[str], job: JobInfo, options: folder.JobOptions, earlier: Path | None
) -> Outcome:
    from blitz.runner.run import continued_run, new_run

    if earlier is not None and (about := RunInfo.load(earlier)).status == FINISHED:
        return outcome_of(earlier, about)  # it was killed before it could say so
    if earlier is not None:
        record = continued_run(earlier, options.overrides, settings.tracking.uri, job)
    else:
        record = new_run(settings, overrides, job=job)
    return outcome_of(record.folder, record.recorder.about)


def _rungs(earlier: Path | None) -> tuple[tuple[float, float], ...]:
    """Of a job that failed when it was continued: what its search has decided by them stays decided."""
    return tuple(sorted(RunInfo.load(earlier).rungs.items())) if earlier is not None else ()


def _exit_if_abandoned(sweep: Path) -> None:
    """A launcher's worker outlives a sweep that was killed, and would start jobs that `sweep.resume` starts as well."""
    if folder.is_abandoned(sweep):
        os._exit(1)  # nobody is left to return to


def own_gpu(sweep: Path, cores: int | None) -> AbstractContextManager[int | None]:
    """Where several jobs run side by side on a machine with several GPUs, one of these is the job's own."""
    import torch

    number = torch.cuda.device_count() if cores is not None else 0
    return folder.gpu_slot(sweep, number) if number > 1 else nullcontext()

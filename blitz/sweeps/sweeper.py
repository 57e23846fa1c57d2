"""`blitz -m`: check every job, run those that have not finished, tell what came out."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from blitz.config.settings import Settings
from blitz.errors import BadInput, SweepFailed, in_one_line
from blitz.parts.devices import usable_cores
from blitz.redaction import redact
from blitz.run_folder.files import sole_trainer
from blitz.runner.run import tracking_store
from blitz.sweeps import jobs as planning
from blitz.sweeps.combinations import combinations
from blitz.sweeps.finished import finished
from blitz.sweeps.folder import Outcome, clear_outcomes, folder_of, is_any_trained, read_outcomes, write_outcome
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.launch import at_once, go_on, launch, runs_here
from blitz.sweeps.plan import Plan
from blitz.sweeps.preflight import rehearse
from blitz.sweeps.record import SweepRecord
from blitz.sweeps.results import Results, command_to_go_on
from blitz.terminal.text import Unbroken, print_table
from blitz.tracking import store
from blitz.tracking.writer import Writer


class SweepRequest(NamedTuple):
    """What Hydra hands to a sweeper."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    arguments: Sequence[str]  # without those that are Hydra's own

    @property
    def of_hydra(self) -> list[str]:
        """Those that choose the launcher, and the like."""
        return [text for text in self.config.hydra.overrides.hydra if not text.startswith("hydra.mode=")]


def sweep(asked: SweepRequest) -> list[float | None]:
    """Run all jobs of a sweep; returns their objectives.

    Raises BadInput for mistakes in any of them, before anything starts; SweepFailed where jobs failed; and
    KeyboardInterrupt where it was stopped.
    """
    config = asked.config
    plan, jobs = _jobs(asked)
    first = jobs[0].settings
    skips = plan is not None or first.sweep.skip_finished
    if first.sweep.skip_finished and first.tracking.name == "none":
        raise BadInput("sweep.skip_finished=true: needs a store, which tells what has finished; not tracking=none")
    side_by_side = at_once(config, len(jobs))
    uri = tracking_store(first) if skips or not first.sweep.dry_run else None  # which a list of jobs does not need
    known = folder_of(first.runs_dir, plan.id) if plan is not None else None
    if known is not None:
        _refuse_while_trained(known)
    done = finished(jobs, uri, known) if skips else {}
    _tell_skipped(jobs, done)
    left = [job for job in jobs if job.number not in done]
    if first.sweep.dry_run:
        _list(left)
        return []
    if not left and plan is None:
        Results(jobs, done).tell()
        return [done[job.number].objective for job in jobs]
    if uri is not None:
        Writer.prepare()
    if runs_here(config):
        rehearse(left)
    folder = _folder(first.runs_dir, plan)
    with sole_trainer(folder):
        _refuse_while_trained(folder)
        clear_outcomes(folder)
        for number, outcome in done.items():  # which a job is compared with before it keeps its weights
            write_outcome(folder, number, outcome)
        _hand_out(left, folder, min(side_by_side, len(left)))
        if plan is not None:
            go_on(left, folder)
        plan = plan or Plan.of(folder.name, [*asked.arguments, *asked.of_hydra], jobs)
        with redirect_stdout(Unbroken(sys.stdout)), redirect_stderr(Unbroken(sys.stderr)):
            return _run(asked, jobs, done, plan, folder, uri)


def _run(
    asked: SweepRequest,
    jobs: Sequence[SweepJob],
    done: Mapping[int, Outcome],
    plan: Plan,
    folder: Path,
    uri: str | None,
) -> list[float | None]:
    record = SweepRecord.begin(folder, plan, jobs, done, uri)
    left = [job for job in jobs if job.number not in done]
    try:
        outcomes, interrupt = launch(asked.context, asked.task, asked.config, left, folder)
    except Exception:  # of a launcher that cannot be made, say: what has ended is recorded all the same
        record.end("FAILED", Results(jobs, {**done, **read_outcomes(folder)}))
        raise
    results = Results(jobs, {**done, **outcomes})
    results.tell()
    try:
        results.save_tables(folder)
        if jobs[0].settings.tracking.figures:
            results.save_figures(folder, uri)
    except Exception as error:  # a full disk, a store that is gone: the jobs' own records are what counts
        why = redact(in_one_line(error))
        print(f"blitz: {folder}: not all tables and pictures could be made: {why}", file=sys.stderr)
    missing = record.end("KILLED" if interrupt.requested else "FAILED" if results.failed else "FINISHED", results)
    if missing and uri is not None:
        print(f"mlflow   {redact(uri)} lacks {missing} of the sweep's own run; 'blitz sync {folder}' sends it")
    if interrupt.requested or results.left or results.failed:
        own_groups = planning.own_groups(asked.config)
        print(f"to go on {command_to_go_on(plan.id, asked.of_hydra, own_groups, jobs[0].settings)}")
    if interrupt.requested:
        raise interrupt.error()
    if results.failed:
        also = f", {results.left} not started (sweep.on_failure=stop)" if results.left else ""
        raise SweepFailed(f"{len(results.failed)} of {len(jobs)} jobs failed{also}")
    return [results.outcomes[job.number].objective for job in jobs]


def _jobs(asked: SweepRequest) -> tuple[Plan | None, list[SweepJob]]:
    """All of them, checked, and the plan of an earlier sweep where they are its jobs. Raises BadInput."""
    context, _, config, arguments = asked
    planning.refuse_lists(context, arguments)
    first = planning.first_settings(context, config, arguments)
    options = first.sweep if first is not None else planning.options(context, config, arguments)
    if first is not None and first.tracking.name == "mlflow" and not options.dry_run:
        Writer.prepare()  # its seconds pass while the jobs are composed
    if first is not None and options.resume is not None:
        return _resumed(asked, first)
    wanted = combinations(context, arguments, options)
    jobs = planning.composed(context, config, wanted, options.points)
    if options.resume is not None:
        raise BadInput(f"sweep.resume={options.resume}: has its jobs already; leave out all else")
    return None, jobs


def _resumed(asked: SweepRequest, first: Settings) -> tuple[Plan, list[SweepJob]]:
    """The jobs of an earlier sweep. Raises BadInput where there is none, or where they would not be the same."""
    assert first.sweep.resume is not None
    uri = store.resolve(first.tracking.uri) if first.tracking.name != "none" else None
    plan = Plan.find(first.sweep.resume, first.runs_dir, uri)
    jobs = planning.composed(asked.context, asked.config, plan.combinations(asked.arguments), None)
    return plan, plan.numbered(jobs)


def _refuse_while_trained(folder: Path) -> None:
    """Raises BadInput as long as jobs of the sweep have a process: a batch system's go on without the sweep."""
    if is_any_trained(folder):
        raise BadInput(f"sweep.resume={folder.name}: some jobs are still being trained; wait for them")


def _hand_out(jobs: Sequence[SweepJob], folder: Path, side_by_side: int) -> None:
    """Write into each job's config what it has to know of the sweep, which runs so many at once."""
    for job in jobs:
        with read_write(job.config.hydra), open_dict(job.config):
            job.config.hydra.sweep.dir = str(folder)
            options = job.config.sweep
            options.id, options.job, options.label = folder.name, job.number, job.label
            options.cores = max(1, usable_cores() // side_by_side) if side_by_side > 1 else None


def _folder(runs_dir: str, plan: Plan | None) -> Path:
    """A sweep's folder, its own or a new one. Raises BadInput where none can be made."""
    name = plan.id if plan is not None else f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
    folder = folder_of(runs_dir, name)
    try:
        folder.mkdir(parents=True, exist_ok=plan is not None)
    except OSError as error:
        raise BadInput(f"runs_dir={runs_dir}: no folder can be made there ({error.strerror})") from None
    return folder


def _list(jobs: Sequence[SweepJob]) -> None:
    print_table(("job", "what differs"), [(str(job.number), job.label) for job in jobs], texts=(1,))
    print(f"{len(jobs)} job{'s' * (len(jobs) != 1)}; sweep.dry_run=true: none was started")


def _tell_skipped(jobs: Sequence[SweepJob], done: Mapping[int, Outcome]) -> None:
    for job in jobs:
        if (outcome := done.get(job.number)) is not None:
            run = f" (run {outcome.run_id})" if outcome.run_id else ""
            print(f"skipped  {job.title} has finished already{run}")

"""`blitz -m`: check every job, run those that have not finished, print the results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from blitz.config.compose import plain
from blitz.config.settings import Sweep, Tracking, uses_mlflow
from blitz.errors import BadInput, SweepFailed, in_one_line
from blitz.parts.registry import validate
from blitz.redaction import redact
from blitz.run_folder.files import sole_trainer
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED
from blitz.runner.start import tracking_store
from blitz.sweeps.combinations import combinations
from blitz.sweeps.finished import finished, print_skipped
from blitz.sweeps.folder import (
    JobOptions,
    Outcome,
    clear_outcomes,
    folder_of,
    make_folder,
    read_outcomes,
    refuse_while_trained,
    unfinished_runs,
    write_outcome,
)
from blitz.sweeps.jobs import SweepJob, checked_jobs, options_of, own_groups, print_jobs, separate
from blitz.sweeps.launch import cores_for_each, launch, runs_here
from blitz.sweeps.plan import Plan, for_continued_runs
from blitz.sweeps.preflight import preflight
from blitz.sweeps.record import SweepRecord
from blitz.sweeps.results import Results, resume_command
from blitz.sweeps.weights import keep_best
from blitz.terminal.text import Unbroken, print_line
from blitz.tracking import store
from blitz.tracking.writer import Writer


class SweepRequest(NamedTuple):
    """What Hydra hands to a sweeper."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig  # of the sweep as a whole: without the values that are swept
    arguments: Sequence[str]  # without those that are Hydra's own

    @property
    def of_hydra(self) -> list[str]:
        """Those that choose the launcher, and the like."""
        return [text for text in self.config.hydra.overrides.hydra if not text.startswith("hydra.mode=")]


def sweep(request: SweepRequest) -> list[float | None]:
    """Run all jobs of a sweep; returns their objectives.

    Raises BadInput for mistakes in any of them, before anything starts; SweepFailed where jobs failed; and
    KeyboardInterrupt where it was stopped.
    """
    arguments, typed = separate(request.context, request.arguments)
    values = plain(request.config)
    options = options_of(values)
    if uses_mlflow(values) and not options.dry_run:
        Writer.prepare()  # it takes seconds, during which the jobs are composed
    plan = _plan_to_resume(request, options)
    changes = plan.changes(request.arguments) if plan is not None else []
    if plan is not None:
        jobs = plan.numbered(checked_jobs(request.context, request.config, plan.combinations(changes), typed))
    else:
        wanted = combinations(request.context, arguments, options)
        jobs = checked_jobs(request.context, request.config, wanted, typed, options.points)
    settings = jobs[0].settings
    skips = plan is not None or options.skip_finished
    if options.skip_finished and settings.tracking.name == "none":
        raise BadInput("sweep.skip_finished=true: needs a store, where finished runs are found; not tracking=none")
    cores = cores_for_each(request.config, len(jobs))
    uri = tracking_store(settings) if skips or not options.dry_run else None  # a list of jobs needs none
    known = folder_of(settings.runs_dir, plan.id) if plan is not None else None
    if known is not None:
        refuse_while_trained(known)
    done = finished(jobs, uri, known) if skips else {}
    print_skipped(jobs, done)
    left = [job for job in jobs if job.number not in done]
    if options.dry_run:
        print_jobs(left)
        return []
    if not left and plan is None:
        Results(jobs, done).print()
        return [done[job.number].objective for job in jobs]
    if uri is not None:
        Writer.prepare()
    if runs_here(request.config):
        preflight(left)
    folder = make_folder(settings.runs_dir, plan.id if plan is not None else None)
    with sole_trainer(folder), redirect_stdout(Unbroken(sys.stdout)), redirect_stderr(Unbroken(sys.stderr)):
        refuse_while_trained(folder)
        runs = unfinished_runs(folder, [job.number for job in left]) if plan is not None else {}
        overrides = for_continued_runs(changes, runs, uri is not None)
        clear_outcomes(folder)
        for number, outcome in done.items():  # their objectives decide as well whose weights stay
            write_outcome(folder, number, outcome)
        continued = {str(number): str(run) for number, run in runs.items()}
        JobOptions(options.on_failure, cores, continued, overrides).save(folder)
        plan = plan or Plan.of(folder.name, [*request.arguments, *request.of_hydra], jobs)
        return _run(request, jobs, done, plan, folder, uri)


def _plan_to_resume(request: SweepRequest, options: Sweep) -> Plan | None:
    """Raises BadInput where there is no such sweep."""
    if options.resume is None:
        return None
    values = plain(request.config)
    tracking = validate(Tracking, values["tracking"], "tracking", "option")
    uri = store.resolve(tracking.uri) if tracking.name != "none" else None
    return Plan.find(options.resume, str(values["runs_dir"]), uri)


def _run(
    request: SweepRequest,
    jobs: Sequence[SweepJob],
    done: Mapping[int, Outcome],
    plan: Plan,
    folder: Path,
    uri: str | None,
) -> list[float | None]:
    record = SweepRecord.begin(folder, plan, jobs, done, uri)
    left = [job for job in jobs if job.number not in done]
    try:
        outcomes, interrupt = launch(request.context, request.task, request.config, left, folder)
    except Exception:  # of a launcher that cannot be made, say: jobs that have ended are recorded all the same
        record.end(FAILED, Results(jobs, {**done, **read_outcomes(folder)}))
        raise
    results = Results(jobs, {**done, **outcomes})
    results.print()
    _save(results, folder, uri)
    status = KILLED if interrupt.requested else FAILED if results.failed else FINISHED
    if missing := record.end(status, results):
        print_line(
            f"mlflow   {redact(uri or '')} lacks {missing} of the sweep's own run; 'blitz sync {folder}' sends it"
        )
    if interrupt.requested or results.left or results.failed:
        command = resume_command(plan.id, request.of_hydra, own_groups(request.config), jobs[0].settings)
        print(f"resume   {command}")
    if interrupt.requested:
        raise interrupt.error()
    if results.failed:
        also = f", {results.left} not started (sweep.on_failure=stop)" if results.left else ""
        raise SweepFailed(f"{len(results.failed)} of {len(jobs)} jobs failed{also}")
    return [results.outcomes[job.number].objective for job in jobs]


def _save(results: Results, folder: Path, uri: str | None) -> None:
    """Tables, figures and the best jobs' weights. What fails is a warning: the jobs' own records are what counts."""
    try:
        if not results.left:
            keep_best(folder, uri)
        results.save_tables(folder)
        if results.jobs[0].settings.tracking.figures:
            results.save_figures(folder, uri)
    except Exception as error:  # a full disk, a store that is gone
        why = redact(in_one_line(error))
        print_line(f"blitz: {folder}: not all tables, figures and weights could be saved: {why}", sys.stderr)

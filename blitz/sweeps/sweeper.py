"""`blitz -m`: check every job, run those that have not finished, print the results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

from blitz.config.compose import plain
from blitz.config.settings import Sweep, Tracking, uses_mlflow
from blitz.errors import BadInput, SweepFailed, in_one_line
from blitz.parts.registry import validate
from blitz.redaction import redact, remember
from blitz.run_folder.files import sole_trainer
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED, PAUSED
from blitz.runner.start import tracking_store
from blitz.sweeps import cluster
from blitz.sweeps.asked import asked_before, asked_now
from blitz.sweeps.budget import Budget, seconds_of
from blitz.sweeps.finished import finished, outcome_of, print_skipped
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
from blitz.sweeps.forecast import print_forecast
from blitz.sweeps.jobs import SweepJob, options_of, own_groups, print_jobs, refuse_links, separate
from blitz.sweeps.launch import cores_for_each, runs_here
from blitz.sweeps.plan import Plan, for_continued_runs
from blitz.sweeps.preflight import preflight
from blitz.sweeps.record import SweepRecord
from blitz.sweeps.results import Results, resume_command
from blitz.sweeps.rounds import Rounds, SweepRequest
from blitz.sweeps.weights import keep_best
from blitz.terminal.status import above
from blitz.terminal.text import Unbroken, print_line
from blitz.tracking import store
from blitz.tracking.writer import Writer


def sweep(request: SweepRequest) -> list[float | None]:
    """Run a sweep; returns the objectives of its jobs.

    Raises BadInput for mistakes in any of them, before anything starts; SweepFailed where jobs failed; and
    KeyboardInterrupt where it was stopped.
    """
    arguments, typed = separate(request.context, request.arguments)
    refuse_links(request.config, arguments)
    values = plain(request.config)
    options = options_of(values)
    if uses_mlflow(values) and not options.dry_run:
        Writer.prepare()  # it takes seconds, during which the jobs are composed
    plan = _plan_to_resume(request, options)
    changes = plan.changes(request.arguments) if plan is not None else []
    if plan is None:
        asked = asked_now(request, arguments, typed, options)
    else:
        asked = asked_before(request, plan, changes, typed)
    jobs, settings = asked.jobs, asked.jobs[0].settings
    planned = len(jobs) if asked.proposals is None else asked.proposals.number
    skips = plan is not None or options.skip_finished
    if options.skip_finished and settings.tracking.name == "none":
        raise BadInput("sweep.skip_finished=true: needs a store, where finished runs are found; not tracking=none")
    if options.budget is not None:
        seconds_of(options.budget)  # refused here, and not after the preflight
    cores = cores_for_each(request.config, planned)
    uri = _store_to_read(settings.tracking) if options.dry_run else tracking_store(settings)
    known = folder_of(settings.runs_dir, plan.id) if plan is not None else None
    if known is not None:
        refuse_while_trained(known)
    done = _skipped(jobs, uri, known) if skips else {}
    left = [job for job in jobs if job.number not in done]
    if options.dry_run:
        print_jobs(left, planned - len(jobs))
        if left:
            paused = unfinished_runs(known, [job.number for job in left]) if known is not None else {}
            outcomes = {**done, **{number: outcome_of(*run) for number, run in paused.items()}}
            print_forecast(request.config, asked, outcomes, cores, uri)
        return []
    if not left and plan is None and (last := asked.strategy([job.trial(done[job.number]) for job in jobs])).is_last:
        Results(jobs, done, conclusion=last.conclusion).print()
        return [done[job.number].objective for job in jobs]
    if uri is not None:
        Writer.prepare()
    if runs_here(request.config):
        preflight([*asked.ends, *left])
    elif cluster.is_ray(request.config.hydra.launcher):
        cluster.connect(request.config.hydra.launcher)
    folder = make_folder(settings.runs_dir, plan.id if plan is not None else None)
    screen, errors = Unbroken(sys.stdout), above(Unbroken(sys.stderr))
    with sole_trainer(folder), redirect_stdout(above(screen)), redirect_stderr(errors):
        refuse_while_trained(folder)
        runs = unfinished_runs(folder, [job.number for job in left]) if plan is not None else {}
        overrides = for_continued_runs(changes, {number: run for number, (run, _) in runs.items()}, uri is not None)
        clear_outcomes(folder)
        for number, outcome in done.items():  # their objectives decide as well whose weights stay
            write_outcome(folder, number, outcome)
        outcomes = {**done, **{number: outcome_of(*run) for number, run in runs.items()}}
        for_jobs = JobOptions(options.on_failure, cores, overrides=overrides)
        command = [*request.arguments, *request.of_hydra]
        plan = replace(plan or Plan.of(folder.name, command, jobs, asked.search, asked.proposals), search=asked.search)
        skipped = partial(_skipped, uri=uri if options.skip_finished else None)
        rounds = Rounds(
            request, asked.strategy, plan, jobs, outcomes, for_jobs, Budget.of(options, folder), folder, asked.further,
            skipped,
        )  # fmt: skip
        record = SweepRecord.begin(folder, plan, [*jobs, *asked.ends], outcomes, uri)
        try:
            results = rounds.train(screen)
        except Exception:  # of a launcher that cannot be made, say: jobs that have ended are recorded all the same
            record.end(FAILED, Results(rounds.jobs, {**rounds.outcomes, **read_outcomes(folder)}))
            raise
        return _end(results, rounds, record, uri)


def _plan_to_resume(request: SweepRequest, options: Sweep) -> Plan | None:
    """Raises BadInput where there is no such sweep."""
    if options.resume is None:
        return None
    values = plain(request.config)
    tracking = validate(Tracking, values["tracking"], "tracking", "option")
    return Plan.find(options.resume, str(values["runs_dir"]), _store_to_read(tracking))


def _store_to_read(tracking: Tracking) -> str | None:
    """The store with earlier runs, which need not be there; None for none."""
    if tracking.name == "none":
        return None
    uri = store.resolve(tracking.uri)
    remember(uri)
    return uri


def _skipped(jobs: Sequence[SweepJob], uri: str | None, known: Path | None = None) -> dict[int, Outcome]:
    """The outcomes of jobs that have finished already."""
    done = finished(jobs, uri, known)
    print_skipped(jobs, done)
    return done


def _end(results: Results, rounds: Rounds, record: SweepRecord, uri: str | None) -> list[float | None]:
    """Print and record what came out, and how the sweep is resumed."""
    request, folder, interrupt = rounds.request, rounds.folder, rounds.interrupt
    results.print()
    _save(results, folder, uri)
    status = FAILED if results.failed else FINISHED
    if interrupt is not None and interrupt.requested:
        status = PAUSED if interrupt.is_pause else KILLED
    if missing := record.end(status, results):
        print_line(
            f"mlflow   {redact(uri or '')} lacks {missing} of the sweep's own run; 'blitz sync {folder}' sends it"
        )
    jobs = results.jobs
    command = resume_command(folder.name, request.of_hydra, own_groups(request.config), jobs[0].settings)
    if results.left or results.failed:
        print(f"resume   {command}")
    elif results.paused and "keep" in rounds.plan.search:
        print_line(f"paused   {results.paused} jobs; '{command} search.keep=SHARE' with a larger share continues more")
    if interrupt is not None and status == KILLED:
        raise interrupt.error()
    if results.failed:
        also = f", {results.left} not started (sweep.on_failure=stop)" if results.left else ""
        raise SweepFailed(f"{len(results.failed)} of {len(jobs)} jobs failed{also}")
    return [results.objective(job) for job in jobs]


def _save(results: Results, folder: Path, uri: str | None) -> None:
    """Tables, figures and the best jobs' weights. What fails is a warning: the jobs' own records are what counts."""
    try:
        if not results.left:
            keep_best(folder, uri)
        results.save_tables(folder)
        if results.jobs[0].settings.tracking.figures:
            results.save_figures(folder, uri)
            results.save_page(folder, uri)
    except Exception as error:  # a full disk, a store that is gone
        why = redact(in_one_line(error))
        print_line(f"blitz: {folder}: not all tables, figures and weights could be saved: {why}", sys.stderr)

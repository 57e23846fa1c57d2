"""A recorded sweep, as its store or its folder has it: what it has decided, and the runs of its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from blitz.comparison.decisions import fetch
from blitz.comparison.select import find_sweep
from blitz.config.recorded import check_recorded, read_config
from blitz.errors import BadInput
from blitz.reproduction.replay import Attempt, Records
from blitz.run_folder import decisions, journal
from blitz.run_folder.journal import JOURNAL, OBJECTIVE
from blitz.run_folder.run_info import FINISHED, RUNNING, SWEEP, SWEEP_JOB, RunInfo, runs_in
from blitz.runner.find import is_path
from blitz.sweeps.folder import PLAN, read_outcomes
from blitz.sweeps.plan import Plan, find_folder
from blitz.sweeps.search.strategy import Trial
from blitz.tracking import health, queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Attempts = dict[int, list[Attempt]]  # by job, the first one first


def find_records(wanted: str, uri: str | None) -> Records:
    """Of the sweep with this id, the start of one, in this folder, or the `last` one: from the store, or else ./runs.

    Raises BadInput where there is none, and for one that has not ended or is damaged.
    """
    if is_path(wanted):
        return _in_folder(Path(expanduser(wanted)))
    here = find_folder(wanted, "runs", "--sweep") if uri is None else None
    try:
        client = health.connect(uri)
        sweep = queries.find_sweep(client, wanted) if here is not None else find_sweep(client, wanted)
    except health.Empty:
        if here is None:
            raise
        return _in_folder(here)
    if sweep is None or (wanted == queries.LAST and here and RunInfo.load(here).started_at > sweep.info.start_time):
        assert here is not None
        return _in_folder(here)  # the store may not have it yet, or never
    return _in_store(client, sweep)


def _in_store(client: MlflowClient, sweep: Run) -> Records:
    sweep_id = str(sweep.data.tags[SWEEP])
    with queries.scratch(sweep_id) as scratch:
        plan = Plan.load(queries.fetch(client, sweep, PLAN, scratch), trusted=False)
    runs = sorted(queries.jobs_of(client, sweep), key=lambda run: int(run.info.start_time))
    curves = queries.histories(client, [(str(run.info.run_id), OBJECTIVE) for run in runs])
    found: Attempts = {}
    for run, curve in zip(runs, curves, strict=True):
        if run.data.tags.get(SWEEP) == sweep_id:
            _add(found, plan, _number(_about(run), run.info.run_id), run.info.run_id, _about(run), curve)
    for run, curve in zip(runs, curves, strict=True):  # those that had finished before
        if run.data.tags.get(SWEEP) != sweep_id and (number := _job_of(client, run, plan, found)) is not None:
            _add(found, plan, number, run.info.run_id, _about(run), curve, is_own=False)
    return _records(plan, fetch(client, sweep), found, sweep.info.status)


def _in_folder(folder: Path) -> Records:
    about, plan = RunInfo.load(folder), Plan.load(folder / PLAN, trusted=True)
    found: Attempts = {}
    for place, run in runs_in(folder.absolute().parent.parent):
        if run.tags.get(SWEEP) == plan.id:
            rows = journal.epochs(place / JOURNAL) if (place / JOURNAL).exists() else []
            curve = {int(row["epoch"]): row[OBJECTIVE] for row in rows if OBJECTIVE in row}
            _add(found, plan, _number(run, str(place)), str(place), run, curve)
    records = _records(plan, decisions.read(folder / decisions.FILE), found, about.status)
    outcomes = read_outcomes(folder)
    for job in records.jobs:
        outcome = outcomes.get(job.number)
        if job.number not in found and outcome is not None and outcome.status == FINISHED:  # before this sweep
            trial = replace(job, status=FINISHED, rungs=dict(outcome.rungs), objective=outcome.objective)
            found[job.number] = [Attempt(trial, 0, outcome.run_id or outcome.folder or "", is_own=False)]
    return records


def _about(run: Run) -> RunInfo:
    info, data = run.info, run.data
    return RunInfo("", None, "", "", info.start_time, data.params, data.tags, {}, info.status, info.end_time)


def _number(about: RunInfo, name: str) -> int:
    try:
        return int(about.tags[SWEEP_JOB])
    except (KeyError, ValueError):
        raise BadInput(f"{name}: not the record of a sweep's job, or only a part of it") from None


def _job_of(client: MlflowClient, run: Run, plan: Plan, found: Attempts) -> int | None:
    """The job that a run of another sweep stands for: of the same config, and without a run of its own."""
    with queries.scratch(run.info.run_id) as scratch:
        path = queries.fetch(client, run, "config.yaml", scratch)
        identity = check_recorded(read_config(path), path).config_hash("")
    return next((job for job, known in plan.identities.items() if known == identity and job not in found), None)


def _add(
    found: Attempts,
    plan: Plan,
    number: int,
    name: str,
    about: RunInfo,
    curve: Mapping[int, float],
    *,
    is_own: bool = True,
) -> None:
    """`curve`: the objective by epoch. What a run found when it was extended, after its sweep, counts for nothing."""
    try:
        values, seed, epochs = plan.jobs[number].without_seed, int(about.params["seed"]), int(about.params["epochs"])
        measured = [objective for epoch, objective in sorted(curve.items()) if epoch <= epochs]
        objective = measured[-1] if measured and about.status == FINISHED else None
        trial = Trial(number, values, seed, epochs, about.status, about.rungs, objective)
    except (KeyError, ValueError, TypeError):
        raise BadInput(f"{name}: not the record of a sweep's job, or only a part of it") from None
    found.setdefault(number, []).append(Attempt(trial, about.started_at, name, is_own, curve))


def _records(plan: Plan, lines: list[decisions.Line], found: Attempts, status: str) -> Records:
    if status == RUNNING:
        remedy = f"if it was killed, 'blitz -m sweep.resume={plan.id}' continues it"
        raise BadInput(f"sweep {plan.id}: it has not ended yet; {remedy}")
    if not found:
        raise BadInput(f"sweep {plan.id}: no job of it has started; there is nothing to check")
    some = next(iter(found.values()))[0].trial
    jobs = []
    for number, combination in plan.jobs.items():
        known = found[number][0].trial if number in found else some
        seed, epochs = known.seed, known.epochs
        if number not in found:  # what is not swept, all have in common
            seed, epochs = (int(combination.values.get(key, n)) for key, n in (("seed", seed), ("epochs", epochs)))
        jobs.append(Trial(number, combination.without_seed, seed, epochs))
    return Records(plan.id, plan.search, lines, jobs, plan.listed, found, status, plan.proposals)

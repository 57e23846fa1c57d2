"""Jobs that have finished already: in this sweep, or in any that the store knows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blitz.config.settings import Settings
from blitz.redaction import redact
from blitz.run_folder import provenance
from blitz.run_folder.journal import JOURNAL, OBJECTIVE, epochs
from blitz.run_folder.run_info import FINISHED, SWEEP, SWEEP_JOB, RunInfo, rungs_in
from blitz.runner.build import data_of, model_of, weights_fingerprint
from blitz.runner.start import surroundings
from blitz.sweeps.folder import Outcome, finished_runs, read_outcomes
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.preflight import PartsCache
from blitz.terminal.text import print_line
from blitz.tracking import health, queries
from blitz.tracking.sending import Sent

if TYPE_CHECKING:
    from mlflow.entities import Run

OF_THE_CODE = ("git.commit", "git.diff")


def finished(jobs: Sequence[SweepJob], uri: str | None, folder: Path | None) -> dict[int, Outcome]:
    """Jobs whose config has finished already, by its hash in the store; without a store, by the sweep's folder.

    So has a job whose run finished and was cut off before the store had its end. Raises BadInput where the data, whose
    fingerprint is a part of the hash, is not here.
    """
    own = finished_runs(folder) if folder is not None else {}
    if uri is None:
        outcomes = read_outcomes(folder) if folder is not None else {}
        noted = {number: outcome for number, outcome in outcomes.items() if outcome.status == FINISHED}
        return noted | {number: outcome_of(*run) for number, run in own.items() if number not in noted}
    # Before the store is asked: a writer that outlived its run may send the end of it meanwhile.
    unsent = {number: run for number, run in own.items() if _is_end_unsent(*run, uri)}
    try:
        client = health.connect(uri)
    except health.Empty:
        return {}
    cache = PartsCache()
    hashes: dict[int, tuple[str, str]] = {}
    for job in jobs:
        fingerprints = _fingerprints(job.settings, cache)
        hashes[job.number] = (job.settings.config_hash(*fingerprints), job.settings.group_hash(*fingerprints))
    sweep = folder.name if folder is not None else None
    found = queries.finished_runs(client, dict(hashes.values()), sweep)
    runs = _each_its_own({number: found.get(config_hash, []) for number, (config_hash, _) in hashes.items()}, sweep)
    _warn_of_other_code(runs.values(), len(jobs))
    cut_off = {
        number: outcome_of(run_folder, about)
        for number, (run_folder, about) in unsent.items()
        if about.tags.get("config_hash") == hashes[number][0]
    }
    return cut_off | {number: _outcome(run) for number, run in runs.items()}


def outcome_of(run: Path, about: RunInfo) -> Outcome:
    """Of a job, by its run's folder."""
    objectives = [row[OBJECTIVE] for row in epochs(run / JOURNAL) if OBJECTIVE in row]
    run_id = Sent.load(run, about.record, about.store or "").run_id
    objective, rungs = objectives[-1] if objectives else None, tuple(sorted(about.rungs.items()))
    return Outcome(about.status, "", objective, about.seconds, str(run), run_id, rungs)


def _is_end_unsent(run: Path, about: RunInfo, uri: str) -> bool:
    """Whether this store lacks the end of a finished run: what it says of one whose end it has may have changed."""
    where = redact(uri)
    return about.store == where and Sent.load(run, about.record, where).status != FINISHED


def _fingerprints(settings: Settings, cache: PartsCache) -> tuple[str, str | None]:
    """Of a job's data, and of the weights that it starts from; None for fresh ones."""
    dataset, splits = cache(data_of, settings.data)
    if settings.model["weights"] is None:
        return dataset.fingerprint, None
    shape = tuple(splits.train.images.shape[1:])
    model = cache(model_of, settings.model, len(dataset.classes), shape, settings.tracking.uri)
    return dataset.fingerprint, cache(weights_fingerprint, settings.model, model)


def _warn_of_other_code(runs: Iterable[Run], number: int) -> None:
    """Runs are found by their config hash, which says nothing about the code that trained them."""
    here = provenance.tags(surroundings()[0])
    others = sum(any(run.data.tags.get(tag) != here[tag] for tag in OF_THE_CODE) for run in runs)
    if others:
        what = f"{others} of {number} jobs have finished already, with other code than there is now"
        print_line(f"blitz: {what} (the tags {' and '.join(OF_THE_CODE)})", sys.stderr)


def _each_its_own(candidates: Mapping[int, Sequence[Run]], sweep: str | None) -> dict[int, Run]:
    """A run for each job that has one: that of this very job, else one that no other job has.

    Jobs may differ in what changes no result, such as a tag, and then have the same config hash.
    """
    runs: dict[int, Run] = {}
    for number, found in candidates.items():
        own = [run for run in found if (run.data.tags.get(SWEEP), run.data.tags.get(SWEEP_JOB)) == (sweep, str(number))]
        if own:
            runs[number] = own[0]
    taken = {run.info.run_id for run in runs.values()}
    for number, found in candidates.items():
        others = (run for run in found if sweep is None or run.data.tags.get(SWEEP) != sweep)
        free = next((run for run in others if run.info.run_id not in taken), None)
        if number not in runs and free is not None:
            runs[number] = free
            taken.add(free.info.run_id)
    return runs


def _outcome(run: Run) -> Outcome:
    tags, objective = run.data.tags, run.data.metrics.get(OBJECTIVE)
    rungs = tuple(sorted(rungs_in(tags).items()))
    return Outcome(FINISHED, "", objective, queries.seconds(run), tags.get("folder"), run.info.run_id, rungs)


def print_skipped(jobs: Sequence[SweepJob], done: Mapping[int, Outcome]) -> None:
    for job in jobs:
        if (outcome := done.get(job.number)) is not None:
            run = f" (run {outcome.run_id})" if outcome.run_id else ""
            print_line(f"skipped  {job.title} has finished already{run}")

"""Which jobs' weights stay: the best of its seeds, and no worse than any other combination on average."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from blitz.redaction import redact
from blitz.run_folder.candidates import is_candidate, keep_weights, remove_weights
from blitz.run_folder.run_info import ABOUT, FINISHED, SWEEP, RunInfo
from blitz.sweeps.folder import PLAN, Outcome, read_outcomes
from blitz.sweeps.plan import Plan
from blitz.terminal.text import print_line
from blitz.tracking.sending import Delivery
from blitz.tracking.writer import Writer


def beaten(combinations: Mapping[int, str], outcomes: Mapping[int, Outcome]) -> set[int]:
    """The finished jobs whose weights cannot stay, whatever comes out of the jobs that have not finished.

    `combinations`: of all jobs. A combination has an average once all of its jobs have finished; until then it may yet
    come out worse than it looks. The best of its seeds can only become better.
    """
    found = {n: o.objective for n, o in outcomes.items() if o.status == FINISHED and o.objective is not None}
    members: dict[str, list[int]] = {}
    for number, combination in combinations.items():
        members.setdefault(combination, []).append(number)
    best = {key: max((found[n] for n in numbers if n in found), default=0.0) for key, numbers in members.items()}
    complete = {key: numbers for key, numbers in members.items() if all(n in found for n in numbers)}
    averages = {key: fmean(found[n] for n in numbers) for key, numbers in complete.items()}
    return {
        number
        for number, combination in combinations.items()
        if number in found
        and (
            found[number] < best[combination]
            or any(found[number] < average for key, average in averages.items() if key != combination)
        )
    }


def prune(sweep: Path) -> None:
    """Remove weights of jobs that are beaten for good: hundreds of jobs would fill a disk."""
    outcomes = read_outcomes(sweep)
    jobs = Plan.load(sweep / PLAN, trusted=True).jobs
    combinations = {number: json.dumps(job.without_seed, sort_keys=True) for number, job in jobs.items()}
    for number in beaten(combinations, outcomes):
        if (folder := _candidate(sweep, outcomes[number])) is not None:
            try:
                remove_weights(folder)
            except OSError as error:
                print(f"blitz: {error.filename}: {error.strerror}", file=sys.stderr)


def keep_best(sweep: Path, uri: str | None) -> None:
    """Prune, keep the weights that are left, and send what the store lacks of the jobs that have finished."""
    prune(sweep)
    answers = True
    for outcome in read_outcomes(sweep).values():
        if outcome.status == FINISHED and (folder := _candidate(sweep, outcome)) is not None:
            keep_weights(folder)
        if uri is None or outcome.folder is None or not Path(outcome.folder, ABOUT).exists():
            continue
        folder = Path(outcome.folder)
        about = RunInfo.load(folder)
        delivery = Delivery(folder, uri, about)
        if about.store != redact(uri) or about.tags.get(SWEEP) != sweep.name or delivery.complete:
            continue
        missing = Writer.take(folder, uri, about).end(about) if answers else delivery.missing()
        answers = not missing  # a store that hangs costs its time limit once
        if missing:
            print_line(f"mlflow   {about.store} lacks {missing} of a job; 'blitz sync {folder}' sends it")


def _candidate(sweep: Path, outcome: Outcome) -> Path | None:
    """The folder of a run whose weights wait for this sweep's decision."""
    folder = Path(outcome.folder) if outcome.folder is not None else None
    return folder if folder is not None and is_candidate(folder, sweep.name) else None

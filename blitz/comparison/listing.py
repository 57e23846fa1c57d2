"""`blitz ls`: the runs and sweeps of a store, the newest first."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from blitz.comparison.report import duration
from blitz.comparison.rows import ID_LENGTH, is_measured
from blitz.comparison.select import NEWEST, named, newest_where
from blitz.comparison.where import STATUSES, Where
from blitz.redaction import redact
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import FINISHED, RUNNING, SWEEP, SWEEP_JOB, status_word
from blitz.terminal.progress import NO_BREAK
from blitz.terminal.text import NARROW, Screen, in_a_line, print_line
from blitz.tracking import health, orphaned, queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SHORTEST_NAME, WIDEST_STATUS = 16, 18  # columns, on a terminal
HEADINGS = ("id", "started", "name", "status", "objective", "time")


@dataclass(frozen=True)
class Line:
    """A run, or a sweep as a whole."""

    id: str
    name: str
    status: str
    started: int  # milliseconds since 1970
    seconds: float | None  # wall time
    objective: float | None  # of a sweep the best one
    experiment: str
    sweep: str | None = None  # the id of the sweep that it is, or is a job of
    num_jobs: int | None = None  # of a sweep
    jobs: Mapping[str, int] | None = None  # of a sweep: how many of them have which status

    def status_text(self) -> str:
        """`RUNNING 4/9, 3 running, 1 failed` for a sweep: of its jobs 4 have finished."""
        if self.jobs is None:
            return self.status
        others = [f"{number} {status.lower()}" for status, number in self.jobs.items() if status != FINISHED]
        return ", ".join([f"{self.status} {self.jobs.get(FINISHED, 0)}/{self.num_jobs}", *others])


@dataclass(frozen=True)
class Listing:
    """What `blitz ls` prints."""

    lines: Sequence[Line]
    are_all: bool
    what: str  # they are, in words


def newest(
    *,
    experiment: str | None = None,
    limit: int = NEWEST,
    everything: bool = False,
    where: Sequence[str] = (),
    uri: str | None = None,
) -> Listing:
    """The newest runs and sweeps; with everything jobs too; with conditions the runs, jobs or not, that they hold for.

    Nothing is written: a run whose process is gone stays as it is, and is shown as ORPHANED.
    """
    conditions = Where(where)
    client = health.connect(uri)
    experiments = named(client, experiment)
    if where:
        runs = newest_where(client, experiments, limit + 1, conditions)
    elif everything:
        runs = queries.newest(client, experiments, limit + 1, "")
    else:
        runs = queries.newest(client, experiments, limit + 1, f"{queries.TRAINED} and tags.{SWEEP} IS NULL")
        runs += queries.newest(client, experiments, limit + 1, queries.SWEEPS)
        runs.sort(key=lambda run: -run.info.start_time)
    names = {found.experiment_id: found.name for found in queries.pages(client.search_experiments)}
    of = f", experiment {experiment}" * bool(experiment) + f", where {conditions}" * bool(where)
    lines = [line_of(client, run, names[run.info.experiment_id]) for run in runs[:limit]]
    return Listing(lines, len(runs) <= limit, f"runs in {redact(str(client.tracking_uri))}{of}")


def line_of(client: MlflowClient, run: Run, experiment: str) -> Line:
    tags, objective = run.data.tags, run.data.metrics.get(OBJECTIVE)
    line = Line(
        id=run.info.run_id,
        name=redact(str(run.info.run_name)),
        status=status_word(orphaned.status(run)),
        started=run.info.start_time,
        seconds=queries.seconds(run),
        objective=objective if objective is not None and is_measured(objective) else None,
        experiment=redact(experiment),
        sweep=tags.get(SWEEP),
    )
    return _with_jobs(line, run, queries.jobs_of(client, run)) if queries.OF_A_SWEEP in tags else line


def _with_jobs(line: Line, sweep: Run, jobs: Sequence[Run]) -> Line:
    """Of several attempts at a job the one that finished counts, or else the last one."""
    attempts: dict[object, tuple[bool, int, Run]] = {}
    for run in jobs:
        job = run.data.tags.get(SWEEP), run.data.tags.get(SWEEP_JOB, run.info.run_id)
        attempt = run.info.status == FINISHED, run.info.start_time, run
        if job not in attempts or attempt[:2] > attempts[job][:2]:
            attempts[job] = attempt
    counts = Counter(status_word(orphaned.status(run)) for _, _, run in attempts.values())
    total, objective = sweep.data.tags[queries.OF_A_SWEEP], line.objective
    if objective is None or line.status == RUNNING:
        found = [run.data.metrics.get(OBJECTIVE) for has_finished, _, run in attempts.values() if has_finished]
        objective = max((value for value in found if value is not None and is_measured(value)), default=None)
    number = int(total) if total.isdigit() else len(attempts)
    return replace(
        line,
        objective=objective,
        num_jobs=number,
        jobs={status: counts[status] for status in STATUSES if counts[status]},
    )


def print_lines(listing: Listing) -> None:
    """On a terminal names are cut to what there is room for, and a sweep's jobs continue below."""
    if not listing.lines:
        print_line(f"No {listing.what}.")
        return
    screen, now = Screen(), time.time_ns() // 1_000_000
    rows = [_cells(line, now) for line in listing.lines]
    if screen.is_terminal:
        rows = [[*row[:3], _folded(row[3]), *row[4:]] for row in rows]
    width = max(screen.room, NARROW)
    taken = sum(max(len(part) for text in (heading, *column) for part in text.splitlines() or [""]) + 2
                for heading, *column in zip(HEADINGS, *rows, strict=True) if heading != "name")  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("objective", "time") else "left", no_wrap=True)
    for row in rows:
        name = Text(row[2])
        name.truncate(max(width - taken, SHORTEST_NAME), overflow="ellipsis")
        table.add_row(*row[:2], name, *row[3:])
    Screen(width=width).print_table(table)
    if screen.is_terminal and not listing.are_all:
        print_line("Older ones are left out; --limit N lists more.")


def _cells(line: Line, now: int) -> list[str]:
    name = f"sweep {line.name}" if line.jobs is not None else line.name
    objective = "" if line.objective is None else f"{line.objective:.2%}"
    started = ago(line.started, now)
    return [line.id[:ID_LENGTH], started, in_a_line(name), line.status_text(), objective, duration(line.seconds)]


def _folded(status: str) -> str:
    """In lines that end between two numbers of jobs."""
    text = status.replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")
    return textwrap.fill(text, WIDEST_STATUS).replace(NO_BREAK, " ")


def print_json(listing: Listing) -> None:
    """All of it, numbers in full; null for what is not known."""
    print(json.dumps([as_plain(line) for line in listing.lines], indent=2, allow_nan=False))


def as_plain(line: Line) -> dict[str, Any]:
    started = datetime.fromtimestamp(line.started / 1000, UTC).isoformat()
    return {"kind": "run" if line.jobs is None else "sweep", **asdict(line), "started": started}


def ago(milliseconds: int, now: int) -> str:
    """`5 min ago`; a week ago and earlier the date here."""
    seconds = max(now - milliseconds, 0) // 1000
    for unit, length, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 24), ("d", 86400, 7)):
        if seconds < length * most:
            return f"{seconds // length} {unit} ago"
    return f"{datetime.fromtimestamp(milliseconds / 1000):%Y-%m-%d}"

"""A comparison as one HTML page: a sweep's `results.html`, and `blitz compare --html FILE`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from blitz.comparison import decisions, plot, report
from blitz.comparison.decisions import Curve
from blitz.comparison.importance import importances
from blitz.comparison.plot import measured, plot_rows
from blitz.comparison.rows import (
    ID_LENGTH,
    ComparedRun,
    Comparison,
    Row,
    compare,
    is_measured,
    is_share,
    name_of,
    sign,
)
from blitz.errors import BadInput
from blitz.figures import charts
from blitz.figures.charts import Measure
from blitz.figures.page import NEEDS_PLOTLY, Cell, Column, Link, Order, Page, Section, Table, as_html, has_plotly
from blitz.figures.space import Space, counted
from blitz.redaction import redact
from blitz.run_folder.decisions import Line
from blitz.run_folder.files import write_whole
from blitz.run_folder.run_info import SWEEP, SWEEP_JOB, status_word
from blitz.tracking import health, queries, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SUFFIXES = (".html", ".htm")


def check_path(file: str) -> None:
    """Raises BadInput for a file that cannot be written, and where plotly is missing."""
    plot.check_path("--html", file, SUFFIXES)
    if not has_plotly():
        raise BadInput(f"--html={file}: {NEEDS_PLOTLY}")


def save(comparison: Comparison, file: str, uri: str | None, sweep: str | None) -> None:
    """Write the page of runs in a store; of a sweep, with what its search decided."""
    client, metric = health.connect(uri), comparison.metrics[0]
    parent = queries.find_sweep(client, sweep) if sweep is not None else None
    title = f"Sweep {parent.data.tags[SWEEP]}" if parent is not None else f"Comparison by {metric}"
    made = decisions.fetch(client, parent) if parent is not None else []
    jobs = _jobs(client, parent, comparison) if parent is not None and made else {}

    def curve(run: ComparedRun) -> list[tuple[int, float]]:
        if run.run_id is None or metric not in run.metrics:
            return []
        return sorted((point.step, measured(point.value)) for point in client.get_metric_history(run.run_id, metric))

    label = metric[0].upper() + metric[1:]
    try:
        write_whole(Path(file), render(comparison, curve, title, label, store.resolve(uri), made, jobs))
    except OSError as error:
        raise BadInput(f"--html={file}: {error.strerror}") from None


def render(
    comparison: Comparison,
    curve: Curve,
    title: str,
    label: str,
    uri: str | None,
    made: Sequence[Line],
    jobs: Mapping[int, ComparedRun],
) -> str:
    """The page. `label` names the first metric as on an axis; `curve` is asked for no more runs than are drawn.

    `made` is what a search decided about `jobs`.
    """
    metric = comparison.metrics[0]
    folded = comparison if comparison.folded else compare(_runs(comparison), [metric])
    measure = Measure(label, is_share(metric), sign(metric) > 0)
    ranked = [row for row in folded.rows if row.finished]
    drawn = {id(run) for row in ranked[: charts.ROWS] for run in row.finished}
    space = Space(plot_rows(folded, lambda run: curve(run) if id(run) in drawn else ()))
    sections = list(_charts(space, [name_of(row, folded) for row in ranked], measure))
    colours = len(ranked) if comparison.folded and sections[0].chart is not None and has_plotly() else 0
    sections.insert(0, Section("Runs", table=_table(comparison, colours)))
    if made:
        sections.append(decisions.section(made, jobs, curve, measure, metric))
    address = _address(uri)
    where = redact(uri) if uri is not None and address is None else ""
    return as_html(Page(title, _lead(comparison), sections, address, where))


def _jobs(client: MlflowClient, sweep: Run, comparison: Comparison) -> dict[int, ComparedRun]:
    """The runs that a sweep started, by the number of their job."""
    by_id = {run.run_id: run for run in _runs(comparison)}
    started = [run for run in queries.jobs_of(client, sweep) if run.data.tags.get(SWEEP) == sweep.data.tags[SWEEP]]
    return {int(run.data.tags[SWEEP_JOB]): by_id[run.info.run_id] for run in started if run.info.run_id in by_id}


def _runs(comparison: Comparison) -> list[ComparedRun]:
    return [run for row in comparison.rows for run in row.entries]


def _lead(comparison: Comparison) -> list[str]:
    best, metric = comparison.rows[0], comparison.metrics[0]
    num_runs, num_rows = len(_runs(comparison)), len(comparison.rows)
    count = f"{counted(num_runs, 'run')} of {counted(num_rows, 'combination')}"
    count = count if num_runs > num_rows else counted(num_runs, "run")
    if best.estimate(metric) is None:
        return [f"{count}; none has {metric} yet.", *report.remarks(comparison)]
    result = f"{count}; best: {name_of(best, comparison)}, {metric} {report.result(best, metric)}."
    return [result, *report.remarks(comparison)]


def _address(uri: str | None) -> str | None:
    """Of the store's own UI, without a login; None where it has none."""
    parts = urlsplit(uri or "")
    if parts.scheme not in ("http", "https"):
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


# ---- the table


def _table(comparison: Comparison, colours: int) -> Table:
    columns = [
        Column(heading, "text" if is_text else "number") for heading, is_text in report.headings(comparison)[:-1]
    ]
    for place, metric in enumerate(comparison.metrics, start=len(comparison.keys)):
        order: Order = "descending" if sign(metric) > 0 else "ascending"
        is_sorted = metric == comparison.metrics[0]
        columns[place] = replace(columns[place], first=order, sorted_as=order if is_sorted else "none")
    rows = []
    for row, cells in zip(comparison.rows, report.cells(comparison), strict=True):
        pairs = zip(columns, cells, _values(row, comparison), strict=False)  # the last cell is a run
        line = [Cell(text, _sort_value(value, column), is_best) for column, (text, is_best), value in pairs]
        rows.append([*line, Cell("", row.best(comparison.metrics[0]).run_id, links=_links(row, comparison.metrics[0]))])
    return Table([*columns, Column("runs by seed" if comparison.folded else "run", "text")], rows, colours)


def _values(row: Row, comparison: Comparison) -> Iterator[float | str | None]:
    """What each column is sorted by, in the order of `report.cells`."""
    yield from (row.values.get(key) for key in comparison.keys)
    for metric in comparison.metrics:
        found = row.estimate(metric)
        yield None if found is None else found.mean
    if comparison.folded:
        yield len(row.finished)
    yield row.seconds
    if not comparison.all_finished:
        yield row.status


def _sort_value(value: float | str | None, column: Column) -> float | str | None:
    if value is None or value == "":
        return None
    if column.kind == "text":
        return value
    return float(value) if math.isfinite(float(value)) else None


def _links(row: Row, metric: str) -> list[Link]:
    """To each of its runs, called by its seed where there are several."""
    found = []
    for run in row.entries:
        if run.run_id is not None:
            value = run.metrics.get(metric)
            result = f": {metric} {value:.4g}" if value is not None and is_measured(value) else ""
            text = run.seed if len(row.entries) > 1 and run.seed else run.run_id[:ID_LENGTH]
            about = f"{run.name}, run {run.run_id[:ID_LENGTH]}, seed {run.seed}, {status_word(run.status)}{result}"
            found.append(Link(run.run_id, text, about))
    return found


# ---- the charts


def _charts(space: Space, names: Sequence[str], measure: Measure) -> Iterator[Section]:
    curves = charts.learning_curves(space.rows, names, measure)
    yield Section("Learning curves", [*_about_curves(space)] if curves else ["No finished run has a curve."], curves)
    shares, why = importances(space, measure.more_is_better)
    keys, left = charts.axes_of(space, shares)
    parallel = charts.parallel_coordinates(space, keys, measure)
    if parallel is None:
        return
    words = ["A line is a row of the table: the better, the stronger. Drag along an axis to choose, click to undo."]
    if left:
        words.append(f"{counted(left, 'more parameter')} not drawn.")
    yield Section("Parallel coordinates", words, parallel, width="two-thirds")
    chart = charts.importance(shares, space.names) if shares else None
    left_out = [space.names[key] for key in space.keys if shares and key not in shares]
    without = [f"Without {', '.join(left_out)}: not all runs have it."] * bool(left_out)
    yield Section("Importance of parameters", [why, *without], chart, width="third")


def _about_curves(space: Space) -> Iterator[str]:
    if band := charts.band_says(space.rows):
        yield f"{band} A line ends where one of its seeds does."
    if (left := len(space.rows) - charts.ROWS) > 0:
        yield f"The best {charts.ROWS} rows are drawn; {left} more are not."
    if len(space.rows) > charts.COLOURS:
        yield f"The best {charts.COLOURS} have a colour, which is also in the table."
    lacking = sum(not run.points for row in space.rows[: charts.ROWS] for run in row.runs)
    if lacking:
        yield f"{counted(lacking, 'run')} without a curve."
    longest = max((len(run.points) for row in space.rows for run in row.runs), default=0)
    if longest > charts.POINTS:
        yield f"Of longer curves than {charts.POINTS} points some are drawn, evenly chosen."

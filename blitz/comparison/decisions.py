"""What the search of a sweep decided, as a part of its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blitz.comparison.rows import ID_LENGTH, ComparedRun
from blitz.figures import charts
from blitz.figures.charts import Measure, Stop
from blitz.figures.page import Cell, Column, Link, Section, Table
from blitz.figures.space import counted
from blitz.run_folder.decisions import FILE, Decision, Heading, Line, read
from blitz.run_folder.run_info import FINISHED, SWEEP
from blitz.tracking import queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Curve = Callable[[ComparedRun], Sequence[tuple[int, float]]]


def fetch(client: MlflowClient, sweep: Run) -> list[Line]:
    """Those among the artifacts of a sweep's run. Raises BadInput for a file that is damaged."""
    if all(item.path != FILE for item in client.list_artifacts(sweep.info.run_id)):
        return []
    with queries.scratch(sweep.data.tags[SWEEP]) as folder:
        return read(queries.fetch(client, sweep, FILE, folder))


def section(
    lines: Sequence[Line], jobs: Mapping[int, ComparedRun], curve: Curve, measure: Measure, metric: str
) -> Section:
    """All of them as a table, and those at rungs as a chart. `jobs` by their number."""
    decisions = [line for line in lines if isinstance(line, Decision)]
    stops = list(_stops(decisions, jobs))
    if stops:
        stops += _ends({decision.job for decision in decisions}, jobs, curve, metric)
    columns = [
        Column("round", "number", sorted_as="ascending"), Column("job", "number"), Column("run", "text"),
        Column("decision", "text"), Column("numbers", "prose"), Column("why", "prose"),
    ]  # fmt: skip
    rows = [list(_cells(decision, jobs.get(decision.job))) for decision in decisions]
    chart = charts.rungs(stops, measure)
    words = [f"{counted(len(decisions), 'decision')} of the search, each made on the recorded numbers beside it."]
    words += [f"search: {_listed(line.search)}" for line in lines if isinstance(line, Heading)]
    return Section("Rungs and decisions" if chart else "Decisions", words, chart, Table(columns, rows))


def _cells(decision: Decision, run: ComparedRun | None) -> Iterator[Cell]:
    yield Cell(str(decision.round), decision.round)
    yield Cell(str(decision.job), decision.job)
    name = run.name if run is not None else ""
    links = [Link(run.run_id, name or run.run_id[:ID_LENGTH])] if run is not None and run.run_id else []
    yield Cell(name, name or None, links=links)
    for text in (decision.decision, _listed(decision.numbers), decision.why):
        yield Cell(text, text)


def _listed(values: Mapping[str, Any]) -> str:
    known = {key: value for key, value in values.items() if value is not None}
    return ", ".join(f"{key}: {f'{value:.4g}' if isinstance(value, float) else value}" for key, value in known.items())


def _name(number: int, jobs: Mapping[int, ComparedRun]) -> str:
    return f"job {number} ({jobs[number].name})" if number in jobs and jobs[number].name else f"job {number}"


def _stops(decisions: Sequence[Decision], jobs: Mapping[int, ComparedRun]) -> Iterator[Stop]:
    for decision in decisions:
        rung, score = decision.numbers.get("rung"), decision.numbers.get("objective")
        if isinstance(rung, int | float) and isinstance(score, int | float):
            yield Stop(_name(decision.job, jobs), rung, score, decision.decision, decision.why)


def _ends(decided: set[int], jobs: Mapping[int, ComparedRun], curve: Curve, metric: str) -> Iterator[Stop]:
    for number in sorted(decided & jobs.keys()):
        run = jobs[number]
        if run.status == FINISHED and metric in run.metrics and (course := curve(run)):
            yield Stop(_name(number, jobs), course[-1][0], run.metrics[metric], charts.END)

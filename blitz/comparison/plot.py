"""A comparison's rows as the figures draw them, and `blitz compare --plot FILE`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from blitz.comparison.rows import TITLE, ComparedRun, Comparison, compare, is_measured, is_share, split
from blitz.errors import BadInput
from blitz.figures.space import PlotRow, PlotRun
from blitz.run_folder.journal import OBJECTIVE
from blitz.tracking import health

SUFFIXES = (".png", ".svg", ".pdf")


def check_path(option: str, file: str, suffixes: Sequence[str]) -> None:
    """Raises BadInput for a file that cannot be written."""
    path = Path(file)
    if path.suffix.lower() not in suffixes:
        raise BadInput(f"{option}={file}: accepted: a file {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise BadInput(f"{option}={file}: no such folder as {path.parent}")


def plot_rows(comparison: Comparison, curve: Callable[[ComparedRun], Sequence[tuple[int, float]]]) -> list[PlotRow]:
    """The rows with a finished run, by what differs, with the first metric as their score."""
    metric = comparison.metrics[0]
    keys = [key for key in comparison.keys if key != TITLE]
    return [
        PlotRow(
            {key: row.values[key] for key in keys if key in row.values},
            [PlotRun(run.name, measured(run.metrics.get(metric, math.nan)), curve(run)) for run in row.finished],
            row.estimate(metric),
        )
        for row in comparison.rows
        if row.finished
    ]


def measured(value: float) -> float:
    """nan for what is no number."""
    return value if is_measured(value) else math.nan


def save(comparison: Comparison, file: str, uri: str | None) -> None:
    """Draw the first metric by what differs, and its course. Raises BadInput where it is no share of images."""
    from blitz.figures.many_runs import overview  # matplotlib takes a second

    metric = comparison.metrics[0]
    if not is_share(metric):
        raise BadInput(f"--plot={file}: drawn are accuracies; name one first: --metric {OBJECTIVE}")
    client = health.connect(uri)

    def curve(run: ComparedRun) -> list[tuple[int, float]]:
        if run.run_id is None or metric not in run.metrics:
            return []
        history = client.get_metric_history(run.run_id, split(metric)[0])
        return sorted((point.step, measured(point.value)) for point in history)

    folded = compare([run for row in comparison.rows for run in row.entries], [metric])
    try:
        overview(plot_rows(folded, curve), metric[0].upper() + metric[1:]).savefig(file)
    except OSError as error:
        raise BadInput(f"--plot={file}: {error.strerror}") from None

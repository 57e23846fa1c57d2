"""A comparison as a figure, for `blitz compare --plot FILE`."""

from __future__ import annotations

import math
from pathlib import Path

from blitz.comparison.rows import TITLE, ComparedRun, Comparison, is_measured, is_share
from blitz.errors import BadInput
from blitz.run_folder.journal import OBJECTIVE
from blitz.tracking import health

SUFFIXES = (".png", ".svg", ".pdf")


def refuse(file: str) -> None:
    """Raises BadInput for a file that cannot be written."""
    path = Path(file)
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--plot={file}: accepted: a file {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise BadInput(f"--plot={file}: no such folder as {path.parent}")


def save(comparison: Comparison, file: str, uri: str | None) -> None:
    """Draw the first metric by what differs, and its course. Raises BadInput where that is no share of images."""
    from blitz.figures.many_runs import Trial, overview  # matplotlib takes a second

    metric = comparison.metrics[0]
    if not is_share(metric):
        raise BadInput(f"--plot={file}: drawn are accuracies; name one first: --metric {OBJECTIVE}")
    client = health.connect(uri)

    def curve(entry: ComparedRun) -> list[tuple[int, float]]:
        if entry.run_id is None or metric not in entry.metrics:
            return []
        return sorted((point.step, measured(point.value)) for point in client.get_metric_history(entry.run_id, metric))

    def measured(value: float) -> float:
        return value if is_measured(value) else math.nan

    trials = [
        Trial(
            entry.name,
            {key: row.values[key] for key in comparison.keys if key in row.values and key not in ("seed", TITLE)},
            measured(entry.metrics.get(metric, math.nan)),
            curve(entry),
        )
        for row in comparison.rows
        for entry in row.finished
    ]
    try:
        overview(trials, metric[0].upper() + metric[1:]).savefig(file)
    except OSError as error:
        raise BadInput(f"--plot={file}: {error.strerror}") from None

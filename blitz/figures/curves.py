"""The learning curves of many runs, onto axes of the caller's."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from blitz.figures.canvas import VAL, labels
from blitz.figures.space import PlotRun, Space
from blitz.figures.style import Style, counted, finish, legend, style

NAMED = 10  # rows up to which each has a colour, ...
LEADERS = 5  # ... and of more, those that have


def curves(axes: Axes, space: Space, label: str) -> None:
    """The runs of a row in one colour; of more than `NAMED` rows, all but the best in a grey that goes by rank."""
    having = [row for row in space.rows if any(map(points, row.runs))]
    named, others = (having, []) if len(having) <= NAMED else (having[:LEADERS], having[LEADERS:])
    drawn = [run for row in having for run in row.runs if points(run)]
    best = max((run for run in drawn if math.isfinite(run.score)), key=lambda run: run.score, default=None)
    for rank, row in reversed(list(enumerate(others))):
        for run in row.runs:
            _draw(axes, run, {"color": str(0.4 + 0.45 * rank / len(others)), "linewidth": 0.8, "marker": ""})
    for number, row in enumerate(named):
        for run in row.runs:
            _draw(
                axes, run, {**style(number), "linewidth": 1.3, **({"linewidth": 3, "zorder": 4} if run is best else {})}
            )
    handles: list[Artist] = []
    names: list[str] = []
    if space.keys:  # else there is one row, which has no name
        handles += [Line2D([], [], markersize=4, **style(number)) for number in range(len(named))]
        names += labels([space.label(list(row.values.values()), space.keys) for row in named], 76, 40)
    if others:
        handles.append(Line2D([], [], color="0.6", linewidth=0.8))
        names.append(f"{counted(len(others), 'other')}, the better the darker")
    if best is not None:
        epoch, value = max(points(best), key=lambda point: point[1])
        handles += axes.plot(epoch, 100 * value, "*", markersize=14, color=VAL, markeredgecolor="black", zorder=5)
        names += labels([f"best with {100 * best.score:.2f} %: {best.name}"], 76, 40)
    legend(axes, space, space.keys, handles, names)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.set(xlabel="Epoch", ylabel=f"{label} (%)")
    missing = len(space.runs) - len(drawn)
    count = f"n = {counted(len(drawn), 'run')} of {counted(len(having), 'combination')}"
    finish(axes, f"{label} over the epochs", count, f"{missing} without a curve" if missing else "")


def points(run: PlotRun) -> list[tuple[int, float]]:
    """Those of its curve that can be drawn."""
    return [(epoch, value) for epoch, value in run.curve if math.isfinite(value)]


def _draw(axes: Axes, run: PlotRun, look: Style) -> None:
    """Not-a-number leaves a gap, and so does infinity. A single point is seen by its marker alone."""
    if num_points := len(points(run)):
        marker = (look["marker"] or ".") if num_points == 1 else look["marker"] if num_points <= 30 else ""
        epochs, values = np.array(run.curve, dtype=float).T
        axes.plot(
            epochs, np.where(np.isfinite(values), 100 * values, np.nan), **{**look, "marker": marker}, markersize=3
        )

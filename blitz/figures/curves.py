"""The learning curves of many runs, onto axes of the caller's."""

from __future__ import annotations

from matplotlib.axes import Axes

from blitz.figures.canvas import VAL, draw_course, epoch_axis, labels
from blitz.figures.space import PlotRun, Space, counted
from blitz.figures.style import HEIGHT, STYLES, Style, entries, finish, legend

FEW = 5  # colours that stay distinct where curves of many combinations lie on each other


def curves(axes: Axes, space: Space, label: str) -> float:
    """The runs of a row in one colour; of more rows than colours, all but the best in a grey that goes by rank."""
    rows = [(row, drawn) for row in space.rows if (drawn := [run for run in row.runs if run.points])]
    best = space.best_run([run for _, drawn in rows for run in drawn])
    num_coloured = len(STYLES) if len(rows) <= len(STYLES) else FEW
    num_others = len(rows) - num_coloured
    names = entries(space, [list(row.values.values()) for row, _ in rows[:num_coloured]], space.keys)
    for rank, (_, drawn) in enumerate(rows):
        look: Style
        if rank < num_coloured:
            look = {**STYLES[rank], "linewidth": 1.3, "markersize": 3, "label": names[rank] if space.keys else None}
        else:
            grey = str(0.4 + 0.45 * (rank - num_coloured) / num_others)
            look = {"color": grey, "linewidth": 0.8, "marker": ".", "markersize": 1.5, "zorder": 2 - rank / len(rows)}
            if rank == num_coloured:
                look["label"] = f"{counted(num_others, 'other')}, the better the darker"
        for run in drawn:
            boldly = {"linewidth": 3, "zorder": 4} if run is best else {}
            draw_course(axes, run.curve, scale=100, **{**look, **boldly})
            look["label"] = None  # once is enough
    if best is not None:
        _mark(axes, best)
    legend(axes, space, space.keys)
    epoch_axis(axes)
    axes.set_ylabel(f"{label} (%)")
    num_drawn = sum(len(drawn) for _, drawn in rows)
    missing = len(space.runs) - num_drawn
    count = f"n = {counted(num_drawn, 'run')} of {counted(len(rows), 'combination')}"
    finish(axes, f"{label} over the epochs", count, f"{missing} without a curve" if missing else "")
    return HEIGHT


def _mark(axes: Axes, best: PlotRun) -> None:
    epoch, value = max(best.points, key=lambda point: point[1])
    (text,) = labels([f"best with {100 * best.score:.2f} %: {best.name}"], 76, 40)
    axes.plot(epoch, 100 * value, "*", markersize=14, color=VAL, markeredgecolor="black", label=text, zorder=5)

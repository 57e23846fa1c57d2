"""The objective of many runs by a number, by a category and by two numbers, each onto axes of the caller's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from blitz.figures import style
from blitz.figures.canvas import BARS, TICKS, VAL, labels, write_beside
from blitz.figures.space import PlotRow, Space, brief
from blitz.figures.style import HEIGHT, SMALL, STYLES, finish, legend, short
from blitz.intervals import LEAST_SEEDS

FEW = 6  # values of another number up to which each gets a line of its own
JOINED = 12  # single runs up to which a line joins them
ANNOTATED = 12  # rows and columns up to which each cell of a heat map has its number written in

Pair = tuple[str, str]
Cells = Mapping[tuple[float, float], Sequence[float]]  # column, row -> scores


def by_number(axes: Axes, space: Space, key: str, label: str) -> float:
    """Mean, interval and single runs; a line for each combination of the other keys."""
    rows = space.measured([key])
    by, joined = _line_keys(space, key, rows)
    groups = space.grouped(rows, by)
    for look, name, members in style.styles(space, groups, by):
        line = sorted(members, key=lambda row: row.place(key))
        look = {**look, "linestyle": "-" if joined else "none"}
        style.draw_rows(axes, [row.place(key) for row in line], line, look, name)
    style.percent_axis(axes, "y", label, rows)
    style.number_axis(axes, "x", [row.place(key) for row in rows])
    axes.set_xlabel(short(space.names[key]))
    finish(axes, f"{label} by {short(space.names[key])}", style.run_counts(space, [key]), style.seed_counts(rows))
    legend(axes, space, by)
    return HEIGHT


def _line_keys(space: Space, key: str, rows: Sequence[PlotRow]) -> tuple[list[str], bool]:
    """The keys by which lines, or else points without lines, have their colours, and whether there are lines.

    There are none where another number has more than `FEW` values, where lines would have hardly more than one point
    each, and where more than `JOINED` single runs follow each other: a random search.
    """
    others = [other for other in space.keys if other != key]
    by = [other for other in others if other in space.categories or space.num_values[other] <= FEW]
    groups = space.grouped(rows, by)
    if set(by) - set(space.categories) and len(rows) < 2 * len(groups):
        return [other for other in by if other in space.categories], False
    repeated = any(row.seeds > 1 for row in rows)
    return by, by == others and (repeated or max(map(len, groups.values())) <= JOINED)


def by_category(axes: Axes, space: Space, key: str, label: str) -> float:
    """A line for each value, the best one on top; a point in it for each combination of the other keys."""
    by = [other for other in space.keys if other != key]
    ranked = list(dict.fromkeys(row.values[key] for row in space.measured()))
    values = ranked[:BARS]
    rows = [row for row in space.measured() if row.values[key] in values]
    groups = space.grouped(rows, by)
    lanes = min(len(groups), len(STYLES) + 1)
    for number, (look, name, members) in enumerate(style.styles(space, groups, by)):
        offset = 0.7 * ((min(number, lanes - 1) + 0.5) / lanes - 0.5)
        places = [values.index(row.values[key]) + offset for row in members]
        style.draw_rows(axes, places, members, {**look, "linestyle": "none"}, name, horizontal=True)
    style.percent_axis(axes, "x", label, rows)
    size, height, longest = (SMALL, 0.3, (72, 38)) if len(values) <= 30 else (7, 0.17, (44, None))
    if len(groups) == 1:
        write_beside(axes, [_written(row) for row in rows], size)
    axes.set_yticks(range(len(values)), labels([brief(value) for value in values], *longest), fontsize=size)
    axes.set(ylabel=short(space.names[key]), ylim=(len(values) - 0.4, -0.6))
    cut = f"the {BARS} best of {len(ranked)} are drawn" if len(ranked) > BARS else ""
    finish(axes, f"{label} by {short(space.names[key])}", style.run_counts(space), style.seed_counts(rows), cut)
    legend(axes, space, by)
    return max(max(height, 0.15 * lanes) * len(values), 0.3 * lanes, 1.1) + 1.5


def _written(row: PlotRow) -> str:
    if row.seeds == 1:
        return f"{row.mean:.2f} %  (n = 1)"
    if row.seeds < LEAST_SEEDS:
        return f"{row.mean:.2f} %  ({', '.join(f'{score:.2f}' for score in row.scores)})"
    return f"{row.mean:.2f} ± {row.margin:.2f} %  (n = {row.seeds})"


def by_pair(axes: Axes, space: Space, pair: Pair, label: str, left_out: str) -> float:
    """A heat map of the cells' means where the runs lie on a grid, else a coloured point for each place."""
    cells = _cells(space, pair)
    means = np.array([np.mean(scores) for scores in cells.values()])
    low, high = np.quantile(means, [0.25, 0.75])
    # From the lowest mean that is no outlier: a few runs that diverged leave the others their differences.
    norm = Normalize(max(means.min(), low - 1.5 * (high - low)) if high > low else means.min(), means.max())
    first, second = (short(space.names[key]) for key in pair)
    notes = [style.run_counts(space, pair)]
    grid = is_grid(cells)
    if max(map(len, cells.values())) > 1:
        notes.append(f"mean of all runs of each {'cell' if grid else 'place'}")
    if grid:
        notes.append(_draw_cells(axes, cells, norm))
    else:
        place = _draw_places(axes, cells, means, norm)
        notes.append(f"best: {means.max():.2f} % at {short(space.label(place, pair), 60)}")
    extend = "min" if means.min() < (norm.vmin or 0) else "neither"
    axes.figure.colorbar(ScalarMappable(norm), ax=axes, label=f"{label} (%)", extend=extend)
    axes.set(xlabel=first, ylabel=second)
    finish(axes, f"{label} by {first} and {second}", *notes, left_out)
    axes.grid(alpha=0 if grid else 0.3)
    return min(max(HEIGHT, 0.35 * len({row for _, row in cells}) + 1.5), 8.5) if grid else HEIGHT


def is_grid(cells: Iterable[tuple[float, float]]) -> bool:
    """Whether values repeat: three cells for two columns and for two rows at least, and a quarter of all cells."""
    places = list(cells)
    num_columns, num_rows = (len({place[axis] for place in places}) for axis in (0, 1))
    repeats = min(num_columns, num_rows) == 1 or len(places) >= 1.5 * max(num_columns, num_rows)
    return repeats and 4 * len(places) >= num_columns * num_rows


def _cells(space: Space, pair: Pair) -> dict[tuple[float, float], list[float]]:
    cells: dict[tuple[float, float], list[float]] = {}
    for row in space.measured(pair):
        cells.setdefault((row.place(pair[0]), row.place(pair[1])), []).extend(row.scores)
    return cells


def _draw_cells(axes: Axes, cells: Cells, norm: Normalize) -> str:
    """Returns a note on cells without a result."""
    columns, rows = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    grid = np.array([[np.mean(cells.get((column, row), np.nan)) for column in columns] for row in rows])
    axes.set_facecolor("#F2F2F2")
    axes.patch.set(hatch="///", edgecolor="#A6A6A6", linewidth=0)
    axes.imshow(np.ma.masked_invalid(grid), norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    for axis, values in ((axes.xaxis, columns), (axes.yaxis, rows)):
        step = math.ceil(len(values) / TICKS)
        axis.set_ticks(range(0, len(values), step), [brief(value) for value in values[::step]], fontsize=9)
    if sum(len(brief(value)) + 1 for value in columns) > style.ACROSS:
        axes.tick_params(axis="x", rotation=90)
    for (row, column), mean in np.ndenumerate(grid):
        if max(grid.shape) <= ANNOTATED and not np.isnan(mean):
            colour = "black" if norm(mean) > 0.6 else "white"
            axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color=colour, fontsize=9, in_layout=False)
    return "hatched: no result" if np.isnan(grid).any() else ""


def _draw_places(axes: Axes, cells: Cells, means: np.ndarray, norm: Normalize) -> tuple[float, float]:
    """Returns the best one's place."""
    columns, rows = zip(*cells, strict=True)
    best = list(cells)[int(means.argmax())]
    axes.scatter(columns, rows, c=means, norm=norm, s=45, edgecolors="black", linewidths=0.5, zorder=3)
    axes.plot(*best, "*", markersize=16, color=VAL, markeredgecolor="black", zorder=4)
    style.number_axis(axes, "x", columns)
    style.number_axis(axes, "y", rows)
    return best

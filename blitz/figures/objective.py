"""The objective of many runs by a number, by a category and by two numbers, each onto axes of the caller's.

`label` is ready to be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from blitz.figures.canvas import BARS, TICKS, VAL, labels
from blitz.figures.style import (
    ACROSS,
    COLOURS,
    SMALL,
    Style,
    dots,
    entitle,
    finish,
    groups_legend,
    limit_scores,
    pale,
    place_numbers,
    runs_told,
    seeds_told,
    styles_of,
    told,
)
from blitz.figures.trials import Combination, Sweep, Value, at, shown, top

HEIGHT = 4.6  # inches of most panels
FEW = 6  # values of another number up to which each gets a line of its own
JOINED = 12  # single runs up to which a line joins them
ANNOTATED = 12  # rows and columns up to which each cell of a heat map has its number written in

Pair = tuple[str, str]
Cells = Mapping[tuple[float, float], Sequence[float]]  # column, row -> scores


# ---- the objective by a number


def by_number(axes: Axes, sweep: Sweep, key: str, label: str) -> None:
    """Mean, interval and single runs; a line for each combination of the other keys."""
    scored = sweep.scored([key])
    by, joined = _line_keys(sweep, key, scored)
    groups = sweep.grouped(scored, by)
    styles = styles_of(groups, joined)
    _draw_lines(axes, [members for group, members in groups.items() if group not in styles], key, pale(joined))
    for group in styles:
        _draw_lines(axes, [groups[group]], key, styles[group])
    place_numbers(axes, "x", [at(one, key) for one in scored])
    limit_scores(axes, "y", scored)
    axes.set(xlabel=told(sweep.names[key]), ylabel=f"{label} (%)")
    finish(axes, f"{label} by {told(sweep.names[key])}", runs_told(sweep, [key]), seeds_told(scored))
    groups_legend(axes, sweep, groups, styles, by, joined)


def _line_keys(sweep: Sweep, key: str, scored: Sequence[Combination]) -> tuple[list[str], bool]:
    """The keys that lines, or else points without lines, are told apart by, and whether there are lines.

    There are none where another number has more than `FEW` values, where lines would have hardly more than one point
    each, and where more than `JOINED` single runs follow each other: a random search.
    """
    others = [other for other in sweep.keys if other != key]
    by = [other for other in others if other in sweep.categories or sweep.num_values(other) <= FEW]
    groups = sweep.grouped(scored, by)
    if set(by) - set(sweep.categories) and len(scored) < 2 * len(groups):
        return [other for other in by if other in sweep.categories], False
    repeated = any(one.scores.size > 1 for one in scored)
    return by, by == others and (repeated or max(map(len, groups.values())) <= JOINED)


def _draw_lines(axes: Axes, lines: Sequence[Sequence[Combination]], key: str, style: Style) -> None:
    """All of them as one artist, with gaps in between."""
    if not lines:
        return
    runs = [(at(one, key), score) for members in lines for one in members for score in one.seeds]
    dots(axes, runs, style, (5, 0))
    rows: list[tuple[float, float, float]] = []
    for members in lines:
        rows += [(at(one, key), one.mean, one.margin) for one in sorted(members, key=lambda one: at(one, key))]
        rows.append((rows[-1][0], math.nan, math.nan))
    place, mean, margin = np.array(rows[:-1]).T
    axes.errorbar(place, mean, yerr=margin, markersize=5, linewidth=1.4, elinewidth=1, capsize=3, **style)


# ---- the objective by a category


def by_category(axes: Axes, sweep: Sweep, key: str, label: str) -> None:
    """A row for each value, that with the best mean on top; a point in it for each combination of the other keys."""
    by = [other for other in sweep.keys if other != key]
    rows = _ranked(sweep, key)
    left_out = len(rows) - BARS
    rows = rows[:BARS]
    drawn = [one for _, members in rows for one in members]
    groups = sweep.grouped(drawn, by)
    styles = styles_of(groups, joined=False)
    lanes = min(len(groups), len(styles) + 1)  # all that have no colour share the last one
    lane = {group: number for number, group in enumerate(styles)}
    places = {value: place for place, (value, _) in enumerate(rows)}
    for group, members in groups.items():
        offset = 0.7 * ((lane.get(group, lanes - 1) + 0.5) / lanes - 0.5)
        _draw_row(axes, [(places[one.values[key]] + offset, one) for one in members], styles.get(group, pale(False)))
    if len(groups) == 1:
        _write_means(axes, drawn)
    names = labels([shown(value) for value, _ in rows], *((72, 38) if len(rows) <= 30 else (44,)))
    axes.set_yticks(range(len(rows)), names, fontsize=_row_font(rows))
    axes.set(xlabel=f"{label} (%)", ylabel=told(sweep.names[key]), ylim=(len(rows) - 0.4, -0.6))
    limit_scores(axes, "x", drawn)
    cut = f"the {BARS} best of {BARS + left_out} are drawn" if left_out > 0 else ""
    finish(axes, f"{label} by {told(sweep.names[key])}", runs_told(sweep), seeds_told(drawn), cut)
    groups_legend(axes, sweep, groups, styles, by, joined=False)


def category_height(sweep: Sweep, key: str) -> float:
    rows = _ranked(sweep, key)
    lanes = min(len(sweep.grouped(sweep.scored(), [other for other in sweep.keys if other != key])), len(COLOURS) + 1)
    row = max(0.3 if len(rows) <= 30 else 0.17, 0.15 * lanes)
    return max(row * min(len(rows), BARS) + 1.5, 0.3 * lanes + 1.5, 2.6)


def _ranked(sweep: Sweep, key: str) -> list[tuple[Value, list[Combination]]]:
    rows = [(group[0], members) for group, members in sweep.grouped(sweep.scored(), [key]).items()]
    return sorted(rows, key=lambda row: -top(row[1]))


def _row_font(rows: Sequence[object]) -> float:
    return SMALL if len(rows) <= 30 else 7


def _draw_row(axes: Axes, placed: Sequence[tuple[float, Combination]], style: Style) -> None:
    runs = [(score, place) for place, one in placed for score in one.seeds]
    dots(axes, runs, style, (0, -4))
    mean, margin, place = np.array([(one.mean, one.margin, place) for place, one in placed]).T
    axes.errorbar(mean, place, xerr=margin, markersize=5, elinewidth=1, capsize=2, **style)


def _write_means(axes: Axes, drawn: Sequence[Combination]) -> None:
    margins = [f" ± {one.margin:.2f}" if one.scores.size > 1 else "" for one in drawn]
    notes = [f"{one.mean:.2f}{margin} %  (n = {one.scores.size})" for one, margin in zip(drawn, margins, strict=True)]
    for place, note in enumerate(notes):
        text = axes.text(
            1.01, place, note, transform=axes.get_yaxis_transform(), va="center", fontsize=_row_font(drawn)
        )
        text.set_in_layout(len(note) == max(map(len, notes)))  # the widest ones speak for all


# ---- the objective by two numbers


def by_pair(axes: Axes, sweep: Sweep, pair: Pair, label: str, left_out: str) -> None:
    """A heat map of the cells' means where the runs lie on a grid, else a coloured point for each place."""
    cells = _cells(sweep, pair)
    means = np.array([np.mean(scores) for scores in cells.values()])
    norm = _colour_range(means)
    notes = [runs_told(sweep, pair)]
    if max(map(len, cells.values())) > 1:
        notes.append(f"mean of all runs of each {'cell' if is_grid(cells) else 'place'}")
    if is_grid(cells):
        notes.append(_draw_cells(axes, cells, norm))
    else:
        place = _draw_places(axes, cells, means, norm)
        notes.append(f"best: {means.max():.2f} % at {told(sweep.told(place, pair), 60)}")
    extend = "min" if means.min() < (norm.vmin or 0) else "neither"
    axes.figure.colorbar(ScalarMappable(norm), ax=axes, label=f"{label} (%)", extend=extend)
    first, second = (told(sweep.names[key]) for key in pair)
    axes.set(xlabel=first, ylabel=second)
    entitle(axes, f"{label} by {first} and {second}", *notes, left_out)


def pair_height(sweep: Sweep, pair: Pair) -> float:
    cells = _cells(sweep, pair)
    return min(max(HEIGHT, 0.35 * len({row for _, row in cells}) + 1.5), 8.5) if is_grid(cells) else HEIGHT


def is_grid(cells: Iterable[tuple[float, float]]) -> bool:
    """Whether values repeat: three cells for two columns and for two rows at least, and a quarter of all cells."""
    places = list(cells)
    num_columns, num_rows = (len({place[axis] for place in places}) for axis in (0, 1))
    repeats = min(num_columns, num_rows) == 1 or len(places) >= 1.5 * max(num_columns, num_rows)
    return repeats and 4 * len(places) >= num_columns * num_rows


def _cells(sweep: Sweep, pair: Pair) -> dict[tuple[float, float], list[float]]:
    cells: dict[tuple[float, float], list[float]] = {}
    for one in sweep.scored(pair):
        cells.setdefault((at(one, pair[0]), at(one, pair[1])), []).extend(one.scores)
    return cells


def _colour_range(means: np.ndarray) -> Normalize:
    """From the lowest mean that is no outlier: a few runs that diverged leave the others their differences."""
    low, high = np.quantile(means, [0.25, 0.75])
    return Normalize(max(means.min(), low - 1.5 * (high - low)) if high > low else means.min(), means.max())


def _draw_cells(axes: Axes, cells: Cells, norm: Normalize) -> str:
    """Returns what is to be told of cells without a result."""
    columns, rows = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    grid = np.full((len(rows), len(columns)), np.nan)
    for (column, row), scores in cells.items():
        grid[rows.index(row), columns.index(column)] = np.mean(scores)
    axes.set_facecolor("#F2F2F2")
    axes.patch.set(hatch="///", edgecolor="#A6A6A6", linewidth=0)
    axes.imshow(np.ma.masked_invalid(grid), norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    for axis, values in ((axes.xaxis, columns), (axes.yaxis, rows)):
        step = math.ceil(len(values) / TICKS)
        axis.set_ticks(range(0, len(values), step), [shown(value) for value in values[::step]], fontsize=9)
    if sum(len(shown(value)) + 1 for value in columns) > ACROSS:
        axes.tick_params(axis="x", rotation=90)
    if max(grid.shape) <= ANNOTATED:
        _annotate(axes, grid, norm)
    return "hatched: no result" if np.isnan(grid).any() else ""


def _annotate(axes: Axes, grid: np.ndarray, norm: Normalize) -> None:
    for (row, column), mean in np.ndenumerate(grid):
        if not np.isnan(mean):
            colour = "black" if norm(mean) > 0.6 else "white"
            text = axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color=colour, fontsize=9)
            text.set_in_layout(False)  # it lies inside the axes


def _draw_places(axes: Axes, cells: Cells, means: np.ndarray, norm: Normalize) -> tuple[float, float]:
    """Returns the best one's place."""
    places = list(cells)
    column, row = best = places[int(means.argmax())]
    x, y = np.array(places).T
    axes.scatter(x, y, c=means, norm=norm, s=45, edgecolors="black", linewidths=0.5, zorder=3)
    axes.plot(column, row, "*", markersize=16, color=VAL, markeredgecolor="black", zorder=4)
    place_numbers(axes, "x", [column for column, _ in places])
    place_numbers(axes, "y", [row for _, row in places])
    axes.grid(alpha=0.3)
    return best

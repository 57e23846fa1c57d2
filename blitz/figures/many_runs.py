"""Figures of many runs: the objective by each value that was varied, by pairs of them, and over the epochs.

Of plain data; drawn as the figures of a single run are. `label` names the objective as on an axis, without its unit,
such as `Validation accuracy`; it is drawn in percent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, combinations, count

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blitz.figures.canvas import blank, notice
from blitz.figures.curves import curves
from blitz.figures.objective import Pair, by_category, by_number, by_pair
from blitz.figures.space import PlotRow, Space, counted
from blitz.figures.style import HEIGHT, short

WIDTH = 8.5  # inches of a panel
PAIRS = 3  # of numbers that are drawn at most
PANELS = 8  # of an overview at most

Panel = tuple[str, Callable[[Axes], float]]  # its file's stem, and what draws it and returns its height in inches


def figures(rows: Sequence[PlotRow], label: str) -> dict[str, Figure]:
    """By file stem; what would be a single point is left out.

    `learning_curves`; `objective_by_KEY` for each number that was varied, or where none was for each category;
    `heat_map` for two numbers, `heat_map_KEY_KEY` for pairs of more.
    """
    found: dict[str, Figure] = {}
    for stem, draw in _panels(Space(rows), label):
        figure = blank(WIDTH, HEIGHT)
        figure.set_figheight(draw(figure.subplots()))
        numbered = (f"{stem}_{number}" for number in count(2))
        found[next(stem for stem in chain([stem], numbered) if stem not in found)] = figure
    return found


def overview(rows: Sequence[PlotRow], label: str) -> Figure:
    """The same in one figure; of more than `PANELS` the first ones, and it says so."""
    space = Space(rows)
    panels = list(_panels(space, label))
    if not panels:
        return notice("There is nothing to draw.")
    left_out = len(panels) - PANELS
    panels = panels[:PANELS]
    num_columns = min(2, len(panels))
    figure = blank(num_columns * WIDTH, HEIGHT)
    grid = figure.add_gridspec(math.ceil(len(panels) / num_columns), num_columns)
    # Each in a figure of its own: legends of one take no room from another.
    heights = [draw(figure.add_subfigure(grid[n]).subplots()) for n, (_, draw) in enumerate(panels)]
    heights = [max(heights[n : n + num_columns]) for n in range(0, len(heights), num_columns)]
    grid.set_height_ratios(heights)
    figure.set_figheight(sum(heights) + 0.4)
    title = f"{counted(len(space.runs), 'run')} of {counted(len(rows), 'combination')}"
    if best := space.best_run(space.runs):
        title += f"; best with {100 * best.score:.2f} %: {short(best.name, 80)}"
    if left_out > 0:
        title += f"; {counted(left_out, 'figure')} more not drawn here"
    figure.suptitle(title, fontsize=11)
    return figure


def _panels(space: Space, label: str) -> Iterator[Panel]:
    label = short(label)
    if any(len(run.points) > 1 for run in space.runs):
        yield "learning_curves", partial(curves, space=space, label=label)
    for key in space.numeric:
        if len(space.measured([key])) > 1:
            yield _stem("objective_by", key), partial(by_number, space=space, key=key, label=label)
    for key in space.categories if not space.numeric and len(space.measured()) > 1 else ():
        yield _stem("objective_by", key), partial(by_category, space=space, key=key, label=label)
    pairs, left_out = _pairs(space)
    note = f"{counted(left_out, 'pair')} more not drawn" if left_out else ""
    for pair in pairs:
        stem = "heat_map" if len(space.numeric) == 2 else _stem("heat_map", *pair)
        yield stem, partial(by_pair, space=space, pair=pair, label=label, left_out=note)


def _pairs(space: Space) -> tuple[list[Pair], int]:
    """Those that are drawn, of the keys with the most values first, and how many are not."""
    keys = sorted(space.numeric, key=lambda key: -space.num_values[key])
    possible = [pair for pair in combinations(keys, 2) if len(space.measured(pair)) > 1]
    order = space.numeric.index
    return [(a, b) if order(a) < order(b) else (b, a) for a, b in possible[:PAIRS]], max(0, len(possible) - PAIRS)


def _stem(*parts: str) -> str:
    """As a file may be called: dots become underscores, and so does what some file system may refuse."""
    return "_".join(re.sub(r"[^A-Za-z0-9-]+", "_", part).strip("_")[-60:] for part in parts)

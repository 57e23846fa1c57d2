"""What the panels of a comparison share: colours, means with intervals, number axes, legends and titles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import Affine2D

from blitz.figures.canvas import dress, labels
from blitz.figures.space import Groups, PlotRow, Space, Value, brief, counted, is_logarithmic
from blitz.intervals import LEAST_SEEDS

# Okabe and Ito's, those that stand out on white first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPXp"  # no star, which marks the best
SMALL = 8  # font size
HEIGHT = 4.6  # inches of most panels
ACROSS, UP = 72, 20  # characters, and lines, that an axis has room for
TICKED = 12  # numbers up to which each has a tick

Style = dict[str, Any]
STYLES: list[Style] = [{"color": c, "marker": m, "zorder": 3} for c, m in zip(COLOURS, MARKERS, strict=True)]
PALE: Style = {"color": "#BFBFBF", "marker": ".", "zorder": 1}  # where no colours are left


def short(text: str, longest: int = 40) -> str:
    return labels([text], longest)[0]


def entries(space: Space, groups: Iterable[Sequence[Value]], keys: Sequence[str]) -> list[str]:
    """What a legend calls groups by their values of `keys`."""
    return labels([space.label(group, keys) for group in groups], 76, 40)


def styles(space: Space, groups: Groups, keys: Sequence[str]) -> Iterator[tuple[Style, str | None, list[PlotRow]]]:
    """A look for each group and its entry in the legend: a colour for the best ones, pale for the others."""
    best = sorted(groups, key=lambda group: -max(row.mean for row in groups[group]))[: len(STYLES)]
    coloured = [group for group in groups if group in best]
    names = entries(space, coloured, keys)
    pale_name: str | None = f"{counted(len(groups) - len(best), 'other')}, none of them better"
    for group, rows in groups.items():
        if group in best:
            number = coloured.index(group)
            yield STYLES[number], names[number] if len(groups) > 1 else None, rows
        else:
            yield PALE, pale_name, rows
            pale_name = None  # once is enough


def draw_rows(
    axes: Axes,
    places: Sequence[float],
    rows: Sequence[PlotRow],
    look: Style,
    label: str | None,
    horizontal: bool = False,
) -> None:
    """Means with their intervals; the runs beside them, which means would hide."""
    x, y = places, [row.mean for row in rows]
    runs = [(place, score) for place, row in zip(places, rows, strict=True) if row.seeds > 1 for score in row.scores]
    dots = np.array(runs).reshape(-1, 2).T
    beside = (1.0, 0.0)  # of a marker's size
    if horizontal:
        x, y, dots, beside = y, x, dots[::-1], (0.0, -0.8)
    margins: Style = {"xerr" if horizontal else "yerr": [row.margin for row in rows]}
    bars = axes.errorbar(x, y, **margins, markersize=5, linewidth=1.4, elinewidth=1, capsize=3, **look)
    bars.lines[0].set_label(label)  # that of the bars would show an interval in the legend
    marker = MarkerStyle(".").transformed(Affine2D().translate(*beside))
    axes.plot(
        *dots, linestyle="none", marker=marker, color=look["color"], alpha=0.45, markersize=5, zorder=look["zorder"]
    )


def percent_axis(axes: Axes, which: str, label: str, rows: Sequence[PlotRow]) -> None:
    """Follows the runs: intervals have as much room beyond them as they span, within 0 … 100 %."""
    scores = [score for row in rows for score in row.scores]
    low, high = min(scores), max(scores)
    ends = [row.mean + side * row.margin for row in rows if row.seeds >= LEAST_SEEDS for side in (-1, 1)]
    ends = [min(max(end, 2 * low - high, 0), 2 * high - low, 100) for end in ends]
    low, high = min([low, *ends]), max([high, *ends])
    room = max(0.04 * (high - low), 0.5)
    axes.set(**{f"{which}lim": (low - room, high + room), f"{which}label": f"{label} (%)"})


def number_axis(axes: Axes, which: str, numbers: Iterable[float]) -> None:
    """The scale of an axis, `x` or `y`, and where the numbers are few a tick at each, labelled where there is room."""
    values = sorted(set(numbers))
    logarithmic = is_logarithmic(values)
    if logarithmic:
        axes.set(**{f"{which}scale": "log"})
    if len(values) > TICKED:
        return
    places = [math.log(value) if logarithmic else value for value in values]
    needed = (max(len(brief(value)) for value in values) + 1) / ACROSS if which == "x" else 1 / UP
    texts, last = [], -math.inf
    for place, value in zip(places, values, strict=True):
        has_room = place - last >= needed * (places[-1] - places[0])
        texts.append(brief(value) if has_room else "")
        last = place if has_room else last
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(values, texts)
    axis.set_ticks([], minor=True)


def legend(axes: Axes, space: Space, keys: Sequence[str]) -> None:
    """What has a label, right of the axes; a single key stands above its values."""
    if axes.get_legend_handles_labels()[0]:
        title = short(space.names[keys[0]]) if len(keys) == 1 else None
        axes.legend(
            title=title, fontsize=SMALL, title_fontsize=SMALL, alignment="left", loc="upper left",
            bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False,
        )  # fmt: skip


def finish(axes: Axes, title: str, *notes: str) -> None:
    dress(axes)
    axes.set_title("\n".join([title, "; ".join(filter(None, notes))]), fontsize=10, loc="left")


def run_counts(space: Space, keys: Sequence[str] = ()) -> str:
    """How many runs are drawn, and how many are not because they lack one of the keys or a result."""
    having = [row for row in space.rows if all(row.values[key] is not None for key in keys)]
    drawn, possible = sum(row.seeds for row in having), sum(len(row.runs) for row in having)
    lacking, failed = len(space.runs) - possible, possible - drawn
    names = " or ".join(short(space.names[key]) for key in keys)
    parts = [f"n = {counted(drawn, 'run')}", f"{lacking} without {names}" * bool(lacking)]
    return "; ".join(filter(None, [*parts, f"{failed} without a result" * bool(failed)]))


def seed_counts(drawn: Sequence[PlotRow]) -> str:
    sizes = {row.seeds for row in drawn}
    seeds = counted(max(sizes), "seed") if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} seeds"
    if max(sizes) < LEAST_SEEDS:
        return f"{seeds} each" + (", too few for an interval" if max(sizes) > 1 else "")
    return f"{seeds} each, mean and 95 % interval" + (" of three or more" if min(sizes) < LEAST_SEEDS else "")

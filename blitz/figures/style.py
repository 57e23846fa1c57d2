"""What the panels of a comparison share: colours, means with intervals, number axes, legends and titles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from blitz.figures.canvas import labels
from blitz.figures.space import Groups, PlotRow, Space, brief, is_logarithmic

# Okabe and Ito's, those that stand out on white first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPXp"  # no star, which marks the best
SMALL = 8  # font size
ACROSS, UP = 72, 20  # characters, and lines, that an axis has room for
TICKED = 12  # numbers up to which each has a tick
# Of groups that there are no colours left for.
PALE = {"color": "#BFBFBF", "marker": ".", "linestyle": "-", "zorder": 1}

Style = dict[str, Any]
Placed = tuple[float, PlotRow]  # its place on the other axis


def short(text: str, longest: int = 40) -> str:
    return labels([text], longest)[0]


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def style(number: int) -> Style:
    again, number = divmod(number, len(COLOURS))
    return {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": "--" if again else "-", "zorder": 3}


def styles(groups: Groups, joined: bool) -> Iterator[Style]:
    """One for each group: a colour for the best ones, pale for the others."""
    means = sorted((max(row.mean for row in rows) for rows in groups.values()), reverse=True)
    number = 0
    for rows in groups.values():
        has_colour = number < len(COLOURS) and max(row.mean for row in rows) >= means[: len(COLOURS)][-1]
        yield {**(style(number) if has_colour else PALE), **({} if joined else {"linestyle": "none"})}
        number += has_colour


def draw_groups(
    axes: Axes, found: Sequence[Style], groups: Sequence[Sequence[Placed]], horizontal: bool = False
) -> None:
    """Groups of one colour as one artist, with gaps in between."""
    by_colour: dict[str, list[Placed]] = {}
    for style, placed in zip(found, groups, strict=True):
        pairs = by_colour.setdefault(style["color"], [])
        pairs += [*([(math.nan, PlotRow({}, [], None))] if pairs else []), *placed]
    looks = {style["color"]: style for style in found}
    for colour, placed in by_colour.items():
        _draw_rows(axes, placed, looks[colour], horizontal)
    axes.autoscale_view()
    low, high = axes.get_xlim() if horizontal else axes.get_ylim()  # intervals may leave 0 … 100 %
    (axes.set_xlim if horizontal else axes.set_ylim)(max(low, -4), min(high, 104))


def _draw_rows(axes: Axes, placed: Sequence[Placed], style: Style, horizontal: bool) -> None:
    """Means with their intervals; the runs beside them, which means would hide."""
    places, rows = zip(*placed, strict=True)
    means, margins = [row.mean for row in rows], [row.margin for row in rows]
    look = {"markersize": 5, "linewidth": 1.4, "elinewidth": 1, "capsize": 3, **style}
    if horizontal:
        axes.errorbar(means, places, xerr=margins, **look)
    else:
        axes.errorbar(places, means, yerr=margins, **look)
    runs = np.array([(place, score) for place, row in placed if len(row.scores) > 1 for score in row.scores])
    if runs.size:
        runs = runs[:, ::-1] if horizontal else runs
        right, up = (0, -4) if horizontal else (5, 0)  # points
        shift = ScaledTranslation(right / 72, up / 72, axes.figure.dpi_scale_trans)
        dots = Line2D(*runs.T, linestyle="none", marker=".", color=style["color"], alpha=0.45, markersize=5)
        dots.set(transform=axes.transData + shift, zorder=style["zorder"] - 0.5)
        axes.add_artist(dots)  # plot() would take them for data of another scale
        axes.update_datalim(runs)


def number_axis(axes: Axes, which: str, numbers: Iterable[float]) -> None:
    """The scale of an axis, `x` or `y`, and where the numbers are few a tick at each, labelled where there is room."""
    values = sorted(set(numbers))
    logarithmic = is_logarithmic(values)
    if logarithmic:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    if len(values) > TICKED:
        return
    axis = axes.xaxis if which == "x" else axes.yaxis
    places = [math.log(value) if logarithmic else value for value in values]
    needed = (max(len(brief(value)) for value in values) + 1) / ACROSS if which == "x" else 1 / UP
    last, labelled = -math.inf, list[float]()
    for place, value in zip(places, values, strict=True):
        if place - last >= needed * (places[-1] - places[0]):
            last, labelled = place, [*labelled, value]
    axis.set_ticks(labelled, [brief(value) for value in labelled])
    axis.set_ticks(values, [""] * len(values), minor=True)


def groups_legend(axes: Axes, space: Space, groups: Groups, found: Sequence[Style], keys: Sequence[str]) -> None:
    """What each colour stands for, where there are several, and how many groups have none."""
    if len(groups) == 1:
        return
    named = [(style, group) for style, group in zip(found, groups, strict=True) if style["color"] != PALE["color"]]
    handles: list[Artist] = [Line2D([], [], markersize=5, **style) for style, _ in named]
    names = labels([space.label(group, keys) for _, group in named], 76, 40)
    if others := len(groups) - len(named):
        handles.append(Line2D([], [], **{**PALE, "linestyle": found[0]["linestyle"]}))
        names.append(f"{counted(others, 'other')}, none of them better")
    legend(axes, space, keys, handles, names)


def legend(axes: Axes, space: Space, keys: Sequence[str], handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Right of the axes; a single key stands above its values."""
    if not handles:
        return
    names = [f" {name}" if name.startswith("_") else name for name in names]  # matplotlib keeps those to itself
    title = short(space.names[keys[0]]) if len(keys) == 1 else None
    axes.legend(
        handles, names, title=title, fontsize=SMALL, title_fontsize=SMALL, alignment="left", loc="upper left",
        bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False,
    )  # fmt: skip


def finish(axes: Axes, title: str, *notes: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("\n".join([title, "; ".join(filter(None, notes))]), fontsize=10, loc="left")


def run_counts(space: Space, keys: Sequence[str] = ()) -> str:
    """How many runs are drawn, and how many are not because they lack one of the keys or a result."""
    having = [row for row in space.rows if all(row.values[key] is not None for key in keys)]
    drawn, possible = sum(len(row.scores) for row in having), sum(len(row.runs) for row in having)
    lacking, failed = len(space.runs) - possible, possible - drawn
    names = " or ".join(short(space.names[key]) for key in keys)
    parts = [f"n = {counted(drawn, 'run')}", f"{lacking} without {names}" * bool(lacking)]
    return "; ".join(filter(None, [*parts, f"{failed} without a result" * bool(failed)]))


def seed_counts(drawn: Sequence[PlotRow]) -> str:
    sizes = {len(row.scores) for row in drawn}
    seeds = counted(max(sizes), "seed") if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} seeds"
    return f"{seeds} each" + (", mean and 95 % interval" if max(sizes) > 1 else "")

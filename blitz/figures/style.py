"""What the panels of a comparison share: colours, number axes, legends and titles that say how many runs are seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from blitz.figures.canvas import labels
from blitz.figures.trials import Combination, Sweep, Value, is_logarithmic, shown, top

# Okabe and Ito's, those that stand out on white first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPXp"  # no star, which marks the best
PALE = "#BFBFBF"
SMALL = 8  # font size
ACROSS, UP = 72, 20  # characters, and lines, that an axis has room for
TICKED = 12  # numbers up to which each has a tick

Style = dict[str, Any]
Group = tuple[Value, ...]  # values of some keys
Groups = dict[Group, list[Combination]]


def told(text: str, longest: int = 40) -> str:
    return labels([text], longest)[0]


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def style(number: int) -> Style:
    again, number = divmod(number, len(COLOURS))
    return {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": "--" if again else "-", "zorder": 3}


def pale(joined: bool) -> Style:
    """Of those that there are no colours left for."""
    return {"color": PALE, "marker": ".", "linestyle": "-" if joined else "none", "zorder": 1}


def styles_of(groups: Groups, joined: bool) -> dict[Group, Style]:
    """Of the best ones that there are colours for, in the order of all."""
    best = sorted(groups, key=lambda group: -top(groups[group]))[: len(COLOURS)]
    chosen = [group for group in groups if group in best]
    line = {} if joined else {"linestyle": "none"}
    return {group: {**style(number), **line} for number, group in enumerate(chosen)}


def dots(axes: Axes, runs: Iterable[tuple[float, float]], style: Style, beside: tuple[float, float]) -> None:
    """Single runs, a few points beside the mean and its interval, which would hide them."""
    x, y = np.array(list(runs)).reshape(-1, 2).T
    if not x.size:
        return
    shift = ScaledTranslation(beside[0] / 72, beside[1] / 72, axes.figure.dpi_scale_trans)
    line = Line2D(x, y, linestyle="none", marker=".", color=style["color"], alpha=0.45, markersize=5)
    line.set(transform=axes.transData + shift, zorder=style["zorder"] - 0.5)
    axes.add_artist(line)  # plot() would take them for data of another scale


def place_numbers(axes: Axes, which: str, numbers: Iterable[float]) -> None:
    """The scale of an axis, `x` or `y`, and where the numbers are few a tick at each, labelled where there is room."""
    values = np.unique(np.fromiter(numbers, float))
    logarithmic = is_logarithmic(values)
    if logarithmic:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    if values.size <= TICKED:
        labelled = _with_room(values, np.log(values) if logarithmic else values, which)
        axis.set_ticks(labelled, [shown(value) for value in labelled])
        axis.set_minor_locator(FixedLocator(values.tolist()))
        axis.set_minor_formatter(NullFormatter())
    elif logarithmic:
        decades = math.log10(values[-1] / values[0])
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: shown(float(value))))


def _with_room(values: np.ndarray, places: np.ndarray, which: str) -> list[float]:
    """Those whose labels don't touch the one before."""
    span = places[-1] - places[0]
    chosen: list[int] = []
    for n, value in enumerate(values.tolist()):
        if chosen:
            widths = len(shown(value)) + len(shown(float(values[chosen[-1]])))
            needed = (widths / 2 + 1) / ACROSS if which == "x" else 1 / UP
            if places[n] - places[chosen[-1]] < needed * span:
                continue
        chosen.append(n)
    return [float(values[n]) for n in chosen]


def limit_scores(axes: Axes, which: str, drawn: Iterable[Combination]) -> None:
    """Room for all runs, and for as much of the intervals as lies between 0 and 100 %."""
    scored = list(drawn)
    scores = np.concatenate([one.scores for one in scored])
    ends = [one.mean + sign * one.margin for one in scored for sign in (-1, 1) if one.scores.size > 1]
    seen = np.concatenate([scores, np.clip(ends, min(0, scores.min()), max(100, scores.max()))])
    pad = max(0.05 * float(np.ptp(seen)), 0.5)
    (axes.set_ylim if which == "y" else axes.set_xlim)(seen.min() - pad, seen.max() + pad)


def groups_legend(
    axes: Axes, sweep: Sweep, groups: Groups, styles: Mapping[Group, Style], keys: Sequence[str], joined: bool
) -> None:
    """What each colour stands for, where there are several, and how many groups have none."""
    if len(groups) == 1:
        return
    handles: list[Artist] = [Line2D([], [], markersize=5, **style) for style in styles.values()]
    names = labels([sweep.told(group, keys) for group in styles], 76, 40)
    if others := len(groups) - len(styles):
        handles.append(Line2D([], [], **pale(joined)))
        names.append(f"{counted(others, 'other')}, none of them better")
    legend(axes, sweep, keys, handles, names)


def legend(axes: Axes, sweep: Sweep, keys: Sequence[str], handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Right of the axes; a single key stands above its values."""
    if not handles:
        return
    names = [f" {name}" if name.startswith("_") else name for name in names]  # matplotlib keeps those to itself
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0, "frameon": False}
    title = told(sweep.names[keys[0]]) if len(keys) == 1 else None
    axes.legend(handles, names, title=title, fontsize=SMALL, title_fontsize=SMALL, alignment="left", **place)


def finish(axes: Axes, title: str, *notes: str) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    entitle(axes, title, *notes)


def entitle(axes: Axes, title: str, *notes: str) -> None:
    axes.set_title("\n".join([title, "; ".join(filter(None, notes))]), fontsize=10, loc="left")


def runs_told(sweep: Sweep, keys: Sequence[str] = ()) -> str:
    """How many runs are drawn, and how many are not because they lack one of the keys or a result."""
    having = [one for one in sweep.combinations if all(one.values[key] is not None for key in keys)]
    drawn = sum(one.scores.size for one in having)
    failed = sum(len(one.trials) for one in having) - drawn
    lacking = len(sweep.trials) - drawn - failed
    names = " or ".join(told(sweep.names[key]) for key in keys)
    parts = [
        f"n = {counted(drawn, 'run')}",
        f"{lacking} without {names}" if lacking else "",
        f"{failed} without a result" if failed else "",
    ]
    return "; ".join(filter(None, parts))


def seeds_told(drawn: Sequence[Combination]) -> str:
    sizes = {one.scores.size for one in drawn}
    seeds = counted(max(sizes), "seed") if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} seeds"
    return f"{seeds} each" + (", mean and 95 % interval" if max(sizes) > 1 else "")

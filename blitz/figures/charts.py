"""Charts of many runs for a browser: plain data in the form that plotly.js draws.

What a person wrote is escaped, since plotly.js reads markup in every text. Colours are names with an @: the page puts
in those of its light or dark theme.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blitz.figures.space import PlotRow, PlotRun, Space, Value, brief, is_logarithmic
from blitz.intervals import LEAST_SEEDS, Estimate, estimate

Chart = dict[str, Any]

COLOURS = 8  # that the page has; every other row of the table has a grey
ROWS = 24  # whose curves are drawn at most
POINTS = 400  # of a curve
AXES = 8  # of parallel coordinates
LONGEST = 40  # characters of a name
TICKS = 12  # on an axis
TICK = 16  # characters of a tick
AXIS_WIDTH = 110  # pixels that an axis of parallel coordinates needs
END = "finished"  # a stop that nobody decided
MARKERS = {"go on": ("circle", "@c0"), "pause": ("x", "@muted"), END: ("star", "@c1")}  # of stops
UNMARKED = 30  # points of a curve from which on they have no markers


@dataclass(frozen=True)
class Measure:
    """The metric that is drawn."""

    label: str  # such as `Validation accuracy`
    is_share: bool  # drawn in percent
    more_is_better: bool

    @property
    def scale(self) -> float:
        return 100.0 if self.is_share else 1.0

    @property
    def title(self) -> str:
        return plain(self.label) + (" (%)" if self.is_share else "")

    @property
    def hover(self) -> str:
        """The value of a point, in plotly's template."""
        return "%{y:.2f} %" if self.is_share else "%{y:.4g}"


@dataclass(frozen=True)
class Stop:
    """A job at a rung, and what was decided there."""

    job: str
    epochs: float
    score: float
    kind: str  # a decision, such as `go on` or `pause`, or `END`
    why: str = ""


def plain(text: str, longest: int = LONGEST) -> str:
    """In one line, cut, and without markup for plotly.js."""
    return html.escape(_cut(text, longest), quote=False)


def _cut(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def learning_curves(rows: Sequence[PlotRow], names: Sequence[str], measure: Measure) -> Chart | None:
    """The mean over the seeds of each of the first `ROWS` rows, and a band: its 95 % interval for three seeds or more,
    the distance of two. None where no run has a curve.
    """
    found = [(rank, _mean_course(row.runs)) for rank, row in enumerate(rows[:ROWS])]
    courses = {rank: course for rank, course in found if course}
    if not courses:
        return None
    # An interval may be wider than everything that was measured, by which the axis is scaled.
    axis = _score_axis(
        [measure.scale * x for course in courses.values() for _, at in course for x in at.values], measure
    )
    floor = 10 ** axis["range"][0] if axis.get("type") == "log" else -math.inf
    bands, lines = [], []
    for rank, course in courses.items():
        steps, is_coloured = [step for step, _ in course], rank < COLOURS
        colour = f"@c{rank}" if is_coloured else "@pale"
        if is_coloured and all(at.n > 1 for _, at in course):
            low, high = zip(*(_band(at, measure, floor) for _, at in course), strict=True)
            bands.append(
                {
                    "type": "scatter",
                    "x": [*steps, *reversed(steps)],
                    "y": [*high, *reversed(low)],
                    "mode": "lines",
                    "fill": "toself",
                    "fillcolor": f"@band{rank}",
                    "line": {"width": 0, "color": colour},
                    "hoverinfo": "skip",
                    "legendgroup": str(rank),
                    "showlegend": False,
                }
            )
        dash = "dash" if COLOURS // 2 <= rank < COLOURS else "solid"  # for whoever cannot tell colours apart
        lines.append(
            {
                "type": "scatter",
                "x": steps,
                "y": [measure.scale * at.mean for _, at in course],
                "mode": "lines" if len(course) > UNMARKED else "lines+markers",
                "marker": {"size": 5},
                "line": {"color": colour, "width": 2.2 if is_coloured else 1.1, "dash": dash},
                "name": _in_lines(names[rank]),
                "legendgroup": str(rank),
                "showlegend": is_coloured,
                "hovertemplate": f"epoch %{{x}}: {measure.hover}<extra>%{{fullData.name}}</extra>",
            }
        )
    epochs = [step for course in courses.values() for step, _ in course]
    return {"data": [*bands, *lines], "layout": {"xaxis": _epochs(epochs), "yaxis": axis}, "height": 440}


def _in_lines(name: str) -> str:
    """As a legend has room for it."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(_cut(name, 2 * LONGEST), LONGEST))


def _mean_course(runs: Sequence[PlotRun]) -> list[tuple[int, Estimate]]:
    """By step, as far as all runs with a curve got; evenly thinned out to at most `POINTS`, with the last one."""
    courses = [dict(run.points) for run in runs if run.points]
    steps = sorted(set.intersection(*map(set, courses))) if courses else []
    every = math.ceil(len(steps) / POINTS) or 1
    kept = steps[::-every][::-1]
    found = ((step, estimate([course[step] for course in courses])) for step in kept)
    return [(step, values) for step, values in found if values is not None]


def parallel_coordinates(space: Space, keys: Sequence[str], measure: Measure) -> Chart | None:
    """A line for each row with a result, the better the darker; None where nothing differs or but one row is there."""
    rows = list(reversed(space.measured()))  # the best is drawn last, on top
    if not keys or len(rows) < 2:
        return None
    means = [measure.scale * row.estimate.mean for row in rows if row.estimate is not None]
    axes = [_axis(space.names[key], [row.values[key] for row in rows]) for key in keys]
    axes.append({"label": measure.title, "values": means})
    line = {"color": list(range(len(rows))), "colorscale": "@scale", "showscale": False}
    trace = {
        "type": "parcoords", "line": line, "dimensions": axes, "labelangle": -12, "labelside": "top",
        "labelfont": {"size": 13}, "tickfont": {"size": 12}, "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
        "unselected": {"line": {"color": "@faint", "opacity": 0.25}},
    }  # fmt: skip
    margin = {"l": 64, "r": 92, "t": 92, "b": 28}
    return {"data": [trace], "layout": {"margin": margin}, "height": 430, "min_width": AXIS_WIDTH * len(axes)}


def importance(shares: Mapping[str, float], names: Mapping[str, str]) -> Chart:
    """A bar for each key, the longest on top."""
    ranked = sorted(shares, key=lambda key: shares[key])
    percents = [100 * shares[key] for key in ranked]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": percents,
        "y": [plain(names[key], 28) for key in ranked],
        "text": [f"{percent:.0f} %" for percent in percents],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": "@c0"},
        "hovertemplate": "%{y}: %{x:.1f} %<extra></extra>",
    }
    layout = {
        "xaxis": {"range": [0, 1.16 * max(percents)], "ticksuffix": " %", "fixedrange": True},
        "yaxis": {"automargin": True, "type": "category", "fixedrange": True},
        "bargap": 0.35,
        "margin": {"t": 8, "b": 34, "l": 8, "r": 20},
    }
    return {"data": [trace], "layout": layout, "height": 70 + 38 * len(ranked)}


def rungs(stops: Sequence[Stop], measure: Measure) -> Chart | None:
    """The way of each job over its rungs: paused ones in grey, and why in what is shown of a point."""
    if not stops:
        return None
    ways: dict[str, list[Stop]] = {}
    for stop in sorted(stops, key=lambda stop: stop.epochs):
        ways.setdefault(stop.job, []).append(stop)
    traces = []
    for is_paused, colour in ((True, "@pale"), (False, "@c0")):
        chosen = [way for way in ways.values() if (way[-1].kind == "pause") is is_paused]
        x = [value for way in chosen for value in (*(stop.epochs for stop in way), None)]
        y = [value for way in chosen for value in (*(measure.scale * stop.score for stop in way), None)]
        line = {"color": colour, "width": 1.4 if is_paused else 2}
        look = {"mode": "lines", "line": line, "hoverinfo": "skip", "showlegend": False}
        traces.append({"type": "scatter", "x": x, "y": y, **look})
    kinds = dict.fromkeys([*MARKERS, *(stop.kind for stop in stops)])
    for kind in kinds:
        found = [stop for stop in stops if stop.kind == kind]
        symbol, colour = MARKERS.get(kind, ("diamond", "@c2"))
        texts = [f"{plain(stop.job)}<br>{plain(stop.why, 110)}".removesuffix("<br>") for stop in found]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(kind),
                "x": [stop.epochs for stop in found],
                "y": [measure.scale * stop.score for stop in found],
                "text": texts,
                "marker": {"symbol": symbol, "size": 12 if symbol == "star" else 9, "color": colour},
                "hovertemplate": f"%{{text}}<br>after %{{x:.4g}} epochs: {measure.hover}<extra></extra>",
            }
        )
    places = sorted({stop.epochs for stop in stops})
    axis: Chart = {"title": {"text": "Epochs"}, "type": "log" if is_logarithmic(places) else "linear"}
    if len(places) <= TICKS:
        axis |= {"tickvals": places, "ticktext": [f"{place:.4g}" for place in places]}
    scores = [measure.scale * stop.score for stop in stops]
    return {"data": traces, "layout": {"xaxis": axis, "yaxis": _score_axis(scores, measure)}, "height": 420}


def band_says(rows: Sequence[PlotRow]) -> str:
    """What the lines and the bands of these rows are."""
    sizes = {sum(bool(run.points) for run in row.runs) for row in rows[:COLOURS]}
    if max(sizes, default=0) < 2:
        return ""
    parts = ["its 95 % interval"] * (max(sizes) >= LEAST_SEEDS) + ["both values of two seeds"] * (2 in sizes)
    return f"Lines are means over seeds; a band spans {', or '.join(parts)}."


def _band(found: Estimate, measure: Measure, floor: float) -> tuple[float, float]:
    """Low and high, the low one at least `floor`."""
    if found.margin is None:
        low, high = min(found.values), max(found.values)
    else:
        low, high = found.mean - found.margin, found.mean + found.margin
    if measure.is_share:
        low, high = max(low, 0.0), min(high, 1.0)
    return max(measure.scale * low, floor), measure.scale * high


def _epochs(steps: Sequence[float]) -> Chart:
    each = {"dtick": 1} if max(steps) - min(steps) < TICKS else {}  # no half epochs
    return {"title": {"text": "Epoch"}, **each}


def _score_axis(values: Sequence[float], measure: Measure) -> Chart:
    low, high = min(values), max(values)
    axis: Chart = {"title": {"text": measure.title}, "automargin": True}
    if not measure.is_share and is_logarithmic(values):
        room = 0.06 * math.log10(high / low)
        return axis | {"type": "log", "range": [math.log10(low) - room, math.log10(high) + room]}
    room = 0.06 * (high - low) or 1.0
    return axis | {"range": [low - room, high + room]}


def _axis(name: str, values: Sequence[Value]) -> Chart:
    """Numbers by their size, or its logarithm where they are apart by factors; texts in the order of their rank.

    What a run does not have lies below all of them.
    """
    numbers = sorted({value for value in values if isinstance(value, float)})
    texts = list(dict.fromkeys(value for value in values if isinstance(value, str)))  # the worst first
    is_log = bool(numbers) and is_logarithmic(numbers)
    ticks: dict[Value, float] = {number: math.log10(number) if is_log else number for number in numbers}
    ticks |= {text: float(place) for place, text in enumerate(texts)}
    labelled = {ticks[value]: brief(value) for value in [*_spread(numbers), *_spread(texts)]}
    low, high = min(ticks.values()), max(ticks.values())
    if None in values:
        ticks[None] = low - 0.15 * ((high - low) or 1)
        labelled[ticks[None]] = "not set"
    return {
        "label": plain(name, TICK),
        "values": [ticks[value] for value in values],
        "tickvals": list(labelled),
        "ticktext": [_cut(text, TICK) for text in labelled.values()],  # the one text that is not read as markup
    }


def _spread(values: Sequence[Value]) -> Sequence[Value]:
    """At most `TICKS` of them, the ends among these."""
    if len(values) <= TICKS:
        return values
    return [values[round(n * (len(values) - 1) / (TICKS - 1))] for n in range(TICKS)]


def axes_of(space: Space, shares: Mapping[str, float]) -> tuple[list[str], int]:
    """The keys that have an axis, and how many have none.

    Of those that differ among the rows with a result the most important ones, and where this is unknown those with the
    most values.
    """
    differing = [key for key in space.keys if len({row.values[key] for row in space.measured()}) > 1]

    def rank(key: str) -> tuple[float, int]:
        return -shares.get(key, 0.0), -space.num_values[key]

    chosen = sorted(differing, key=rank)[:AXES]
    return [key for key in differing if key in chosen], len(differing) - len(chosen)

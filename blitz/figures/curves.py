"""The learning curves of many runs, onto axes of the caller's."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from blitz.figures.canvas import VAL, labels
from blitz.figures.style import Style, counted, finish, legend, style
from blitz.figures.trials import Combination, Sweep, Trial, best_of, top

NAMED = 10  # combinations up to which each has a colour, ...
LEADERS = 5  # ... and of more, those that have
BEST: Style = {"linewidth": 3.0, "zorder": 4}


def curves(axes: Axes, sweep: Sweep, label: str) -> None:
    """The runs of a combination in one colour; of more than `NAMED`, all but the best in a grey that goes by rank."""
    having = [one for one in sweep.combinations if any(map(points, one.trials))]
    ranked = sorted(having, key=lambda one: -top([one]))
    named, others = (having, []) if len(having) <= NAMED else (ranked[:LEADERS], ranked[LEADERS:])
    for rank, one in reversed(list(enumerate(others))):
        grey = str(0.4 + 0.45 * rank / len(others))
        _draw(axes, one, {"color": grey, "linewidth": 0.8, "marker": ""})
    best = best_of(trial for trial in sweep.trials if points(trial))  # of equal ones the first, as everywhere
    for number, one in enumerate(named):
        _draw(axes, one, {**style(number), "linewidth": 1.3}, best)
    _explain(axes, sweep, named, len(others), best)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="Epoch", ylabel=f"{label} (%)")
    drawn = sum(bool(points(trial)) for trial in sweep.trials)
    missing = len(sweep.trials) - drawn
    count = f"n = {counted(drawn, 'run')} of {counted(len(having), 'combination')}"
    finish(axes, f"{label} over the epochs", count, f"{missing} without a curve" if missing else "")


def points(trial: Trial) -> list[tuple[int, float]]:
    """Those of its curve that can be drawn."""
    return [(epoch, value) for epoch, value in trial.curve if math.isfinite(value)]


def _draw(axes: Axes, one: Combination, style: Style, best: Trial | None = None) -> None:
    """Not-a-number leaves a gap, and so does infinity. A single point is seen by its marker alone."""
    for trial in one.trials:
        if not (num_points := len(points(trial))):
            continue
        marker = (style["marker"] or ".") if num_points == 1 else style["marker"] if num_points <= 30 else ""
        epochs, values = np.array(trial.curve, dtype=float).T
        values = np.where(np.isfinite(values), 100 * values, np.nan)
        emphasis = BEST if trial is best else {}
        axes.plot(epochs, values, **{**style, "marker": marker, "markersize": 3, **emphasis})


def _explain(axes: Axes, sweep: Sweep, named: list[Combination], num_others: int, best: Trial | None) -> None:
    """A legend, and a star where the best run was at its best."""
    handles: list[Artist] = []
    names: list[str] = []
    if sweep.keys:  # else there is one combination, which has no name
        handles += [Line2D([], [], markersize=4, **style(number)) for number in range(len(named))]
        names += labels([sweep.told(list(one.values.values()), sweep.keys) for one in named], 76, 40)
    if num_others:
        handles.append(Line2D([], [], color="0.6", linewidth=0.8))
        names.append(f"{counted(num_others, 'other')}, the better the darker")
    if best is not None:
        epoch, value = max(points(best), key=lambda point: point[1])
        handles += axes.plot(epoch, 100 * value, "*", markersize=14, color=VAL, markeredgecolor="black", zorder=5)
        names += labels([f"best with {100 * best.score:.2f} %: {best.name}"], 76, 40)
    legend(axes, sweep, sweep.keys, handles, names)

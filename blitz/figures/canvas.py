"""An empty picture, what all pictures share, the labels that fit into them, and how they are saved."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from blitz.run_folder.files import replacing

DPI = 115
TRAIN, VAL, GREY = "#0072B2", "#D55E00", "#595959"
TICKS = 42  # most labels an axis of a large confusion matrix has room for
BARS = 100  # most classes that are drawn as bars


def save(figure: Figure, path: Path) -> None:
    """A PNG of the figure's own size, whole or not at all: a reader, or a crash, never meets half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, synced=False) as file:
        figure.savefig(file, format="png", dpi=figure.dpi)


def blank(width: float, height: float) -> Figure:
    """Of so many inches, of `DPI` pixels each."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def notice(text: str) -> Figure:
    """A small picture that says why there is none."""
    figure = blank(6.0, 2.0)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=12)
    return figure


def put_name(figure: Figure, name: str) -> None:
    """The run's name above everything else, in small letters."""
    (name,) = labels([name], 200, int(14 * figure.get_figwidth()))
    figure.suptitle("\n".join(filter(None, [name, figure.get_suptitle()])), fontsize=10)


def dress(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def epoch_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epoch")


def draw_course(axes: Axes, course: Sequence[tuple[float, float]], marker: str, scale: float = 1, **look: Any) -> None:
    """Values by epoch: not-a-number leaves a gap, and so does infinity, which no axis can hold."""
    epochs, values = np.array(course, dtype=float).T
    values = np.where(np.isfinite(values), scale * values, np.nan)
    # Many markers hide the line, and a single point is seen by its marker alone.
    axes.plot(epochs, values, marker=marker if len(course) <= 30 else "", **look)


def write_beside(axes: Axes, texts: Sequence[str], size: float) -> None:
    """A text right of each row of the axes."""
    longest = max(map(len, texts))
    for row, text in enumerate(texts):
        axes.text(
            1.01, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=size,
            in_layout=len(text) == longest,  # the widest ones speak for all
        )  # fmt: skip


def labels(names: Sequence[str], longest: int, line: int | None = None) -> list[str]:
    """Names cut to `longest` characters, with the name's number before those that look alike once they are cut.

    With `line`, in lines of at most so many characters.
    """

    def cut(name: str) -> str:
        return name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"

    names = [_printable(name) for name in names]
    short = [cut(name) for name in names]
    times = Counter(short)
    short = [cut(f"{n}: {names[n]}") if times[name] > 1 else name for n, name in enumerate(short)]
    if line:
        short = [textwrap.fill(name, line) for name in short]
    # No formulas between dollar signs; and matplotlib keeps from legends what begins with an underscore.
    return [(" " * name.startswith("_") + name).replace("$", r"\$") for name in short]


def _printable(name: str) -> str:
    """In one line, with a question mark for what no font at hand can draw: matplotlib warns at each of those."""
    name = " ".join(name.split())
    if name.isascii() and name.isprintable():
        return name
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in rcParams["font.family"]]
    return "".join(letter if any(font.get_char_index(ord(letter)) for font in fonts) else "?" for letter in name)

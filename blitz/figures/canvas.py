"""An empty picture, the labels that fit into it, and how it is saved."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

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
    return [name.replace("$", r"\$") for name in short]  # no formulas between dollar signs


def _printable(name: str) -> str:
    """In one line, with a question mark for what no font at hand can draw: matplotlib warns at each of those."""
    name = " ".join(name.split())
    if name.isascii() and name.isprintable():
        return name
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in rcParams["font.family"]]
    return "".join(letter if any(font.get_char_index(ord(letter)) for font in fonts) else "?" for letter in name)

"""One line that stays the last of a terminal while others are printed above it, by this process and its children."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.cells import set_cell_size

from blitz.terminal.repeating import repeating
from blitz.terminal.text import Unbroken

CLEAR = "\r\x1b[K"  # back to the first column, and what is in the line is gone
REDRAW_EVERY = 0.5  # seconds


class Above(Unbroken):
    """A terminal whose last line may be a status: each line that is written takes its place, and it is drawn again."""

    def __init__(self, stream: TextIO | Unbroken) -> None:
        super().__init__(stream)
        self._at_start = True

    def write(self, text: str) -> int:
        if text:
            super().write(CLEAR * self._at_start + text)
            self._at_start = text.endswith("\n")
        return len(text)


def above(stream: TextIO | Unbroken) -> TextIO | Unbroken:
    """`Above` for a terminal, and nothing new for anything else."""
    return Above(stream) if stream.isatty() else stream


@contextmanager
def status_line(text: Callable[[], str], terminal: TextIO | Unbroken) -> Iterator[None]:
    """Keep `text()` as the last line of a terminal while the block runs; other lines are written through `above`.

    It is cut to the terminal's width: a status of two lines could not be cleared.
    """

    def draw() -> None:
        width, line = shutil.get_terminal_size().columns - 1, text()
        terminal.write(CLEAR + (set_cell_size(line, width).rstrip() if len(line) > width else line))
        terminal.flush()

    try:
        with repeating(draw, REDRAW_EVERY):
            yield
    finally:
        terminal.write(CLEAR)
        terminal.flush()

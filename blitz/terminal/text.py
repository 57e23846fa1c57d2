"""Text for a terminal: tables, text without control characters, streams whose reader may close."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

INDENT = 9  # columns of the word that a line begins with, and of lines that continue it
NARROW = 80 - INDENT  # columns beside it that every terminal has
WIDE = 10_000  # columns where a line may be as long as it is


class Unbroken:
    """A stream like another one, that ignores errors of writing: a closed terminal must not end training."""

    def __init__(self, stream: TextIO | Unbroken) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Screen(Console):
    """A console for the result of a command."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # as print does, instead of rich's SystemExit

    @property
    def room(self) -> int:
        """Columns of the terminal; elsewhere a line may be as long as it is."""
        return shutil.get_terminal_size().columns if self.is_terminal else WIDE

    def print_table(self, table: Table) -> None:
        """Cells as they are, and no spaces at the ends of lines."""
        options = self.options.update(markup=False, highlight=False)
        for segments in self.render_lines(table, options, pad=False):
            line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
            line.rstrip()
            self.print(line, soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: Container[int] = (0,)) -> None:
    """On stdout: the columns in `texts`, counted from 0, flush left, those of numbers flush right.

    Where a terminal has too little room, texts continue below.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        is_text = index in texts
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Screen(width=max(Screen().room, NARROW)).print_table(table)


def print_line(line: str, file: TextIO | None = None) -> None:
    """On stdout, or on the stream; on a terminal continued below at the last word that there is room for."""
    file = file or sys.stdout
    print(folded(line, shutil.get_terminal_size().columns) if file.isatty() else line, file=file)


def folded(line: str, width: int) -> str:
    """In lines of at most `width` columns, the following ones indented; a longer word stays whole, to be copied."""
    if cell_len(line) <= width:
        return line
    return textwrap.fill(
        line, max(width, 2 * INDENT), subsequent_indent=" " * INDENT, break_long_words=False, break_on_hyphens=False
    )


def printable(text: str) -> str:
    """`text` without control characters, with which a record could change the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def brief_words(text: str) -> str:
    """The same with words of more than 500 characters cut: what was typed may be as long as a file."""
    return re.sub(r"(\S{200})\S{281,}(\S{20})", r"\1…\2", text)


def in_a_line(text: str) -> str:
    """The same in a single line."""
    return printable(" ".join(text.splitlines()))

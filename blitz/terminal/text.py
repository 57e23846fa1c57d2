"""Text for a terminal: tables, text without control characters, streams whose reader may close."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 100


class Unbroken:
    """A stream like another one, that ignores errors of writing: a closed terminal must not end training."""

    def __init__(self, stream: TextIO) -> None:
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

    def print_table(self, table: Table) -> None:
        """Cells as they are, and no spaces at the ends of lines."""
        options = self.options.update(markup=False, highlight=False)
        for segments in self.render_lines(table, options, pad=False):
            line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
            line.rstrip()
            self.print(line, soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: Container[int] = (0,)) -> None:
    """On stdout, as wide as it is: the columns in `texts`, counted from 0, flush left, those of numbers flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index in texts else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Screen(width=10_000).print_table(table)


def printable(text: str) -> str:
    """`text` without control characters, with which a record could change the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def brief_words(text: str) -> str:
    """The same with words of more than 500 characters cut: what was typed may be as long as a file."""
    return re.sub(r"(\S{200})\S{281,}(\S{20})", r"\1…\2", text)


def in_a_line(text: str) -> str:
    """The same in a single line."""
    return printable(" ".join(text.splitlines()))

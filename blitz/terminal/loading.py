"""A sign of life while a command imports what it needs, which takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

SIGN = "loading ..."


class _Cleared:
    """A stream like another one; before the first text, the sign on the terminal is removed."""

    def __init__(self, stream: TextIO, sign: _Sign) -> None:
        self._stream, self._sign = stream, sign

    def write(self, text: str) -> int:
        self._sign.remove()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Sign:
    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._shown = True
        self._write(SIGN)

    def remove(self) -> None:
        if self._shown:
            self._shown = False
            self._write("\r" + " " * len(SIGN) + "\r")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal may have been closed
            self._terminal.write(text)
            self._terminal.flush()


@contextmanager
def sign_of_life() -> Iterator[None]:
    """While the block prints nothing, `loading ...` stands on the terminal behind stderr, if there is one."""
    if not sys.stderr.isatty():
        yield
        return
    sign = _Sign(sys.stderr)
    usual = sys.stdout, sys.stderr
    cleared = _Cleared(sys.stdout, sign), _Cleared(sys.stderr, sign)
    sys.stdout, sys.stderr = cleared
    try:
        yield
    finally:
        if (sys.stdout, sys.stderr) == cleared:
            sys.stdout, sys.stderr = usual
        sign.remove()

"""A line that stays the last one of a terminal, whatever is printed meanwhile and by whom."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

import pytest
from support.terminal import terminal

from blitz.terminal.status import CLEAR, above, status_line
from blitz.terminal.text import Unbroken


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_takes_the_place_of_the_status() -> None:
    written = Tty()
    stream = above(written)
    print("one", file=stream)
    stream.write("two ")
    stream.write("words\nthree")
    assert written.getvalue() == f"{CLEAR}one\n{CLEAR}two words\nthree"


def test_elsewhere_than_on_a_terminal_nothing_is_added() -> None:
    written = io.StringIO()
    assert above(written) is written


def test_the_status_is_drawn_again_and_again_and_cleared_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    drawn, written = threading.Semaphore(0), Tty()

    def text() -> str:
        drawn.release()
        return "a status that is longer than the line"

    with status_line(text, Unbroken(written)):
        for _ in range(3):
            assert drawn.acquire(timeout=600)
    lines = written.getvalue().split(CLEAR)
    assert lines[-1] == ""
    assert {line for line in lines if line} == {"a status that is lo"}  # one column is left free, or it would wrap
    assert len(lines) >= 4


PRINTS = """
import sys
from blitz.terminal.status import above
print("from a child", file=above(sys.stdout), flush=True)
"""


def test_a_child_prints_above_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(60) as found:
        drawn = threading.Semaphore(0)

        def text() -> str:
            drawn.release()
            return "1 of 2 done"

        with status_line(text, Unbroken(sys.stdout)):
            assert drawn.acquire(timeout=600)
            subprocess.run([sys.executable, "-c", PRINTS], stdout=found.its, check=True)
            for _ in range(2):
                assert drawn.acquire(timeout=600)
    assert "from a child" in found.lines
    assert "1 of 2 done" in found.lines

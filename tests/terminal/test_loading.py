"""The sign of life of a command on a terminal: there at once, gone before anything else is printed."""

from __future__ import annotations

import io
import sys

import pytest

from blitz import cli
from blitz.terminal.loading import SIGN, sign_of_life

ERASED = "\r" + " " * len(SIGN) + "\r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Behind stdout and stderr; not a fixture, as pytest sets both anew before a test."""
    found = Terminal()
    monkeypatch.setattr(sys, "stdout", found)
    monkeypatch.setattr(sys, "stderr", found)
    return found


def blitz(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["blitz", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_sign_is_there_at_once_and_gone_before_the_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert blitz(monkeypatch, "options") == 0
    assert terminal.getvalue().startswith(f"{SIGN}{ERASED}")
    assert terminal.getvalue().count(SIGN) == 1
    assert "optimizer" in terminal.getvalue()
    assert sys.stdout is sys.stderr is terminal


def test_sign_is_gone_before_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert blitz(monkeypatch, "optoins") == 2
    assert terminal.getvalue().startswith(f"{SIGN}{ERASED}blitz: ")


def test_no_sign_before_a_page_that_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert blitz(monkeypatch, "--version") == 0
    assert terminal.getvalue().startswith("blitz ")


def test_no_sign_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with sign_of_life():
        print("a result")
    assert capsys.readouterr() == ("a result\n", "")


def test_sign_is_on_stderr_where_another_program_reads_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    with sign_of_life():
        assert terminal.getvalue() == SIGN
        print("a result")
        assert terminal.getvalue() == SIGN + ERASED
    assert (pipe.getvalue(), terminal.getvalue()) == ("a result\n", SIGN + ERASED)


def test_terminal_that_is_closed_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(Terminal):
        def write(self, text: str) -> int:
            raise OSError

    monkeypatch.setattr(sys, "stderr", Closed())
    with sign_of_life():
        pass

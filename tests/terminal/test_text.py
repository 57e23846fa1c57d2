"""Text for a terminal: tables as plain text, and with styles where there is a terminal."""

from __future__ import annotations

import pytest

from blitz.terminal.text import brief_words, print_table

HEADINGS, ROWS = ("name", "value", "note"), [("[b]a[/b]", "1.5", "a longer note"), ("c", "20", "")]


def test_table_lines_do_not_end_in_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADINGS, ROWS, texts=(0, 2))
    assert capsys.readouterr().out.splitlines() == [
        "name      value  note",
        "[b]a[/b]    1.5  a longer note",
        "c            20",
    ]


def test_table_headings_are_bold_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    print_table(HEADINGS, ROWS, texts=(0, 2))
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.startswith("\x1b[1mname")
    assert not any(line.endswith(" ") for line in (heading, *rows))
    assert not any("\x1b" in row for row in rows)


def test_words_are_cut_that_are_longer_than_any_of_ours() -> None:
    assert brief_words(f"{'a' * 500} b: c") == f"{'a' * 500} b: c"
    assert brief_words(f"x={'a' * 5000}: b") == f"x={'a' * 198}…{'a' * 19}: b"

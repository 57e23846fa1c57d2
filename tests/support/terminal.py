"""What is printed on a real terminal, of as many columns as one asks for."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.processes import BLITZ, PATIENCE


class Terminal:
    """One that everything is read from as it is written; `text` is complete once the writer has ended."""

    def __init__(self, columns: int) -> None:
        self._ours, self.its = pty.openpty()
        fcntl.ioctl(self.its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._read: list[bytes] = []
        self._reader = threading.Thread(target=self._take)
        self._reader.start()

    def _take(self) -> None:
        with suppress(OSError):  # Linux: an error once nobody has the other end open
            while data := os.read(self._ours, 65536):
                self._read.append(data)

    def close(self) -> None:
        os.close(self.its)
        self._reader.join(timeout=PATIENCE)
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """All that was ever seen in a line, each state of the bar a line of its own, without colours."""
        text = b"".join(self._read).decode()
        assert "\N{REPLACEMENT CHARACTER}" not in text
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))

    def wider_than(self, columns: int) -> list[str]:
        """But for a word alone, such as a path, which is left whole."""
        return [line for line in self.lines if cell_len(line) > columns and " " in line.strip()]


@contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    """This process prints on one."""
    found = Terminal(columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))  # which takes the terminal's place where tests have none
        patch.setenv("TERM", "xterm")
        patch.delenv("NO_COLOR", raising=False)
        try:
            with open(os.dup(found.its), "w", encoding="utf-8") as stream, redirect_stdout(stream):
                yield found
        finally:
            found.close()


def shown(folder: Path, *arguments: str, columns: int = 80) -> Terminal:
    """The terminal of `blitz ARGUMENTS…`, which must end well."""
    found = Terminal(columns)
    left_out = ("MLFLOW_TRACKING_URI", "COLUMNS", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "FORCE_COLOR")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    try:
        code = subprocess.call(
            [*BLITZ, *arguments], cwd=folder, env={**environment, "TERM": "xterm"}, timeout=PATIENCE,
            stdin=found.its, stdout=found.its, stderr=found.its, start_new_session=True,
        )  # fmt: skip
    finally:
        found.close()
    assert code == 0, "\n".join(found.lines)
    return found

"""The journal of a run's metrics: a line a moment, on disk before it is sent anywhere."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("blitz")

JOURNAL = "metrics.jsonl"
CHUNK = 1 << 20  # bytes that are read at once


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    step: int
    milliseconds: int


class Journal:
    """`metrics.jsonl` as it is written: whole lines only, whatever happens while one is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Unbuffered: what was measured is with the operating system before the next step begins.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()  # system metrics come from a thread of their own

    def write(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Append (step, metrics) rows with the time of now. Raises OSError, and then leaves the file as it was."""
        now = time.time_ns() // 1_000_000
        lines = [json.dumps({"step": step, "time": now, **metrics}) for step, metrics in rows]
        if not lines:
            return
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        with self._lock:
            before = os.fstat(self._file.fileno()).st_size
            try:
                while data:  # a disk that gets full takes a part first
                    data = data[self._file.write(data) :]
            except OSError as error:
                os.ftruncate(self._file.fileno(), before)
                raise OSError(error.errno, error.strerror, str(self.path)) from None

    def sync(self) -> None:
        """Make sure that a power cut loses nothing of what is written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read(path: Path, offset: int, most: int) -> tuple[list[Point], int]:
    """At most `most` points from whole lines after byte `offset`, and the offset behind them.

    A last line that is still being written, or never was to its end, is left for the next time. A line that cannot be
    read, which only a damaged disk makes, is told and left out.
    """
    with path.open("rb") as file:
        file.seek(offset)
        chunk = file.read(CHUNK)
    points: list[Point] = []
    for line in chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            row = json.loads(line)
            step, milliseconds = row.pop("step"), row.pop("time")
        except (ValueError, KeyError, AttributeError, TypeError):
            logger.warning("%s: the line at byte %d cannot be read and is left out", path, offset)
            row = {}
        if len(points) + len(row) > most:
            break
        points += [Point(name, value, step, milliseconds) for name, value in row.items()]
        offset += len(line)
    return points, offset


def count(path: Path, offset: int) -> int:
    """How many points there are after byte `offset`."""
    number = 0
    while True:
        points, behind = read(path, offset, CHUNK)
        if behind == offset:
            return number
        number, offset = number + len(points), behind

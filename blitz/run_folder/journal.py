"""The journal of a run's metrics: a line a moment, on disk before it is sent anywhere."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger("blitz")

JOURNAL = "metrics.jsonl"
# Names of metrics. What a step measures:
STEP_LOSS, GRAD_NORM, STEP_LR = "train/step_loss", "train/grad_norm", "train/step_lr"
# What an epoch measures, and what the best weights make of the test images:
TRAIN_LOSS, TRAIN_ACCURACY, TRAIN_LR = "train/loss", "train/accuracy", "train/lr"
VAL_LOSS, VAL_ACCURACY, VAL_TOP5 = "val/loss", "val/accuracy", "val/top5"
TEST_LOSS, TEST_ACCURACY, TEST_TOP5 = "test/loss", "test/accuracy", "test/top5"
TIME, SYSTEM = "time/", "system/"  # prefixes of what is no result
# What runs are ranked by: validation accuracy of the best epoch so far; without validation, training accuracy.
OBJECTIVE = "objective"
CHUNK = 1 << 20  # bytes that are read at once


class Point(NamedTuple):
    name: str
    value: float
    step: int
    milliseconds: int


def is_result(name: str) -> bool:
    """Whether a metric is a result, which a repetition must have the same of.

    Times and the machine's state are not; nor is the learning rate of each step, which follows from the config and
    which older records lack.
    """
    return not name.startswith((TIME, SYSTEM)) and name != STEP_LR


class Journal:
    """`metrics.jsonl` as it is written: whole lines only, whatever happens while one is written.

    With `resumed_at`, the position of a checkpoint that the run resumes from: the points behind it will be measured
    again. They are not written twice, but for one that comes out otherwise, which is a warning.
    """

    def __init__(self, path: Path, resumed_at: int | None = None) -> None:
        self.path = path
        self._known: dict[tuple[str, int], float] = {}  # behind the checkpoint, and not measured again so far
        self._resumed_at = resumed_at
        self._warned = False
        mend(path)
        if resumed_at is not None:
            points = (point for point in every_point(path, resumed_at) if not point.name.startswith(SYSTEM))
            self._known = {(point.name, point.step): point.value for point in points}
        # Unbuffered: what was measured is with the operating system before the next step begins.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()  # system metrics come from a thread of their own

    def write(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Append (step, metrics) rows with the time of now. Raises OSError, and then leaves the file as it was."""
        now = time.time_ns() // 1_000_000
        if self._known:
            rows = [(step, self._new(step, metrics)) for step, metrics in rows]
        lines = [json.dumps({"step": step, "time": now, **metrics}) for step, metrics in rows if metrics]
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

    @property
    def position(self) -> int:
        """The byte behind which a run that resumes from here would measure what is written, if anything is, again."""
        if self._known:
            assert self._resumed_at is not None
            return self._resumed_at
        return os.fstat(self._file.fileno()).st_size

    def _new(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        new = {}
        for name, value in metrics.items():
            before = self._known.pop((name, step), None)
            # In hexadecimal: the same to the last bit, or both not a number.
            if before is not None and is_result(name) and before.hex() != float(value).hex():
                if not self._warned:
                    logger.warning(
                        "%s at step %d was %r and is %r now: the resumed run does not have the bits that it had",
                        name, step, before, value,
                    )  # fmt: skip
                self._warned = True
                before = None
            if before is None:
                new[name] = value
        return new

    def sync(self) -> None:
        """Make sure that a power cut loses nothing of what is written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync, and write no more. Raises OSError where the disk fails."""
        with self._file:
            self.sync()


def read(path: Path, offset: int, most: int = CHUNK) -> tuple[list[Point], int]:
    """At most `most` points from whole lines after byte `offset`, and the offset behind them.

    The default is no limit but a chunk's bytes, of which each point takes more than one.

    A last line that is still being written, or never was to its end, is left for the next time. A line that cannot be
    read, which only a damaged disk makes, is a warning and left out.
    """
    with path.open("rb") as file:
        file.seek(offset)
        chunk = file.read(CHUNK)
    points: list[Point] = []
    for line in chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True):
        row = _parsed(line)
        if not row:
            logger.warning("%s: the line at byte %d cannot be read and is left out", path, offset)
        step, milliseconds = row.pop("step", 0), row.pop("time", 0)
        if len(points) + len(row) > most:
            break
        points += [Point(name, value, step, milliseconds) for name, value in row.items()]
        offset += len(line)
    return points, offset


def sync(path: Path) -> None:
    """Make sure that a power cut loses nothing of what another process has written."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def ends_at(path: Path, position: int) -> bool:
    """Whether it has so many bytes and a line ends there; zeros, which a power cut may leave, are none."""
    if not position or not path.exists():
        return not position
    with path.open("rb") as file:
        file.seek(position - 1)
        return file.read(1) == b"\n"


def damaged(path: Path, end: int) -> list[int]:
    """Where lines before byte `end` begin that cannot be read."""
    found, offset = [], 0
    with path.open("rb") as file:
        for line in file:
            if offset >= end:
                break
            if not _parsed(line):
                found.append(offset)
            offset += len(line)
    return found


def mend(path: Path) -> None:
    """Cut off a last line that was never written to its end, which is a warning; no file is an empty one."""
    with path.open("a+b") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
            return
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            whole, size = data.rfind(b"\n") + 1, len(data)
        if whole < size:
            logger.warning("%s: the last %d bytes are no whole line, and are cut off", path, size - whole)
            file.truncate(whole)


def every_point(path: Path, offset: int = 0) -> Iterator[Point]:
    """All points after byte `offset`, in the order they were measured."""
    while True:
        points, behind = read(path, offset)
        yield from points
        if behind == offset:
            return
        offset = behind


def first(path: Path, name: str) -> Point | None:
    """The first point of this metric."""
    for row in _rows(path, name):
        if name in row:
            return Point(name, row[name], row["step"], row["time"])
    return None


def epochs(path: Path) -> list[dict[str, float]]:
    """The metrics of each finished epoch and its number as `epoch`, in their order."""
    found: dict[int, dict[str, float]] = {}
    for row in _rows(path, TRAIN_LOSS):
        epoch = row["step"]
        found[epoch] = {"epoch": epoch, **{name: row[name] for name in row if name not in ("step", "time")}}
    return [found[epoch] for epoch in sorted(found)]


def next_sample(path: Path) -> int:
    return max((row["step"] + 1 for row in _rows(path, SYSTEM)), default=0)


def _rows(path: Path, word: str) -> Iterator[dict[str, Any]]:
    """The lines with this word; only they are parsed, of a file that may have millions. Damaged ones are left out."""
    mark = f'"{word}'.encode()
    with path.open("rb") as file:
        for line in file:
            if mark in line and (row := _parsed(line)):
                yield row


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's values; nothing for one that a damaged disk has made of it."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and {"step", "time"} <= row.keys() else {}

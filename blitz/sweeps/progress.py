"""Where a sweep stands while its jobs are trained: by their outcomes and journals, whatever process trains them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

from blitz.errors import BadInput
from blitz.run_folder.journal import JOURNAL, STEP_LOSS, TRAIN_LOSS
from blitz.run_folder.run_info import ABOUT, FAILED, FINISHED, PAUSED, SWEEP, RunInfo
from blitz.sweeps.folder import Outcome, read_outcomes, times_begun
from blitz.sweeps.jobs import SweepJob
from blitz.terminal.repeating import repeating
from blitz.terminal.status import status_line
from blitz.terminal.text import Unbroken, print_line

TAIL = 1 << 16  # bytes of a journal that hold its last steps
LOOK_EVERY = 1.0  # seconds between two looks at the files
LINE_EVERY = 30.0  # seconds between two lines, where there is no terminal


class TrainedImages:
    """Counts the images that a sweep's jobs have trained, by the journals of their runs on this disk."""

    def __init__(self, sweep: Path) -> None:
        self._sweep = sweep
        self._known: dict[Path, RunInfo | None] = {}  # None: of something else
        self.per_epoch = 0  # training images of a job, once one is known

    def count(self) -> int:
        for path in self._sweep.parent.parent.glob(f"*/{ABOUT}"):
            if path.parent not in self._known:
                try:
                    about = RunInfo.load(path.parent)
                except BadInput:  # damaged
                    continue
                self._known[path.parent] = about if about.tags.get(SWEEP) == self._sweep.name else None
        own = {folder: about for folder, about in self._known.items() if about is not None}
        self.per_epoch = max((int(about.dataset["rows"]) for about in own.values()), default=0)
        return sum(_trained(folder, about) for folder, about in own.items())


def _trained(folder: Path, about: RunInfo) -> int:
    """Images that one run has trained: whole epochs, and of the one under way what is recorded of its steps."""
    images, size = int(about.dataset["rows"]), int(about.params["batch_size"])
    epochs, steps = 0, 0
    for line in _tail(folder / JOURNAL):
        try:
            row = json.loads(line)
        except ValueError:  # cut off, or still being written
            continue
        if TRAIN_LOSS in row:
            epochs = max(epochs, row["step"])
        if STEP_LOSS in row:
            steps = max(steps, row["step"])
    whole, rest = divmod(steps, math.ceil(images / size))
    return max(epochs * images, whole * images + rest * size)


def _tail(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().splitlines()


class Progress:
    """How many jobs of a sweep are done, and how long the others will take."""

    def __init__(
        self, folder: Path, jobs: Sequence[SweepJob], earlier: Mapping[int, Outcome], epochs: float, more: int = 0
    ) -> None:
        """`earlier`: outcomes of jobs that are no part of this round; `epochs`: that are to be trained from here on, as
        far as it is known; `more`: jobs that are yet to be added, likewise.
        """
        self._folder, self._jobs, self._earlier, self._epochs = folder, jobs, earlier, epochs
        self._number = len(jobs) + more
        self._images = TrainedImages(folder)
        self._began, self._before = monotonic(), self._images.count()
        self._at_first = times_begun(folder)
        self._looked, self._text = -math.inf, ""

    def text(self) -> str:
        """`3 of 32 done  2 running  best 71.20% (lr=0.1 seed=0)  0:12:00 left`, at most a second old."""
        if monotonic() - self._looked >= LOOK_EVERY:
            self._text, self._looked = "  ".join(self._facts()), monotonic()
        return self._text

    def _facts(self) -> Iterator[str]:
        outcomes = {**self._earlier, **read_outcomes(self._folder)}
        begun = times_begun(self._folder)
        running = [n for n, times in begun.items() if times > self._at_first.get(n, 0) and n not in outcomes]
        counts = Counter(outcome.status for outcome in outcomes.values())
        yield f"{counts[FINISHED]} of {self._number} done"
        for number, what in ((len(running), "running"), (counts[PAUSED], "paused"), (counts[FAILED], "failed")):
            if number:
                yield f"{number} {what}"
        best = max((o for o in outcomes.values() if o.objective is not None), key=_objective, default=None)
        if best is not None:
            label = next(job.label for job in self._jobs if outcomes.get(job.number) is best)
            yield f"best {best.objective:.2%}" + f" ({label})" * bool(label)
        done, elapsed = self._images.count() - self._before, monotonic() - self._began
        if done and self._images.per_epoch:
            left = max(0.0, self._epochs * self._images.per_epoch - done) * elapsed / done
            yield f"{timedelta(seconds=round(left))} left"


def _objective(outcome: Outcome) -> float:
    return outcome.objective or 0.0


@contextmanager
def shown(progress: Progress, stream: Unbroken) -> Iterator[None]:
    """As the last line of a terminal; elsewhere as a line now and then, after jobs have ended."""
    if stream.isatty():
        with status_line(lambda: f"sweep    {progress.text()}", stream):
            yield
        return
    with repeating(_line_now_and_then(progress), LOOK_EVERY):
        yield


def _line_now_and_then(progress: Progress) -> Callable[[], None]:
    printed, before = monotonic(), ""

    def look() -> None:
        nonlocal printed, before
        if monotonic() - printed >= LINE_EVERY:
            text = progress.text()
            if text.split("  ")[:2] != before.split("  ")[:2]:
                print_line(f"sweep    {text}")
                before = text
            printed = monotonic()

    return look

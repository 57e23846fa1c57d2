"""What a run prints: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from blitz.terminal.text import WIDTH, Unbroken

logger = logging.getLogger("blitz")

LINE_EVERY = 30.0  # seconds between two lines within an epoch, where there is no terminal
MANY_CLASSES = 20  # above this, only the worst and the best class are printed


class _Lines(logging.Handler):
    """Log records as lines above the bar; tracebacks go to the log file only."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            return  # whoever catches the exception prints it
        style = "yellow" if record.levelno >= logging.WARNING else None
        self.console.print(record.getMessage(), style=style, markup=False, highlight=False, soft_wrap=True)


class Display:
    """Prints the `blitz` logger's lines and the progress of training while it is open.

    With `stderr=True` stdout is left to the result of a command, which another program may read.
    """

    def __init__(self, stderr: bool = False) -> None:
        self.console = Console(file=Unbroken(sys.stderr if stderr else sys.stdout))  # type: ignore[arg-type]
        self._handler = _Lines(self.console)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> Display:
        self._level, self._propagate = logger.level, logger.propagate
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

    def __exit__(self, *error: object) -> None:
        logger.removeHandler(self._handler)
        logger.setLevel(self._level)
        logger.propagate = self._propagate
        self._bar.stop()

    def begin(self, first: int, epochs: int, steps: int, batch_size: int) -> None:
        """Start the bar at epoch `first` of `epochs`, with so many steps per epoch and images per step."""
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._since, self._seen = time.monotonic(), 0
        self._task = self._bar.add_task("", total=steps, epoch=f"{first}/{epochs}", metrics="")
        self._bar.start()

    def progress(self, epoch: int, epoch_step: int, steps: int, loss: float, accuracy: float) -> None:
        """`steps` more steps are done, with this mean loss; `accuracy` is that of the epoch so far."""
        self._seen += steps
        elapsed = time.monotonic() - self._since
        speed = self._seen * self._batch_size / max(elapsed, 1e-9)
        where = f"{epoch}/{self._epochs}"
        metrics = f"loss {loss:.4f}  accuracy {accuracy:.2%}  {speed:,.0f} images/s"
        self._bar.update(self._task, completed=epoch_step, epoch=where, metrics=metrics)
        if not self.console.is_terminal and elapsed > LINE_EVERY:
            logger.info("epoch %s  step %d/%d  %s", where, epoch_step, self._steps, metrics)
        if elapsed > LINE_EVERY:
            self._since, self._seen = time.monotonic(), 0

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        parts = [f"epoch {epoch}/{self._epochs}"]
        for split in ("train", "val"):
            if f"{split}/loss" in metrics:
                loss, accuracy = metrics[f"{split}/loss"], metrics[f"{split}/accuracy"]
                parts.append(f"{split} loss {loss:.4f}  accuracy {accuracy:7.2%}")
        parts.append(f"{metrics['time/images_per_second']:,.0f} images/s  {metrics['time/epoch']:.1f} s")
        logger.info("%s%s", "  |  ".join(parts), "  *" if best else "")
        if epoch < self._epochs:
            self._bar.reset(self._task, epoch=f"{epoch + 1}/{self._epochs}", metrics="")
        self._since, self._seen = time.monotonic(), 0

    def end(self) -> None:
        self._bar.stop()


def lines_of_test(accuracy: float, top5: float, loss: float, per_class: Sequence[tuple[str, float]]) -> list[str]:
    total = f"test     accuracy {accuracy:.2%}   top-5 {top5:.2%}   loss {loss:.4f}"
    present = [(name, share) for name, share in per_class if not math.isnan(share)]
    if len(present) > MANY_CLASSES:
        ranked = sorted(present, key=lambda pair: pair[1])
        (worst, low), (best, high) = ranked[0], ranked[-1]
        return [total, f"         {len(present)} classes, from {worst} {low:.1%} to {best} {high:.1%}"]
    shares = ", ".join(f"{name} {share:.1%}" for name, share in present)
    return [total, *(f"         {line}" for line in wrap(shares, WIDTH))]


def where_lines(folder: Path, store: str | None, run_id: str | None, missing: str) -> list[str]:
    lines = [f"record   {folder}/ (config.yaml, metrics.jsonl, checkpoints/, figures/, run.log)"]
    if missing:
        lines.append(f"mlflow   {store} lacks {missing}; 'blitz sync {folder}' sends it")
    elif store is not None:
        lines.append(f"mlflow   run {run_id} in {store} (blitz ui opens it)")
    return lines

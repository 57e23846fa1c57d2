"""What a run prints: a progress bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import html
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from blitz.terminal.text import INDENT, NARROW, Unbroken, folded

logger = logging.getLogger("blitz")

LINE_EVERY = 30.0  # seconds between two lines within an epoch, where there is no terminal
REDRAW_EVERY = 0.25  # seconds, in a notebook
MANY_CLASSES = 20  # above this, only the worst and the best class are printed
SPACE = "  "  # between two facts in a line
NO_BREAK = "\N{NO-BREAK SPACE}"
LONGEST_BAR = 40  # columns


class _Lines(logging.Handler):
    """Log records as lines above the bar; tracebacks go to the log file only."""

    def __init__(self, console: Console, prefix: str) -> None:
        super().__init__()
        self.console, self.prefix = console, prefix

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            return  # whoever catches the exception prints it
        style = "yellow" if record.levelno >= logging.WARNING else None
        line = self.prefix + record.getMessage()
        if self.console.is_terminal:
            if cell_len(line) > self.console.width:
                line = self.prefix + getattr(record, "brief", record.getMessage())
            line = folded(line, self.console.width)
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


class Display:
    """Prints the `blitz` logger's lines and the progress of training while it is open.

    With `stderr=True` stdout is left to the result of a command, which another program may read. A job of a sweep has
    no bar, since the sweep has a line of its own; where others run beside it, its lines begin with its number.
    """

    def __init__(self, stderr: bool = False, job: int | None = None, has_others_beside: bool = False) -> None:
        stream = Unbroken(sys.stderr if stderr else sys.stdout)
        # In a notebook lines are text of one output: rich would make an output of each, with a frame of its own.
        self.console = Console(file=stream, force_jupyter=False)  # type: ignore[arg-type]
        self._has_bar = job is None
        self._handler = _Lines(self.console, f"[{job}] " if has_others_beside else "")
        self._bar: Live | _NotebookBar | None = None
        self._facts: list[str] = []  # of where the run stands; what matters least is last
        self._epoch_step = 0

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
        self.end()

    def begin(self, first: int, epochs: int, steps: int, batch_size: int, last: int | None = None) -> None:
        """Start the bar at epoch `first` of `epochs`, with so many steps per epoch and images per step.

        `last`: the epoch after which the run ends, where that is an earlier one.
        """
        self._epochs, self._steps, self._batch_size, self._last = epochs, steps, batch_size, last or epochs
        self._began, self._done = time.monotonic(), 0  # steps since then
        self._since, self._seen = self._began, 0  # the same for the speed
        self._start_epoch(first)
        if not self._has_bar:
            return
        if Console().is_jupyter:
            self._bar = _NotebookBar(self._line)
        elif self.console.is_terminal:
            self._bar = Live(get_renderable=self._line, console=self.console, transient=True)
            self._bar.start(refresh=True)

    def progress(
        self, epoch: int, epoch_step: int, steps: int, loss: float, accuracy: float, rate: float, memory: int | None
    ) -> None:
        """`steps` more steps are done, with this mean loss; `accuracy` is that of the epoch so far.

        `rate` is the learning rate of the last of them, `memory` the bytes of the GPU that are taken, if there is one.
        """
        self._done += steps
        self._seen += steps
        now = time.monotonic()
        elapsed = now - self._since
        speed = self._seen * self._batch_size / max(elapsed, 1e-9)
        self._epoch_step = epoch_step
        self._facts = [
            f"epoch {epoch}/{self._epochs}", f"step {epoch_step}/{self._steps}", f"loss {loss:.4f}",
            f"accuracy {accuracy:.2%}", f"lr {rate:.3g}", self._time_left(epoch, epoch_step),
            *([] if memory is None else [f"GPU {memory / 2**30:.1f} GB"]), f"{speed:,.0f} images/s",
        ]  # fmt: skip
        if isinstance(self._bar, _NotebookBar):
            self._bar.refresh()
        if self._bar is None and elapsed > LINE_EVERY:
            logger.info("%s", SPACE.join(self._facts))
        if elapsed > LINE_EVERY:
            self._since, self._seen = now, 0

    def epoch(self, epoch: int, metrics: dict[str, float], best: bool) -> None:
        parts = [f"epoch {epoch}/{self._epochs}"]
        for split in ("train", "val"):
            if f"{split}/loss" in metrics:
                loss, accuracy = metrics[f"{split}/loss"], metrics[f"{split}/accuracy"]
                parts.append(f"{split} loss {loss:.4f}  accuracy {accuracy:7.2%}")
        parts.append(f"{metrics['time/images_per_second']:,.0f} images/s  {metrics['time/epoch']:.1f} s" + "  *" * best)
        brief = SPACE.join(re.sub(" loss|accuracy +| images", "", part) for part in parts)
        logger.info("%s", "  |  ".join(parts), extra={"brief": brief})
        if epoch < self._last:
            self._start_epoch(epoch + 1)
        self._since, self._seen = time.monotonic(), 0

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start_epoch(self, epoch: int) -> None:
        self._epoch_step = 0
        self._facts = [f"epoch {epoch}/{self._epochs}", f"step 0/{self._steps}"]
        self._facts += [self._time_left(epoch, 0)] if self._done else []

    def _time_left(self, epoch: int, epoch_step: int) -> str:
        """Of the whole run, whose steps take as long as those that are done, evaluations between them included."""
        steps = (self._last - epoch) * self._steps + self._steps - epoch_step
        seconds = (time.monotonic() - self._began) / self._done * steps
        return f"{timedelta(seconds=round(seconds))} left"

    def _line(self) -> _Line:
        return _Line(self._facts, self._epoch_step, self._steps)


@dataclass(frozen=True)
class _Line:
    """The bar with as much of what there is to say as there is room for."""

    facts: list[str]
    done: int
    steps: int

    def text(self, width: int) -> str:
        facts = list(self.facts)
        if len(SPACE.join(facts)) > width:
            facts = [re.sub("^(step|accuracy|GPU) | images", "", fact) for fact in facts]
        while len(SPACE.join(facts)) > width and len(facts) > 1:
            facts.pop()
        return SPACE.join(facts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = Text(self.text(options.max_width), no_wrap=True, overflow="crop")
        line = Table.grid(padding=(0, len(SPACE), 0, 0))
        room = options.max_width - len(text) - len(SPACE)
        line.add_row(text, *([ProgressBar(self.steps, self.done, min(room, LONGEST_BAR))] if room > 3 else []))
        yield line

    def as_html(self) -> str:
        return f'<progress value="{self.done}" max="{self.steps}"></progress> {html.escape(SPACE.join(self.facts))}'


class _NotebookBar:
    """The bar as an output of a notebook's cell, which is replaced as training goes on."""

    def __init__(self, line: Callable[[], _Line]) -> None:
        from IPython.display import display  # a notebook has it

        self._line, self._drawn = line, time.monotonic()
        self._output = display({"text/html": line().as_html()}, raw=True, display_id=True)

    def refresh(self) -> None:
        """At most a few times a second."""
        if time.monotonic() - self._drawn > REDRAW_EVERY:
            self._drawn = time.monotonic()
            self._output.update({"text/html": self._line().as_html()}, raw=True)

    def stop(self) -> None:
        self._output.update({"text/html": ""}, raw=True)


def lines_of_test(accuracy: float, top5: float, loss: float, per_class: Sequence[tuple[str, float]]) -> list[str]:
    total = f"test     accuracy {accuracy:.2%}   top-5 {top5:.2%}   loss {loss:.4f}"
    present = [(name, share) for name, share in per_class if not math.isnan(share)]
    if len(present) > MANY_CLASSES:
        ranked = sorted(present, key=lambda pair: pair[1])
        (worst, low), (best, high) = ranked[0], ranked[-1]
        return [total, f"{' ' * INDENT}{len(present)} classes, from {worst} {low:.1%} to {best} {high:.1%}"]
    shares = ", ".join(f"{name} {share:.1%}".replace(" ", NO_BREAK) for name, share in present)
    return [total, *(f"{' ' * INDENT}{line}".replace(NO_BREAK, " ") for line in wrap(shares, NARROW))]


def where_lines(folder: Path, store: str | None, run_id: str | None, missing: str) -> list[str]:
    lines = [f"record   {folder}/ (config.yaml, metrics.jsonl, checkpoints/, figures/, run.log)"]
    if missing:
        lines.append(f"mlflow   {store} lacks {missing}; 'blitz sync {folder}' sends it")
    elif store is not None:
        lines.append(f"mlflow   run {run_id} in {store} (blitz ui opens it)")
    return lines

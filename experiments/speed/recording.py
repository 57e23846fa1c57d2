"""What recording costs the training loop: Net, batches of four, the loss of every step into MLflow.

    python experiments/speed/recording.py [--rounds 7] [--steps 5000] [OVERRIDE…]

Three ways take turns in one process: no recording; blitz's recorder (journal, and the process beside it that sends to
MLflow); and the same sending from a thread of this process, which is what most trackers do. Each has an MLflow store of
its own, made in a temporary folder. The script prints the share of the loop's time that is spent inside the recorder,
and the speed of each way relative to no recording, as the median over neighbouring rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import blitz
from blitz.run_folder.journal import JOURNAL, Journal
from blitz.run_folder.run_info import FINISHED, RunInfo
from blitz.runner.build import Setup, build
from blitz.tracking.recorder import Recorder
from blitz.tracking.sending import Delivery
from blitz.training.loop import Progress, fit

FLUSH_EVERY = 1000  # steps; a tutorial's epoch has 12,500
Rows = Iterable[tuple[int, Mapping[str, float]]]


def about(store: str) -> RunInfo:
    data = {"name": "none", "source": "none", "digest": "0", "rows": "0"}
    return RunInfo(uuid.uuid4().hex, store, "speed", "speed", time.time_ns() // 10**6, {}, {}, data)


class ByThread:
    """The journal, and a thread that sends it."""

    def __init__(self, folder: Path, store: str) -> None:
        self.journal = Journal(folder / JOURNAL)
        self.delivery = Delivery(folder, store, about(store))
        self.wake, self.done = threading.Event(), False
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def _send(self) -> None:
        while not self.done:
            self.wake.wait()
            self.wake.clear()
            self.delivery.send()

    def log_all(self, rows: Rows) -> None:
        self.journal.write(rows)

    def flush(self) -> None:
        self.journal.sync()
        self.wake.set()

    def close(self) -> None:
        self.done = True
        self.wake.set()
        self.thread.join()
        self.journal.close()


def train(
    job: Setup, steps: int, log_all: Callable[[Rows], None] | None, flush: Callable[[], None]
) -> tuple[float, float]:
    """Seconds of so many steps, and those of them that went into recording."""
    recording = 0.0
    started = time.perf_counter()
    for report in fit(job.learner, job.train, None, job.augment, job.mix, epochs=job.learner.epoch + 1):
        assert isinstance(report, Progress)
        losses = report.losses.tolist()
        if log_all is not None:
            before = time.perf_counter()
            first = report.step - len(losses) + 1
            log_all([(step, {"train/step_loss": loss}) for step, loss in enumerate(losses, start=first)])
            if report.epoch_step % FLUSH_EVERY == 0:
                flush()
            recording += time.perf_counter() - before
        if report.epoch_step >= steps:
            break
    seconds = time.perf_counter() - started
    job.learner.epoch, job.learner.epoch_step = job.learner.epoch + 1, 0
    return seconds, recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5000, help="a multiple of 1000")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    job = build(blitz.compose(["experiment=tutorial", "tracking=none", *options.overrides]))
    steps = min(options.steps, len(job.train) // FLUSH_EVERY * FLUSH_EVERY)

    with tempfile.TemporaryDirectory() as scratch:
        # A store each: SQLite refuses one of two transactions that both read and then want to write.
        folders = [Path(scratch, name) for name in ("process", "thread")]
        for folder in folders:
            folder.mkdir()
        stores = [f"sqlite:///{folder}/mlflow.db" for folder in folders]
        recorder = Recorder(folders[0], stores[0], about(stores[0]))
        by_thread = ByThread(folders[1], stores[1])
        by_thread.delivery.send()  # imports mlflow and makes the store, which a run pays once
        ways: dict[str, tuple[Callable[[Rows], None] | None, Callable[[], None]]] = {
            "no recording": (None, lambda: None),
            "process beside": (recorder.journal.write, recorder.flush),
            "thread": (by_thread.log_all, by_thread.flush),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        shares: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):  # the first is the warm-up
            for name, (log_all, flush) in ways.items():
                took, recording = train(job, steps, log_all, flush)
                time.sleep(1)  # what is still being sent belongs to neither neighbour
                if number:
                    seconds[name].append(took)
                    shares[name].append(recording / took)
        by_thread.close()
        missing = recorder.end(FINISHED, {})
        assert missing == "", missing

    print(f"Net, batch {job.settings.batch_size}, {job.device.describe()}, {options.rounds} rounds of {steps} steps")
    for name, taken in seconds.items():
        ratios = [plain / with_it for plain, with_it in zip(seconds["no recording"], taken, strict=True)]
        speed = steps * job.settings.batch_size / statistics.median(taken)
        print(
            f"{name:>15}: {speed:7,.0f} images/s, {statistics.median(ratios):.3f} of no recording "
            f"({min(ratios):.3f} to {max(ratios):.3f}), {statistics.median(shares[name]):.2%} of the loop inside it"
        )


if __name__ == "__main__":
    main()

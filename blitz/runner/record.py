"""What a run writes down, from what was asked for to what came out."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from blitz.redaction import redact
from blitz.run_folder import journal
from blitz.run_folder.candidates import keep_weights, leave_to_sweep
from blitz.run_folder.files import add_result, level_of_trouble, log_file
from blitz.run_folder.journal import (
    GRAD_NORM,
    JOURNAL,
    OBJECTIVE,
    STEP_LOSS,
    STEP_LR,
    TEST_ACCURACY,
    TEST_LOSS,
    TEST_TOP5,
    VAL_ACCURACY,
)
from blitz.run_folder.run_info import (
    FAILED,
    FINISHED,
    KILLED,
    PAUSE_NOTE,
    PAUSED,
    RUNGS,
    SECONDS,
    TAG_LENGTH,
    shortened,
)
from blitz.runner import description
from blitz.runner.build import Setup
from blitz.runner.failures import reword
from blitz.runner.find import BEST, LAST
from blitz.runner.start import RunStart
from blitz.runner.system_metrics import sampling
from blitz.terminal.names import in_epochs
from blitz.terminal.progress import lines_of_test
from blitz.terminal.signals import Paused
from blitz.tracking.recorder import Recorder
from blitz.training import checkpoint
from blitz.training.loop import EpochResult, Progress
from blitz.training.metrics import Evaluation, WindowMeans
from blitz.training.selection import Best, Selection

logger = logging.getLogger("blitz")

POINTS = 500  # of the curve of the learning rate


class Record:
    """One run's folder and its MLflow run. Nothing in it waits for MLflow before the end."""

    def __init__(self, setup: Setup, recorder: Recorder) -> None:
        self.setup = setup
        self.recorder = recorder
        self.folder = recorder.folder
        self.saved: tuple[int, int] | None = None  # epochs, and steps of the next one, that the last checkpoint holds
        self.history: list[dict[str, float]] = []  # the metrics of each epoch, and its number as `epoch`
        self.best, self.last = self.folder / BEST, self.folder / LAST
        self.weights: dict[str, str] = {}  # SHA-256 of the first, the best and the last
        self.tags: dict[str, str] = {}  # for MLflow, at the end
        self.tested_epoch: Best | None = None  # whose weights were tested, and what came out
        self.test: Evaluation | None = None
        self.missing = ""  # what MLflow lacks at the end
        self.is_paused = False
        self._final: dict[str, float] = {}  # the last value of each metric
        every = setup.settings.tracking.window(len(setup.train))
        self._windows = WindowMeans(every) if every else None
        self._step = 0  # the last one that was reported

    @property
    def run_id(self) -> str | None:
        return self.recorder.run_id

    def begin(self) -> None:
        """Record what training starts from."""
        self.weights["initial"] = checkpoint.fingerprint(self.setup.learner.model.state_dict())

    def resume(self, state: Mapping[str, Any], selection: Selection) -> None:
        """Continue the record from where the checkpoint `state` was saved."""
        for row in journal.epochs(self.folder / JOURNAL):
            if row["epoch"] <= state["epoch"]:
                self.history.append(row)
                self._final |= {name: value for name, value in row.items() if name != "epoch"}
        if self._windows is not None:
            self._windows.load_state_dict(state["windows"])
        self._step = state["step"]
        self.saved = state["epoch"], state["epoch_step"]
        self.weights = dict(state["weights"])
        learner, best = self.setup.learner, selection.best
        if best is not None and best.epoch == learner.epoch and not learner.epoch_step:
            self._save_best()  # the run was killed between its two checkpoints
        elif best is not None and not self.best.exists():
            logger.warning(
                "%s is gone, and with it the weights of epoch %d, the best one so far; the run can be tested only if a "
                "later epoch is better", BEST, best.epoch,
            )  # fmt: skip

    def log_progress(self, report: Progress) -> list[float]:
        """Record the losses of a report's steps; returns them, read from the device."""
        losses: list[float] = report.losses.tolist()
        self._step = report.step
        if self._windows is not None:
            metrics = {STEP_LOSS: losses}
            if report.grad_norms is not None:
                metrics[GRAD_NORM] = report.grad_norms.tolist()
            self._write_windows(self._windows.add(report.step, metrics))
        return losses

    def close_window(self) -> None:
        """Record the mean of the last steps, where they are fewer than a window."""
        if self._windows is not None:
            self._write_windows(self._windows.flush(self._step))

    def _write_windows(self, windows: list[tuple[int, dict[str, float]]]) -> None:
        """With the learning rate of each window's last step, unless it is constant: `train/lr`, once an epoch, hides a
        warm-up within the first.
        """
        if self.setup.settings.schedule["name"] != "constant":
            windows = [(step, {**means, STEP_LR: self.setup.learner.rate(step)}) for step, means in windows]
        self.recorder.journal.write(windows)

    def log_epoch(self, result: EpochResult, selection: Selection, best: bool) -> None:
        """Record an epoch's metrics and save where training stands; keep the weights where they are the best.

        With what was evaluated comes the best of it so far, the metric that runs are ranked by.
        """
        metrics = dict(result.metrics)
        if selection.best is not None and (result.validation is not None or self.setup.validation is None):
            metrics[OBJECTIVE] = selection.best.accuracy
        self.history.append({"epoch": result.epoch, **metrics})
        self._log(metrics, result.epoch)
        if best:
            self.weights["best"] = checkpoint.fingerprint(self.setup.learner.evaluated.state_dict())
        self.save_state(selection)
        if best:  # after the state, from which it can be made again
            self._save_best()

    def save_state(self, selection: Selection) -> None:
        """Save everything that training needs to be resumed from here, be it within an epoch."""
        self.recorder.flush()
        state = checkpoint.snapshot(self.setup.learner)
        self.weights["last"] = checkpoint.fingerprint({key: state[key] for key in ("model", "average")})
        about = {
            "record": self.recorder.about.record,
            "journal": self.recorder.journal.position,
            "selection": selection.state_dict(),
            "windows": self._windows.state_dict() if self._windows else {},
            "weights": dict(self.weights),
        }
        checkpoint.save({**state, **about}, self.last)
        self.saved = state["epoch"], state["epoch_step"]

    def _save_best(self) -> None:
        state = checkpoint.weights(self.setup.learner)
        checkpoint.save({**state, "about": description.about_model(self.setup)}, self.best)

    def log_test(self, test: Evaluation, best: Best) -> None:
        """Record what the best weights make of the test images, in metrics and figures, and the model if wanted."""
        settings = self.setup.settings
        self._log({TEST_LOSS: test.loss, TEST_ACCURACY: test.accuracy, TEST_TOP5: test.top5}, best.epoch)
        per_class = list(zip(self.setup.dataset.classes, test.per_class, strict=True))
        for line in lines_of_test(test.accuracy, test.top5, test.loss, per_class):
            logger.info("%s", line)
        self.tested_epoch, self.test = best, test
        if settings.tracking.figures:
            self._save_figures(test)
        if settings.tracking.log_model:
            self._save_model()

    def pause(self, epochs: float, selection: Selection, sweep: str) -> None:
        """Note that the search of a sweep has paused it after so many epochs, and what it ranks it by."""
        objective = self._objective_now(selection)
        rungs = {**self.recorder.about.rungs, epochs: objective}
        all_epochs = self.setup.settings.epochs
        self.is_paused = True
        self.tags |= {
            RUNGS: json.dumps(rungs),
            PAUSE_NOTE: f"after {round(epochs, 2):g} of {in_epochs(all_epochs)}, with an objective of {objective:.2%}",
        }
        logger.info("paused   %s", self.tags[PAUSE_NOTE])
        leave_to_sweep(self.folder, sweep)

    def _objective_now(self, selection: Selection) -> float:
        """What OBJECTIVE would be if training ended here.

        Within an epoch, and after one that was not evaluated, it is measured now, and not recorded as a metric: a run
        that never stops here has none either.
        """
        setup, best = self.setup, selection.best
        learner = setup.learner
        if setup.validation is None:
            return learner.sums.accuracy if learner.epoch_step or best is None else best.accuracy
        before = best.accuracy if best is not None else 0.0
        if best is not None and not learner.epoch_step and VAL_ACCURACY in self.history[-1]:
            return before
        return max(before, learner.evaluate(setup.validation).accuracy)

    def outcome(self, status: str) -> str:
        """In words, for the note of a run that has ended."""
        if status == PAUSED:
            return f"It is paused {self.tags[PAUSE_NOTE]}."
        if self.tested_epoch is not None and self.test is not None:
            return description.outcome(self.test, self.tested_epoch, self.setup.validation is not None)
        done, epochs = self.setup.learner.epoch, self.setup.settings.epochs
        return f"It ended as {status}, after {done} of {epochs} epochs."

    def result(self) -> dict[str, Any]:
        """What came out, to the last bit."""
        return {"weights": self.weights, "metrics": {name: value.hex() for name, value in self._final.items()}}

    def _log(self, metrics: dict[str, float], step: int) -> None:
        self.recorder.log(metrics, step)
        self._final |= metrics

    def _save_model(self) -> None:
        from blitz.tracking import model

        try:
            model.save(self.setup.classifier, self.setup.splits.test.images[: model.EXAMPLES], self.folder / model.NAME)
        except model.CannotExport as error:
            logger.warning("tracking.log_model=true: %s; checkpoints/best.pt holds its weights", error)

    def _save_figures(self, test: Evaluation) -> None:
        from blitz.figures import canvas, one_run  # matplotlib takes most of a second

        classes, counts = self.setup.dataset.classes, test.confusion.numpy()
        split = self.setup.splits.test
        pictures = {
            "curves": one_run.curves(self.history, self._rates()),
            "confusion": one_run.confusion(counts, classes),
            "per_class_accuracy": one_run.per_class_accuracy(counts, classes),
            "worst_mistakes": one_run.worst_mistakes(
                split.images.numpy(), split.labels.numpy(), test.predicted.numpy(), test.confidence.numpy(), classes
            ),
        }
        for stem, figure in pictures.items():
            if figure is not None:
                canvas.put_name(figure, self.recorder.about.name)
                canvas.save(figure, self.folder / "figures" / f"{stem}.png")

    def _rates(self) -> list[tuple[float, float]]:
        """The learning rate by epoch, at several hundred steps."""
        learner, steps_per_epoch = self.setup.learner, len(self.setup.train)
        steps = range(1, learner.step + 1, max(1, learner.step // POINTS))
        return [(step / steps_per_epoch, learner.rate(step)) for step in steps]


@contextmanager
def record_run(setup: Setup, start: RunStart) -> Iterator[Record]:
    """Keep a run's record, and close it as FINISHED, KILLED (Ctrl-C, SIGTERM) or FAILED, its log complete.

    The log is closed before MLflow gets it: what there is to say about MLflow's end of it is printed alone.

    Raises BadInput for errors that the user can do something about; RunFailed where the disk fails.
    """
    settings, folder, facts = setup.settings, start.folder, start.facts
    status, began = FAILED, time.monotonic()
    with ExitStack() as log:
        log.enter_context(log_file(folder, logger))
        recorder = Recorder(folder, start.uri, start.about, start.resumed_at)
        record = Record(setup, recorder)
        every = settings.tracking.system_metrics
        try:
            for line in description.introduction(setup):
                logger.info("%s", line)
            for warning in start.warnings:
                logger.warning("%s", warning)
            first = journal.next_sample(folder / JOURNAL) if start.resumed_at is not None else 0
            threads = setup.device.threads if setup.job is None else 0  # the others may be jobs of the same sweep
            with sampling(recorder.log, every, first, threads) if every else nullcontext():
                yield record
            status = PAUSED if record.is_paused else FINISHED
        except Paused:
            status = PAUSED
            done = round(setup.learner.step / len(setup.train), 2)
            record.tags[PAUSE_NOTE] = f"after {done:g} of {in_epochs(settings.epochs)}: its sweep has spent its budget"
            logger.info("paused   %s", record.tags[PAUSE_NOTE])
            raise
        except KeyboardInterrupt:
            status = KILLED
            logger.warning("stopped; 'blitz resume %s' continues it", folder)
            raise
        except Exception as error:
            logger.error("the run failed: %s: %s", type(error).__name__, error, exc_info=True)
            with contextlib.suppress(OSError):  # of a full disk, which may be why it failed
                record.close_window()
            lines = "".join(traceback.format_exception(error))
            record.tags |= {
                "error": shortened(redact(f"{type(error).__name__}: {error}"), 500),
                "traceback": redact(lines)[-TAG_LENGTH:],
            }
            worded = reword(error, setup, folder, record.saved)
            (worded or error).add_note(f"its log: {folder / 'run.log'}")
            if worded is None:
                raise
            raise worded from None
        finally:
            if status == FINISHED:
                _settle_checkpoints(record)
            outcome, run_id = record.outcome(status), record.run_id
            note = description.note(setup, start.overrides, facts["code"], folder, outcome, run_id)
            record.tags |= {f"weights.{which}": sha256 for which, sha256 in record.weights.items()}
            if start.resumed_at is not None and start.seconds is not None:
                record.tags[SECONDS] = f"{start.seconds + time.monotonic() - began:.3f}"
            record.tags["mlflow.note.content"] = shortened(redact(note), TAG_LENGTH)
            level = level_of_trouble()
            add_result(folder, facts, record.result(), level)
            log.close()
            try:
                record.missing = recorder.end(status, record.tags, level)
            except KeyboardInterrupt:
                logger.warning("not waiting for MLflow; 'blitz sync %s' sends what it lacks", folder)
                raise


def _settle_checkpoints(record: Record) -> None:
    """After a run that has finished; one that was stopped needs both to be resumed."""
    keep, job = record.setup.settings.checkpoint.keep, record.setup.job
    if keep is None and job is not None:
        leave_to_sweep(record.folder, job.sweep)
    else:
        keep_weights(record.folder)
    keep = keep or ("all" if job is None else "best")
    for name, path in (("best", record.best), ("last", record.last)):
        if keep not in ("all", name):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("checkpoint.keep=%s: %s: %s", keep, error.filename, error.strerror)

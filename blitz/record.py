"""What a run writes down, from what was asked for to what came out."""

from __future__ import annotations

import errno
import logging
import platform
import shutil
import statistics
import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from blitz import description
from blitz.display import test_lines
from blitz.errors import BadInput, RunFailed
from blitz.job import Job
from blitz.loading import BEST
from blitz.tracking import figures, git, provenance
from blitz.tracking.about import DIGEST_LENGTH, TAG_LENGTH, About, shortened, texts
from blitz.tracking.credentials import redact, redact_command, redact_values
from blitz.tracking.folder import add_result, log_file, new_folder, write_opening
from blitz.tracking.recorder import Recorder
from blitz.tracking.system import Sampler
from blitz.training import checkpoint
from blitz.training.loop import EpochResult, Progress
from blitz.training.metrics import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("blitz")

DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


class Record:
    """One run's folder and its MLflow run. Nothing in it waits for MLflow before the end."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self.job = job
        self.recorder = recorder
        self.folder = recorder.folder
        self.history: list[dict[str, float]] = []  # the metrics of each epoch, and its number as `epoch`
        self.best = self.folder / BEST
        self.weights: dict[str, str] = {}  # SHA-256 of the best and of the last epoch's
        self.final: dict[str, float] = {}  # the last value of each metric
        self.outcome = ""
        self.missing = ""  # what MLflow lacks at the end
        self._losses: list[float] = []  # of steps since the last recorded train/step_loss
        self._best_epoch = 0

    @property
    def run_id(self) -> str | None:
        return self.recorder.run_id

    def progress(self, report: Progress) -> list[float]:
        """Record the losses of a report's steps; returns them, read from the device."""
        losses: list[float] = report.losses.tolist()
        if every := self.job.settings.tracking.step_loss:
            rows = []
            for step, loss in enumerate(losses, start=report.step - len(losses) + 1):
                self._losses.append(loss)
                if step % every == 0:
                    rows.append((step, {"train/step_loss": statistics.fmean(self._losses)}))
                    self._losses.clear()
            self.recorder.log_all(rows)
        if report.grad_norms is not None:
            self.recorder.log({"train/grad_norm": float(report.grad_norms.mean())}, report.step)
        return losses

    def epoch(self, result: EpochResult, best: bool) -> None:
        """Record an epoch's metrics and save where training stands; keep the weights where they are the best."""
        self.history.append({"epoch": result.epoch, **result.metrics})
        self._log(result.metrics, result.epoch)
        self.recorder.flush()
        if best:
            self._best_epoch = result.epoch
            state = checkpoint.weights(self.job.learner)
            checkpoint.save({**state, "about": description.about_model(self.job)}, self.best)
            self.weights["best"] = checkpoint.fingerprint(state["model"])
        self.save_state()

    def save_state(self) -> None:
        """Save everything that training needs to go on from here, be it within an epoch."""
        state = checkpoint.snapshot(self.job.learner)
        checkpoint.save({**state, "best_epoch": self._best_epoch}, self.best.with_name("last.pt"))
        self.weights["last"] = checkpoint.fingerprint({key: state[key] for key in ("model", "average")})

    def tested(self, test: Evaluation, objective: float) -> None:
        """Record what the best weights make of the test images, in figures and pictures, and the model if wanted."""
        settings = self.job.settings
        self._log({"test/loss": test.loss, "test/accuracy": test.accuracy, "test/top5": test.top5}, self._best_epoch)
        per_class = list(zip(self.job.dataset.classes, test.per_class, strict=True))
        for line in test_lines(test.accuracy, test.top5, test.loss, per_class):
            logger.info("%s", line)
        self.outcome = description.outcome(test, self._best_epoch, objective, self.job.validation is not None)
        if settings.tracking.figures:
            for name, figure in self._pictures(test).items():
                figures.save(figure, self.folder / "figures" / f"{name}.png")
        if settings.tracking.log_model:
            self._save_model()

    def _log(self, metrics: dict[str, float], step: int) -> None:
        self.recorder.log(metrics, step)
        self.final |= metrics

    def _save_model(self) -> None:
        from blitz.tracking import model

        try:
            model.save(self.job.classifier, self.job.splits.test.images[: model.EXAMPLES], self.folder / model.NAME)
        except model.CannotExport as error:
            logger.warning("tracking.log_model=true: %s; checkpoints/best.pt holds its weights", error)

    def _pictures(self, test: Evaluation) -> dict[str, Figure]:
        classes, counts = self.job.dataset.classes, test.confusion.numpy()
        split = self.job.splits.test
        return {
            "curves": figures.curves(self.history),
            "confusion": figures.confusion(counts, classes),
            "per_class_accuracy": figures.per_class_accuracy(counts, classes),
            "worst_mistakes": figures.worst_mistakes(
                split.images.numpy(), split.labels.numpy(), test.predicted.numpy(), test.confidence.numpy(), classes
            ),
        }


@contextmanager
def recording(job: Job, uri: str | None, overrides: Sequence[str]) -> Iterator[Record]:
    """Open a run's record, and close it as FINISHED, KILLED (Ctrl-C, SIGTERM) or FAILED, its log complete.

    Raises BadInput where there can be no folder, and for errors that the user can do something about; RunFailed where
    the disk fails.
    """
    settings = job.settings
    facts = provenance.collect(sys.argv)
    facts["data"] = description.about_data(job)
    facts["device"] = description.about_device(job)
    folder = _opened(job, overrides, facts)
    about = _about(job, uri, overrides, facts, folder)
    status, tags = "FAILED", {}
    with log_file(folder, logger):
        recorder = Recorder(folder, uri, about)
        record = Record(job, recorder)
        every = settings.tracking.system_metrics
        try:
            for line in description.introduction(job):
                logger.info("%s", line)
            with Sampler(recorder.log, every) if every else nullcontext():
                yield record
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            logger.warning("stopped; the record so far is in %s", folder)
            raise
        except Exception as error:
            logger.error("the run failed: %s: %s", type(error).__name__, error, exc_info=True)
            told = "".join(traceback.format_exception(error))
            tags = {
                "error": shortened(redact(f"{type(error).__name__}: {error}"), 500),
                "traceback": redact(told)[-TAG_LENGTH:],
            }
            worded = _in_our_words(error, record)
            if worded is None:
                raise
            raise worded from None
        finally:
            _settle_checkpoints(settings.checkpoint.keep, folder)
            note = description.note(job, overrides, facts["code"], folder, record.outcome or f"It ended as {status}.")
            tags |= {f"weights.{which}": sha256 for which, sha256 in record.weights.items()}
            tags["mlflow.note.content"] = shortened(redact(note), TAG_LENGTH)
            metrics = {name: value.hex() for name, value in record.final.items()}
            add_result(folder, facts, {"weights": record.weights, "metrics": metrics})
            try:
                record.missing = recorder.end(status, tags)
            except KeyboardInterrupt:
                logger.warning("not waiting for MLflow; 'blitz sync %s' sends what it lacks", folder)
                raise


def _opened(job: Job, overrides: Sequence[str], facts: dict[str, Any]) -> Path:
    """The run's folder with what was asked for in it, or none at all."""
    folder = new_folder(job.settings.runs_dir)
    root = facts["code"]["root"]
    try:
        diff = git.diff(Path(root)) if root is not None else ""
        write_opening(folder, redact_values(job.settings.record()), redact_command(overrides), facts, diff)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BadInput(
            f"runs_dir={job.settings.runs_dir}: cannot be written to ({error.strerror}); name another with runs_dir="
        ) from None
    return folder


def _about(job: Job, uri: str | None, overrides: Sequence[str], facts: dict[str, Any], folder: Path) -> About:
    dataset, process = job.dataset, psutil.Process()
    started = {"pid": str(process.pid), "pid.started_at": f"{process.create_time():.2f}"}
    return About(
        record=uuid.uuid4().hex,
        store=redact(uri) if uri else None,
        experiment=job.settings.tracking.experiment,
        name=redact(description.name(job, overrides)),
        started_at=time.time_ns() // 1_000_000,
        host=platform.node(),
        pid=process.pid,
        pid_started_at=process.create_time(),
        params=texts(redact_values({**job.settings.notable(), "device.threads": job.device.threads})),
        tags={
            tag: shortened(text, TAG_LENGTH)
            for tag, text in redact_values({**started, **description.tags(job, overrides, facts, folder)}).items()
        },
        dataset={
            "name": dataset.name,
            "source": redact(dataset.source),
            "digest": dataset.fingerprint[:DIGEST_LENGTH],
            "rows": str(len(job.splits.train)),
        },
    )


def _in_our_words(error: Exception, record: Record) -> Exception | None:
    """The same with what the user can do about it, for errors of which that is known."""
    job = record.job
    size = job.settings.batch_size
    if isinstance(error, torch.OutOfMemoryError):
        half = max(1, (job.settings.micro_batch_size or size) // 2)
        return BadInput(f"batch_size={size}: out of memory on {job.device.torch}; set micro_batch_size={half}")
    if "Expected more than 1 value per channel" in str(error):
        return BadInput(
            f"batch_size={size}: leaves a batch of one image, too few for batch normalisation; choose another size"
        )
    if "does not have a deterministic implementation" in str(error):
        return BadInput(f"device.deterministic=true: {str(error).split('.')[0]}; set device.deterministic=false")
    if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
        epochs = len(record.history)
        kept = f"checkpoints/last.pt holds epoch {epochs}" if epochs else "no epoch was finished"
        return RunFailed(f"{error.filename or record.folder}: {error.strerror}; {kept}, the record is whole until then")
    return None


def _settle_checkpoints(keep: str, folder: Path) -> None:
    for name in ("best", "last"):
        if keep not in ("all", name):
            try:
                (folder / "checkpoints" / f"{name}.pt").unlink(missing_ok=True)
            except OSError as error:
                logger.warning("checkpoint.keep=%s: %s: %s", keep, error.filename, error.strerror)

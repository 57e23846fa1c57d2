"""What a run writes down, from what was asked for to what came out."""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blitz.display import test_lines
from blitz.errors import BadInput
from blitz.job import Job
from blitz.loading import BEST
from blitz.tracking import figures, git, provenance
from blitz.tracking.folder import log_file, new_folder, write_opening
from blitz.tracking.recorder import About, Recorder
from blitz.training import checkpoint
from blitz.training.loop import EpochResult, Progress
from blitz.training.metrics import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("blitz")


class Record:
    """One run's folder and its MLflow run. Nothing in it waits for MLflow before the end."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self.job = job
        self.recorder = recorder
        self.folder = recorder.folder
        self.history: list[dict[str, float]] = []  # the metrics of each epoch, and its number as `epoch`
        self.best = self.folder / BEST
        self._losses: list[float] = []  # of steps since the last recorded train/step_loss
        self._best_epoch = 0

    @property
    def run_id(self) -> str | None:
        return self.recorder.run_id

    def progress(self, report: Progress) -> list[float]:
        """Record the losses of a report's steps; returns them, read from the device."""
        self.recorder.start()
        losses: list[float] = report.losses.tolist()
        if every := self.job.settings.tracking.step_loss:
            for step, loss in enumerate(losses, start=report.step - len(losses) + 1):
                self._losses.append(loss)
                if step % every == 0:
                    self.recorder.log({"train/step_loss": statistics.fmean(self._losses)}, step)
                    self._losses.clear()
        if report.grad_norms is not None:
            self.recorder.log({"train/grad_norm": float(report.grad_norms.mean())}, report.step)
        return losses

    def epoch(self, result: EpochResult, best: bool) -> None:
        """Record an epoch's metrics and save where training stands; keep the weights where they are the best."""
        self.history.append({"epoch": result.epoch, **result.metrics})
        self.recorder.log(result.metrics, result.epoch)
        learner = self.job.learner
        if best:
            self._best_epoch = result.epoch
            checkpoint.save({**checkpoint.weights(learner), "about": _about_model(self.job)}, self.best)
        checkpoint.save(
            {**checkpoint.snapshot(learner), "best_epoch": self._best_epoch}, self.best.with_name("last.pt")
        )

    def tested(self, test: Evaluation) -> None:
        """Record what the best weights make of the test images, in figures and pictures."""
        metrics = {"test/loss": test.loss, "test/accuracy": test.accuracy, "test/top5": test.top5}
        self.recorder.log(metrics, self._best_epoch)
        per_class = list(zip(self.job.dataset.classes, test.per_class, strict=True))
        for line in test_lines(test.accuracy, test.top5, test.loss, per_class):
            logger.info("%s", line)
        if self.job.settings.tracking.figures:
            for name, figure in self._pictures(test).items():
                path = self.folder / "figures" / f"{name}.png"
                figures.save(figure, path)
                self.recorder.artifact(path, "figures")

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

    Raises BadInput where there can be no folder, and for errors that the user can do something about.
    """
    settings = job.settings
    facts = provenance.collect(sys.argv)
    facts["data"] = _about_data(job)
    facts["device"] = job.device.describe()
    root = facts["code"]["root"]
    folder = new_folder(settings.runs_dir)
    opening = write_opening(
        folder, settings.record(), overrides, facts, git.diff(Path(root)) if root is not None else ""
    )
    recorder = Recorder(folder, uri, _about_run(job, overrides, facts))
    status = "FAILED"
    with log_file(folder, logger) as log:
        try:
            for path in opening:
                recorder.artifact(path)
            for line in _introduction(job):
                logger.info("%s", line)
            record = Record(job, recorder)
            yield record
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            logger.warning("stopped; the record so far is in %s", folder)
            raise
        except Exception as error:
            logger.error("the run failed: %s: %s", type(error).__name__, error, exc_info=True)
            remedy = _remedy(error, job)
            if remedy is not None:
                raise BadInput(remedy) from None
            raise
        finally:
            _settle_checkpoints(settings.checkpoint.keep, recorder)
            recorder.artifact(log)
            recorder.end(status)


def _remedy(error: Exception, job: Job) -> str | None:
    """What the user can change about an error that only shows while a model computes; None for any other error."""
    size = job.settings.batch_size
    if isinstance(error, torch.OutOfMemoryError):
        half = max(1, (job.settings.micro_batch_size or size) // 2)
        return f"batch_size={size}: out of memory on {job.device.torch}; set micro_batch_size={half}"
    if "Expected more than 1 value per channel" in str(error):
        return f"batch_size={size}: leaves a batch of one image, too few for batch normalisation; choose another size"
    if "does not have a deterministic implementation" in str(error):
        return f"device.deterministic=true: {str(error).split('.')[0]}; set device.deterministic=false"
    return None


def _settle_checkpoints(keep: str, recorder: Recorder) -> None:
    for name in ("best", "last"):
        path = recorder.folder / "checkpoints" / f"{name}.pt"
        if keep not in ("all", name):
            path.unlink(missing_ok=True)
        elif name == "best" and path.exists():
            recorder.artifact(path, "checkpoints")


def _introduction(job: Job) -> list[str]:
    splits, dataset = job.splits, job.dataset
    number = sum(parameter.numel() for parameter in job.learner.model.parameters())
    channels, height, width = splits.train.images.shape[1:]
    held_out = f"{len(splits.validation.labels):,} validation, " if splits.validation else "no validation, "
    return [
        f"data     {dataset.name}: {len(splits.train.labels):,} training, {held_out}{len(splits.test.labels):,} test "
        f"images of {channels} x {height} x {width}, {len(dataset.classes)} classes",
        f"model    {job.settings.model['name']}: {number:,} parameters",
        f"device   {job.device.describe()}",
    ]


def _about_model(job: Job) -> dict[str, Any]:
    """What `load_model` builds the model from."""
    return {
        "model": {**job.settings.model, "weights": None},
        "classes": list(job.dataset.classes),
        "input_shape": list(job.splits.train.images.shape[1:]),
        "mean": list(job.splits.mean),
        "std": list(job.splits.std),
    }


def _about_data(job: Job) -> dict[str, Any]:
    sizes = {name: len(part.labels) for name, part in vars(job.splits).items() if hasattr(part, "labels")}
    return {
        "name": job.dataset.name,
        "source": job.dataset.source,
        "fingerprint": job.dataset.fingerprint,
        "images": sizes,
        "classes": list(job.dataset.classes),
        "mean": list(job.splits.mean),
        "std": list(job.splits.std),
    }


def _about_run(job: Job, overrides: Sequence[str], facts: dict[str, Any]) -> About:
    settings, dataset = job.settings, job.dataset
    default_name = f"{settings.model['name']} on {dataset.name}"
    params = {key: value for key, value in settings.record().items() if key not in ("tags", "notes", "name")}
    return About(
        experiment=settings.tracking.experiment,
        name=settings.name or " ".join(override.lstrip("+") for override in overrides) or default_name,
        params={**params, "threads": job.device.threads},
        tags={
            **provenance.tags(facts),
            "config_hash": settings.config_hash(dataset.fingerprint),
            "group_hash": settings.group_hash(dataset.fingerprint),
            **settings.tags,
        },
        dataset_name=dataset.name,
        dataset_source=dataset.source,
        dataset_digest=dataset.fingerprint,
        notes=settings.notes,
    )

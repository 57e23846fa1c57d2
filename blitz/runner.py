"""One run, start to finish: the only place where settings, parts, training and tracking meet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blitz.display import Display, where_lines
from blitz.interrupts import Interrupt, graceful
from blitz.job import Job, build
from blitz.loading import pinned
from blitz.record import Record, recording
from blitz.settings import Settings
from blitz.tracking import health, store
from blitz.tracking.credentials import redact, remember
from blitz.tracking.writer import Writer
from blitz.training import checkpoint
from blitz.training.loop import EpochResult, Progress, fit
from blitz.training.metrics import Evaluation
from blitz.training.profiling import Profiler

logger = logging.getLogger("blitz")


@dataclass(frozen=True)
class Result:
    """What a run found, and where it is recorded."""

    objective: float  # validation accuracy of the best epoch; training accuracy of the last without a validation split
    best_epoch: int
    history: list[dict[str, float]]  # the metrics of each epoch
    test: Evaluation  # of the best weights
    classes: tuple[str, ...]
    folder: Path
    run_id: str | None  # None where there is no store or it failed


def run(settings: Settings, overrides: Sequence[str] = ()) -> Result:
    """Train, validate and test what the settings say; `overrides` are recorded as what was asked for.

    Raises BadInput for what cannot be done as asked, NonFiniteLoss for a run that diverged.
    """
    with Display() as display:
        uri = tracking_store(settings)
        if uri is not None:
            Writer.prepare()
        job = build(pinned(settings))
        with recording(job, uri, overrides) as record:
            with graceful() as interrupt:
                best = train(job, record, display, interrupt)
            if interrupt.requested:  # after training's last look
                raise interrupt.error()
            test = job.learner.evaluate(job.test, settings.eval_flip)
            record.tested(test, best.objective)
        for line in where_lines(record.folder, redact(uri) if uri else None, record.run_id, record.missing):
            logger.info("%s", line)
        return Result(
            best.objective, best.epoch, record.history, test, job.dataset.classes, record.folder, record.run_id
        )


def tracking_store(settings: Settings) -> str | None:
    """The store to record in, None for none. Raises BadInput for one that cannot be, or does not answer now."""
    tracking = settings.tracking
    if tracking.name == "none":
        return None
    uri = store.resolve(tracking.uri)
    remember(uri)
    try:
        health.check(uri)
    except health.Unreachable as outage:
        if tracking.offline == "fail":
            raise
        logger.warning("%s", outage)
        logger.warning("tracking.offline=allow: training all the same; the record is sent when the store is back")
    return uri


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept."""

    epoch: int
    accuracy: float
    loss: float

    def beaten_by(self, other: Best) -> bool:
        return (other.accuracy, -other.loss) > (self.accuracy, -self.loss)

    @property
    def objective(self) -> float:
        return self.accuracy


def train(job: Job, record: Record, display: Display, interrupt: Interrupt) -> Best:
    """Train to the end, or until it gets no better; leaves the best weights in the learner.

    An interrupt ends it after the step under way, with a checkpoint; then it raises what the interrupt stands for.

    The best epoch is the one of the highest validation accuracy, or the last where there is no validation split.
    """
    settings = job.settings
    best: Best | None = None
    worse = 0  # evaluations since the best one
    profiler = Profiler(job.device.torch) if settings.profile else None
    display.begin(settings.epochs, len(job.train), settings.batch_size)
    for report in fit(
        job.learner,
        job.train,
        job.validation,
        job.augment,
        job.mix,
        epochs=settings.epochs,
        eval_every=settings.eval_every,
        eval_flip=settings.eval_flip,
        report_every=settings.profile or settings.report_every,
        stop=lambda: interrupt.requested,
    ):
        if isinstance(report, Progress):
            losses = record.progress(report)
            mean = sum(losses) / len(losses)
            display.progress(report.epoch, report.epoch_step, len(losses), mean, report.accuracy)
            if profiler is not None:
                logger.info("%s", profiler.stop(record.folder))
                profiler = None
            if interrupt.requested:
                record.save_state()
                raise interrupt.error()
            continue
        candidate = _candidate(report, job)
        improved = candidate is not None and (best is None or job.validation is None or best.beaten_by(candidate))
        best, worse = (candidate, 0) if improved else (best, worse + (candidate is not None))
        record.epoch(report, best=improved)
        display.epoch(report.epoch, report.metrics, best=improved)
        if interrupt.requested:
            raise interrupt.error()
        if settings.early_stopping is not None and worse >= settings.early_stopping:
            logger.info("stopped early: no better validation accuracy in the last %d evaluations", worse)
            break
    display.end()
    assert best is not None  # the last epoch is always evaluated
    job.learner.evaluated.load_state_dict(checkpoint.load(record.best)["model"])
    return best


def _candidate(report: EpochResult, job: Job) -> Best | None:
    if job.validation is None:
        return Best(report.epoch, report.metrics["train/accuracy"], report.metrics["train/loss"])
    if report.validation is None:
        return None
    return Best(report.epoch, report.validation.accuracy, report.validation.loss)

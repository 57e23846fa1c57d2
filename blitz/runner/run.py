"""One run, start to finish: the only place where settings, parts, training and tracking meet."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blitz.config.recorded import RecordedDevice
from blitz.config.settings import Settings
from blitz.redaction import redact, remember
from blitz.run_folder.files import sole_trainer
from blitz.run_folder.run_info import SWEEP, SWEEP_JOB, RunInfo
from blitz.runner.build import JobInfo, Setup, build
from blitz.runner.find import pinned
from blitz.runner.record import Record, recording
from blitz.runner.resume import ResumePoint
from blitz.runner.start import RunStart, continue_run, start_run
from blitz.terminal.progress import Display, where_lines
from blitz.terminal.signals import Interrupt, graceful
from blitz.tracking import health, store
from blitz.tracking.writer import Writer
from blitz.training import checkpoint
from blitz.training.loop import EpochResult, Progress, fit
from blitz.training.metrics import Evaluation
from blitz.training.profiling import profiled
from blitz.training.selection import Selection

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
    seconds: float | None = None  # wall time; None for a run that was resumed


def run(settings: Settings, overrides: Sequence[str] = (), job: JobInfo | None = None) -> Result:
    """Train, validate and test what the settings say; `overrides` are recorded as what was asked for.

    `job`: which job of a sweep it is. Raises BadInput for what cannot be done as asked, NonFiniteLoss for a run that
    diverged.
    """
    with Display() as display:
        return _result(_begun(settings, overrides, display, job=job))


def repeat(
    settings: Settings, overrides: Sequence[str], before: RecordedDevice, tags: Mapping[str, str], until: int | None
) -> Record:
    """The same once more, set up as the device of the run that it repeats, with `tags` added to MLflow's.

    After `until` epochs it ends, with the course of a run of all of them, and tests nothing.
    """
    with Display() as display:
        return _begun(settings, overrides, display, before, tags, until)


def resume(folder: Path, overrides: Sequence[str] = (), uri: str | None = None, job: JobInfo | None = None) -> Result:
    """Go on with a run from its last checkpoint, in the same folder and the same MLflow run.

    `overrides` change the values that `resuming.ACCEPTED` names; `uri` is the store it was recorded in, where its
    address holds credentials; `job` is which job of a sweep it is. Raises BadInput where there is nothing to
    go on with, or where it would not be the same run; nothing has changed then.
    """
    RunInfo.load(folder)  # before a lock is put into a folder that is no run's
    with Display() as display, sole_trainer(folder):
        earlier = ResumePoint.load(folder, overrides)
        where = earlier.store(uri)
        uri = tracking_store(earlier.settings, where) if where is not None else None
        if uri is not None:
            Writer.prepare()
        setup = earlier.setup(job)
        start = continue_run(setup, uri, folder, earlier.about, earlier.provenance.facts(), earlier.state)
        return _result(_recorded(setup, start, display, earlier.state))


def _begun(
    settings: Settings,
    overrides: Sequence[str],
    display: Display,
    before: RecordedDevice | None = None,
    tags: Mapping[str, str] | None = None,
    until: int | None = None,
    job: JobInfo | None = None,
) -> Record:
    uri = tracking_store(settings)
    if uri is not None:
        Writer.prepare()
    setup = build(pinned(settings), before, job)
    of_job = {SWEEP: job.sweep, SWEEP_JOB: str(job.number)} if job is not None else {}
    start = start_run(setup, uri, overrides, {**of_job, **(tags or {})})
    with sole_trainer(start.folder):
        return _recorded(setup, start, display, until=until)


def _recorded(
    setup: Setup, start: RunStart, display: Display, state: Mapping[str, Any] | None = None, until: int | None = None
) -> Record:
    """Train, from a checkpoint's `state` on where there is one, and test."""
    with recording(setup, start) as record:
        selection = Selection(setup.validation is not None, setup.settings.early_stopping)
        if state is not None:
            selection.load_state_dict(state["selection"])
            record.go_on(state, selection)
        else:
            record.begin()
        with graceful() as interrupt:
            train(setup, record, selection, display, interrupt, until)
        if interrupt.requested:  # after training's last look
            raise interrupt.error()
        if until is None:
            best = selection.best
            assert best is not None  # the last epoch is always evaluated
            setup.learner.evaluated.load_state_dict(checkpoint.load(record.best)["model"])
            record.tested(setup.learner.evaluate(setup.test, setup.settings.eval_flip), best)
    where = redact(start.uri) if start.uri else None
    for line in where_lines(record.folder, where, record.run_id, record.missing):
        logger.info("%s", line)
    return record


def _result(record: Record) -> Result:
    best, test = record.tested_epoch, record.test
    assert best is not None
    assert test is not None
    classes, seconds = record.setup.dataset.classes, RunInfo.load(record.folder).seconds
    return Result(best.accuracy, best.epoch, record.history, test, classes, record.folder, record.run_id, seconds)


def tracking_store(settings: Settings, uri: str | None = None) -> str | None:
    """The store to record in, `uri` or the settings'; None for none.

    Raises BadInput for one that cannot be, or does not answer now.
    """
    tracking = settings.tracking
    if tracking.name == "none":
        return None
    uri = store.resolve(uri or tracking.uri)
    remember(uri)
    try:
        health.check(uri, tracking.experiment)
    except health.Unreachable as outage:
        if tracking.offline == "fail":
            raise
        logger.warning("%s", outage)
        logger.warning("tracking.offline=allow: training all the same; the record is sent when the store is back")
    return uri


def train(
    setup: Setup, record: Record, selection: Selection, display: Display, interrupt: Interrupt, until: int | None = None
) -> None:
    """Train to the end, or until it gets no better, or for `until` epochs; the record keeps the best weights.

    An interrupt ends it after the step under way, with a checkpoint; then it raises what the interrupt stands for.
    """
    settings, learner = setup.settings, setup.learner
    if selection.is_over:  # a run that was killed after its last epoch
        return
    every = settings.checkpoint_every
    profiled_steps = settings.profile if learner.step == 0 else None
    display.begin(learner.epoch + 1, settings.epochs, len(setup.train), settings.batch_size)

    def checkpoint_is_due() -> bool:
        return interrupt.requested or (every is not None and learner.step % every == 0)

    reports = fit(
        learner,
        setup.train,
        setup.validation,
        setup.augment,
        setup.mix,
        epochs=settings.epochs,
        eval_every=settings.eval_every,
        eval_flip=settings.eval_flip,
        report_every=profiled_steps or settings.report_every,
        stop=checkpoint_is_due,
    )
    if profiled_steps is not None:
        reports = profiled(reports, setup.device.torch, profiled_steps, record.folder)
    with closing(reports):
        for report in reports:
            if isinstance(report, Progress):
                losses = record.progress(report)
                mean = sum(losses) / len(losses)
                display.progress(report.epoch, report.epoch_step, len(losses), mean, report.accuracy)
                if checkpoint_is_due() and report.step == learner.step:  # not before a divergence
                    record.save_state(selection)
            else:
                best = selection.consider(report)
                record.epoch(report, selection, best)
                display.epoch(report.epoch, report.metrics, best)
            if interrupt.requested:
                raise interrupt.error()
            if selection.is_over:
                worse = selection.worse
                logger.info("stopped early: no better validation accuracy in the last %d evaluations", worse)
                break
            if isinstance(report, EpochResult) and report.epoch == until:
                break
    display.end()

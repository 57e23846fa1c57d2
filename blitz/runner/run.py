"""One run, start to finish: the only place where settings, parts, training and tracking meet."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from blitz.config.recorded import RecordedDevice
from blitz.config.settings import Settings
from blitz.errors import BadInput, RunFailed
from blitz.redaction import redact
from blitz.run_folder.files import sole_trainer
from blitz.run_folder.run_info import SWEEP, SWEEP_JOB
from blitz.runner.build import JobInfo, Setup, build
from blitz.runner.find import LAST, find_run, fix_weights
from blitz.runner.record import Record, record_run
from blitz.runner.result import Result
from blitz.runner.resume import AGAIN, ResumePoint
from blitz.runner.start import RunStart, continue_run, start_run, tracking_store
from blitz.terminal.progress import Display, where_lines
from blitz.terminal.signals import Interrupt, graceful
from blitz.tracking.writer import Writer
from blitz.training import checkpoint
from blitz.training.loop import Progress, fit
from blitz.training.profiling import profiled
from blitz.training.selection import Selection

logger = logging.getLogger("blitz")


def run(settings: Settings, overrides: Sequence[str] = ()) -> Result:
    """Train, validate and test what the settings say; `overrides` are recorded as what was asked for.

    Raises BadInput for what cannot be done as asked, NonFiniteLoss for a run that diverged.
    """
    return Result.of(new_run(settings, overrides))


def new_run(
    settings: Settings,
    overrides: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    *,
    before: RecordedDevice | None = None,
    until: int | None = None,
    job: JobInfo | None = None,
) -> Record:
    """A run with more `tags`. One that is repeated is set up as the device that it had `before`.

    After `until` epochs it ends, with the course of a run of all of them, and tests nothing. `job`: which job of a
    sweep it is.
    """
    of_job = {SWEEP: job.sweep, SWEEP_JOB: str(job.number)} if job is not None else {}
    with display_of(job) as display:
        uri = tracking_store(settings, job=job)
        if uri is not None:
            Writer.prepare()  # its seconds pass while data and model are built
        setup = build(fix_weights(settings), before, job)
        with start_run(setup, uri, overrides, {**of_job, **(tags or {})}) as start:
            return _train_and_test(setup, start, display, until=until)


def resume(wanted: str | Path, overrides: Sequence[str] = (), uri: str | None = None) -> Result:
    """Continue a run from its last checkpoint, in the same folder and the same MLflow run.

    `wanted` is its id, a unique prefix of one, `last` or its folder; `overrides` change the values that
    `resume.ACCEPTED` names; `uri` is its store, needed where the address holds credentials. Raises BadInput where there
    is nothing to resume, or where it would be another run; nothing has changed then.
    """
    return Result.of(continued_run(wanted, overrides, uri))


def continued_run(
    wanted: str | Path, overrides: Sequence[str] = (), uri: str | None = None, job: JobInfo | None = None
) -> Record:
    """The same for a job of a sweep, too, which may be paused again."""
    with find_run(wanted, uri) as found:
        folder, info = found.in_folder.folder, found.in_folder.info
    with display_of(job) as display, sole_trainer(folder):
        point = ResumePoint.load(folder, info, overrides)
        uri = point.store(uri, job)
        if uri is not None:
            Writer.prepare()
        setup = point.setup(job)
        if uri is not None and (why := Writer.trained_elsewhere(folder, uri, info)):
            raise BadInput(f"{folder}: {why}")
        start = continue_run(setup, uri, folder, info, point.provenance.model_dump(), point.state)
        return _train_and_test(setup, start, display, point.state)


def display_of(job: JobInfo | None) -> Display:
    """What a run prints, in a sweep or alone."""
    return Display() if job is None else Display(job=job.number, has_others_beside=job.cores is not None)


def _train_and_test(
    setup: Setup, start: RunStart, display: Display, state: Mapping[str, Any] | None = None, until: int | None = None
) -> Record:
    """Train, from a checkpoint's `state` on where there is one, and test; a job that is to be paused before is not."""
    job = setup.job
    pause = job.until if job is not None else None
    with record_run(setup, start) as record:
        selection = Selection(setup.validation is not None, setup.settings.early_stopping)
        if state is not None:
            selection.load_state_dict(state["selection"])
            record.resume(state, selection)
        else:
            record.begin()
        with graceful() as interrupt:
            train(setup, record, selection, display, interrupt, until if pause is None else pause)
        if interrupt.requested:  # after training's last look
            raise interrupt.error()
        if job is not None and pause is not None and not selection.is_over:
            record.pause(pause, selection, job.sweep)
        elif until is None:
            record.close_window()
            best = selection.best
            assert best is not None  # the last epoch is always evaluated
            if not record.best.exists():
                raise RunFailed(
                    f"{record.best}: the weights of epoch {best.epoch} are gone, and no later epoch was better: there "
                    f"is nothing to test; remove {LAST} and resume the run {AGAIN}"
                )
            setup.learner.evaluated.load_state_dict(checkpoint.load(record.best)["model"])
            record.log_test(setup.learner.evaluate(setup.test), best)
    where = redact(start.uri) if start.uri else None
    for line in where_lines(record.folder, where, record.run_id, record.missing):
        logger.info("%s", line)
    return record


def train(
    setup: Setup,
    record: Record,
    selection: Selection,
    display: Display,
    interrupt: Interrupt,
    until: float | None = None,
) -> None:
    """Train to the end, or until it gets no better, or for `until` epochs; the record keeps the best weights.

    An interrupt ends it after the step under way, with a checkpoint; then it raises what the interrupt stands for.
    """
    settings, learner = setup.settings, setup.learner
    steps = len(setup.train)
    # The step; rounding must not add one to whole epochs.
    last = math.ceil(until * steps - 1e-6) if until is not None else None

    def is_to_end() -> bool:
        """After the last step, or where that ends an epoch, after the epoch."""
        return last is not None and learner.step >= last and (last % steps != 0 or learner.epoch_step == 0)

    if selection.is_over or is_to_end():  # a run that was killed after its last epoch
        return
    every = settings.checkpoint_every
    profiled_steps = settings.profile if learner.step == 0 else None
    last_epoch = math.ceil(until) if until is not None else None
    display.begin(learner.epoch + 1, settings.epochs, steps, settings.batch_size, last_epoch)

    def checkpoint_is_due() -> bool:
        return interrupt.requested or is_to_end() or (every is not None and learner.step % every == 0)

    reports = fit(
        learner, setup.train, setup.validation, setup.augment, setup.mix,
        epochs=settings.epochs, eval_every=settings.eval_every,
        report_every=profiled_steps or settings.report_every, stop=checkpoint_is_due,
    )  # fmt: skip
    if profiled_steps is not None:
        reports = profiled(reports, setup.device.torch, profiled_steps, record.folder)
    with closing(reports):
        for report in reports:
            if isinstance(report, Progress):
                losses = record.log_progress(report)
                mean = sum(losses) / len(losses)
                rate, memory = learner.rate(report.step), setup.device.memory()
                display.progress(report.epoch, report.epoch_step, len(losses), mean, report.accuracy, rate, memory)
                if checkpoint_is_due() and report.step == learner.step:  # not before a divergence
                    record.save_state(selection)
            else:
                best = selection.consider(report)
                record.log_epoch(report, selection, best)
                display.epoch(report.epoch, report.metrics, best)
            if interrupt.requested:
                raise interrupt.error()
            if selection.is_over:
                worse = selection.worse
                logger.info("stopped early: no better validation accuracy in the last %d evaluations", worse)
                break
            if is_to_end():
                break
    display.end()

"""Builds the parts of all jobs before the first one starts: what a run would be refused for is reported now.

A dry run times a few steps with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from time import perf_counter
from typing import Any

from torch import nn

from blitz.config.settings import Settings
from blitz.errors import BadInput, refuse
from blitz.parts.datasets import Dataset, Split, Splits
from blitz.parts.devices import Device
from blitz.runner.build import build, build_parts, data_of
from blitz.sweeps.jobs import SweepJob, in_which_jobs
from blitz.training.loop import NonFiniteLoss, fit

TIMED_STEPS, WARM_UP = 20, 5  # steps
LONGEST = 10.0  # seconds, after which a slow model is timed on fewer steps


def preflight(jobs: Sequence[SweepJob]) -> None:
    """Raises BadInput with all that runs of these jobs would raise it for."""
    cache = PartsCache()
    problems: dict[str, list[str]] = {}  # what is wrong -> the jobs it is wrong in
    for job in jobs:
        try:
            build_parts(job.settings, made=cache, placed=_on_meta)
        except BadInput as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(job.label)
        except (Exception, SystemExit):  # of somebody's own part: this job will fail with it
            continue
    refuse(in_which_jobs(problems, len(jobs)))


def timed_epoch(settings: Settings, longest: float = LONGEST) -> tuple[float, int]:
    """Seconds that an epoch's steps take, without validation, and on how many steps that was measured.

    After `longest` seconds there are no more.

    It leaves nothing. Raises BadInput where a run would, and where its loss is not finite from the first step on.
    """
    model = {**settings.model, "weights": None}  # which take as long, and may have to be fetched
    setup = build(settings.model_copy(update={"model": model}))
    marks = [(0, began := perf_counter())]

    def is_slow() -> bool:
        return perf_counter() - began >= longest

    reports = fit(
        setup.learner, setup.train, None, setup.augment, setup.mix,
        epochs=settings.epochs, report_every=WARM_UP, stop=is_slow,
    )  # fmt: skip
    with closing(reports), suppress(NonFiniteLoss):
        for report in reports:
            marks.append((report.step, perf_counter()))
            if report.step >= WARM_UP + TIMED_STEPS or is_slow():
                break
    start = marks[1] if marks[-1][0] > WARM_UP else marks[0]
    steps, seconds = (end - begin for begin, end in zip(start, marks[-1], strict=True))
    if not steps:
        raise BadInput("the loss of the first step is not finite")
    return seconds / steps * len(setup.train), round(steps)


class PartsCache:
    """Builds each part once: the jobs of a sweep share most of them."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}  # or what building them raised

    def __call__(self, make: Callable[..., Any], *arguments: Any) -> Any:
        # Parts that others are built from are in the cache themselves, so that no two have the same id.
        key = json.dumps([make.__module__, make.__qualname__, *arguments], sort_keys=True, default=id)
        if key not in self._parts:
            try:
                part = make(*arguments)
                self._parts[key] = _without_images(*part) if make is data_of else part
            except (Exception, SystemExit) as error:
                self._parts[key] = error
        if isinstance(part := self._parts[key], BaseException):
            raise part
        return part


def _on_meta(model: nn.Module, device: Device) -> nn.Module:
    """Without the memory of its weights."""
    return model.to("meta")


def _without_images(dataset: Dataset, splits: Splits) -> tuple[Dataset, Splits]:
    """Their shapes alone: several data sets in memory may be too much."""

    def shapes(part: Split) -> Split:
        return Split(part.images.to("meta"), part.labels.to("meta"))

    dataset = replace(dataset, train=shapes(dataset.train), test=shapes(dataset.test))
    return dataset, replace(splits, train=shapes(splits.train), validation=None, test=shapes(splits.test))

"""Whether the jobs of a sweep can be done here: what a run is refused for at its start is told before the first one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import nn

from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.parts.augmentations import AUGMENTATIONS
from blitz.parts.optimizers import OPTIMIZERS
from blitz.runner import build
from blitz.sweeps.jobs import SweepJob, each_told

Part = TypeVar("Part")


def rehearse(jobs: Sequence[SweepJob]) -> None:
    """Raises BadInput with all that runs of these jobs would raise it for."""
    rehearsal = Preflight()
    problems: dict[str, list[str]] = {}  # what is wrong -> the jobs it is wrong in
    for each in jobs:
        try:
            rehearsal.build(each.settings)
        except BadInput as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(each.label)
        except (Exception, SystemExit):  # of somebody's own part: that job's failure, which is told when it comes to it
            continue
    if problems:
        raise BadInput(*each_told(problems, len(jobs)))


class _Images(NamedTuple):
    """What the parts need to know of the data."""

    num_training: int
    shape: tuple[int, ...]  # (C, H, W)
    mean: tuple[float, ...]
    num_classes: int


class Preflight:
    """Builds what jobs ask for as `job.build` does, each part once: the jobs of a sweep share most of them."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def build(self, settings: Settings) -> None:
        """Raises what `job.build` does."""
        data, shape = settings.data, [settings.data, settings.model]
        batch = [settings.batch_size, settings.micro_batch_size]
        steps = [settings.batch_size, settings.epochs]
        once = self._once
        once(lambda: build.device_of(settings), "device", settings.device, batch)
        images = once(lambda: _images(settings), "data", data)
        once(lambda: build.schedule_of(settings, images.num_training), "schedule", settings.schedule, data, steps)
        model = once(lambda: _model(settings, images), "model", shape)
        once(lambda: build.loss_and_mix_of(settings, images.num_classes), "loss", settings.loss, settings.mix, data)
        once(lambda: OPTIMIZERS.build(settings.optimizer, model.parameters()), "optimizer", settings.optimizer, shape)
        once(lambda: AUGMENTATIONS.build(settings.augment, images.mean), "augment", settings.augment, data)

    def _once(self, build: Callable[[], Part], *of: object) -> Part:
        """`of`: what part it is, and all that it is built of."""
        key = json.dumps(of, sort_keys=True)
        if key not in self._built:
            try:
                self._built[key] = build()
            except (Exception, SystemExit) as error:
                self._built[key] = error
        if isinstance(self._built[key], BaseException):
            raise self._built[key]
        built: Part = self._built[key]
        return built


def _images(settings: Settings) -> _Images:
    dataset, splits = build.data_of(settings)
    return _Images(len(splits.train), tuple(splits.train.images.shape[1:]), splits.mean, len(dataset.classes))


def _model(settings: Settings, images: _Images) -> nn.Module:
    """Without the memory of its weights."""
    return build.model_of(settings, images.num_classes, images.shape).to("meta")

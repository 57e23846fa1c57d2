"""Settings to a job: device, data, model and all that trains it, built and ready."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from blitz.config.recorded import RecordedDevice
from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.parts.augmentations import AUGMENTATIONS
from blitz.parts.datasets import DATASETS, Dataset, Split, Splits, split
from blitz.parts.devices import DEVICES, Device, available, prepare
from blitz.parts.losses import LOSSES, LossModule
from blitz.parts.mixes import MIXES
from blitz.parts.models import MODELS, starting_weights
from blitz.parts.optimizers import OPTIMIZERS
from blitz.parts.schedules import SCHEDULES
from blitz.runner.find import weights_file
from blitz.training.batches import Augment, Batches, Mix, stream
from blitz.training.classifier import Classifier
from blitz.training.loop import Learner

logger = logging.getLogger("blitz")


@dataclass(frozen=True)
class Setup:
    """Everything that a config asks for, built and ready to train."""

    settings: Settings
    dataset: Dataset
    splits: Splits
    device: Device
    classifier: Classifier  # holds the learner's model, or its average
    learner: Learner
    train: Batches
    validation: Batches | None
    test: Batches
    augment: Augment
    mix: Mix


def build(settings: Settings, before: RecordedDevice | None = None) -> Setup:
    """Device, data, model and all that trains it, in this order; makes no folder.

    `before`: the device of the run that is repeated or gone on with.
    """
    device = device_of(settings, before)
    dataset, splits = data_of(settings)
    schedule = schedule_of(settings, len(splits.train))
    torch.manual_seed(stream(settings.seed, "initialisation"))
    model = model_of(settings, len(dataset.classes), tuple(splits.train.images.shape[1:]))
    memory_format = torch.channels_last if device.channels_last else torch.contiguous_format
    model = model.to(device.torch, memory_format=memory_format)  # type: ignore[call-overload]
    average = None
    if settings.ema is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
    if device.compile:
        model.compile()
    loss, mix = loss_and_mix_of(settings, len(dataset.classes))
    loss = loss.to(device.torch)
    learner = Learner(
        model=model,
        loss=loss,
        optimizer=OPTIMIZERS.build(settings.optimizer, model.parameters()),
        schedule=schedule,
        scaler=GradScaler(device.torch.type, enabled=device.precision == "fp16"),
        autocast=device.autocast,
        seed=settings.seed,
        micro_batch_size=settings.micro_batch_size,
        clip_norm=settings.clip_norm,
        average=average,
    )
    classifier = Classifier(learner.evaluated, splits.mean, splits.std, dataset.classes).to(device.torch)

    def batches(part: Split, batch_size: int) -> Batches:
        return Batches(part.images, part.labels, batch_size, device.torch, classifier.normalise, device.channels_last)

    return Setup(
        settings, dataset, splits, device, classifier, learner,
        train=batches(splits.train, settings.batch_size),
        validation=batches(splits.validation, settings.eval_batch_size) if splits.validation else None,
        test=batches(splits.test, settings.eval_batch_size),
        augment=AUGMENTATIONS.build(settings.augment, splits.mean),
        mix=mix,
    )  # fmt: skip


def data_of(settings: Settings) -> tuple[Dataset, Splits]:
    dataset: Dataset = DATASETS.build(settings.data)
    return dataset, split(dataset, **DATASETS.shared(settings.data))


def model_of(settings: Settings, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """On the CPU, with the weights that it starts from, drawn from the default generator or another run's."""
    model: nn.Module = MODELS.build(settings.model, num_classes, input_shape)
    with ExitStack() as fetched:

        def find(weights: str) -> Path:
            return fetched.enter_context(weights_file(weights, settings.tracking.uri))

        starting_weights(model, find, **MODELS.shared(settings.model))
    return model


def loss_and_mix_of(settings: Settings, num_classes: int) -> tuple[LossModule, Mix]:
    """Raises BadInput where the one cannot be computed with what the other makes of the labels."""
    loss, mix = LOSSES.build(settings.loss, num_classes), MIXES.build(settings.mix, num_classes)
    if mix.makes_soft_targets and not loss.takes_soft_targets:
        raise BadInput(f"mix={settings.mix['name']}: loss={settings.loss['name']} takes no soft labels; use mix=none")
    return loss, mix


def schedule_of(settings: Settings, num_images: int) -> Callable[[int], float]:
    """Raises BadInput where a batch takes more than all training images."""
    if settings.batch_size > num_images:
        raise BadInput(
            f"batch_size={settings.batch_size}: accepted: at most {num_images}, the number of training images"
        )
    steps_per_epoch = -(-num_images // settings.batch_size)
    return SCHEDULES.build(settings.schedule, settings.epochs * steps_per_epoch, steps_per_epoch)


def device_of(settings: Settings, before: RecordedDevice | None = None) -> Device:
    """The device that a config asks for, and this process set up for it.

    What the config leaves to blitz is as `before`: the number of threads, and the device itself if it is here. Where
    this machine lacks what was computed on, it is the best that there is, in fp32, which is told.
    """
    choice, sweep = settings.device, settings.sweep
    at_once = settings.micro_batch_size or settings.batch_size

    def prepared(choice: Mapping[str, Any]) -> Device:
        return prepare(DEVICES.build(choice), at_once, sweep.cores, **DEVICES.shared(choice))

    kind = before.name.partition(":")[0] if before is not None else "cuda"
    if sweep.gpu is not None and kind == "cuda" and (choice["name"] == "auto" or choice.get("index", 0) is None):
        choice = {**DEVICES.check({"name": "cuda", "index": sweep.gpu}), **DEVICES.shared(choice)}
    if before is None:
        return prepared(choice)
    if choice["threads"] == "auto":
        choice = {**choice, "threads": before.threads}
    if choice["name"] == "auto" and kind in available():
        choice = {**DEVICES.check({"name": kind}), **DEVICES.shared(choice)}
    try:
        device = prepared(choice)
    except BadInput:
        device = prepared({**DEVICES.check({"name": "auto"}), **DEVICES.shared(choice), "precision": "fp32"})
    wanted = settings.device["precision"]
    if device.torch.type != before.name.partition(":")[0] or device.precision != wanted:
        told = f"the run computed on {before.name} in {wanted}, this computes on {device.torch} in {device.precision}"
        logger.warning("%s; figures may differ a little", told)
    return device

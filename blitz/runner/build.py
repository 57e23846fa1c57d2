"""Settings to a setup: device, data, model and all that trains it, built and ready."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from blitz.config.recorded import RecordedDevice
from blitz.config.settings import Choice, Settings
from blitz.errors import BadInput
from blitz.parts.augmentations import AUGMENTATIONS
from blitz.parts.datasets import DATASETS, Dataset, Split, Splits, split
from blitz.parts.devices import DEVICES, Device, available, prepare
from blitz.parts.losses import LOSSES, LossModule
from blitz.parts.memory import free, is_too_large
from blitz.parts.mixes import MIXES
from blitz.parts.models import MODELS, bytes_of_weights, recorded_weights_follow, starting_weights
from blitz.parts.optimizers import OPTIMIZERS
from blitz.parts.schedules import SCHEDULES
from blitz.runner.find import weights_file
from blitz.training.batches import Augment, Batches, Mix, stream
from blitz.training.checkpoint import fingerprint
from blitz.training.classifier import Classifier
from blitz.training.loop import Learner

logger = logging.getLogger("blitz")

IMAGES_SHOWN = 5000  # training images, at most, that a model may start from


class JobInfo(NamedTuple):
    """What a job of a sweep has besides its config: which one it is, and its share of the machine."""

    sweep: str
    number: int
    label: str = ""  # what differs from the other jobs
    cores: int | None = None  # processor cores that it has for itself; None: all
    gpu: int | None = None  # likewise; None: the first
    until: float | None = None  # epochs after which it is paused; None: it is trained to its end


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
    starting_weights: str | None = None  # SHA-256 of those that `model.weights` names
    job: JobInfo | None = None  # of a sweep


class Parts(NamedTuple):
    """What the choices of a config name."""

    device: Device
    dataset: Dataset
    splits: Splits
    schedule: Callable[[int], float]
    model: nn.Module
    loss: LossModule
    mix: Mix
    optimizer: torch.optim.Optimizer
    augment: Augment


def build(settings: Settings, before: RecordedDevice | None = None, job: JobInfo | None = None) -> Setup:
    """Everything that trains; makes no folder.

    `before`: the device of the run that is repeated or continued.
    """
    parts = build_parts(settings, before, job, made=call if job is None else partial(_call_once_for_data, job.sweep))
    device, model, splits = parts.device, parts.model, parts.splits
    starting = weights_fingerprint(settings.model, model)
    if starting is None:
        initialise_from_images(model, splits)
    average = None
    if settings.ema is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
    if device.compile:
        model.compile()
    learner = Learner(
        model=model,
        loss=parts.loss.to(device.torch),
        optimizer=parts.optimizer,
        schedule=parts.schedule,
        scaler=GradScaler(device.torch.type, enabled=device.precision == "fp16"),
        autocast=device.autocast,
        seed=settings.seed,
        micro_batch_size=settings.micro_batch_size,
        clip_norm=settings.clip_norm,
        average=average,
        flip=settings.eval_flip,
        shift=settings.eval_shift,
    )
    classifier = Classifier(learner.evaluated, splits.mean, splits.std, parts.dataset.classes).to(device.torch)

    def batches(part: Split, batch_size: int) -> Batches:
        return Batches(part.images, part.labels, batch_size, device.torch, classifier.normalise, device.channels_last)

    return Setup(
        settings, parts.dataset, splits, device, classifier, learner,
        train=batches(splits.train, settings.batch_size),
        validation=batches(splits.validation, settings.eval_batch_size) if splits.validation else None,
        test=batches(splits.test, settings.eval_batch_size),
        augment=parts.augment,
        mix=parts.mix,
        starting_weights=starting,
        job=job,
    )  # fmt: skip


def on_device(model: nn.Module, device: Device) -> nn.Module:
    memory_format = torch.channels_last if device.channels_last else torch.contiguous_format
    return model.to(device.torch, memory_format=memory_format)  # type: ignore[call-overload]


def call(make: Callable[..., Any], *arguments: Any) -> Any:
    return make(*arguments)


def build_parts(
    settings: Settings,
    before: RecordedDevice | None = None,
    job: JobInfo | None = None,
    *,
    made: Callable[..., Any] = call,
    placed: Callable[[nn.Module, Device], nn.Module] = on_device,
) -> Parts:
    """Device, data, model and the rest, in this order. Raises BadInput where one of them cannot be as asked.

    `made(make, *arguments)` returns what `make(*arguments)` does: a cache has it already where the arguments are the
    same.
    """
    cores, gpu = (job.cores, job.gpu) if job is not None else (None, None)
    device: Device = made(device_of, settings.device, settings.images_at_once, before, cores, gpu)
    dataset, splits = made(data_of, settings.data)
    num_classes, input_shape = len(dataset.classes), tuple(splits.train.images.shape[1:])
    if settings.eval_shift >= (side := min(input_shape[1:])):
        raise BadInput(f"eval_shift={settings.eval_shift}: accepted: 0 to {side - 1} pixels, less than the images")
    schedule = made(schedule_of, settings.schedule, settings.batch_size, settings.epochs, len(splits.train))
    torch.manual_seed(stream(settings.seed, "initialisation"))
    model = made(model_of, settings.model, num_classes, input_shape, settings.tracking.uri)
    model = made(placed, model, device)
    loss, mix = made(loss_and_mix_of, settings.loss, settings.mix, num_classes)
    optimizer = made(optimizer_of, settings.optimizer, model)
    augment = made(augment_of, settings.augment, splits.mean, input_shape)
    return Parts(device, dataset, splits, schedule, model, loss, mix, optimizer, augment)


def data_of(choice: Choice) -> tuple[Dataset, Splits]:
    dataset: Dataset = DATASETS.build(choice)
    return dataset, split(dataset, **DATASETS.shared(choice))


_data_of_sweep: dict[str, tuple[Dataset, Splits]] = {}  # of the last job in this process


def _call_once_for_data(sweep: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """Keeps the data of a sweep from job to job: to list and split 60,000 images takes a second."""
    if make is not data_of:
        return make(*arguments)
    key = json.dumps([sweep, *arguments], sort_keys=True)
    if key not in _data_of_sweep:
        _data_of_sweep.clear()  # first: two data sets may be more than the memory holds
        _data_of_sweep[key] = data_of(*arguments)
    return _data_of_sweep[key]


def model_of(choice: Choice, num_classes: int, input_shape: tuple[int, ...], uri: str | None) -> nn.Module:
    """On the CPU, with the weights that it starts from, drawn from the default generator or another run's."""
    with recorded_weights_follow():
        size = bytes_of_weights(lambda: MODELS.build(choice, num_classes, input_shape)) if MODELS.sizes(choice) else 0
    if 2 * size > free():  # with their gradients
        raise MODELS.too_large(choice)
    follow = recorded_weights_follow() if choice["weights"] is not None else nullcontext()
    with follow:
        model: nn.Module = MODELS.build(choice, num_classes, input_shape)
    with ExitStack() as fetched:

        def find(weights: str) -> Path:
            return fetched.enter_context(weights_file(weights, uri))

        starting_weights(model, find, **MODELS.shared(choice))
    return model


def initialise_from_images(model: nn.Module, splits: Splits) -> None:
    """Show a fresh model normalised training images, where it has a method to start from them (a whitening, say).

    Always the same ones, spread over all classes of a data set that is sorted by class.
    """
    start = getattr(model, "initialise_from", None)
    if start is None:
        return
    device = next(model.parameters()).device
    every = -(-len(splits.train) // IMAGES_SHOWN)
    images = splits.train.images[::every].to(device)
    start(Classifier(model, splits.mean, splits.std, ()).to(device).normalise(images))


def weights_fingerprint(choice: Choice, model: nn.Module) -> str | None:
    """Of the weights that `model.weights` names, which the model has by now; None for fresh ones."""
    return fingerprint(model.state_dict()) if choice["weights"] is not None else None


def optimizer_of(choice: Choice, model: nn.Module) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = OPTIMIZERS.build(choice, model.parameters())
    return optimizer


def loss_and_mix_of(loss_choice: Choice, mix_choice: Choice, num_classes: int) -> tuple[LossModule, Mix]:
    """Raises BadInput where the one cannot be computed with what the other makes of the labels."""
    loss, mix = LOSSES.build(loss_choice, num_classes), MIXES.build(mix_choice, num_classes)
    if mix.makes_soft_targets and not loss.takes_soft_targets:
        raise BadInput(f"mix={mix_choice['name']}: loss={loss_choice['name']} takes no soft labels; use mix=none")
    return loss, mix


def augment_of(choice: Choice, mean: Sequence[float], input_shape: tuple[int, ...]) -> Augment:
    """Raises BadInput where it does not suit images of this shape: it is tried on one."""
    augment: Augment = AUGMENTATIONS.build(choice, mean)
    try:
        augment(torch.zeros(1, *input_shape, dtype=torch.uint8), torch.Generator())
    except BadInput:
        raise
    except Exception as error:
        if is_too_large(error):
            raise AUGMENTATIONS.too_large(choice) from None  # else it is somebody's own, and fails at the first batch
    return augment


def schedule_of(choice: Choice, batch_size: int, epochs: int, num_images: int) -> Callable[[int], float]:
    """Raises BadInput where a batch takes more than all training images."""
    if batch_size > num_images:
        raise BadInput(f"batch_size={batch_size}: accepted: at most {num_images}, the number of training images")
    steps_per_epoch = -(-num_images // batch_size)
    return SCHEDULES.build(choice, epochs * steps_per_epoch, steps_per_epoch)


def device_of(
    asked: Choice,
    images_at_once: int,
    before: RecordedDevice | None = None,
    cores: int | None = None,
    gpu: int | None = None,
) -> Device:
    """The device that a config asks for, and this process set up for it.

    What the config leaves to blitz is as `before`: the number of threads, and the device itself if it is here. Where
    this machine lacks the recorded device, it is the best that there is, in fp32, with a warning. `cores` and `gpu` are
    what a job of a sweep has for itself.
    """
    choice = asked

    def prepared(choice: Mapping[str, Any]) -> Device:
        return prepare(DEVICES.build(choice), images_at_once, cores, **DEVICES.shared(choice))

    kind = before.name.partition(":")[0] if before is not None else "cuda"
    if gpu is not None and kind == "cuda" and (choice["name"] == "auto" or choice.get("index", 0) is None):
        choice = {**DEVICES.check({"name": "cuda", "index": gpu}), **DEVICES.shared(choice)}
    if before is None:
        return prepared(choice)
    if choice["threads"] == "auto":
        choice = {**choice, "threads": before.threads}
    if choice["name"] == "auto" and kind in available():
        choice = {**DEVICES.check({"name": kind}), **DEVICES.shared(choice)}
    why = ""
    try:
        device = prepared(choice)
    except BadInput as problem:  # which may be about what was asked for today
        why = f" ({problem})"
        device = prepared({**DEVICES.check({"name": "auto"}), **DEVICES.shared(choice), "precision": "fp32"})
    wanted = asked["precision"]
    if device.torch.type != before.name.partition(":")[0] or device.precision != wanted:
        now = f"this computes on {device.torch} in {device.precision}"
        logger.warning("the run computed on %s in %s, %s; metrics may differ slightly%s", before.name, wanted, now, why)
    return device

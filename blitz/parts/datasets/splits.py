"""What a run trains, validates and tests on, and the statistics of what it trains on.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blitz.errors import BadInput, refuse
from blitz.parts.registry import Count, Fraction, Index, Positive, Share

LOG = logging.getLogger("blitz")


@dataclass(frozen=True)
class Split:
    """Images and what they show, in memory of the processor: at least one."""

    images: Tensor  # (N, C, H, W) uint8, as they are: they are scaled and normalised on the device
    labels: Tensor  # (N,) int64, indices of `Dataset.classes`

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """What a builder on the menu `blitz.DATASETS` returns. Validation is cut from `train` afterwards."""

    name: str
    train: Split
    test: Split  # of the same channels, height and width
    classes: tuple[str, ...]  # their names
    fingerprint: str  # SHA-256 (hex) over all images, labels and class names: a part of `config_hash`
    source: str  # where it came from, one line for the record (no credentials)


@dataclass(frozen=True)
class Splits:
    train: Split
    validation: Split | None
    test: Split
    mean: tuple[float, ...]  # per channel, of images scaled to [0, 1]
    std: tuple[float, ...]


def split(
    dataset: Dataset,
    *,
    validation: Fraction = 0.1,
    split_seed: Index = 0,
    limit: Count | Share | None = None,
    mean: list[float] | None = None,
    std: list[Positive] | None = None,
) -> Splits:
    """Cut validation from train and measure what is left of it.

    Every split keeps the order of its dataset. Where nothing is cut, the training images are the dataset's own tensor,
    not a copy.

    Args:
        validation: fraction of the training images that is held out for validation; 0 = train on all of them
        split_seed: seed of the cut; the seed of the run does not move it
        limit: at most so many images in each split, drawn with split_seed, or a share of each, such as 0.1; null = all
        mean: per channel, of pixels scaled to [0, 1]; null = measured on the training images
        std: per channel, of pixels scaled to [0, 1]; null = measured on the training images
    """
    refuse(_wrong_in(dataset))
    num_channels = dataset.train.images.shape[1]
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != num_channels:
            accepted = f"one number for each channel, of which data={dataset.name} has {num_channels}"
            raise BadInput(f"data.{key}={values}: accepted: {accepted}")
    if split_seed >= 2**63:
        raise BadInput(f"data.split_seed={split_seed}: accepted: integer >= 0 and < 2**63")

    generator = torch.Generator().manual_seed(split_seed)  # its own: the run's seed must not move the cut
    order = torch.randperm(len(dataset.train), generator=generator)
    num_held_out = _held_out(dataset, validation)
    held_out, kept = order[:num_held_out], order[num_held_out:]
    _check_classes(dataset, kept, validation)

    train = _limited(dataset.train, kept, limit)
    if mean is None or std is None:
        measured_mean, measured_std = _statistics(train.images, dataset.name if std is None else None)
        mean, std = mean or measured_mean, std or measured_std
    return Splits(
        train=train,
        validation=_limited(dataset.train, held_out, limit) if num_held_out else None,
        test=_limited(dataset.test, torch.randperm(len(dataset.test), generator=generator), limit),
        mean=tuple(mean),
        std=tuple(std),
    )


def _wrong_in(dataset: Any) -> Iterator[str]:
    """What is wrong with what a builder returned: that of another package may return anything."""
    if not isinstance(dataset, Dataset):
        yield f"data: its builder returned {type(dataset).__name__}; accepted: blitz.Dataset"
        return
    named = f"data={dataset.name}"
    if not (dataset.classes and all(isinstance(name, str) for name in dataset.classes)):
        yield f"{named}: classes: accepted: their names, as text"
    if not (isinstance(dataset.fingerprint, str) and dataset.fingerprint):
        yield f"{named}: fingerprint: accepted: SHA-256 over all images, labels and class names, as text"
    for name, part in (("train", dataset.train), ("test", dataset.test)):
        if not isinstance(part, Split):
            yield f"{named}: {name}: is {type(part).__name__}; accepted: blitz.Split"
        elif part.images.dtype != torch.uint8 or part.images.ndim != 4 or part.images.numel() == 0:
            shape = tuple(part.images.shape)
            yield f"{named}: {name}.images: {part.images.dtype} {shape}; accepted: torch.uint8 (N, C, H, W), N > 0"
        elif part.labels.dtype != torch.int64 or part.labels.shape != part.images.shape[:1]:
            shape = tuple(part.labels.shape)
            yield f"{named}: {name}.labels: {part.labels.dtype} {shape}; accepted: torch.int64 ({len(part.images)},)"
        elif part.labels.min() < 0 or part.labels.max() >= len(dataset.classes):
            found = f"{part.labels.min()} to {part.labels.max()}"
            yield f"{named}: {name}.labels: {found}; accepted: 0 to {len(dataset.classes) - 1}, one for each class"
        elif isinstance(dataset.train, Split) and part.images.shape[1:] != dataset.train.images.shape[1:]:
            shape, accepted = tuple(part.images.shape[1:]), tuple(dataset.train.images.shape[1:])
            yield f"{named}: {name}.images: of {shape}; accepted: {accepted}, as those of train"


def _held_out(dataset: Dataset, validation: float) -> int:
    num_train = len(dataset.train)
    num_held_out = round(validation * num_train)
    if validation > 0 and num_held_out == 0:
        raise BadInput(
            f"data.validation={validation}: that is less than one of {num_train} training images; "
            "take more, or 0 to train on all of them"
        )
    if num_held_out >= num_train:
        raise BadInput(f"data.validation={validation}: none of {num_train} images remains to train on; take less")
    return num_held_out


def _check_classes(dataset: Dataset, kept: Tensor, validation: float) -> None:
    num_classes = len(dataset.classes)
    before = torch.bincount(dataset.train.labels, minlength=num_classes)
    after = torch.bincount(dataset.train.labels[kept], minlength=num_classes)
    lost = [name for name, had, has in zip(dataset.classes, before, after, strict=True) if had and not has]
    if lost:
        raise BadInput(
            f"data.validation={validation}: no image remains to train the class {some(lost)}; "
            "take less, or another data.split_seed"
        )


def some(names: list[str]) -> str:
    """The first of many names, and how many there are besides."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _limited(whole: Split, rows: Tensor, limit: float | None) -> Split:
    """So many of these rows; below 1, this share of them."""
    if limit is not None and limit < 1:
        limit = max(1, round(limit * len(rows)))
    return _take(whole, rows if limit is None else rows[: int(limit)])


def _take(whole: Split, rows: Tensor) -> Split:
    if len(rows) == len(whole):
        return whole
    rows = rows.sort().values  # in file order: the memory-mapped images are then read front to back
    # index_select takes a tenth of the time of [rows].
    return Split(whole.images.index_select(0, rows), whole.labels.index_select(0, rows))


def _statistics(images: Tensor, warn: str | None) -> tuple[list[float], list[float]]:
    """Mean and population standard deviation per channel, exact: sums of integers, rounded once at the end."""
    num_images, num_channels = images.shape[:2]
    flat = images.numpy().reshape(num_images, num_channels, -1)
    num_pixels = num_images * flat.shape[2]
    totals, squares = [0] * num_channels, [0] * num_channels
    # Blocks that stay in the processor's cache; float64 holds their sums without rounding and is what einsum is fast
    # in: CIFAR-10 in 0.3 s, where torch.bincount takes 1.2 s.
    step = max(1, 2**18 // (num_channels * flat.shape[2]))
    for start in range(0, num_images, step):
        block = flat[start : start + step].astype(np.float64)
        for channel, total in enumerate(np.einsum("ncp->c", block).tolist()):
            totals[channel] += int(total)
        for channel, total in enumerate(np.einsum("ncp,ncp->c", block, block).tolist()):
            squares[channel] += int(total)
    means = [total / (num_pixels * 255) for total in totals]
    spread = [num_pixels * square - total**2 for total, square in zip(totals, squares, strict=True)]
    if warn and 0 in spread:
        LOG.warning("data=%s: channel %d has one value only; its std is taken as 1/255", warn, spread.index(0))
    stds = [math.sqrt(value) / (num_pixels * 255) if value else 1 / 255 for value in spread]
    return means, stds

"""What a run trains, validates and tests on, and the statistics of what it trains on.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blitz.errors import BadInput
from blitz.parts.registry import Count, Fraction, Index, Positive

LOG = logging.getLogger("blitz")


@dataclass(frozen=True)
class Split:
    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str  # SHA-256 (hex) over all images, labels and class names
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
    limit: Count | None = None,
    mean: list[float] | None = None,
    std: list[Positive] | None = None,
) -> Splits:
    """Cut validation from train and measure what is left of it.

    Every split keeps the order of its dataset. Where nothing is cut, the training images are the dataset's own tensor,
    not a copy.

    Args:
        validation: fraction of the training images that is held out for validation; 0 = train on all of them
        split_seed: seed of the cut; the seed of the run does not move it
        limit: at most so many images in each split, drawn with split_seed; null = all
        mean: per channel, of pixels scaled to [0, 1]; null = measured on the training images
        std: per channel, of pixels scaled to [0, 1]; null = measured on the training images
    """
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

    train = _take(dataset.train, kept[:limit])
    if mean is None or std is None:
        measured_mean, measured_std = _statistics(train.images, dataset.name if std is None else None)
        mean, std = mean or measured_mean, std or measured_std
    return Splits(
        train=train,
        validation=_take(dataset.train, held_out[:limit]) if num_held_out else None,
        test=_take(dataset.test, torch.randperm(len(dataset.test), generator=generator)[:limit]),
        mean=tuple(mean),
        std=tuple(std),
    )


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

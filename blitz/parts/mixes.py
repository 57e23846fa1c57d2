"""Mixes of a batch's images with each other; the labels become shares of the classes.

Shapes: B batch, C channels, H height, W width, K classes. `mix(images, labels, generator)` takes float (B, C, H, W) and
int64 (B,) and returns images and targets: float (B, K) where `mix.makes_soft_targets` is true, else the labels. All
random numbers are drawn on the CPU, from `generator`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from blitz.parts.registry import Positive, Probability, Registry


def none(num_classes: int) -> Unmixed:
    """Images and labels as they are: the very same tensors, no draw from the generator."""
    return Unmixed()


class Unmixed:
    makes_soft_targets = False

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return images, labels


class SoftMix:
    """What mixes share. Each adds `blend`.

    Args:
        probability: share of the batches that are mixed; the others get targets of 0 and 1
    """

    makes_soft_targets = True

    def __init__(self, num_classes: int, *, alpha: Positive = 1.0, probability: Probability = 1.0) -> None:
        self.num_classes = num_classes
        self.alpha = alpha
        self.probability = probability

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        # Not one_hot, which reads the labels back to the host on some devices.
        targets = (labels.unsqueeze(1) == torch.arange(self.num_classes, device=labels.device)).float()
        if torch.rand((), generator=generator) >= self.probability:
            return images, targets
        # torch's Beta draws from the global generator alone; numpy's is seeded from ours.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        weight = float(np.random.default_rng(seed).beta(self.alpha, self.alpha))
        images, own_share = self.blend(images, weight, generator)
        return images, _with_neighbours(targets, own_share)

    def blend(self, images: Tensor, weight: float, generator: Generator) -> tuple[Tensor, float]:
        """The mixed images, and an image's own share in what becomes of it."""
        raise NotImplementedError


class Mixup(SoftMix):
    """mixup (arXiv:1710.09412): a weighted mean of each image and its neighbour in the batch, one weight a batch.

    The paper takes alpha=1 for CIFAR and 0.1 to 0.4 for ImageNet.

    Args:
        alpha: the weight is drawn from Beta(alpha, alpha); small values mix little, 1 is uniform
    """

    def blend(self, images: Tensor, weight: float, generator: Generator) -> tuple[Tensor, float]:
        return _with_neighbours(images, weight), weight


class CutMix(SoftMix):
    """CutMix (arXiv:1905.04899): a box of each image comes from its neighbour in the batch, the same box for all.

    The labels are weighted by the area of the box inside of the image. The paper takes alpha=1, and mixes half of the
    batches for CIFAR.

    Args:
        alpha: the box's share of the area, before the border clips it, is drawn from Beta(alpha, alpha)
    """

    def blend(self, images: Tensor, weight: float, generator: Generator) -> tuple[Tensor, float]:
        sides = []
        for size in images.shape[2:]:
            half = int(size * (1 - weight) ** 0.5 / 2)
            centre = int(torch.randint(size, (), generator=generator))
            sides.append(slice(max(centre - half, 0), min(centre + half, size)))
        rows, columns = sides
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[:, :, rows, columns].roll(1, 0)
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return mixed, 1 - area / (images.shape[2] * images.shape[3])


def _with_neighbours(values: Tensor, own_share: float) -> Tensor:
    # Batches are shuffled, so that the neighbour is as good as a random partner, and never the image itself.
    return values.lerp(values.roll(1, 0), 1 - own_share)


MIXES = Registry("mix", "blitz.mixes", none=none, mixup=Mixup, cutmix=CutMix)

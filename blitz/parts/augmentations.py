"""Augmentations of whole batches of uint8 images on their device; random numbers are drawn on the CPU.

Shapes: B batch, C channels, H height, W width. `augment(images, generator)` takes and returns uint8 (B, C, H, W); the
images given to it stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad as pad_borders

from blitz.errors import refuse
from blitz.parts import trivial_augment
from blitz.parts.registry import Index, Probability, Registry
from blitz.training.batches import Augment


def none(mean: Sequence[float]) -> Augment:
    """The images as they are: the very same tensor, no draw from the generator."""
    return lambda images, generator: images


class FlipCrop:
    """Pad and crop back at random, mirror left to right, and cut out a square (arXiv:1708.04552): in this order.

    `mean` is the colour of the training images, per channel in [0, 1]. A call raises BadInput if the images are too
    small for `pad` or `cutout`.

    Args:
        flip: probability that an image is mirrored left to right
        pad: pixels added on each side before the crop back to the image's size
        pad_mode: what is added, black or the reflected image
        cutout: side in pixels of a square of the mean colour, its centre anywhere in the image; 0 cuts nothing
    """

    def __init__(
        self,
        mean: Sequence[float],
        *,
        flip: Probability = 0.5,
        pad: Index = 4,
        pad_mode: Literal["zero", "reflect"] = "zero",
        cutout: Index = 0,
    ) -> None:
        self.colour = torch.tensor([round(255 * level) for level in mean], dtype=torch.uint8).view(-1, 1, 1)
        self.flip = flip
        self.pad = pad
        self.pad_mode = pad_mode
        self.cutout = cutout

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        height, width = images.shape[2:]
        self._check(height, width)
        if self.pad or self.flip:
            offsets = torch.randint(2 * self.pad + 1, (2, len(images)), generator=generator)
            mirrored = torch.rand(len(images), generator=generator) < self.flip
            images = crop_back(images, offsets, mirrored, self.pad, self.pad_mode)
        if self.cutout:
            centres = [torch.randint(size, (len(images),), generator=generator) for size in (height, width)]
            images = cut_out(images, torch.stack(centres), self.cutout, self.colour)
        return images

    def _check(self, height: int, width: int) -> None:
        smaller = min(height, width)
        problems = []
        if self.pad_mode == "reflect" and self.pad >= smaller:
            problems.append(
                f"augment.pad={self.pad}: more than there is to reflect in images of {height} x {width} pixels "
                f"(accepted: 0 to {smaller - 1})"
            )
        if self.cutout > smaller:
            problems.append(
                f"augment.cutout={self.cutout}: the images have {height} x {width} pixels (accepted: 0 to {smaller})"
            )
        refuse(problems)


def flip_shift(mean: Sequence[float], *, flip: Probability = 0.5, pad: Index = 2) -> FlipCrop:
    """Mirror left to right and move by a few pixels, reflected at the border (Jordan 2024, arXiv:2404.00498).

    What flip_crop does with pad_mode=reflect. In a run of few epochs it leaves more to learn from than black borders.

    Args:
        flip: probability that an image is mirrored left to right
        pad: pixels by which it is moved at most, in each direction
    """
    return FlipCrop(mean, flip=flip, pad=pad, pad_mode="reflect")


class Trivial(FlipCrop):
    """TrivialAugment (Wide) (arXiv:2103.10158), then flip_crop. For images of 1 or 3 channels.

    Each image gets one of 14 operations at one of 31 strengths, with the ranges of torchvision's TrivialAugmentWide.
    The paper trains on CIFAR with flip=0.5 pad=4 cutout=16, and on SVHN with flip=0 pad=0 cutout=16. What an operation
    moves into view is black.
    """

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return super().__call__(trivial_augment.augment(images, generator), generator)


def crop_back(images: Tensor, offsets: Tensor, mirrored: Tensor, pad: int, pad_mode: str) -> Tensor:
    """Each image padded, cut to its old size at its offset, then mirrored.

    offsets: (2, B) rows and columns into the padded image, 0 to 2 * pad; mirrored: (B,) bool; both on the CPU.
    """
    # One gather does it all. Of nine ways measured for 128 x 3 x 32 x 32 on one thread, this one took 0.5 to 0.7 ms,
    # windows of a strided view and a separate flip 1.1 to 1.4 ms, a loop over images 2 ms, indexing in 4 axes 3.3 ms.
    device, (height, width) = images.device, images.shape[2:]
    top_B1, left_B1, mirrored_B1 = torch.stack((*offsets, mirrored)).to(device, non_blocking=True).unsqueeze(2)
    column_W = torch.arange(width, device=device)
    rows_BH = top_B1 + torch.arange(height, device=device)
    # A mirrored image is read from right to left.
    columns_BW = left_B1 + column_W + mirrored_B1 * (width - 1 - 2 * column_W)
    if pad and pad_mode == "zero":
        images = pad_borders(images, (pad, pad, pad, pad))
    elif pad:  # reflected by the index: no padded copy is needed
        rows_BH, columns_BW = _reflect(rows_BH - pad, height), _reflect(columns_BW - pad, width)
    index = (rows_BH * images.shape[3]).unsqueeze(2) + columns_BW.unsqueeze(1)
    return _take(images, index)


def cut_out(images: Tensor, centres: Tensor, side: int, colour: Tensor) -> Tensor:
    """A square of `colour` (C, 1, 1) over each image, centred at `centres` (2, B); it may reach beyond the border."""
    device, (height, width) = images.device, images.shape[2:]
    top_B1, left_B1 = (centres - side // 2).to(device, non_blocking=True).unsqueeze(2)
    down_BH = torch.arange(height, device=device) - top_B1
    across_BW = torch.arange(width, device=device) - left_B1
    hole_BH1 = ((down_BH >= 0) & (down_BH < side)).unsqueeze(2)
    hole_B1W = ((across_BW >= 0) & (across_BW < side)).unsqueeze(1)
    hole_B1HW = (hole_BH1 & hole_B1W).unsqueeze(1)
    # Multiplied and added: torch.where is not vectorised for uint8 and takes ten times as long.
    return (images * ~hole_B1HW).add_(hole_B1HW * colour.to(device, non_blocking=True))


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions from 1 - size to 2 * size - 2, mirrored at the centres of the first and the last pixel."""
    return size - 1 - (size - 1 - position.abs()).abs()


def _take(images: Tensor, index: Tensor) -> Tensor:
    """For each output pixel the pixel at its flat `index` (B, H, W), the same for all channels."""
    batch, channels = images.shape[:2]
    every_channel = index.flatten(1).unsqueeze(1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, every_channel).view(batch, channels, *index.shape[1:])


AUGMENTATIONS = Registry(
    "augment", "blitz.augmentations", none=none, flip_crop=FlipCrop, flip_shift=flip_shift, trivial=Trivial
)

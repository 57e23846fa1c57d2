"""Datasets that need no download: scikit-learn's digits, and images made from numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from annotated_types import Ge

from blitz.errors import refuse
from blitz.parts import memory
from blitz.parts.datasets.cache import Decoded, Images, cached, in_memory
from blitz.parts.datasets.pictures import resize_blocks
from blitz.parts.datasets.splits import Dataset
from blitz.parts.registry import Count, NonNegative

BLOCK = 500  # images that are made together


def digits(*, image_size: Count | None = 32) -> Dataset:
    """Handwritten digits that come with scikit-learn: 1,797 grey images of 8x8, 1,442 to train and 355 to test.

    The test part of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998). Grey values 0 to 16
    are spread over 0 to 255. Every fifth image of each digit is for testing.

    Args:
        image_size: side in pixels of the square that images are enlarged to (bilinear); null = 8
    """
    # Cached for the sake of the import: scikit-learn takes 1.5 s.
    return cached("digits", {"image_size": image_size}, lambda: _digits(image_size))


def _digits(image_size: int | None) -> Decoded:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images[:, None] * (255 / 16)).astype(np.uint8)
    for_test = np.zeros(len(images), dtype=bool)
    for digit in range(10):
        for_test[np.flatnonzero(bunch.target == digit)[4::5]] = True
    return Decoded(
        [str(digit) for digit in range(10)],
        resize_blocks([images[~for_test]], image_size),
        bunch.target[~for_test].tolist(),
        resize_blocks([images[for_test]], image_size),
        bunch.target[for_test].tolist(),
        source="scikit-learn's digits (UCI optical recognition of handwritten digits)",
    )


def synthetic(
    *,
    num_classes: Annotated[int, Ge(2)] = 10,
    image_size: Count = 32,
    channels: Count = 3,
    train_size: Count = 2000,
    test_size: Count = 500,
    noise: NonNegative = 0.2,
) -> Dataset:
    """Images that a linear classifier can separate: a random pattern of 4x4 patches for each class, and noise on top.

    Always the same for the same options; classes are of equal size, give or take one image. For tests and debugging.

    Args:
        num_classes: number of classes
        image_size: side in pixels
        channels: number of channels
        train_size: number of training images, at least one for each class
        test_size: number of test images, at least one for each class
        noise: standard deviation of the noise on each pixel, where the patterns span 0 to 1
    """
    sizes = {"train_size": train_size, "test_size": test_size}
    accepted = f"accepted: integer >= data.num_classes={num_classes}"
    refuse(f"data.{key}={size}: {accepted}" for key, size in sizes.items() if size < num_classes)
    # Images, patterns and the noise of a block, in numbers of 1 and of 4 bytes; and labels.
    num_pixels = channels * image_size**2 * (train_size + test_size + 4 * (num_classes + 3 * BLOCK))
    if num_pixels + 64 * (train_size + test_size) > memory.free():
        raise MemoryError
    random = np.random.default_rng(0)
    patches = random.random((num_classes, channels, 4, 4), dtype=np.float32)
    rows = np.arange(image_size) * 4 // image_size
    patterns = patches[:, :, rows][:, :, :, rows]

    def images(size: int) -> Iterator[Images]:
        for start in range(0, size, BLOCK):
            labels = np.arange(start, min(start + BLOCK, size)) % num_classes
            shape = (len(labels), channels, image_size, image_size)
            noisy = patterns[labels] + noise * random.standard_normal(shape, dtype=np.float32)
            yield np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)

    decoded = Decoded(
        [f"pattern {number}" for number in range(num_classes)],
        images(train_size),
        [number % num_classes for number in range(train_size)],
        images(test_size),
        [number % num_classes for number in range(test_size)],
        source="made by blitz",
    )
    return in_memory("synthetic", decoded)

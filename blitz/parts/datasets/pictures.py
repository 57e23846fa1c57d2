"""One image file, in any format that Pillow reads, as a uint8 array; many of them as blocks.

Shapes: C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

Array = NDArray[np.uint8]
Size = tuple[int, int]  # (width, height), as in Pillow

GREY = {"1", "L", "LA", "I;16", "I;16L", "I;16B"}
BLOCK = 256  # images decoded together
BYTES_AT_ONCE = 2**26  # of images resized together
# Pillow decodes without Python's global lock, but opens files under it. 10,000 JPEGs of 1 kB take 2.4 s with one
# thread and 3.1 s with two; 2,000 of 256x256 pixels take 2.0 s with one and 1.1 s with two.
BYTES_WORTH_A_THREAD = 4096


class WrongSize(Exception):
    """An image that was expected in another size and may not be resized."""


@cache
def extensions() -> frozenset[str]:
    """What Pillow can open, in lower case with the dot."""
    return frozenset(ext for ext, format_name in Image.registered_extensions().items() if format_name in Image.OPEN)


def heading(path: Path) -> tuple[Size, str]:
    """Size as it will be seen and Pillow's mode, without decoding."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return ((height, width) if turned else (width, height)), image.mode


def read(path: Path, channels: int, size: Size, resizing: bool) -> Array:
    """One image (C, H, W), upright; transparent parts become white. Raises WrongSize, or what Pillow raises."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image) if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else image
        plain = _plain(upright, "L" if channels == 1 else "RGB")
    if plain.size != size:
        if not resizing:
            raise WrongSize(f"{plain.width}x{plain.height}")
        plain = plain.resize(size, Image.Resampling.BILINEAR)  # Pillow's: with antialias
    flat = np.frombuffer(plain.tobytes(), dtype=np.uint8)
    return flat.reshape(size[1], size[0], channels).transpose(2, 0, 1)


def read_all(
    paths: Sequence[Path], channels: int, size: Size, resizing: bool, failed: list[tuple[Path, Exception]]
) -> Iterator[Array]:
    """Blocks (n, C, H, W) in the order of `paths`. A file that fails is black, and added to `failed`."""

    def block(some: Sequence[Path]) -> Array:
        images = np.zeros((len(some), channels, size[1], size[0]), dtype=np.uint8)
        for row, path in enumerate(some):
            try:
                images[row] = read(path, channels, size, resizing)
            except Exception as error:  # Pillow's plug-ins raise what they like on a damaged file
                failed.append((path, error))
        return images

    blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    num_threads = (os.cpu_count() or 1) if _mean_bytes(paths) >= BYTES_WORTH_A_THREAD else 1
    with ThreadPoolExecutor(num_threads) as pool:
        ahead = 4 * num_threads  # blocks in memory at a time
        for start in range(0, len(blocks), ahead):
            yield from pool.map(block, blocks[start : start + ahead])


def resize_blocks(blocks: Iterable[Array], image_size: int | None) -> Iterator[Array]:
    """Blocks (n, C, H, W) with every image brought to a square of `image_size` pixels; null = as they are."""
    for block in blocks:
        if image_size is None or block.shape[2:] == (image_size, image_size):
            yield block
        else:
            few = max(1, BYTES_AT_ONCE // (block.shape[1] * image_size**2))
            for start in range(0, len(block), few):
                yield np.stack([_resized(image, image_size) for image in block[start : start + few]])


def _resized(image: Array, image_size: int) -> Array:
    """(C, H, W), each channel alone: what Pillow does to RGB, for any number of channels."""
    square = (image_size, image_size)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in image]
    return np.stack([np.asarray(plane.resize(square, Image.Resampling.BILINEAR)) for plane in planes])


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """8 bits a channel and no transparency."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip at 255
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range; store 8 or 16 bits a channel")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _mean_bytes(paths: Sequence[Path]) -> float:
    sample = paths[:: max(1, len(paths) // 100)]
    return sum(path.stat().st_size for path in sample if path.exists()) / len(sample)

"""Images to train on, as a user would have them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def make_images(folder: Path, train: int, test: int, size: tuple[int, int]) -> Path:
    """So many images of each of two classes, in the layout of `data=folder`."""
    for split, count in (("train", train), ("test", test)):
        for number, name in enumerate(("dark", "light")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                grey = 100 * number + index
                Image.new("RGB", size, (grey, grey, 50)).save(folder / split / name / f"{index}.png")
    return folder

"""Images of one's own: a folder for each class under train and under test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from os.path import expanduser
from pathlib import Path
from typing import NamedTuple

from blitz.errors import BadInput, refuse
from blitz.parts.datasets import pictures
from blitz.parts.datasets.cache import LOG, ROOT, Decoded, Images, cached, named_root
from blitz.parts.datasets.splits import Dataset, some
from blitz.parts.registry import Count

LAYOUT = "accepted: a folder that holds train/CLASS/IMAGE and test/CLASS/IMAGE"
SPLITS = ("train", "test")


class _Picture(NamedTuple):
    split: str
    label: str  # the name of its class
    file: str  # relative to the root; text, because 60,000 Path objects cost more than 60,000 stats
    size: int  # bytes
    changed: int  # mtime in ns


def folder(*, root: str | None = None, image_size: Count | None = None) -> Dataset:
    """`root/train/CLASS/*` and `root/test/CLASS/*`, every format that Pillow reads, upright by their EXIF orientation.

    One channel if every image is grey (16 bits are reduced to 8), else RGB; transparent parts become white. Classes are
    sorted by name. Hidden files, folders inside a class and files that are no image are left out, and counted in the
    log. Decoded once; again when a file was added, removed or changed.

    Args:
        root: the folder that holds train and test; null = $BLITZ_DATA
        image_size: side in pixels of the square that every image is resized to (bilinear, antialiased, the aspect ratio
            is not kept); null = as they are, all of one size
    """
    root, named = named_root(root)
    if root is None:
        raise BadInput(f"data.root=null: data=folder needs one, or {ROOT} ({LAYOUT})")
    top = Path(expanduser(root)).absolute()
    try:
        found, classes = _listed(named, top)
    except OSError as error:  # of permissions, say, or of links in a circle
        raise BadInput(f"{named}: {error.filename or top}: {error.strerror} ({LAYOUT})") from None
    key = {
        "root": str(top),
        "image_size": image_size,
        "files": [picture[2:] for picture in found],  # file, size, changed
    }
    return cached("folder", key, lambda: _decoded(named, top, found, classes, image_size))


def _listed(named: str, top: Path) -> tuple[list[_Picture], list[str]]:
    """All images, sorted by split, class and name, and the class names. Raises BadInput with all that is wrong."""
    if not top.is_dir():
        raise BadInput(f"{named}: {'not a folder' if top.exists() else 'does not exist'} ({LAYOUT})")
    missing = [split for split in SPLITS if not (top / split).is_dir()]
    if missing:
        there = ", ".join(sorted(entry.name for entry in list(os.scandir(top)) if entry.is_dir())) or "no folder"
        raise BadInput(f"{named}: no folder {' and no folder '.join(missing)} in it, but {there} ({LAYOUT})")

    skipped: list[str] = []
    found = {split: _classes(top / split, skipped) for split in SPLITS}
    problems = []
    for split, other in (SPLITS, SPLITS[::-1]):
        empty = [f"{split}/{name}" for name, members in found[split].items() if not members]
        if empty:
            problems.append(f"{named}: no image in {some(empty)}; put some there, or remove the folder")
        lonely = [name for name in found[split] if name not in found[other]]
        if lonely:
            problems.append(f"{named}: class {some(lonely)} is in {split} and not in {other}; both need it")
    classes = sorted(found["train"] | found["test"])
    if len(classes) < 2:
        what = f"only one class, {classes[0]}" if classes else "no class"
        problems.append(f"{named}: {what}; at least two folders are needed in train and in test")
    refuse(problems)
    if skipped:
        LOG.info("data=folder: %s left out that are no images: %s", _count(len(skipped), "entry"), some(skipped))
    return [picture for split in SPLITS for name in classes for picture in found[split][name]], classes


def _classes(top: Path, skipped: list[str]) -> dict[str, list[_Picture]]:
    classes: dict[str, list[_Picture]] = {}
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        if entry.name.startswith(".") or not entry.is_dir():
            skipped.append(f"{top.name}/{entry.name}")
        else:
            classes[entry.name] = list(_class(top.name, entry.name, entry.path, skipped))
    return classes


def _class(split: str, name: str, path: str, skipped: list[str]) -> Iterator[_Picture]:
    known_extensions = pictures.extensions()
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        known = entry.name[entry.name.rfind(".") :].lower() in known_extensions
        file = f"{split}/{name}/{entry.name}"
        if entry.name.startswith(".") or not known or not entry.is_file():
            skipped.append(file)
        else:
            status = entry.stat()
            yield _Picture(split, name, file, status.st_size, status.st_mtime_ns)


def _decoded(named: str, top: Path, found: list[_Picture], classes: list[str], image_size: int | None) -> Decoded:
    where = named.partition("=")[2]
    LOG.info("decoding %s of %s once into the cache", _count(len(found), "image"), where)
    failed: list[tuple[Path, Exception]] = []
    paths = {split: [top / picture.file for picture in found if picture.split == split] for split in SPLITS}
    # `all` stops at the first image in colour: usually the first one.
    channels = 1 if all(mode in pictures.GREY for _, mode in _headings(paths["train"] + paths["test"])) else 3
    size = (image_size, image_size) if image_size else next((size for size, _ in _headings(paths["train"])), (1, 1))

    def test_images() -> Iterator[Images]:
        yield from pictures.read_all(paths["test"], channels, size, bool(image_size), failed)
        _refuse(named, top, failed, len(found), size)  # after the last image: one error for all of them

    labels = {name: label for label, name in enumerate(classes)}
    return Decoded(
        classes,
        pictures.read_all(paths["train"], channels, size, bool(image_size), failed),
        [labels[picture.label] for picture in found if picture.split == "train"],
        test_images(),
        [labels[picture.label] for picture in found if picture.split == "test"],
        source=str(top),
    )


def _headings(paths: list[Path]) -> Iterator[tuple[pictures.Size, str]]:
    """Size and mode of each image that can be opened; the others are reported when they are decoded."""
    for path in paths:
        with suppress(Exception):
            yield pictures.heading(path)


def _refuse(
    named: str, top: Path, failed: list[tuple[Path, Exception]], num_images: int, size: tuple[int, int]
) -> None:
    others, unreadable = [], []
    for path, error in sorted(failed, key=lambda failure: failure[0]):
        file = path.relative_to(top)
        if isinstance(error, pictures.WrongSize):
            others.append(f"{file} is {error}")
        else:
            unreadable.append(f"{file} ({' '.join(str(error).split())})")
    problems = []
    if unreadable:
        problems.append(
            f"{named}: {len(unreadable)} of {_count(num_images, 'image')} cannot be read: "
            f"{some(unreadable)}; repair or remove them"
        )
    if others:
        problems.append(
            f"data.image_size=null: the images have different sizes: the first is {size[0]}x{size[1]}, "
            f"{some(others)}; give the side of a square, for example data.image_size={min(size)}"
        )
    refuse(problems)


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"

"""The folder of decoded datasets and downloads, its locks, and the error when it cannot be written.

A dataset is decoded once: uint8 images in files that later starts map into memory, checked at every start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from blitz.errors import BadInput
from blitz.parts.datasets.splits import Dataset, Split

LOG = logging.getLogger("blitz")
FORMAT = 1  # of the files; a new number leaves older caches aside
ROOT = "BLITZ_DATA"  # environment variable: data.root, where none is given
KEPT = 8  # caches of a data set, such as of several image sizes: those that were used last
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
Images = NDArray[np.uint8]
_only_reads: ContextVar[bool] = ContextVar("only_reads", default=False)


class Decoded(NamedTuple):
    """A dataset on its way into the cache; images come in blocks (n, C, H, W): memory need not hold them all."""

    classes: Sequence[str]
    train_images: Iterable[Images]
    train_labels: Sequence[int]
    test_images: Iterable[Images]
    test_labels: Sequence[int]
    source: str


class _Damaged(Exception):
    """A cache that is there and cannot be trusted."""


def home() -> Path:
    """`$BLITZ_CACHE`, else `$XDG_CACHE_HOME/blitz`, else `~/.cache/blitz`.

    Raises BadInput for a home folder that nobody has.
    """
    chosen = os.environ.get("BLITZ_CACHE")
    folder = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "blitz"
    try:
        return folder.expanduser().absolute()
    except RuntimeError:
        raise BadInput(f"{folder}: no such home folder; name another folder for the cache with BLITZ_CACHE") from None


def named_root(root: str | None) -> tuple[str | None, str]:
    """The folder that holds a data set, and what named it, as a message calls it."""
    if root is None and (named := os.environ.get(ROOT)):
        return named, f"{ROOT}={named}"
    return root, f"data.root={root}"


@contextmanager
def writing() -> Iterator[None]:
    """Raise an OSError of this block as a BadInput about BLITZ_CACHE."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"BLITZ_CACHE={home()}: cannot be written ({error.strerror or error}); "
            "set BLITZ_CACHE to a folder with room that you may write to"
        ) from None


@contextmanager
def reading_only() -> Iterator[None]:
    """In this block a data set that would have to be downloaded or decoded raises BadInput."""
    token = _only_reads.set(True)
    try:
        yield
    finally:
        _only_reads.reset(token)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock beside `path`. It goes with the process, so a kill leaves nothing behind to clear away."""
    lock = FileLock(f"{path}.lock")
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            LOG.info("waiting for another process: %s", what)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def cached(name: str, key: Mapping[str, Any], decode: Callable[[], Decoded]) -> Dataset:
    """The dataset that `key` stands for, decoded if it is not in the cache or if what is there was changed since."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    folder = home() / "datasets" / f"{name}-{digest[:20]}"
    try:
        if folder.exists():
            return _open(folder, name)  # without the lock: a cache that may only be read is good enough
    except _Damaged:
        pass  # looked at again under the lock, with a warning: another process may be rebuilding it now
    if _only_reads.get():
        raise BadInput(f"data={name}: not in the cache yet; the first run puts it there")
    with locked(folder, f"it prepares data={name}"):
        try:
            if folder.exists():
                return _open(folder, name)
        except _Damaged as damage:
            LOG.warning("the cache of data=%s in %s is damaged (%s); building it again", name, folder, damage)
        _build(folder, decode, key.get("image_size"))
        _remove_oldest(folder, name)
        return _open(folder, name)


def in_memory(name: str, decoded: Decoded) -> Dataset:
    """A dataset that is cheaper to make than to keep."""
    arrays = {
        "train_images": np.concatenate(list(decoded.train_images)),
        "train_labels": np.asarray(decoded.train_labels, dtype="<i8"),
        "test_images": np.concatenate(list(decoded.test_images)),
        "test_labels": np.asarray(decoded.test_labels, dtype="<i8"),
    }
    return _dataset(name, arrays, tuple(decoded.classes), _fingerprint(arrays, decoded.classes), decoded.source)


def _open(folder: Path, name: str) -> Dataset:
    """Raises _Damaged unless every byte of images, labels and class names is what was written."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        # Mode "c": pages are shared with other processes, and torch gets memory that it may regard as writable.
        arrays = {array: np.load(folder / f"{array}.npy", mmap_mode="c") for array in ARRAYS}
        classes, source, expected = tuple(meta["classes"]), meta["source"], meta["fingerprint"]
        found = _fingerprint(arrays, classes)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise _Damaged(f"{type(error).__name__}: {error}") from None
    if found != expected:
        raise _Damaged(f"SHA-256 {found[:12]}…, written as {expected[:12]}…")
    with suppress(OSError):  # a cache that may only be read
        os.utime(folder)  # when it was used last
    return _dataset(name, arrays, classes, found, source)


def _dataset(name: str, arrays: Mapping[str, Any], classes: tuple[str, ...], fingerprint: str, source: str) -> Dataset:
    tensors = {array: torch.from_numpy(values) for array, values in arrays.items()}
    train = Split(tensors["train_images"], tensors["train_labels"])
    test = Split(tensors["test_images"], tensors["test_labels"])
    return Dataset(name, train, test, classes, fingerprint, source)


def _fingerprint(arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> str:
    """Over contents and shapes alone: the same from memory and from a file, whatever numpy wrote the file."""

    def part(name: str) -> list[Any]:
        array = arrays[name]
        digest = hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).hexdigest()
        return [name, array.dtype.str, list(array.shape), digest]

    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock alone
        parts = [list(classes), *pool.map(part, ARRAYS)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _build(folder: Path, decode: Callable[[], Decoded], image_size: int | None) -> None:
    """Under the lock: into a folder beside, renamed when it is whole."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    old = folder.with_name(f"{folder.name}.old")
    with writing():
        for leftover in (unfinished, old):  # of a process that was killed
            if leftover.exists():
                shutil.rmtree(leftover)
        unfinished.mkdir()
    try:
        decoded = decode()
        _refuse_too_large(len(decoded.train_labels) + len(decoded.test_labels), image_size)
        _write_images(unfinished / "train_images.npy", decoded.train_images, len(decoded.train_labels))
        _write_images(unfinished / "test_images.npy", decoded.test_images, len(decoded.test_labels))
        with writing():
            np.save(unfinished / "train_labels.npy", np.asarray(decoded.train_labels, dtype="<i8"))
            np.save(unfinished / "test_labels.npy", np.asarray(decoded.test_labels, dtype="<i8"))
            arrays = {array: np.load(unfinished / f"{array}.npy", mmap_mode="c") for array in ARRAYS}
            meta = {
                "format": FORMAT,
                "classes": list(decoded.classes),
                "source": decoded.source,
                "fingerprint": _fingerprint(arrays, decoded.classes),
            }
            (unfinished / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
            if folder.exists():
                folder.rename(old)
            unfinished.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _refuse_too_large(num_images: int, image_size: int | None) -> None:
    """Raises BadInput for squares of pixels that the disk does not hold, be they grey."""
    room = shutil.disk_usage(home()).free
    if image_size is not None and num_images * image_size**2 > room:
        raise BadInput(
            f"data.image_size={image_size}: {num_images:,} such images take more than the {room / 1e9:.0f} GB that are "
            f"free in BLITZ_CACHE={home()}; choose less"
        )


def _remove_oldest(new: Path, name: str) -> None:
    """Of this data set, keep the caches used last, `new` among them. A process that has one mapped keeps its images."""
    is_cache = re.compile(rf"{re.escape(name)}-[0-9a-f]{{20}}").fullmatch
    with suppress(OSError):  # another process may be removing them too
        others = [path for path in new.parent.iterdir() if path.is_dir() and is_cache(path.name) and path != new]
        for folder in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT - 1 :]:
            size = sum(file.stat().st_size for file in folder.iterdir())
            old = folder.rename(folder.with_name(f"{folder.name}.old"))  # nobody finds a half of it
            shutil.rmtree(old, ignore_errors=True)
            LOG.info(
                "removed %s (%.1f MB): the %d caches of data=%s used last are kept", folder, size / 1e6, KEPT, name
            )


def _write_images(path: Path, blocks: Iterable[Images], num_images: int) -> None:
    """One .npy from blocks. Written in sequence, not through a map: there, a full disk would kill the process."""
    written = 0
    for block in blocks:  # not under writing(): trouble with decoding is not the cache's
        with writing(), path.open("ab") as file:  # closed each time, because a full disk may show only then
            if written == 0:
                header = {"descr": "|u1", "fortran_order": False, "shape": (num_images, *block.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(block).data)
        written += len(block)
    assert written == num_images, (written, num_images)

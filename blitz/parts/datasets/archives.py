"""The file formats of the published sets: CIFAR's pickles, MNIST's idx, SVHN's Matlab files.

Archives are read where they lie: nothing is extracted, so no path in one can point anywhere.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Parts = dict[str, bytes]  # file name -> contents, unpacked


class Contents(NamedTuple):
    classes: Sequence[str]
    train_images: list[Images]  # blocks (n, C, H, W)
    train_labels: list[int]
    test_images: list[Images]
    test_labels: list[int]


class Damaged(Exception):
    """A file that is not what its name says; the message names it."""


def unpack(paths: Sequence[Path], wanted: Sequence[str]) -> Parts:
    """The wanted files from plain files, .gz files and .tar.gz archives."""
    parts: Parts = {}
    for path in paths:
        try:
            if path.name in wanted:
                parts[path.name] = path.read_bytes()
            elif path.name.removesuffix(".gz") in wanted:
                parts[path.name.removesuffix(".gz")] = gzip.decompress(path.read_bytes())
            else:
                parts |= _members(path, wanted)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise Damaged(f"{path.name} cannot be unpacked ({error})") from None
    missing = [name for name in wanted if name not in parts]
    if missing:
        raise Damaged(f"{', '.join(path.name for path in paths)}: {', '.join(missing)} is not in it")
    return parts


def _members(path: Path, wanted: Sequence[str]) -> Parts:
    parts: Parts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            contents = archive.extractfile(member) if member.isfile() and name in wanted else None
            if contents is not None:
                parts[name] = contents.read()
    return parts


def cifar(parts: Parts, train: Sequence[str], test: str, meta: str, labels: str, names: str) -> Contents:
    """CIFAR-10 and CIFAR-100 for Python: pickled dictionaries with rows of 3 * 32 * 32 bytes."""
    batches = {name: _unpickled(name, parts[name]) for name in (*train, test, meta)}
    classes = [str(name) for name in _entry(meta, batches, names)]

    def images(name: str) -> Images:
        rows = np.asarray(_entry(name, batches, "data"))
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
            raise Damaged(f"{name} holds {rows.dtype} of shape {rows.shape} where uint8 (n, 3072) belongs")
        return rows.reshape(-1, 3, 32, 32)

    def numbers(name: str) -> list[int]:
        return _checked(name, _entry(name, batches, labels), len(images(name)), len(classes))

    return Contents(
        classes,
        [images(name) for name in train],
        [label for name in train for label in numbers(name)],
        [images(test)],
        numbers(test),
    )


def idx(parts: Parts, names: Sequence[str], classes: Sequence[str]) -> Contents:
    """MNIST's format: magic number, sizes as big-endian 32-bit integers, then bytes. `names`: train, then test."""
    train_images, train_labels, test_images, test_labels = (_idx(name, parts[name]) for name in names)
    return Contents(
        classes,
        [train_images[:, None]],
        _checked(names[1], train_labels, len(train_images), len(classes)),
        [test_images[:, None]],
        _checked(names[3], test_labels, len(test_images), len(classes)),
    )


def mat(parts: Parts, train: str, test: str, classes: Sequence[str]) -> Contents:
    """SVHN's format: X (H, W, C, N) and y (N, 1), where 10 stands for the digit 0."""
    from scipy.io import loadmat  # 0.3 s

    def read(name: str) -> tuple[Images, list[int]]:
        try:
            contents = loadmat(io.BytesIO(parts[name]))
            images, labels = contents["X"].transpose(3, 2, 0, 1), contents["y"].ravel() % 10
        except Exception as error:  # scipy raises many kinds on a damaged file
            raise Damaged(f"{name} cannot be read ({type(error).__name__}: {error})") from None
        return images, _checked(name, labels, len(images), len(classes))

    train_images, train_labels = read(train)
    test_images, test_labels = read(test)
    return Contents(classes, [train_images], train_labels, [test_images], test_labels)


def _idx(name: str, contents: bytes) -> Images:
    zero, kind, num_dimensions = int.from_bytes(contents[:2], "big"), contents[2:3], contents[3:4]
    expected = 3 if "idx3" in name else 1
    if zero != 0 or kind != b"\x08" or num_dimensions != bytes([expected]):
        raise Damaged(f"{name} does not begin as an idx file of bytes with {expected} dimension(s)")
    start = 4 + 4 * expected
    shape = [int.from_bytes(contents[place : place + 4], "big") for place in range(4, start, 4)]
    if len(contents) - start != math.prod(shape):
        raise Damaged(f"{name} holds {len(contents) - start:,} bytes where {shape} says {math.prod(shape):,}")
    return np.frombuffer(contents, dtype=np.uint8, offset=start).reshape(shape)


def _checked(name: str, labels: Any, num_images: int, num_classes: int) -> list[int]:
    numbers = [int(label) for label in labels]
    if not numbers or len(numbers) != num_images:
        raise Damaged(f"{name} holds {len(numbers):,} labels for {num_images:,} images")
    if min(numbers) < 0 or max(numbers) >= num_classes:
        raise Damaged(f"{name} holds labels from {min(numbers)} to {max(numbers)} for {num_classes} classes")
    return numbers


def _entry(name: str, batches: dict[str, Any], key: str) -> Any:
    if not isinstance(batches[name], dict) or key not in batches[name]:
        raise Damaged(f"{name} holds no {key!r}")
    return batches[name][key]


class _Unpickler(pickle.Unpickler):
    """Builds arrays and plain values only: a pickle can name any function, and a mirror is not to be trusted."""

    def find_class(self, module: str, name: str) -> Any:
        # Taken from arrays at hand: these functions have moved between versions of numpy.
        reconstruct = np.empty(0).__reduce__()[0]
        from_buffer = np.empty(1).__reduce_ex__(5)[0]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy.core.numeric", "_frombuffer"): from_buffer,
            ("numpy._core.numeric", "_frombuffer"): from_buffer,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


def _dtype(code: str, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    return np.dtype(code, align=bool(align), copy=bool(copy))  # Python 2 wrote 0 and 1, which numpy warns about


def _unpickled(name: str, contents: bytes) -> Any:
    try:
        return _Unpickler(io.BytesIO(contents), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise Damaged(f"{name} cannot be read ({type(error).__name__}: {error})") from None

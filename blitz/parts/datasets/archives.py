"""The file formats of the published sets: CIFAR's pickles, MNIST's idx, SVHN's Matlab files.

Archives are read where they lie: nothing is extracted, so no path in one can point anywhere. torchvision's own classes
read unpacked, official files only, and unpickle whatever a file holds.
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
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Part = tuple[list[Images], list[int]]  # blocks (n, C, H, W), and all labels
Contents = tuple[Sequence[str], Part, Part]  # classes, train, test
Files = dict[str, bytes]  # name -> contents, unpacked


class Damaged(Exception):
    """A file that is not what its name says; the message names it."""


def unpack(paths: Sequence[Path], wanted: Sequence[str]) -> Files:
    """The wanted files from plain files, .gz files and .tar.gz archives. Raises Damaged where one is missing."""
    files: Files = {}
    for path in paths:
        try:
            if path.name in wanted:
                files[path.name] = path.read_bytes()
            elif path.stem in wanted:
                files[path.stem] = gzip.decompress(path.read_bytes())
            else:
                with tarfile.open(path) as archive:
                    for member in archive:
                        name = PurePosixPath(member.name).name
                        if name in wanted and (contents := archive.extractfile(member)) is not None:
                            files[name] = contents.read()
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise Damaged(f"{path.name} cannot be unpacked ({error})") from None
    missing = [name for name in wanted if name not in files]
    if missing:
        raise Damaged(f"{', '.join(path.name for path in paths)}: {', '.join(missing)} is not in it")
    return files


def cifar(files: Files, train: Sequence[str], test: str, meta: str, labels: str, names: str) -> Contents:
    """CIFAR-10 and CIFAR-100 for Python: pickled dictionaries with rows of 3 * 32 * 32 bytes."""
    pickled = {name: _unpickled(name, files[name]) for name in (*train, test, meta)}

    def entry(name: str, key: str) -> Any:
        if not isinstance(pickled[name], dict) or key not in pickled[name]:
            raise Damaged(f"{name} holds no {key!r}")
        return pickled[name][key]

    classes = [str(name) for name in entry(meta, names)]

    def read(batches: Sequence[str]) -> Part:
        images: list[Images] = []
        numbers: list[int] = []
        for name in batches:
            rows = np.asarray(entry(name, "data"))
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
                raise Damaged(f"{name} holds {rows.dtype} of shape {rows.shape} where uint8 (n, 3072) belongs")
            images.append(rows.reshape(-1, 3, 32, 32))
            numbers += _checked(name, entry(name, labels), len(rows), len(classes))
        return images, numbers

    return classes, read(train), read([test])


def idx(files: Files, names: Sequence[str], classes: Sequence[str]) -> Contents:
    """MNIST's format: magic number, sizes as big-endian 32-bit integers, then bytes. `names`: train, then test."""

    def read(images: str, labels: str) -> Part:
        pixels = _idx(images, files[images], 3)
        return [pixels[:, None]], _checked(labels, _idx(labels, files[labels], 1), len(pixels), len(classes))

    return classes, read(*names[:2]), read(*names[2:])


def mat(files: Files, train: str, test: str, classes: Sequence[str]) -> Contents:
    """SVHN's format: X (H, W, C, N) and y (N, 1), where 10 stands for the digit 0."""
    from scipy.io import loadmat  # 0.3 s

    def read(name: str) -> Part:
        try:
            contents = loadmat(io.BytesIO(files[name]))
            images, labels = contents["X"].transpose(3, 2, 0, 1), contents["y"].ravel() % 10
        except Exception as error:  # scipy raises many kinds on a damaged file
            raise Damaged(f"{name} cannot be read ({type(error).__name__}: {error})") from None
        return [images], _checked(name, labels, len(images), len(classes))

    return classes, read(train), read(test)


def _idx(name: str, contents: bytes, num_dimensions: int) -> Images:
    if contents[:4] != bytes([0, 0, 8, num_dimensions]):
        raise Damaged(f"{name} does not begin as an idx file of bytes with {num_dimensions} dimension(s)")
    start = 4 + 4 * num_dimensions
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


def _dtype(code: str, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    return np.dtype(code, align=bool(align), copy=bool(copy))  # Python 2 wrote 0 and 1, which numpy warns about


class _Unpickler(pickle.Unpickler):
    """Builds arrays and plain values only: a pickle can name any function, and a mirror is not to be trusted."""

    ALLOWED = {  # noqa: RUF012
        # Taken from arrays at hand: these functions have moved between versions of numpy.
        "_reconstruct": np.empty(0).__reduce__()[0],
        "_frombuffer": np.empty(1).__reduce_ex__(5)[0],
        "ndarray": np.ndarray,
        "dtype": _dtype,
        "encode": lambda text, encoding: text.encode(encoding),
    }

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] not in ("numpy", "_codecs") or name not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.ALLOWED[name]


def _unpickled(name: str, contents: bytes) -> Any:
    try:
        return _Unpickler(io.BytesIO(contents), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise Damaged(f"{name} cannot be read ({type(error).__name__}: {error})") from None

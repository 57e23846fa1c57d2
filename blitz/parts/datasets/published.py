"""CIFAR, MNIST, Fashion-MNIST and SVHN: found on disk or downloaded, and read without running what a file contains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from blitz.errors import BadInput
from blitz.parts.datasets import archives, downloads, official
from blitz.parts.datasets.cache import Decoded, cached
from blitz.parts.datasets.cache_home import LOG, home
from blitz.parts.datasets.pictures import resize_blocks
from blitz.parts.datasets.splits import Dataset
from blitz.parts.registry import Count

DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Published(NamedTuple):
    name: str
    files: tuple[str, ...]  # as published
    parts: tuple[str, ...]  # what is in them, unpacked
    folders: tuple[str, ...]  # where below data.root the parts may lie unpacked
    links: Callable[[], list[official.Link]]  # a function, because torchvision takes seconds to import
    read: Callable[[archives.Parts], archives.Contents]


def cifar10(*, root: str | None = None, url: str | None = None, image_size: Count | None = None) -> Dataset:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 RGB images of 32x32 in 10 classes of equal size.

    Args:
        root: folder that holds cifar-10-python.tar.gz or cifar-10-batches-py, or the archive; null = download
        url: web folder of a mirror that holds cifar-10-python.tar.gz; null = the official one
        image_size: side in pixels of the square that images are resized to (bilinear, antialiased); null = 32
    """
    return _load(_CIFAR10, root, url, image_size)


def cifar100(*, root: str | None = None, url: str | None = None, image_size: Count | None = None) -> Dataset:
    """CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 RGB images of 32x32 in 100 classes of equal size.

    Args:
        root: folder that holds cifar-100-python.tar.gz or cifar-100-python, or the archive; null = download
        url: web folder of a mirror that holds cifar-100-python.tar.gz; null = the official one
        image_size: side in pixels of the square that images are resized to (bilinear, antialiased); null = 32
    """
    return _load(_CIFAR100, root, url, image_size)


def mnist(*, root: str | None = None, url: str | None = None, image_size: Count | None = None) -> Dataset:
    """MNIST (LeCun, Cortes and Burges, 1998): 60,000 + 10,000 grey images of 28x28, the digits 0 to 9.

    Args:
        root: folder that holds the four idx files, with .gz or without (also below MNIST/raw); null = download
        url: web folder of a mirror that holds the four .gz files; null = the official ones
        image_size: side in pixels of the square that images are resized to (bilinear, antialiased); null = 28
    """
    return _load(_MNIST, root, url, image_size)


def fashion_mnist(*, root: str | None = None, url: str | None = None, image_size: Count | None = None) -> Dataset:
    """Fashion-MNIST (arXiv 1708.07747): 60,000 + 10,000 grey images of 28x28 in 10 classes of clothing.

    Args:
        root: folder that holds the four idx files, with .gz or without (also below FashionMNIST/raw); null = download
        url: web folder of a mirror that holds the four .gz files; null = the official one
        image_size: side in pixels of the square that images are resized to (bilinear, antialiased); null = 28
    """
    return _load(_FASHION_MNIST, root, url, image_size)


def svhn(*, root: str | None = None, url: str | None = None, image_size: Count | None = None) -> Dataset:
    """SVHN, cropped (Netzer et al., 2011): 73,257 + 26,032 RGB images of 32x32, the digits 0 to 9, unequally many.

    The file's label 10 is the digit 0 here.

    Args:
        root: folder that holds train_32x32.mat and test_32x32.mat; null = download
        url: web folder of a mirror that holds the two .mat files; null = the official one
        image_size: side in pixels of the square that images are resized to (bilinear, antialiased); null = 32
    """
    return _load(_SVHN, root, url, image_size)


def _load(published: Published, root: str | None, url: str | None, image_size: int | None) -> Dataset:
    _check_url(root, url)
    key: dict[str, object] = {"image_size": image_size}
    paths: list[Path] = []
    if root is not None:
        paths = _found(published, root)
        key["files"] = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]

    def decode() -> Decoded:
        if root is not None:
            _compare(published, paths)
            return _decoded(published, paths, f"data.root={root}", str(paths[0].parent), image_size)
        downloaded, source = _downloaded(published, url)
        return _decoded(published, downloaded, f"data={published.name}", source, image_size)

    return cached(published.name, key, decode)


def _check_url(root: str | None, url: str | None) -> None:
    if url is None:
        return
    try:
        good = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
        shown = downloads.shown(url)
    except ValueError:  # brackets of an IPv6 address that do not close
        good, shown = False, "…"
    if not good:
        raise BadInput(f"data.url={shown}: accepted: the address of a web folder, http://… or https://…")
    if root is not None:
        raise BadInput(f"data.url={shown}: nothing is downloaded with data.root={root}; give one of the two")


def _found(published: Published, root: str) -> list[Path]:
    """The files to read: unpacked ones before archives. Never touches the network."""
    top = Path(root).expanduser().absolute()
    if top.is_file():
        return [top]
    for below in published.folders:
        either = [(top / below / part, top / below / f"{part}.gz") for part in published.parts]
        if all(plain.is_file() or packed.is_file() for plain, packed in either):
            return [plain if plain.is_file() else packed for plain, packed in either]
    paths = [top / file for file in published.files]
    if all(path.is_file() for path in paths):
        return paths
    raise BadInput(
        f"data.root={root}: {'' if top.is_dir() else 'does not exist; '}accepted for data={published.name}: a folder "
        f"that holds {' and '.join(published.files)}, or unpacked {' and '.join(published.parts)}"
    )


def _compare(published: Published, paths: list[Path]) -> None:
    """A file of the user's own may be another than the official one, a subset for example; but it is said."""
    expected = {link.file: link.md5 for link in published.links()}
    for path in paths:
        if path.name in expected and downloads.md5_of(path) != expected[path.name]:
            LOG.warning("%s is not the official file of data=%s (its MD5 differs); reading it", path, published.name)


def _downloaded(published: Published, url: str | None) -> tuple[list[Path], str]:
    """The files, and where the first of them came from."""
    folder = home() / "downloads" / published.name
    paths, sources = [], []
    for link in published.links():
        urls = [downloads.beside(url, link.file)] if url else link.urls
        try:
            sources.append(downloads.fetch(urls, folder / link.file, link.md5))
        except downloads.DownloadFailed as failure:
            asked = f"data.url={downloads.shown(url)}" if url else f"data={published.name}"
            raise BadInput(
                f"{asked}: {link.file} could not be downloaded: {failure}. Three ways on: data=digits (needs no "
                f"download); data.root=FOLDER, one that holds {' and '.join(published.files)} or what is in it; "
                "data=folder data.root=FOLDER with images of your own"
            ) from None
        paths.append(folder / link.file)
    return paths, sources[0]


def _decoded(published: Published, paths: list[Path], key: str, source: str, image_size: int | None) -> Decoded:
    LOG.info("decoding data=%s once into the cache", published.name)
    try:
        contents = published.read(archives.unpack(paths, published.parts))
    except archives.Damaged as damage:
        raise BadInput(f"{key}: {damage}; get it again") from None
    return Decoded(
        contents.classes,
        resize_blocks(contents.train_images, image_size),
        contents.train_labels,
        resize_blocks(contents.test_images, image_size),
        contents.test_labels,
        source,
    )


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR10 = Published(
    "cifar10",
    ("cifar-10-python.tar.gz",),
    (*_BATCHES, "test_batch", "batches.meta"),
    ("", "cifar-10-batches-py"),
    official.cifar10,
    lambda parts: archives.cifar(parts, _BATCHES, "test_batch", "batches.meta", "labels", "label_names"),
)
_CIFAR100 = Published(
    "cifar100",
    ("cifar-100-python.tar.gz",),
    ("train", "test", "meta"),
    ("", "cifar-100-python"),
    official.cifar100,
    lambda parts: archives.cifar(parts, ("train",), "test", "meta", "fine_labels", "fine_label_names"),
)
_IDX_GZ = tuple(f"{part}.gz" for part in IDX)
_MNIST = Published(
    "mnist", _IDX_GZ, IDX, ("", "raw", "MNIST/raw"), official.mnist, lambda parts: archives.idx(parts, IDX, DIGITS)
)
_FASHION_MNIST = Published(
    "fashion_mnist",
    _IDX_GZ,
    IDX,
    ("", "raw", "FashionMNIST/raw"),
    official.fashion_mnist,
    lambda parts: archives.idx(parts, IDX, FASHION),
)
_MAT = ("train_32x32.mat", "test_32x32.mat")
_SVHN = Published("svhn", _MAT, _MAT, ("",), official.svhn, lambda parts: archives.mat(parts, *_MAT, DIGITS))

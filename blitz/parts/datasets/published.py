"""CIFAR, MNIST, Fashion-MNIST and SVHN: found on disk or downloaded, and read without running what a file contains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from blitz.errors import BadInput
from blitz.parts.datasets import archives, downloads
from blitz.parts.datasets.cache import LOG, Decoded, cached, home, named_root
from blitz.parts.datasets.pictures import resize_blocks
from blitz.parts.datasets.splits import Dataset
from blitz.parts.registry import Count

DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
MAT = ("train_32x32.mat", "test_32x32.mat")


class Link(NamedTuple):
    """A file as it was published."""

    file: str
    urls: list[str]
    md5: str


class Published(NamedTuple):
    name: str
    source: str  # the class in torchvision.datasets that knows addresses and checksums
    files: Sequence[str]  # as published
    parts: Sequence[str]  # what is in them, unpacked
    folders: Sequence[str]  # where below data.root the parts may lie unpacked
    read: Callable[[archives.Files], archives.Contents]

    def links(self) -> list[Link]:
        from torchvision import datasets  # takes seconds, and a set in the cache needs none of this

        known = getattr(datasets, self.source)
        if hasattr(known, "mirrors"):
            beside = downloads.beside
            return [Link(file, [beside(url, file) for url in known.mirrors], md5) for file, md5 in known.resources]
        if hasattr(known, "split_list"):
            splits = [known.split_list[split] for split in ("train", "test")]
            return [Link(file, [url], md5) for url, file, md5 in splits]
        return [Link(known.filename, [known.url], known.tgz_md5)]


def _builder(about: str, side: int, holds: str, *published: Any) -> Callable[..., Dataset]:
    """The builder of one set: all have the same options."""

    def build(*, root: str | None = None, url: str | None = None, image_size: Count | None = None) -> Dataset:
        return _load(Published(*published), root, url, image_size)

    build.__doc__ = f"""{about}

    Args:
        root: folder that holds {holds}; null = in $BLITZ_DATA, else download
        url: web folder of a mirror that holds what was published; null = the official one
        image_size: side in pixels of the square that images are resized to (bilinear, antialiased); null = {side}
    """
    return build


def _load(published: Published, root: str | None, url: str | None, image_size: int | None) -> Dataset:
    _check_url(root, url)
    key: dict[str, object] = {"image_size": image_size}
    where, named = named_root(root) if url is None else (None, "")
    paths = _found(published, where) if where is not None else []
    if where is not None and not paths:
        is_there = Path(expanduser(where)).is_dir()
        if root is not None or not is_there:  # BLITZ_DATA may be the folder of other data
            raise BadInput(
                f"{named}: {'' if is_there else 'does not exist; '}accepted for data={published.name}: a folder "
                f"that holds {' and '.join(published.files)}, or unpacked {' and '.join(published.parts)}"
            )
    if paths:
        key["files"] = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]

    def decode() -> Decoded:
        if paths:
            _compare(published, paths)
            return _decoded(published, paths, named, str(paths[0].parent), image_size)
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
    """The files to read, unpacked ones before archives; none where they are not there. Never touches the network."""
    top = Path(expanduser(root)).absolute()
    if top.is_file():
        return [top]
    for below in published.folders:
        either = [(top / below / part, top / below / f"{part}.gz") for part in published.parts]
        if all(plain.is_file() or packed.is_file() for plain, packed in either):
            return [plain if plain.is_file() else packed for plain, packed in either]
    paths = [top / file for file in published.files]
    return paths if all(path.is_file() for path in paths) else []


def _compare(published: Published, paths: list[Path]) -> None:
    """Warn of a file of the user's own that is not the official one: a subset, for example, is welcome."""
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
            key = f"data.url={downloads.shown(url)}" if url else f"data={published.name}"
            raise BadInput(
                f"{key}: {link.file} could not be downloaded: {failure}. Three alternatives: data=digits (needs no "
                f"download); data.root=FOLDER, one that holds {' and '.join(published.files)} or what is in it; "
                "data=folder data.root=FOLDER with images of your own"
            ) from None
        paths.append(folder / link.file)
    return paths, sources[0]


def _decoded(published: Published, paths: list[Path], key: str, source: str, image_size: int | None) -> Decoded:
    LOG.info("decoding data=%s once into the cache", published.name)
    try:
        classes, (train, train_labels), (test, test_labels) = published.read(archives.unpack(paths, published.parts))
    except archives.Damaged as damage:
        raise BadInput(f"{key}: {damage}; get it again") from None
    images = resize_blocks(train, image_size), resize_blocks(test, image_size)
    return Decoded(classes, images[0], train_labels, images[1], test_labels, source)


IDX_GZ = [f"{part}.gz" for part in IDX]
cifar10 = _builder(
    "CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 RGB images of 32x32 in 10 classes of equal size.",
    32, "cifar-10-python.tar.gz or cifar-10-batches-py, or the archive",
    "cifar10", "CIFAR10", ["cifar-10-python.tar.gz"], [*BATCHES, "test_batch", "batches.meta"],
    ["", "cifar-10-batches-py"],
    lambda files: archives.cifar(files, BATCHES, "test_batch", "batches.meta", "labels", "label_names"),
)  # fmt: skip
cifar100 = _builder(
    "CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 RGB images of 32x32 in 100 classes of equal size.",
    32, "cifar-100-python.tar.gz or cifar-100-python, or the archive",
    "cifar100", "CIFAR100", ["cifar-100-python.tar.gz"], ["train", "test", "meta"], ["", "cifar-100-python"],
    lambda files: archives.cifar(files, ["train"], "test", "meta", "fine_labels", "fine_label_names"),
)  # fmt: skip
mnist = _builder(
    "MNIST (LeCun, Cortes and Burges, 1998): 60,000 + 10,000 grey images of 28x28, the digits 0 to 9.",
    28, "the four idx files, with .gz or without (also below MNIST/raw)",
    "mnist", "MNIST", IDX_GZ, IDX, ["", "raw", "MNIST/raw"], lambda files: archives.idx(files, IDX, DIGITS),
)  # fmt: skip
fashion_mnist = _builder(
    "Fashion-MNIST (arXiv 1708.07747): 60,000 + 10,000 grey images of 28x28 in 10 classes of clothing.",
    28, "the four idx files, with .gz or without (also below FashionMNIST/raw)",
    "fashion_mnist", "FashionMNIST", IDX_GZ, IDX, ["", "raw", "FashionMNIST/raw"],
    lambda files: archives.idx(files, IDX, FASHION),
)  # fmt: skip
svhn = _builder(
    "SVHN, cropped (Netzer et al., 2011): 73,257 + 26,032 RGB images of 32x32, the digits 0 to 9; the file's 10 is 0.",
    32, "train_32x32.mat and test_32x32.mat",
    "svhn", "SVHN", MAT, MAT, [""], lambda files: archives.mat(files, *MAT, DIGITS),
)  # fmt: skip

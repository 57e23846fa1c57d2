"""The five published sets, each read from a small file of the real format."""

import gzip
import hashlib
import http.server
import io
import logging
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from blitz.errors import BadInput
from blitz.parts.datasets import DATASETS, Dataset
from blitz.parts.datasets.published import cifar10, cifar100, fashion_mnist, mnist, svhn

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BLITZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def python2_batch(rows: np.ndarray, key: str, labels: list[int]) -> bytes:
    """The bytes that Python 2 wrote: text as U and T, numpy.core, a dtype made with 0 and 1 for its truth values."""

    def text(word: str) -> bytes:
        return b"U" + bytes([len(word)]) + word.encode()

    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"J" + struct.pack("<i", rows.shape[0]) + b"J" + struct.pack("<i", rows.shape[1]) + b"\x86"
    data = b"T" + struct.pack("<i", rows.size) + rows.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape + dtype
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + b"\x89" + data + b"tb" + text(key) + numbers + b"u."


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))


def make_cifar10(folder: Path) -> tuple[np.ndarray, list[int]]:
    names = [f"data_batch_{number}" for number in range(1, 6)]
    images, labels = noise(20, 3072), [index % 10 for index in range(20)]
    files = {}
    for number, name in enumerate(names):
        rows = slice(4 * number, 4 * number + 4)
        files[name] = python2_batch(images[rows], "labels", labels[rows])
    files["test_batch"] = python2_batch(noise(10, 3072), "labels", list(range(10)))
    files["batches.meta"] = pickle.dumps({"label_names": [f"class {label}" for label in range(10)]}, protocol=2)
    write_tar(folder / "cifar-10-python.tar.gz", {f"cifar-10-batches-py/{name}": files[name] for name in files})
    return images.reshape(-1, 3, 32, 32), labels


def make_cifar100(folder: Path) -> tuple[np.ndarray, list[int]]:
    images, labels = noise(6, 3072), [0, 99, 5, 6, 7, 8]
    files = {
        "train": pickle.dumps({"data": images, "fine_labels": labels, "coarse_labels": [0] * 6}),
        "test": pickle.dumps({"data": noise(2, 3072), "fine_labels": [1, 2]}, protocol=2),
        "meta": pickle.dumps({"fine_label_names": [f"class {label}" for label in range(100)]}),
    }
    write_tar(folder / "cifar-100-python.tar.gz", {f"cifar-100-python/{name}": files[name] for name in files})
    return images.reshape(-1, 3, 32, 32), labels


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_mnist(folder: Path) -> tuple[np.ndarray, list[int]]:
    images, labels = noise(12, 28, 28), np.arange(12, dtype=np.uint8) % 10
    for name, array in [
        ("train-images-idx3-ubyte", images),
        ("train-labels-idx1-ubyte", labels),
        ("t10k-images-idx3-ubyte", noise(10, 28, 28)),
        ("t10k-labels-idx1-ubyte", np.arange(10, dtype=np.uint8)),
    ]:
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return images[:, None], labels.tolist()


def make_svhn(folder: Path) -> tuple[np.ndarray, list[int]]:
    images = noise(11, 3, 32, 32)
    labels = np.array([10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], dtype=np.uint8)
    for name, some in [("train_32x32.mat", slice(None)), ("test_32x32.mat", slice(0, 10))]:
        contents = {"X": images[some].transpose(2, 3, 1, 0), "y": labels[some, None]}
        savemat(folder / name, contents, do_compression=True)
    return images, (labels % 10).tolist()


MAKERS: dict[str, Callable[[Path], tuple[np.ndarray, list[int]]]] = {
    "cifar10": make_cifar10,
    "cifar100": make_cifar100,
    "mnist": make_mnist,
    "fashion_mnist": make_mnist,
    "svhn": make_svhn,
}
SETS = pytest.mark.parametrize("name", MAKERS)


def build(name: str, **options: Any) -> Dataset:
    return DATASETS.build(DATASETS.check({"name": name, **options}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@SETS
def test_a_set_is_read_from_its_archive(name: str, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = MAKERS[name](root)
    root.chmod(0o500)  # nothing is written there
    dataset = build(name, root=str(root))
    again = build(name, root=str(root))
    root.chmod(0o700)
    assert torch.equal(dataset.train.images, torch.from_numpy(images))
    assert dataset.train.labels.tolist() == labels
    assert dataset.train.labels.dtype == torch.int64
    assert len(dataset.classes) == (100 if name == "cifar100" else 10)
    assert dataset.source == str(root)
    assert again.fingerprint == dataset.fingerprint
    assert caplog.text.count("is not the official file") == len(list(root.iterdir()))  # logged at the first start


@SETS
def test_a_set_is_downloaded_from_a_mirror(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    from torchvision import datasets as theirs

    MAKERS[name](root)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in root.iterdir()}
    pairs = [(file, sums.get(file, "")) for file, _ in theirs.MNIST.resources]
    for owner in (theirs.MNIST, theirs.FashionMNIST):
        monkeypatch.setattr(owner, "resources", pairs)
    monkeypatch.setattr(theirs.CIFAR10, "tgz_md5", sums.get("cifar-10-python.tar.gz"))
    monkeypatch.setattr(theirs.CIFAR100, "tgz_md5", sums.get("cifar-100-python.tar.gz"))
    split_list = {key: [url, file, sums.get(file)] for key, (url, file, _) in theirs.SVHN.split_list.items()}
    monkeypatch.setattr(theirs.SVHN, "split_list", split_list)

    dataset = build(name, url=mirror)
    assert dataset.source.startswith(mirror)
    assert dataset.fingerprint == build(name, root=str(root)).fingerprint
    for path in root.iterdir():
        path.unlink()
    assert build(name).fingerprint == dataset.fingerprint  # from the cache, whatever the mirror has now


@pytest.fixture
def mirror(root: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_unpacked_folders_and_the_archive_itself_are_roots_too(root: Path, tmp_path: Path) -> None:
    make_cifar10(root)
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    roots = [archive, tmp_path / "unpacked", tmp_path / "unpacked" / "cifar-10-batches-py"]
    assert len({cifar10(root=str(place)).fingerprint for place in roots}) == 1


def test_idx_files_may_be_unpacked_where_torchvision_puts_them(root: Path, tmp_path: Path) -> None:
    make_mnist(root)
    raw = tmp_path / "theirs" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in root.iterdir():
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert mnist(root=str(tmp_path / "theirs")).fingerprint == mnist(root=str(root)).fingerprint


def test_files_are_found_where_the_environment_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mnist(root)
    monkeypatch.setenv("BLITZ_DATA", str(root))
    assert mnist().fingerprint == mnist(root=str(root)).fingerprint
    nothing = r"data.url=http://127.0.0.1:9/: train-images-idx3-ubyte.gz could not be downloaded"
    with pytest.raises(BadInput, match=nothing):  # which is what was asked for
        mnist(url="http://127.0.0.1:9/")
    monkeypatch.setenv("BLITZ_DATA", f"{root}/nowhere")
    with pytest.raises(BadInput, match=r"^BLITZ_DATA=.*/nowhere: does not exist; accepted for data=mnist: a folder"):
        mnist()


def test_a_changed_archive_is_read_again(root: Path) -> None:
    make_mnist(root)
    first = mnist(root=str(root))
    make_mnist(root)
    os.utime(root / "train-images-idx3-ubyte.gz", ns=(1, 1))  # as large as before, and a clock may be coarse
    assert mnist(root=str(root)).fingerprint != first.fingerprint


def test_images_are_resized_and_classes_named(root: Path) -> None:
    make_mnist(root)
    dataset = fashion_mnist(root=str(root), image_size=32)
    assert dataset.train.images.shape == (12, 1, 32, 32)
    assert dataset.classes[-1] == "Ankle boot"


@pytest.mark.parametrize("name", ["cifar10", "mnist", "svhn"])
def test_a_root_without_the_files_is_refused_with_what_belongs_there(name: str, root: Path) -> None:
    with pytest.raises(BadInput) as failure:
        build(name, root=str(root))
    assert f"data.root={root}: accepted for data={name}: a folder that holds" in str(failure.value)
    with pytest.raises(BadInput, match=r"/nowhere: does not exist; accepted for"):
        build(name, root=f"{root}/nowhere")


@SETS
def test_a_damaged_file_is_named(name: str, root: Path, cache: Path) -> None:
    MAKERS[name](root)
    damaged = max(root.iterdir(), key=lambda path: path.name)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(BadInput) as failure:
        build(name, root=str(root))
    assert f"data.root={root}: {damaged.name}" in str(failure.value)
    assert not [path for path in (cache / "datasets").iterdir() if path.is_dir()]


def test_a_pickle_cannot_run_code(root: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "broken-in"),)

    write_tar(root / "cifar-100-python.tar.gz", {name: pickle.dumps(Evil()) for name in ("train", "test", "meta")})
    with pytest.raises(BadInput, match=r"train cannot be read \(UnpicklingError: it asks for posix\.mkdir\)"):
        cifar100(root=str(root))
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": b"x", "test": b"x"}, "meta is not in it"),
        ({"train": pickle.dumps({"data": np.zeros((2, 5), np.uint8)})}, "where uint8 (n, 3072) belongs"),
        ({"train": pickle.dumps({"fine_labels": [1]})}, "train holds no 'data'"),
        ({"train": pickle.dumps({"data": noise(2, 3072), "fine_labels": [1]})}, "train holds 1 labels for 2 images"),
        ({"train": pickle.dumps({"data": noise(1, 3072), "fine_labels": [2]})}, "labels from 2 to 2 for 2 classes"),
    ],
)
def test_contents_that_cannot_be_are_refused(root: Path, files: dict[str, bytes], message: str) -> None:
    good = {
        "test": pickle.dumps({"data": noise(1, 3072), "fine_labels": [1]}),
        "meta": pickle.dumps({"fine_label_names": ["a", "b"]}),
    }
    write_tar(root / "cifar-100-python.tar.gz", files if "test" in files else good | files)
    with pytest.raises(BadInput) as failure:
        cifar100(root=str(root))
    assert message in str(failure.value)


def test_what_is_decoded_is_logged_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_svhn(root)
    with caplog.at_level(logging.INFO, logger="blitz"):
        svhn(root=str(root))
        svhn(root=str(root))
    assert caplog.text.count("decoding data=svhn once into the cache") == 1

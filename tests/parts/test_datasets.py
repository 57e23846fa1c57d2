"""Folders of images, digits, synthetic images; the cache that keeps them; the cut into train, validation and test."""

import logging
import multiprocessing
import os
import resource
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import blitz
from blitz.errors import BadInput
from blitz.parts.datasets import DATASETS, Dataset, Split, split
from blitz.parts.datasets import cache as cache_module
from blitz.parts.datasets.cache import Decoded, cached
from blitz.parts.datasets.folder import folder
from blitz.parts.datasets.homemade import digits, synthetic

CONF = Path(blitz.__file__).parents[1] / "conf" / "data"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BLITZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def paint(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", colour: Any = (255, 0, 0), **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **how)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of different colour; three images each to train and one to test."""
    for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        for number in range(3):
            paint(tmp_path / "root" / "train" / name / f"{number}.png", colour=colour)
        paint(tmp_path / "root" / "test" / name / "0.png", colour=colour)
    return tmp_path / "root"


# The menu


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_choice_has_a_yaml_with_all_options_their_defaults_and_a_comment(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    assert yaml.safe_load(text) == {"name": name} | {option.name: option.default for option in DATASETS.options(name)}
    first, _, *lines = text.splitlines()
    assert first.startswith("# ")
    assert all(" # " in line for line in lines)


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_option_is_explained(name: str) -> None:
    assert [option.name for option in DATASETS.options(name) if not option.meaning] == []


# Folders


def test_a_folder_is_named_once_for_all_commands(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    typed = folder(root=str(root))
    monkeypatch.setenv("BLITZ_DATA", str(root))
    assert folder().fingerprint == typed.fingerprint
    monkeypatch.setenv("BLITZ_DATA", str(tmp_path / "nowhere"))
    assert folder(root=str(root)).fingerprint == typed.fingerprint
    with pytest.raises(BadInput, match=r"^BLITZ_DATA=.*/nowhere: does not exist"):
        folder()
    monkeypatch.setenv("BLITZ_DATA", "")
    with pytest.raises(BadInput, match=r"^data\.root=null: data=folder needs one, or BLITZ_DATA"):
        folder()


def test_a_folder_becomes_images_and_labels(root: Path) -> None:
    dataset = folder(root=str(root))
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape == (6, 3, 8, 8)
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.train.images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert dataset.train.images[5, :, 7, 7].tolist() == [0, 0, 255]
    assert dataset.source == str(root)


def test_images_are_resized_to_a_square_with_antialias(root: Path) -> None:
    stripes = np.zeros((32, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # without antialias, every second column would be lost
    Image.fromarray(stripes).save(root / "train" / "cat" / "0.png")
    image = folder(root=str(root), image_size=16).train.images[0]
    assert image.shape == (3, 16, 16)
    assert image.float().std() < 10
    assert abs(image.float().mean() - 127.5) < 3


def test_what_a_change_of_files_brings(root: Path) -> None:
    first = folder(root=str(root))
    paint(root / "train" / "cat" / "3.png", colour=(0, 255, 0))
    second = folder(root=str(root))
    assert len(second.train) == 7
    paint(root / "train" / "cat" / "3.png", colour=(1, 255, 0))
    os.utime(root / "train" / "cat" / "3.png", ns=(1, 1))
    assert len({first.fingerprint, second.fingerprint, folder(root=str(root)).fingerprint}) == 3


def test_grey_images_have_one_channel_and_sixteen_bits_are_reduced(root: Path) -> None:
    shutil.rmtree(root)
    paint(root / "train" / "a" / "0.png", mode="L", colour=200)
    paint(root / "train" / "a" / "1.png", mode="1", colour=1)
    (root / "train" / "b").mkdir()
    Image.fromarray(np.full((8, 8), 0x8123, dtype=np.uint16)).save(root / "train" / "b" / "0.png")
    for name in "ab":
        paint(root / "test" / name / "0.png", mode="L", colour=3)
    images = folder(root=str(root)).train.images
    assert images.shape == (3, 1, 8, 8)
    assert images[:, 0, 0, 0].tolist() == [200, 255, 0x81]
    paint(root / "test" / "b" / "0.png", colour=(1, 2, 3))
    assert folder(root=str(root)).train.images[:, 2, 0, 0].tolist() == [200, 255, 0x81]


def test_transparent_parts_become_white(root: Path) -> None:
    paint(root / "train" / "cat" / "0.png", mode="RGBA", colour=(255, 0, 0, 0))
    paint(root / "train" / "cat" / "1.png", mode="RGBA", colour=(255, 0, 0, 255))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(root / "train" / "cat" / "2.png")
    palette.save(root / "train" / "dog" / "0.png", transparency=0)
    images = folder(root=str(root)).train.images[:4, :, 0, 0]
    assert images.tolist() == [[255, 255, 255], [255, 0, 0], [10, 20, 30], [255, 255, 255]]


def test_images_stand_upright(root: Path) -> None:
    lying = Image.new("RGB", (8, 4), (0, 0, 0))
    lying.paste((255, 255, 255), (0, 0, 1, 4))  # a bright left edge, on top once the image is turned by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            for path in (root / part / name).iterdir():
                path.unlink()
            lying.save(root / part / name / "0.png", exif=exif)
    image = folder(root=str(root)).train.images[0, 0]
    assert image.shape == (8, 4)
    assert image[0].tolist() == [255] * 4
    assert image[1:].max() == 0


def test_many_formats_and_large_files_decoded_by_threads(root: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for part in ("train", "test"):
        for path in (root / part).glob("*/*"):
            path.unlink()
            for suffix in (".bmp", ".PNG", ".tiff", ".webp", ".gif", ".ppm"):
                how: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
                Image.fromarray(noisy).save(path.with_suffix(suffix), **how)
    images = folder(root=str(root)).train.images
    expected = torch.from_numpy(noisy).permute(2, 0, 1)
    assert sum(torch.equal(image, expected) for image in images) == 6 * 5  # all but the GIFs, which have 256 colours


def test_what_is_left_out_is_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (".hidden.png", "Thumbs.db", "notes.txt"):
        (root / "train" / "cat" / name).write_text("no image")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "test" / "README").write_text("read me")
    with caplog.at_level(logging.INFO, logger="blitz"):
        assert len(folder(root=str(root)).train) == 6
    assert "5 entries left out that are no images: train/.ipynb_checkpoints, train/cat/.hidden.png" in caplog.text
    assert "decoding 8 images" in caplog.text


def broken(root: Path) -> list[str]:
    for number in range(6):
        (root / "train" / "cat" / f"bad{number}.jpg").write_bytes(b"not an image")
    whole = (root / "test" / "dog" / "0.png").read_bytes()
    (root / "test" / "dog" / "0.png").write_bytes(whole[: len(whole) // 2])
    return [f"data.root={root}: 7 of 14 images cannot be read", "test/dog/0.png (", "train/cat/bad3.jpg", "and 2 more"]


def of_two_sizes(root: Path) -> list[str]:
    paint(root / "train" / "dog" / "1.png", size=(9, 7))
    paint(root / "test" / "dog" / "0.png", size=(16, 16))
    (root / "test" / "cat" / "0.png").write_bytes(b"")
    return [
        "data.image_size=null: the images have different sizes: the first is 8x8, test/dog/0.png is 16x16, "
        "train/dog/1.png is 9x7; give the side of a square, for example data.image_size=8",
        f"data.root={root}: 1 of 8 images cannot be read: test/cat/0.png",
    ]


def without_test(root: Path) -> list[str]:
    (root / "test").rename(root / "val")
    return [f"data.root={root}: no folder test in it, but train, val (accepted: a folder that holds train/CLASS/IMAGE"]


def without_both(root: Path) -> list[str]:
    shutil.rmtree(root)
    root.mkdir()
    return [f"data.root={root}: no folder train and no folder test in it, but no folder"]


def without_root(root: Path) -> list[str]:
    shutil.rmtree(root)
    return [f"data.root={root}: does not exist"]


def with_a_file_as_root(root: Path) -> list[str]:
    shutil.rmtree(root)
    root.write_text("")
    return [f"data.root={root}: not a folder"]


def with_empty_and_lonely_classes(root: Path) -> list[str]:
    (root / "train" / "cow").mkdir()
    paint(root / "test" / "horse" / "0.png")
    (root / "test" / "dog" / "0.png").unlink()
    return [
        f"data.root={root}: no image in train/cow; ",
        f"data.root={root}: no image in test/dog; ",
        f"data.root={root}: class cow is in train and not in test",
        f"data.root={root}: class horse is in test and not in train",
    ]


def with_one_class(root: Path) -> list[str]:
    shutil.rmtree(root / "train" / "dog")
    shutil.rmtree(root / "test" / "dog")
    return [f"data.root={root}: only one class, cat; at least two"]


def with_floats(root: Path) -> list[str]:
    paint(root / "train" / "cat" / "0.tiff", mode="F", colour=0.5)
    return ["train/cat/0.tiff (pixels of mode F have no known range; store 8 or 16 bits a channel)"]


@pytest.mark.parametrize(
    "spoil",
    [
        *(broken, of_two_sizes, without_test, without_both, without_root, with_a_file_as_root),
        *(with_empty_and_lonely_classes, with_one_class, with_floats),
    ],
)
def test_what_is_wrong_with_a_folder_is_reported_together(
    root: Path, cache: Path, spoil: Callable[[Path], list[str]]
) -> None:
    expected = spoil(root)
    with pytest.raises(BadInput) as failure:
        folder(root=str(root))
    for message in expected:
        assert message in str(failure.value)
    assert not [path for path in cache.glob("datasets/*") if path.is_dir()]  # nothing half-written stays


def test_a_folder_needs_a_root() -> None:
    with pytest.raises(BadInput, match=r"data\.root=null: data=folder needs one"):
        folder()


# The cache


def the_cache(cache: Path) -> Path:
    (found,) = (path for path in (cache / "datasets").iterdir() if path.is_dir() and path.suffix != ".lock")
    return found


def test_a_second_start_maps_the_files_and_takes_no_lock(root: Path, cache: Path) -> None:
    first = folder(root=str(root))
    lock = Path(f"{the_cache(cache)}.lock")
    lock.unlink()
    lock.mkdir()  # nothing can be locked, nor decoded, from now on
    second = folder(root=str(root))
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.train.images, first.train.images)
    file = the_cache(cache) / "train_images.npy"
    assert str(file) in Path("/proc/self/maps").read_text()
    before = file.read_bytes()
    second.train.images.zero_()  # private to this process
    assert file.read_bytes() == before


def flip_a_byte(found: Path) -> None:
    content = bytearray((found / "train_images.npy").read_bytes())
    content[-1] ^= 1
    (found / "train_images.npy").write_bytes(content)


def truncate(found: Path) -> None:
    os.truncate(found / "test_images.npy", 200)


def swap_labels(found: Path) -> None:
    np.save(found / "train_labels.npy", np.load(found / "train_labels.npy")[::-1])


def rename_a_class(found: Path) -> None:
    meta = found / "meta.json"
    meta.write_text(meta.read_text().replace("cat", "cap"))


@pytest.mark.parametrize(
    "damage",
    [
        *(flip_a_byte, truncate, swap_labels, rename_a_class),
        lambda found: (found / "meta.json").unlink(),
        lambda found: (found / "meta.json").write_text("{"),
        lambda found: (found / "meta.json").write_text("[]"),
        lambda found: (found / "test_labels.npy").write_bytes(b""),
        lambda found: (found / "train_images.npy").write_bytes(b"\x93NUMPY"),
    ],
)
def test_a_damaged_cache_is_noticed_and_built_again(
    root: Path, cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    first = folder(root=str(root))
    before = first.train.images.clone()
    damage(the_cache(cache))
    second = folder(root=str(root))
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.train.images, before)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "the cache of data=folder" in warned[0]
    assert "is damaged" in warned[0]
    the_cache(cache)  # one folder: the damaged one is gone


def two_images(source: str = "a test") -> Decoded:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    return Decoded(["a", "b"], [images], [0, 1], [images], [0, 1], source)


def test_two_processes_decode_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    decoding, waiting, messages = context.Event(), context.Event(), context.Queue()

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for another process" in record.getMessage():
                waiting.set()

    def decode() -> Decoded:
        messages.put("decoded")
        decoding.set()
        assert waiting.wait(600)
        return two_images()

    def child() -> None:
        logging.getLogger("blitz").setLevel(logging.INFO)
        logging.getLogger("blitz").addHandler(Waits())
        messages.put(cached("pair", {}, decode).fingerprint)

    processes = [context.Process(target=child) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks beside a thread
        processes[0].start()
        assert decoding.wait(600)
        processes[1].start()
    answers = [messages.get(timeout=600) for _ in range(3)]
    for process in processes:
        process.join()
    fingerprint = cached("pair", {}, two_images).fingerprint
    assert sorted(answers) == sorted(["decoded", fingerprint, fingerprint])


def test_what_a_killed_process_left_is_cleared_away(cache: Path) -> None:
    cached("pair", {}, two_images)
    found = the_cache(cache)
    found.rename(found.with_name(f"{found.name}.unfinished"))
    (found.with_name(f"{found.name}.unfinished") / "meta.json").unlink()
    cached("pair", {}, two_images)
    assert the_cache(cache) == found


def test_caches_used_last_are_kept_and_what_is_removed_is_logged(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    def folders() -> set[Path]:
        return {path for path in cache.glob("datasets/*") if path.is_dir()}

    def new(name: str, number: int, used: int) -> Path:
        before = folders()
        cached(name, {"number": number}, two_images)
        (folder,) = folders() - before
        os.utime(folder, ns=(used, used))
        return folder

    other = new("pair-of", 0, used=0)  # another data set
    first, second, *rest = (new("pair", number, used=number) for number in range(1, cache_module.KEPT + 1))
    cached("pair", {"number": 1}, two_images)  # used again
    with caplog.at_level(logging.INFO, logger="blitz"):
        last = new("pair", 0, used=10**18)
    assert folders() == {other, first, *rest, last}
    expected = f"removed {second} (0.0 MB): the {cache_module.KEPT} caches of data=pair used last are kept"
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_a_failing_decoder_leaves_nothing(cache: Path) -> None:
    def decode() -> Decoded:
        def images():
            yield np.zeros((1, 3, 2, 2), dtype=np.uint8)
            raise RuntimeError("the disk of the images went away")

        return two_images()._replace(test_images=images())

    with pytest.raises(RuntimeError, match="went away"):
        cached("pair", {}, decode)
    assert not [path for path in (cache / "datasets").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLITZ_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"BLITZ_CACHE=.*/file: cannot be written \(Not a directory\); set BLITZ_CACHE"):
        cached("pair", {}, two_images)


def test_a_full_disk_is_reported_and_nothing_stays(cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (140, hard))  # the header fits
    try:
        with pytest.raises(BadInput, match=r"BLITZ_CACHE=.*: cannot be written \(File too large\)"):
            cached("pair", {}, two_images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in (cache / "datasets").iterdir() if path.is_dir()]


def test_the_cache_stands_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLITZ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cached("pair", {}, two_images)
    assert the_cache(tmp_path / "xdg" / "blitz").name.startswith("pair-")


# Digits and synthetic images


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    dataset = digits(image_size=None)
    assert dataset.train.images.shape == (1442, 1, 8, 8)
    assert dataset.test.images.shape == (355, 1, 8, 8)
    assert dataset.classes == tuple("0123456789")
    assert int(dataset.train.images.max()) == 255
    ours = sorted(image.numpy().tobytes() for image in torch.cat([dataset.train.images, dataset.test.images]))
    theirs = sorted(np.rint(image / 16 * 255).astype(np.uint8).tobytes() for image in load_digits().images)
    assert ours == theirs
    share = torch.bincount(dataset.test.labels) / torch.bincount(torch.cat([dataset.train.labels, dataset.test.labels]))
    assert share.min() > 0.19
    assert share.max() <= 0.2


def test_digits_are_enlarged_by_default() -> None:
    large, small = digits(), digits(image_size=None)
    assert large.train.images.shape == (1442, 1, 32, 32)
    shrunk = large.train.images.float().reshape(-1, 8, 4, 8, 4).mean(dim=(2, 4))
    both = torch.stack([shrunk.flatten(), small.train.images.float().flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95
    assert digits().fingerprint == large.fingerprint != small.fingerprint


def test_synthetic_images_are_separated_by_a_linear_classifier() -> None:
    dataset = synthetic(image_size=8, train_size=200, test_size=100)
    flat = dataset.train.images.flatten(1).double() / 255
    targets = torch.nn.functional.one_hot(dataset.train.labels).double()
    weights = torch.linalg.solve(flat.T @ flat + torch.eye(flat.shape[1]), flat.T @ targets)
    guesses = (dataset.test.images.flatten(1).double() / 255 @ weights).argmax(dim=1)
    assert (guesses == dataset.test.labels).float().mean() > 0.98


def test_synthetic_options(cache: Path) -> None:
    dataset = synthetic(num_classes=3, image_size=5, channels=1, train_size=31, test_size=3, noise=0)
    assert dataset.train.images.shape == (31, 1, 5, 5)
    assert torch.bincount(dataset.train.labels).tolist() == [11, 10, 10]
    assert torch.equal(dataset.train.images[0], dataset.train.images[3])  # no noise
    assert len(dataset.classes) == 3
    assert synthetic(train_size=20, test_size=10).fingerprint == synthetic(train_size=20, test_size=10).fingerprint
    assert synthetic(train_size=20, test_size=10).fingerprint != synthetic(train_size=21, test_size=10).fingerprint
    assert not cache.exists()
    with pytest.raises(BadInput, match=r"data\.test_size=2: accepted: integer >= data\.num_classes=3"):
        synthetic(num_classes=3, test_size=2)


def test_the_fingerprint_is_of_images_labels_and_names(cache: Path) -> None:
    fingerprint = cached("pair", {}, two_images).fingerprint
    assert len(fingerprint) == 64
    assert cached("pair", {"elsewhere": 1}, lambda: two_images("elsewhere")).fingerprint == fingerprint
    changes: list[dict[str, Any]] = [
        {"classes": ["a", "c"]},
        {"test_labels": [1, 0]},
        {"train_images": [np.zeros((2, 3, 2, 2), dtype=np.uint8)]},
        {"train_images": [np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)]},
    ]
    for number, change in enumerate(changes):
        changed = cached("pair", {"change": number}, partial(two_images()._replace, **change))
        assert changed.fingerprint != fingerprint


# Splits


def numbered(num_train: int = 100, num_test: int = 40, num_classes: int = 2) -> Dataset:
    """Every image is its own number."""
    train = torch.arange(num_train, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 2, 2, 2).contiguous()
    test = torch.arange(num_test, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 2, 2, 2).contiguous()
    classes = tuple(f"class {label}" for label in range(num_classes))
    train_split, test_split = (Split(images, torch.arange(len(images)) % num_classes) for images in (train, test))
    return Dataset("numbered", train_split, test_split, classes, "0" * 64, "a test")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"train": [1]}, "train: is list; accepted: blitz.Split"),
        ({"train": lambda part: replace(part, images=part.images.float())},
         "train.images: torch.float32 (100, 2, 2, 2); accepted: torch.uint8 (N, C, H, W), N > 0"),
        ({"test": lambda part: replace(part, images=part.images[:, 0])},
         "test.images: torch.uint8 (40, 2, 2); accepted: torch.uint8 (N, C, H, W), N > 0"),
        ({"test": lambda part: Split(part.images[:0], part.labels[:0])},
         "test.images: torch.uint8 (0, 2, 2, 2); accepted: torch.uint8 (N, C, H, W), N > 0"),
        ({"train": lambda part: replace(part, labels=part.labels.int())},
         "train.labels: torch.int32 (100,); accepted: torch.int64 (100,)"),
        ({"test": lambda part: replace(part, labels=part.labels[:9])},
         "test.labels: torch.int64 (9,); accepted: torch.int64 (40,)"),
        ({"test": lambda part: replace(part, labels=part.labels + 1)},
         "test.labels: 1 to 2; accepted: 0 to 1, one for each class"),
        ({"test": lambda part: replace(part, images=part.images[:, :, 1:])},
         "test.images: of (2, 1, 2); accepted: (2, 2, 2), as those of train"),
        ({"classes": (1, 2)}, "classes: accepted: their names, as text"),
        ({"fingerprint": None}, "fingerprint: accepted: SHA-256 over all images, labels and class names, as text"),
    ],
)  # fmt: skip
def test_builder_that_returns_no_data_set_is_refused(change: dict[str, Any], problem: str) -> None:
    ((key, value),) = change.items()
    wrong = replace(numbered(), **{key: value(getattr(numbered(), key)) if callable(value) else value})
    with pytest.raises(BadInput) as refused:
        split(wrong)
    assert refused.value.problems == (f"data=numbered: {problem}",)


def test_builder_that_returns_another_type_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^data: its builder returned tuple; accepted: blitz\.Dataset$"):
        split((numbered().train, numbered().test))  # type: ignore[arg-type]


def numbers(part: Split | None) -> list[int]:
    assert part is not None
    assert part.labels.dtype == torch.int64
    assert torch.equal(part.images[:, 0, 0, 0] % 2, part.labels)  # an image keeps its label
    return part.images[:, 0, 0, 0].tolist()


def test_validation_is_cut_from_train() -> None:
    parts = split(numbered(), validation=0.25)
    assert len(numbers(parts.validation)) == 25
    assert sorted(numbers(parts.train) + numbers(parts.validation)) == list(range(100))
    assert numbers(parts.test) == list(range(40))


def test_the_cut_depends_on_its_own_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = numbers(split(numbered()).validation)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert numbers(split(numbered()).validation) == first
    assert numbers(split(numbered(), split_seed=1).validation) != first


def test_nothing_cut_is_nothing_copied() -> None:
    dataset = numbered()
    parts = split(dataset, validation=0)
    assert parts.train is dataset.train
    assert parts.test is dataset.test
    assert parts.validation is None


def test_limit_draws_from_each_split() -> None:
    whole, some, fewer = split(numbered()), split(numbered(), limit=8), split(numbered(), limit=4)
    for name in ("train", "validation", "test"):
        drawn = [set(numbers(getattr(parts, name))) for parts in (fewer, some, whole)]
        assert drawn[0] < drawn[1] < drawn[2]
        assert [len(one) for one in drawn[:2]] == [4, 8]
    assert numbers(some.test) != list(range(8))
    assert len(split(numbered(), limit=1000, validation=0).train) == 100


def test_limit_below_1_is_a_share_of_each_split() -> None:
    whole, tenth, least = split(numbered()), split(numbered(), limit=0.1), split(numbered(), limit=0.001)
    for name in ("train", "validation", "test"):
        all_of_it, some = (set(numbers(getattr(parts, name))) for parts in (whole, tenth))
        assert some < all_of_it
        assert len(some) == max(1, round(len(all_of_it) / 10))
        assert len(getattr(least, name)) == 1


def test_statistics_are_exact_and_of_the_training_images() -> None:
    dataset = synthetic(image_size=7, channels=2, train_size=700, test_size=20)
    parts = split(dataset, validation=0.5)
    pixels = parts.train.images.double().transpose(0, 1).flatten(1) / 255
    assert parts.mean == pytest.approx(pixels.mean(dim=1).tolist(), abs=1e-12)
    assert parts.std == pytest.approx(pixels.std(dim=1, correction=0).tolist(), abs=1e-12)
    given = split(dataset, mean=[0.1, 0.2], std=[1, 2.5])
    assert (given.mean, given.std) == ((0.1, 0.2), (1, 2.5))
    assert split(dataset, mean=[0.0, 0.0]).std == split(dataset).std


def test_a_channel_of_one_value_does_not_divide_by_zero(caplog: pytest.LogCaptureFixture) -> None:
    dataset = numbered()
    dataset.train.images[:, 1] = 7
    assert split(dataset).std[1] == 1 / 255
    assert "data=numbered: channel 1 has one value only; its std is taken as 1/255" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.5]}, "data.mean=[0.5]: accepted: one number for each channel, of which data=numbered has 2"),
        ({"std": [1, 2, 3]}, "data.std=[1, 2, 3]: accepted: one number for each channel, of which data=numbered has 2"),
        ({"validation": 0.999}, "data.validation=0.999: none of 100 images remains to train on; take less"),
        ({"validation": 0.001}, "data.validation=0.001: that is less than one of 100 training images"),
        ({"validation": 0.99}, "data.validation=0.99: no image remains to train the class class"),
        ({"split_seed": 2**63}, "data.split_seed=9223372036854775808: accepted"),
    ],
)
def test_a_cut_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as failure:
        split(numbered(), **options)
    assert message in str(failure.value)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("BLITZ_CIFAR10"), reason="BLITZ_CIFAR10 names no folder of CIFAR-10's images")
def test_cifar10_has_its_known_statistics() -> None:
    dataset = folder(root=os.environ["BLITZ_CIFAR10"])
    assert dataset.train.images.shape == (50_000, 3, 32, 32)
    assert dataset.test.images.shape == (10_000, 3, 32, 32)
    parts = split(dataset, validation=0)
    assert parts.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.001)
    assert parts.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.003)  # JPEG smooths a little


def test_a_cache_in_a_home_folder_that_nobody_has(monkeypatch):
    monkeypatch.setenv("BLITZ_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(BadInput, match=r"^~nobody-of-this-name/cache: no such home folder; .*BLITZ_CACHE$"):
        DATASETS.build({"name": "digits"})

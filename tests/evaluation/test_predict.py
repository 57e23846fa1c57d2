"""`blitz predict`: image files in, classes out, as the run's own evaluation has them."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from support.processes import finished
from support.shell import blitz as command
from support.shell import refused
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

import blitz
from blitz.evaluation.evaluate import evaluate
from blitz.evaluation.predict import predict
from blitz.parts.datasets import pictures
from blitz.runner.result import Result

ASKED = [
    "data=folder", "batch_size=16", "epochs=6", "optimizer.lr=0.05", "device.threads=1", "ema=0.5", "eval_flip=true",
    "eval_batch_size=7",
    "device.channels_last=true", "device.precision=bf16", "tracking.figures=false", "tracking.system_metrics=null",
]  # fmt: skip
WIDTH, HEIGHT = SIZE = 40, 32
COLOURS = {"blue": (60, 60, 160), "green": (60, 160, 60), "red": (160, 60, 60)}


class Trained(NamedTuple):
    run_id: str
    uri: str
    result: Result
    images: Path  # of its test set


@pytest.fixture
def trained(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A run on three colours, in a store elsewhere; made inside a test, since it changes process-wide state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _trained(workshop)


@functools.cache
def _trained(folder: Path) -> Trained:
    random = np.random.default_rng(0)
    for part, number in (("train", 60), ("test", 90)):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for index in range(number):
                noisy = random.normal(colour, 70, (HEIGHT, WIDTH, 3)) + random.normal(0, 60, 3)
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / part / name / f"{index:02}.png")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    asked = [*ASKED, f"data.root={folder}", f"tracking.uri={uri}", f"runs_dir={folder / 'runs'}"]
    result = blitz.run(blitz.compose(asked), asked)
    assert result.run_id is not None
    return Trained(result.run_id, uri, result, folder / "test")


def plain(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new("RGB", size, COLOURS[name])


@pytest.mark.slow
def test_files_get_the_class_and_confidence_that_the_runs_test_gave_them(trained: Trained) -> None:
    files = sorted(map(str, trained.images.glob("*/*.png")))
    assert len(files) > pictures.BLOCK  # more than are in memory at a time
    found = predict(trained.run_id, files, uri=trained.uri)
    assert [prediction.file for prediction in found] == files
    classes, test = trained.result.classes, trained.result.test
    assert 0.4 < test.accuracy < 1  # more than guessing, with mistakes: the same classes are no accident
    assert [prediction.likeliest[0].name for prediction in found] == [classes[label] for label in test.predicted]
    # Bits may differ in the last batch of a block: it has another size than in the test.
    confidences = torch.tensor([prediction.likeliest[0].confidence for prediction in found])
    torch.testing.assert_close(confidences, test.confidence)


def test_mirror_images_count_where_the_run_evaluates_them(trained: Trained, tmp_path: Path) -> None:
    half = plain("red")
    half.paste(plain("blue", (20, 32)), (0, 0))
    half.save("half.png")
    image = torch.from_numpy(np.array(half)).permute(2, 0, 1)[None]
    classifier = blitz.load_model(trained.result.folder)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        once, mirrored = classifier(image), classifier(image.flip(-1))
    (found,) = predict(trained.run_id, ["half.png"], top=3, uri=trained.uri)
    shares = {guess.name: guess.confidence for guess in found.likeliest}
    found_shares = torch.tensor([[shares[name] for name in classifier.classes]])
    torch.testing.assert_close(found_shares, ((once + mirrored) / 2).float().softmax(1))
    assert not torch.allclose(found_shares, once.float().softmax(1), atol=3e-3)
    assert [guess.confidence for guess in found.likeliest] == sorted(shares.values(), reverse=True)


def test_any_image_is_read_as_data_folder_reads_it(trained: Trained, tmp_path: Path) -> None:
    """Turned by EXIF, transparent, grey, with a palette, of another size: what the model is given is what it sees."""
    seen: list[Tensor] = []
    turned = plain("red", (48, 64))
    turned.paste(plain("blue", (48, 16)), (0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    turned.save("turned.jpg", exif=exif, quality=95)
    glass = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    glass.save("glass.png")
    Image.new("L", SIZE, 77).save("grey.png")
    plain("green").convert("P").save("palette.gif")
    files = ["turned.jpg", "glass.png", "grey.png", "palette.gif"]
    net: Any = blitz.MODELS.builder("net")

    def spy(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        if isinstance(module, net):
            seen.extend(inputs)

    with register_module_forward_pre_hook(spy):
        ended = command("predict", trained.run_id, *files, "--store", trained.uri)
    assert ended.code == 0
    assert ended.told == ["1 of 4 images resized to the model's 40 x 32 pixels, such as turned.jpg from 64 x 48"]
    classifier = blitz.load_model(trained.result.folder)
    given, _mirrored = seen
    pixels = (given / classifier.scale + classifier.mean).round()
    blue_side = pixels[0, :, :, 38].mean(1)  # the stored top lies on the right once it is upright
    assert blue_side[2] > 150 > 70 > blue_side[0]
    assert pixels[0, 0, :, :20].mean() > 150
    assert (pixels[1] == 255).all()
    assert (pixels[2] == 77).all()
    assert (pixels[3, 1] > 150).all()
    assert given.is_contiguous(memory_format=torch.channels_last)


def test_table_and_json_hold_the_same(trained: Trained, tmp_path: Path) -> None:
    plain("red").save("a red one.png")
    plain("blue").save("[b]lue.png")
    files = ["a red one.png", "[b]lue.png"]
    found = predict(trained.run_id, files, top=2, uri=trained.uri)

    arguments = ["predict", trained.run_id, *files, "--store", trained.uri]
    ended = command(*arguments, "--top", "2")
    assert (ended.code, ended.told) == (0, [])
    heading, *rows = ended.output.splitlines()
    assert heading.split() == ["file", "class", "confidence", "next"]
    for row, (file, (first, second)) in zip(rows, found, strict=True):
        assert row.startswith(f"{file} ")
        assert row.endswith("%")  # and no spaces
        name, confidence, other, remaining = row.removeprefix(file).split()
        assert (name, other) == (first.name, second.name)
        shares = [float(share.removesuffix("%")) / 100 for share in (confidence, remaining)]
        assert shares == pytest.approx([first.confidence, second.confidence], abs=6e-5)
    assert command(*arguments).output.split("\n")[0].split() == ["file", "class", "confidence"]

    ended = command(*arguments, "--top", "2", "--format", "json")
    assert json.loads(ended.output) == [
        {
            "file": file, "class": likeliest[0].name, "confidence": likeliest[0].confidence,
            "likeliest": [{"class": guess.name, "confidence": guess.confidence} for guess in likeliest],
        }
        for file, likeliest in found
    ]  # fmt: skip


@pytest.mark.slow
def test_a_process_in_another_folder_prints_json_and_nothing_else(trained: Trained, tmp_path: Path) -> None:
    plain("green", (100, 50)).save("wide.png")
    plain("green", SIZE).save("torn.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01")
    code, output, errors = finished(
        tmp_path, "predict", trained.run_id, "wide.png", "torn.jpg", "--format", "json", "--store", trained.uri,
        BLITZ_CACHE=os.environ["BLITZ_CACHE"],
    )  # fmt: skip
    assert code == 0
    warned, resized = errors.splitlines()
    assert warned.startswith("blitz: warning: Corrupt EXIF data. ")  # Pillow's, without the path of its installation
    assert resized == "1 of 2 images resized to the model's 40 x 32 pixels, such as wide.png from 100 x 50"
    printed, _ = json.loads(output)
    (found,) = predict(trained.run_id, ["wide.png"], uri=trained.uri)
    assert (printed["file"], printed["class"]) == ("wide.png", found.likeliest[0].name)
    assert {path.name for path in tmp_path.iterdir()} == {"wide.png", "torn.jpg"}


@pytest.mark.slow
def test_a_grey_model_sees_grey_images(here: Path) -> None:
    asked = [*ASKED, "data=digits", "data.limit=200", "epochs=8", "device.precision=fp32"]
    result = blitz.run(blitz.compose(asked), asked)
    test = blitz.DATASETS.build(blitz.compose(["data=digits"]).data).test
    for index in range(20):
        Image.fromarray(test.images[index, 0].numpy()).convert("RGB").save(f"{index}.png")
    found = predict("last", [f"{index}.png" for index in range(20)])
    with torch.no_grad():
        classifier, images = blitz.load_model(result.folder), test.images[:20]
        expected = (classifier(images) + classifier(images.flip(-1))).argmax(1)
    assert [int(prediction.likeliest[0].name) for prediction in found] == expected.tolist()
    assert len(set(expected.tolist())) > 2
    assert evaluate("last").as_recorded is True


# Mistakes


def test_all_files_that_cannot_be_read_are_listed_together(trained: Trained, tmp_path: Path) -> None:
    plain("red").save("good.png")
    whole = Path("good.png").read_bytes()
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    Path("text.jpg").write_text("no image")
    Path("empty.png").touch()
    Path("folder").mkdir()
    files = ["half.png", "nope.png", "good.png", "text.jpg", "empty.png", "folder", "nope.png"]
    problems = refused("predict", trained.run_id, *files, "--store", trained.uri)
    assert problems[0].startswith("half.png: cannot be read as an image (")
    assert problems[1:] == [
        "nope.png: no such file",
        "text.jpg: cannot be read as an image (of no format that Pillow knows)",
        "empty.png: cannot be read as an image (of no format that Pillow knows)",
        "folder: a folder; name the images in it, such as folder/*",
    ]
    assert refused("predict", trained.run_id, "nope.png", "--store", trained.uri) == ["nope.png: no such file"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.png", "--top", "4"], "--top=4: accepted: at most 3, the number of classes"),
        (["good.png", "--top", "0"], "predict: Invalid value for '--top': 0 is not in the range x>=1."),
        (["good.png", "--format", "yaml"],
         "predict: Invalid value for '--format': 'yaml' is not one of 'table', 'json'."),
        ([], "predict: Missing argument 'IMAGE…'."),
    ],
)  # fmt: skip
def test_mistakes_are_refused(trained: Trained, tmp_path: Path, arguments: list[str], message: str) -> None:
    plain("red").save("good.png")
    assert refused("predict", trained.run_id, *arguments, "--store", trained.uri) == [message]


def test_a_run_that_is_not_there_is_refused(trained: Trained, tmp_path: Path) -> None:
    plain("red").save("good.png")
    missing = "(accepted: a run id, the start of one, last, or best)"
    assert refused("predict", "nope", "good.png", "--store", trained.uri) == [
        f"nope: no such run in {trained.uri} {missing}"
    ]
    assert refused("predict", "good.png", "good.png") == [
        "good.png: no folder of a run (accepted: a run id, the start of one, last, best, or such a folder)"
    ]

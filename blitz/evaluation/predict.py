"""`blitz predict`: the classes of image files."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import UnidentifiedImageError

from blitz.config.recorded import check_recorded, read_config, without_places
from blitz.errors import BadInput, in_one_line, refuse
from blitz.parts.datasets import pictures
from blitz.runner.failures import is_out_of_memory
from blitz.runner.find import find_run
from blitz.runner.load import BestModel, load_best
from blitz.terminal.text import print_table
from blitz.training import loop

logger = logging.getLogger("blitz")


class Guess(NamedTuple):
    name: str  # of a class
    confidence: float  # the probability that the model gives it


class Prediction(NamedTuple):
    file: str
    likeliest: list[Guess]  # the likeliest first


def predict(run: str, files: Sequence[str], *, top: int = 1, uri: str | None = None) -> list[Prediction]:
    """What a run's best weights, read from its record, take image files for; they are read as those of data=folder.

    Computed as the run computes when it evaluates: same device, precision, threads and mirror images. Raises BadInput
    that lists all files that cannot be read.
    """
    with find_run(run, uri) as found:
        path = found.file("config.yaml")
        model = load_best(found, check_recorded(without_places(read_config(path)), path))
    num_classes = len(model.classifier.classes)
    if top > num_classes:
        raise BadInput(f"--top={top}: accepted: at most {num_classes}, the number of classes")
    try:
        guesses = _guesses(model, [Path(file) for file in files], top)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = model.settings.eval_batch_size
        raise BadInput(
            f"eval_batch_size={size}: out of memory on {model.device.torch}; name at most {max(size // 2, 1)} images"
        ) from None
    return [Prediction(file, likeliest) for file, likeliest in zip(files, guesses, strict=True)]


@torch.no_grad()
def _guesses(model: BestModel, paths: list[Path], top: int) -> list[list[Guess]]:
    """A block of images is in memory at a time. Raises BadInput for files that cannot be read."""
    channels, height, width = model.input_shape
    size, classes = (width, height), model.classifier.classes
    failed: list[tuple[Path, Exception]] = []
    guesses: list[list[Guess]] = []
    for block in pictures.read_all(paths, channels, size, True, failed):
        images = torch.from_numpy(block)
        for batch, _ in model.batches(images, torch.zeros(len(images), dtype=torch.int64)).in_order():
            logits = loop.predict(
                model.classifier.model,
                batch,
                autocast=model.device.autocast,
                flip=model.settings.eval_flip,
                shift=model.settings.eval_shift,
            )
            shares, labels = logits.softmax(1).topk(top)
            for row in zip(shares.tolist(), labels.tolist(), strict=True):
                guesses.append([Guess(classes[label], share) for share, label in zip(*row, strict=True)])
    errors = dict(failed)  # of a file that was named twice once
    refuse(f"{path}: {_reason(path, errors[path])}" for path in dict.fromkeys(paths) if path in errors)
    _log_resized(paths, size)
    return guesses


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return f"a folder; name the images in it, such as {path}/*"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "cannot be read as an image (of no format that Pillow knows)"
    return f"cannot be read as an image ({getattr(error, 'strerror', None) or in_one_line(error)})"


def _log_resized(paths: Sequence[Path], size: pictures.Size) -> None:
    resized = [(path, before) for path in paths if (before := pictures.heading(path)[0]) != size]
    if resized:
        first, (width, height) = resized[0]
        logger.info(
            "%d of %d images resized to the model's %d x %d pixels, such as %s from %d x %d",
            len(resized), len(paths), *size, first, width, height,
        )  # fmt: skip


def print_json(predictions: Sequence[Prediction]) -> None:
    """A list with one object an image, a line each."""
    rows = []
    for found in predictions:
        likeliest = [{"class": guess.name, "confidence": guess.confidence} for guess in found.likeliest]
        rows.append(json.dumps({"file": found.file, **likeliest[0], "likeliest": likeliest}))
    print("[" + ",\n ".join(rows) + "]")


def print_predictions(predictions: Sequence[Prediction]) -> None:
    more = len(predictions[0].likeliest) > 1
    rows = []
    for found in predictions:
        first, *others = found.likeliest
        following = ", ".join(f"{guess.name} {guess.confidence:.2%}" for guess in others)
        rows.append([found.file, first.name, f"{first.confidence:.2%}", *([following] if more else [])])
    print_table(["file", "class", "confidence", *(["next"] if more else [])], rows, texts=(0, 1, 3))

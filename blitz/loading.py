"""A model from a run's record."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from blitz.errors import BadInput
from blitz.parts.models import MODELS, is_path
from blitz.settings import Settings
from blitz.state_files import misfits
from blitz.tracking import health, store
from blitz.training import checkpoint
from blitz.training.classifier import Classifier

BEST, LAST = "checkpoints/best.pt", "checkpoints/last.pt"


def load_model(run: str | Path, *, uri: str | None = None) -> Classifier:
    """The best model of a run, in evaluation mode: uint8 images (B, C, H, W) in, logits (B, K) out.

    `run` is an MLflow run id, a unique prefix of one, `last`, a run's folder or a `best.pt`; `uri` names the store, by
    default the one that a run would use. Raises BadInput where there is no such run or it kept no weights. Nothing in
    the record is run as code.
    """
    with weights_file(str(run), uri) as path:
        return restored(path).classifier


class Restored(NamedTuple):
    classifier: Classifier
    input_shape: tuple[int, int, int]  # (C, H, W)


class _About(BaseModel):
    """What a `best.pt` says of its model."""

    model: dict[str, Any]
    classes: list[str]
    input_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]


class _Best(BaseModel):
    """What a `best.pt` must hold to be loaded."""

    about: _About
    model: dict[str, Any]


def restored(path: Path) -> Restored:
    """What a `best.pt` holds, on the CPU, in evaluation mode. Raises BadInput for one that is anything else."""
    state = checkpoint.load(path)
    try:
        about = _Best.model_validate(state).about
    except ValidationError:
        raise BadInput(f"{path}: holds no model of a run (accepted: {BEST} of one)") from None
    choice = MODELS.check(about.model)
    model = MODELS.build(choice, len(about.classes), about.input_shape)
    if told := misfits(model.state_dict(), state["model"]):
        raise BadInput(f"{path}: holds other weights than model={choice['name']} has: {told}")
    model.load_state_dict(state["model"])
    return Restored(Classifier(model, about.mean, about.std, about.classes).eval(), about.input_shape)


class RunRecord(NamedTuple):
    """A run whose record can be read."""

    name: str  # its whole id, or the folder as it was named
    file: Callable[[str], Path]  # a file of the record, such as config.yaml; raises BadInput where there is none


@contextmanager
def record_of(run: str, uri: str | None = None) -> Iterator[RunRecord]:
    """The record of a run, in its folder or in the store by its id; what was fetched is gone afterwards."""
    if is_path(run):
        if not Path(run).is_dir():
            raise BadInput(f"{run}: no folder of a run (accepted: a run id, the start of one, last, or such a folder)")
        yield RunRecord(run, lambda name: _in_folder(run, name))
        return
    client = health.connect(uri)
    found = store.find(client, run)
    run_id = str(found.info.run_id)
    shown: dict[str, str] = {}  # path of a fetched file -> what it is to the reader

    with tempfile.TemporaryDirectory(prefix="blitz-") as folder:

        def fetched(name: str) -> Path:
            try:
                path = store.fetch(client, found, name, Path(folder))
            except BadInput as problem:
                if name != BEST:
                    raise
                kept = "a run that was stopped has none, a sweep keeps those of its best jobs, and see checkpoint.keep"
                raise BadInput(f"{problem} ({kept}); 'blitz reproduce {run_id}' trains it again") from None
            shown[str(path)] = f"{run_id}/{name}"
            return path

        try:
            yield RunRecord(run_id, fetched)
        except BadInput as error:
            problems = error.problems
            for path, name in shown.items():
                problems = tuple(problem.replace(path, name) for problem in problems)
            raise BadInput(*problems) from None


@contextmanager
def weights_file(source: str, uri: str | None = None) -> Iterator[Path]:
    """The weights that a path, a run's folder or a run id stands for; a file that was fetched is gone afterwards."""
    if is_path(source) and not Path(source).is_dir():
        yield Path(source)
        return
    with record_of(source, uri) as record:
        yield record.file(BEST)


def _in_folder(folder: str, name: str) -> Path:
    path = Path(folder) / name
    if not path.exists():
        raise BadInput(f"{folder}: this folder holds no {name}")
    return path


def pinned(settings: Settings) -> Settings:
    """The same with the whole id of a run whose weights it starts from: `last` is another one tomorrow."""
    weights = settings.model["weights"]
    if weights is None or is_path(weights):
        return settings
    client = health.connect(settings.tracking.uri)
    return settings.model_copy(update={"model": {**settings.model, "weights": store.find(client, weights).info.run_id}})

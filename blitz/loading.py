"""A model from a run's record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blitz.errors import BadInput
from blitz.parts.models import MODELS, is_path
from blitz.settings import Settings
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
        state = checkpoint.load(path)
    if not {"about", "model"} <= state.keys():
        raise BadInput(f"{run}: holds no model of a run (accepted: {BEST} of one)")
    about = state["about"]
    model = MODELS.build(about["model"], len(about["classes"]), tuple(about["input_shape"]))
    model.load_state_dict(state["model"])
    return Classifier(model, about["mean"], about["std"], about["classes"]).eval()


@contextmanager
def weights_file(source: str, uri: str | None = None) -> Iterator[Path]:
    """The weights that a path, a run's folder or a run id stands for; a file that was fetched is gone afterwards."""
    path = Path(source)
    if path.is_dir():
        path = path / BEST
        if not path.exists():
            raise BadInput(f"{source}: this folder holds no {BEST}")
    if is_path(source):
        yield path
        return
    client = health.connect(uri)
    with tempfile.TemporaryDirectory(prefix="blitz-") as folder:
        yield store.fetch(client, store.find(client, source), BEST, Path(folder))


def pinned(settings: Settings) -> Settings:
    """The same with the whole id of a run whose weights it starts from: `last` is another one tomorrow."""
    weights = settings.model["weights"]
    if weights is None or is_path(weights):
        return settings
    client = health.connect(settings.tracking.uri)
    return settings.model_copy(update={"model": {**settings.model, "weights": store.find(client, weights).info.run_id}})

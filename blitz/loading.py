"""A model from a run's record."""

from __future__ import annotations

import tempfile
from pathlib import Path

from blitz.errors import BadInput
from blitz.parts.models import MODELS
from blitz.tracking import health, store
from blitz.training import checkpoint
from blitz.training.classifier import Classifier

BEST = "checkpoints/best.pt"


def load_model(run: str | Path, *, uri: str | None = None) -> Classifier:
    """The best model of a run, in evaluation mode: uint8 images (B, C, H, W) in, logits (B, K) out.

    `run` is an MLflow run id, a unique prefix of one, `last`, a run's folder or a `best.pt`; `uri` names the store, by
    default the one that a run would use. Raises BadInput where there is no such run or it kept no weights. Nothing in
    the record is run as code.
    """
    state = checkpoint.load(weights_file(str(run), uri))
    about = state["about"]
    model = MODELS.build(about["model"], len(about["classes"]), tuple(about["input_shape"]))
    model.load_state_dict(state["model"])
    return Classifier(model, about["mean"], about["std"], about["classes"]).eval()


def weights_file(source: str, uri: str | None = None) -> Path:
    """The weights that a path, a run's folder or a run id stands for."""
    path = Path(source)
    if path.is_dir():
        path = path / BEST
        if not path.exists():
            raise BadInput(f"{source}: this folder holds no {BEST}")
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    where = store.resolve(uri)
    health.check(where)
    client = store.connect(where)
    return store.fetch(client, store.find(client, source), BEST, Path(tempfile.mkdtemp(prefix="blitz-")))

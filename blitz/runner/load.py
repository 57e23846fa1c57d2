"""A model from a run's record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import Tensor

from blitz.config.recorded import Provenance, read_provenance
from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.parts.devices import Device
from blitz.parts.models import MODELS, recorded_weights_follow
from blitz.runner.build import device_of, on_device
from blitz.runner.find import BEST, FoundRun, weights_file
from blitz.training import checkpoint
from blitz.training.batches import Batches
from blitz.training.classifier import Classifier
from blitz.training.state_files import misfits


def load_model(run: str | Path, *, uri: str | None = None) -> Classifier:
    """The best model of a run, in evaluation mode: uint8 images (B, C, H, W) in, logits (B, K) out.

    `run` is an MLflow run id, a unique prefix of one, `last`, a run's folder or a `best.pt`; `uri` names the store, by
    default the one that a run would use. Raises BadInput where there is no such run or it kept no weights. Nothing in
    the record is run as code.
    """
    with weights_file(str(run), uri) as path:
        return read_best(path)[0]


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


def read_best(path: Path) -> tuple[Classifier, tuple[int, int, int]]:
    """What a `best.pt` holds, on the CPU, in evaluation mode, and the shape of its images (C, H, W).

    Raises BadInput for one that is anything else.
    """
    state = checkpoint.load(path)
    try:
        about = _Best.model_validate(state).about
    except ValidationError:
        raise BadInput(f"{path}: holds no model of a run (accepted: {BEST} of one)") from None
    try:
        choice = MODELS.check(about.model)
    except BadInput as bad:
        raise BadInput(*(f"{path}: {problem}" for problem in bad.problems)) from None
    with recorded_weights_follow():
        model = MODELS.build(choice, len(about.classes), about.input_shape)
    if reason := misfits(model.state_dict(), state["model"]):
        raise BadInput(f"{path}: holds other weights than model={choice['name']} has: {reason}")
    model.load_state_dict(state["model"])
    return Classifier(model, about.mean, about.std, about.classes).eval(), about.input_shape


@dataclass(frozen=True)
class BestModel:
    """A run's best weights on a device, and this process set up as the run's was."""

    settings: Settings
    provenance: Provenance
    classifier: Classifier
    input_shape: tuple[int, int, int]  # (C, H, W)
    device: Device

    def batches(self, images: Tensor, labels: Tensor) -> Batches:
        """As the run evaluates them: uint8 images (N, C, H, W), normalised as those that it was trained on."""
        size, device = self.settings.eval_batch_size, self.device
        return Batches(images, labels, size, device.torch, self.classifier.normalise, device.channels_last)


def load_best(run: FoundRun, settings: Settings) -> BestModel:
    """Raises BadInput where the record lacks something, or is damaged."""
    provenance = read_provenance(run.file("provenance.json"))
    try:
        classifier, input_shape = read_best(run.file(BEST))
    except checkpoint.Damaged as problem:
        raise BadInput(f"{problem}; 'blitz reproduce {run.name}' trains it again") from None
    device = device_of(settings.device, settings.images_at_once, provenance.device)
    on_device(classifier, device)
    if device.compile and settings.ema is None:  # a run compiles its model, not the average of it
        classifier.model.compile()
    return BestModel(settings, provenance, classifier, input_shape, device)

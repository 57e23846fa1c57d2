"""`blitz evaluate`: what a run's best weights make of a split of its data, or of other data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from blitz.config.recorded import Provenance, change, check_recorded, read_config, refuse_missing_place
from blitz.config.settings import Settings, check
from blitz.errors import BadInput, refuse
from blitz.parts.datasets import DATASETS, Dataset, split
from blitz.parts.losses import LOSSES
from blitz.runner.failures import is_out_of_memory, out_of_memory
from blitz.runner.find import find_run, for_this_host
from blitz.runner.load import BestModel, load_best
from blitz.training import loop
from blitz.training.metrics import Evaluation

logger = logging.getLogger("blitz")

METRICS = ("accuracy", "top5", "loss")


@dataclass(frozen=True)
class Report:
    """What was found, beside what the run recorded where that can be compared."""

    run: str  # its id, or its folder
    data: str
    split: str
    classes: tuple[str, ...]
    found: Evaluation
    fingerprint: str
    recorded_fingerprint: str
    recorded: dict[str, float] | None  # the METRICS; None for other data, another split, a run that tested nothing
    recorded_images: int | None  # in this split of the run's own data

    @property
    def metrics(self) -> dict[str, float]:
        return {name: getattr(self.found, name) for name in METRICS}

    @property
    def as_recorded(self) -> bool | None:
        """Whether every bit is what the run recorded."""
        if self.recorded is None:
            return None
        return all(self.recorded[name].hex() == value.hex() for name, value in self.metrics.items())


def evaluate(
    run: str, overrides: Sequence[str] = (), *, data: str | None = None, part: str = "test", uri: str | None = None
) -> Report:
    """Evaluate a run's best weights, read from its record: on its own data, or on the set of the menu named `data`.

    `overrides` are `data.OPTION=VALUE` and `eval_batch_size=N`; `part` is the split. Raises BadInput for what cannot be
    done as asked.
    """
    with find_run(run, uri) as found_run:
        path = found_run.file("config.yaml")
        recorded = check_recorded(for_this_host(read_config(path), found_run), path)
        settings = _changed(recorded, overrides, data)
        model = load_best(found_run, settings)
    dataset: Dataset = DATASETS.build(settings.data)
    _refuse_misfit(dataset, model)
    chosen = vars(split(dataset, **DATASETS.shared(settings.data)))[part]
    if chosen is None:
        raise BadInput(f"--split={part}: none is held out with data.validation=0 (accepted: test or train)")
    own = settings.data["name"] == recorded.data["name"]
    if own:
        _warn_of_other_images(dataset, model, recorded, part)
    try:
        found = loop.evaluate(
            model.classifier.model,
            LOSSES.build(settings.loss, len(dataset.classes)).to(model.device.torch),
            model.batches(chosen.images, chosen.labels),
            autocast=model.device.autocast,
            flip=settings.eval_flip,
            shift=settings.eval_shift,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise BadInput(out_of_memory(settings, model.device.torch, error)) from None
    before = model.provenance.data
    return Report(
        found_run.name, dataset.name, part, dataset.classes, found, dataset.fingerprint, before.fingerprint,
        recorded=_recorded(model.provenance) if own and part == "test" else None,
        recorded_images=getattr(before.images, part) if own else None,
    )  # fmt: skip


def _changed(recorded: Settings, overrides: Sequence[str], data: str | None) -> Settings:
    problems = []
    for text in overrides:
        if not text.startswith(("data.", "eval_batch_size=")):
            problems.append(
                f"{text}: accepted: data.OPTION=VALUE, eval_batch_size=N (and --data NAME); all else stays as recorded"
            )
        elif text.partition("=")[0] in ("data.mean", "data.std"):
            problems.append(f"{text}: a model keeps the mean and std that it was trained with")
    refuse(problems)
    config = recorded.as_dict() | {"early_stopping": None}  # nothing is trained that could do without validation
    if data is not None:
        config["data"] = {"name": data}
    settings = check(change(config, overrides))
    refuse_missing_place(settings)
    return settings


def _refuse_misfit(dataset: Dataset, model: BestModel) -> None:
    found, wanted = tuple(dataset.train.images.shape[1:]), model.input_shape
    classes = model.classifier.classes
    if found != wanted or len(dataset.classes) != len(classes):
        theirs, ours = (
            f"{len(names)} classes of images of {' x '.join(map(str, shape))}"
            for names, shape in ((dataset.classes, found), (classes, wanted))
        )
        resizable = len(dataset.classes) == len(classes) and found[0] == wanted[0] and wanted[1] == wanted[2]
        remedy = f"; set data.image_size={wanted[1]}" if resizable else ""
        raise BadInput(f"data={dataset.name}: {theirs}; this model takes {ours}{remedy}")
    if dataset.classes != classes:
        pairs = zip(dataset.classes, classes, strict=True)
        name, known_as = next((name, own) for name, own in pairs if name != own)
        logger.warning(
            "the classes of data=%s have other names than the model's (%s, there %s); they are matched by their order",
            dataset.name, name, known_as,
        )  # fmt: skip


def _warn_of_other_images(dataset: Dataset, model: BestModel, recorded: Settings, part: str) -> None:
    before, now = model.provenance.data.fingerprint, model.settings.data
    if dataset.fingerprint != before:
        logger.warning(
            "data=%s: not the images, labels and class names of the run (fingerprint %s…, recorded %s…)",
            dataset.name, dataset.fingerprint[:12], before[:12],
        )  # fmt: skip
    moved = [key for key in ("validation", "split_seed") if now[key] != recorded.data[key]]
    if moved and part == "validation":
        logger.warning(
            "%s: another split than the run's; the model was trained on some of these images",
            " ".join(f"data.{key}={now[key]}" for key in moved),
        )


def _recorded(provenance: Provenance) -> dict[str, float] | None:
    """The test's metrics as the run recorded them; None where it ended before."""
    try:
        return {name: float.fromhex(provenance.result.metrics[f"test/{name}"]) for name in METRICS}
    except (KeyError, ValueError):
        return None

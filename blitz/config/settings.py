"""The typed shape of a composed config, its checks, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

import blitz
from blitz.errors import BadInput, refuse
from blitz.parts.registry import STRICT, Count, Fraction, Index, Positive, Registry, validate

# Tags that runs are found and marked by, and those that the MLflow UI reads: a user's own have other names.
OWN_TAGS = (
    "record", "folder", "host", "user", "heartbeat", "ended", "error", "traceback", "weights", "config_hash",
    "group_hash", "git", "device", "precision", "data.fingerprint", "python", "torch", "packages", "mlflow", "resumed",
    "paused", "seconds", "epochs", "reproduces", "reproduced_by", "verdict", "sweep", "notable",
)  # fmt: skip

Choice = dict[str, Any]  # {"name": …, option: value, …}, complete once it is checked

OF_A_SWEEP = ("sweep", "search")  # keys that are about a sweep as a whole, and no part of its jobs' settings

# Keys that cannot change a result: two runs that differ in nothing else are the same experiment.
NOT_IN_HASH = (
    "tracking", "checkpoint", "checkpoint_every", "runs_dir", "name", "tags", "notes", "report_every",
    "profile",
)  # fmt: skip
# Keys that came later, and the value with which they change nothing and stay out of the hash: older runs keep theirs.
CAME_LATER = {"eval_shift": 0}
# What people compare runs by, also where it is at its default.
COMPARED = ("model.name", "optimizer.name", "optimizer.lr", "data.name", "epochs", "batch_size", "seed")
# The choices of `conf/config.yaml` in the groups that are not among these: they go without saying.
UNSAID = {"schedule": "constant", "loss": "cross_entropy", "augment": "none", "mix": "none", "device": "auto"}
WINDOWS, LONGEST_WINDOW = 20, 50  # of an epoch's steps, and steps, where step_loss is left to blitz
# Where the data lies does not matter either: its fingerprint is hashed instead.
NOT_IN_DATA_HASH = ("root", "url")


class _Strict(BaseModel):
    model_config = STRICT


class Tracking(_Strict):
    """Where a run is recorded besides its folder."""

    name: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = None
    experiment: str = "blitz"
    offline: Literal["fail", "allow"] = "fail"
    step_loss: Count | Literal["auto"] | None = "auto"
    system_metrics: Positive | None = 10.0
    figures: bool = True
    log_model: bool = False

    def window(self, steps_per_epoch: int) -> int | None:
        """Steps whose mean loss is one recorded point. It does not depend on the number of epochs, which may grow."""
        if self.step_loss == "auto":
            return max(1, min(LONGEST_WINDOW, steps_per_epoch // WINDOWS))
        return self.step_loss


class Checkpoint(_Strict):
    """What stays in a run's `checkpoints/` after its end."""

    keep: Literal["all", "best", "last", "none"] | None = None


def _as_text(value: Any) -> Any:
    """A number without a unit is refused as a time, not as a text."""
    return str(value) if isinstance(value, int | float) else value


class Sweep(_Strict):
    """How `-m` runs its jobs; no part of a job's settings."""

    dry_run: bool = False
    on_failure: Literal["continue", "stop"] = "continue"
    resume: str | None = None
    skip_finished: bool = False
    budget: Annotated[str, BeforeValidator(_as_text)] | None = None
    max_images: Count | None = None
    points: str | None = None
    samples: Count | None = None
    seed: Index = 0


class Settings(_Strict):
    """A checked config: every default filled in, nothing unknown, plain values only.

    `check` makes one from a composed config; the comments of `conf/config.yaml` say what each key means.
    """

    model_config = {"frozen": True}

    model: Choice
    optimizer: Choice
    schedule: Choice
    loss: Choice
    augment: Choice
    mix: Choice
    data: Choice
    device: Choice
    tracking: Tracking = Tracking()
    checkpoint: Checkpoint = Checkpoint()

    epochs: Count = 2
    batch_size: Count = 4
    micro_batch_size: Count | None = None
    clip_norm: Positive | None = None
    ema: Fraction | None = None
    early_stopping: Count | None = None
    eval_every: Count = 1
    eval_batch_size: Count = 500
    eval_flip: bool = False
    eval_shift: Index = 0
    seed: Index = 0

    checkpoint_every: Count | None = None
    report_every: Count = 50
    profile: Count | None = None
    runs_dir: str = "runs"
    name: str | None = None
    tags: dict[str, str] = {}
    notes: str | None = None

    @property
    def images_at_once(self) -> int:
        """In a forward pass of training."""
        return self.micro_batch_size or self.batch_size

    def as_dict(self) -> dict[str, Any]:
        """As plain values, in the order of the fields: what `config.yaml` holds."""
        return self.model_dump(mode="json")

    def parameters(self) -> dict[str, Any]:
        """Each value that can change a result, with its dotted key, to search runs by.

        The others may change on resume, which MLflow's parameters cannot.
        """
        found: dict[str, Any] = {}
        for key, value in self._identity().items():
            if isinstance(value, dict):
                found |= {f"{key}.{option}": setting for option, setting in value.items()}
            else:
                found[key] = value
        return found

    def notable(self) -> dict[str, Any]:
        """What a person wants to see of these: what runs are compared by, and all else that changes results and is not
        at its default. The whole of it would drown what differs.
        """
        registries, fields = menus(), type(self).model_fields
        found: dict[str, Any] = {}
        for key, value in self._identity().items():
            if key in registries:
                defaults = {option.name: option.default for option in registries[key].options(value["name"])}
                defaults["name"] = UNSAID.get(key)
                settings = {f"{key}.{option}": (setting, defaults.get(option)) for option, setting in value.items()}
            else:
                settings = {key: (value, fields[key].default)}
            for name, (setting, default) in settings.items():
                if name in COMPARED or setting != default:
                    found[name] = setting
        return found

    def config_hash(self, data_fingerprint: str, weights_fingerprint: str | None = None) -> str:
        """16 hexadecimal digits of all that a user chooses and that changes a result.

        `weights_fingerprint`: of what `model.weights` names, whose place does not matter. Left out are, besides the
        keys of NOT_IN_HASH, what the machine decides: the kind of device that `auto` finds, its number of threads, the
        code and the versions of the packages. They are in `provenance.json`, and are compared where it matters.
        """
        return _digest(self._identity(weights_fingerprint), data_fingerprint)

    def group_hash(self, data_fingerprint: str, weights_fingerprint: str | None = None) -> str:
        """Like `config_hash`, but shared by runs that differ in their seed alone."""
        return _digest({**self._identity(weights_fingerprint), "seed": None}, data_fingerprint)

    def _identity(self, weights_fingerprint: str | None = None) -> dict[str, Any]:
        values = {key: value for key, value in self.as_dict().items() if key not in NOT_IN_HASH}
        identity = {key: value for key, value in values.items() if CAME_LATER.get(key, ...) != value}
        identity["data"] = {key: value for key, value in self.data.items() if key not in NOT_IN_DATA_HASH}
        if weights_fingerprint is not None:
            identity["model"] = {**self.model, "weights": weights_fingerprint}
        return identity


def menus() -> dict[str, Registry]:
    """Config group -> its menu, of the parts of a run. Imports torch."""
    registries: list[Registry] = [getattr(blitz, name) for name in blitz.MENUS]
    return {registry.group: registry for registry in registries}


def all_menus() -> dict[str, Registry]:
    """The same with the strategies of a sweep."""
    return {**menus(), "search": blitz.SEARCHES}


def uses_mlflow(config: Mapping[str, Any]) -> bool:
    """Whether a config that may still be wrong asks for a store."""
    tracking = config.get("tracking")
    return isinstance(tracking, Mapping) and tracking.get("name") == "mlflow"


def check(config: Mapping[str, Any]) -> Settings:
    """Raises BadInput with every mistake in a composed config (plain values, interpolations resolved)."""
    values = dict(config)
    problems: list[str] = []
    parts: dict[str, Any] = {**all_menus(), "tracking": Tracking, "checkpoint": Checkpoint, "sweep": Sweep}
    for part, of in parts.items():
        if part in OF_A_SWEEP and part not in values:  # a run's own config has none
            continue
        value = values.get(part, {})
        values[part] = {}
        try:
            if not isinstance(value, Mapping):
                problems.append(f"{part}={json.dumps(value, default=str)}: accepted: mapping of options to values")
            elif isinstance(of, Registry):
                values[part] = of.check(value)
            else:
                values[part] = validate(of, value, part, "option").model_dump()
        except BadInput as error:
            problems.extend(error.problems)
    values = {key: value for key, value in values.items() if key not in OF_A_SWEEP}  # of a file, say
    try:
        settings = validate(Settings, values, "", "key of a config")
    except BadInput as error:
        raise BadInput(*problems, *error.problems) from None
    refuse(problems or _contradictions(settings))
    return settings


def _contradictions(settings: Settings) -> Iterator[str]:
    """Values that are fine alone and make no sense together."""
    for tag in settings.tags:
        if any(tag == own or tag.startswith(f"{own}.") for own in OWN_TAGS):
            yield f"tags.{tag}: blitz sets this tag itself; choose another name"
    patience, part, batch = settings.early_stopping, settings.micro_batch_size, settings.batch_size
    if patience is not None and settings.data.get("validation") == 0:
        yield f"early_stopping={patience}: needs a validation split; set data.validation above 0"
    if part is not None and part > batch:
        yield f"micro_batch_size={part}: accepted: at most batch_size={batch}"


def _digest(identity: Mapping[str, Any], data_fingerprint: str) -> str:
    text = json.dumps({**identity, "data_fingerprint": data_fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

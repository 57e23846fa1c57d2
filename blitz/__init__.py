"""Hydra-configured experiments for PyTorch image classification.

    settings = blitz.compose(["data=digits", "model=resnet20", "epochs=5"])
    result = blitz.run(settings)
    classifier = blitz.load_model(result.run_id)

The menus `MODELS`, `OPTIMIZERS`, `SCHEDULES`, `LOSSES`, `AUGMENTATIONS`, `MIXES`, `DATASETS`, `DEVICES` and `SEARCHES`
take your own parts: `blitz.MODELS.add("mine", Mine)`. A data set is a function that returns a `Dataset` of two
`Split`s. Everything is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blitz.openmp import bound_waiting
from blitz.version import __version__

bound_waiting()  # before torch is imported

if TYPE_CHECKING:
    from blitz.config.compose import compose as compose
    from blitz.errors import BadInput as BadInput
    from blitz.parts.augmentations import AUGMENTATIONS as AUGMENTATIONS
    from blitz.parts.datasets import DATASETS as DATASETS
    from blitz.parts.datasets import Dataset as Dataset
    from blitz.parts.datasets import Split as Split
    from blitz.parts.devices import DEVICES as DEVICES
    from blitz.parts.losses import LOSSES as LOSSES
    from blitz.parts.mixes import MIXES as MIXES
    from blitz.parts.models import MODELS as MODELS
    from blitz.parts.optimizers import OPTIMIZERS as OPTIMIZERS
    from blitz.parts.schedules import SCHEDULES as SCHEDULES
    from blitz.runner.load import load_model as load_model
    from blitz.runner.run import run as run
    from blitz.sweeps.search.searches import SEARCHES as SEARCHES

# Each in the module of its name.
MENUS = ("MODELS", "OPTIMIZERS", "SCHEDULES", "LOSSES", "AUGMENTATIONS", "MIXES", "DATASETS", "DEVICES")
_HOMES = {
    "compose": "blitz.config.compose",
    "run": "blitz.runner.run",
    "load_model": "blitz.runner.load",
    "BadInput": "blitz.errors",
    "Dataset": "blitz.parts.datasets",
    "Split": "blitz.parts.datasets",
    "SEARCHES": "blitz.sweeps.search.searches",
    **{menu: f"blitz.parts.{menu.lower()}" for menu in MENUS},
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'blitz' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

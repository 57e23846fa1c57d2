"""Hydra looks for sweepers under `hydra_plugins` and nowhere else; the work is in `blitz/sweeps/sweeper.py`."""

from __future__ import annotations

import sys
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BlitzSweeper(Sweeper):
    """`blitz -m`: checks every job before the first one starts."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if task_function.__module__.split(".")[0] != "blitz":
            sys.exit("hydra/sweeper=blitz: sweeps the jobs of blitz alone; choose another, such as hydra/sweeper=basic")
        self._given = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from blitz.config.compose import as_hydra_overrides, as_typed  # Hydra imports this file at every start
        from blitz.config.hydra_internals import COMPOSING_ERRORS
        from blitz.errors import Bug
        from blitz.sweeps.combinations import listed_in_a_recipe
        from blitz.sweeps.rounds import SweepRequest
        from blitz.sweeps.sweeper import sweep

        try:
            listed = listed_in_a_recipe(self._options, arguments)
            return sweep(SweepRequest(*self._given, as_hydra_overrides(as_typed([*listed, *arguments]))))
        except COMPOSING_ERRORS as error:  # a user's mistake is a BadInput by now
            raise Bug(error) from error


node = {"_target_": "hydra_plugins.blitz.BlitzSweeper", "params": None}
ConfigStore.instance().store(group="hydra/sweeper", name="blitz", node=node, provider="blitz")

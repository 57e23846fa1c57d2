"""Hydra looks for sweepers under `hydra_plugins` and nowhere else; the work is in `blitz/sweeps/sweeper.py`."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BlitzSweeper(Sweeper):
    """`blitz -m`: checks every job before the first one starts."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from blitz.config.compose import as_typed  # Hydra imports this file at every start
        from blitz.sweeps.sweeper import SweepRequest, sweep

        return sweep(SweepRequest(self.hydra_context, self.task_function, self.config, as_typed(arguments)))


node = {"_target_": "hydra_plugins.blitz.BlitzSweeper"}
ConfigStore.instance().store(group="hydra/sweeper", name="blitz", node=node, provider="blitz")

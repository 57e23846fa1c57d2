"""The configs of a sweep's jobs, as Hydra composes them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from hydra.types import HydraContext
from omegaconf import DictConfig

from blitz.config.hydra_internals import COMPOSING_ERRORS, Override, parse_overrides, set_values


class Composer:
    """Composes each choice of groups once, and sets the values of each job in a copy.

    Hydra takes a tenth of a second for a job of ours, reads every file again, and applies values last: most jobs of a
    sweep differ in values alone.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self._loader = context.config_loader
        self._config = config
        self._read: dict[str, Override] = {}
        self._is_group: dict[str, bool] = {}
        self._chosen: dict[tuple[str, ...], bytes] = {}  # pickled: a copy takes a fraction of deepcopy's time

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Raises what Hydra raises."""
        try:
            return self._with_values(overrides)
        except COMPOSING_ERRORS:
            return self._loader.load_sweep_config(self._config, list(overrides))  # whose words are known to us

    def _with_values(self, overrides: Sequence[str]) -> DictConfig:
        parsed = [self._parsed(text) for text in overrides]
        values = [override for override in parsed if self._is_value(override)]
        chosen = tuple(text for text in overrides if not self._is_value(self._parsed(text)))
        if chosen not in self._chosen:
            self._chosen[chosen] = pickle.dumps(self._loader.load_sweep_config(self._config, list(chosen)))
        config = pickle.loads(self._chosen[chosen])
        assert isinstance(config, DictConfig)
        set_values(config, values, parsed)
        return config

    def _parsed(self, text: str) -> Override:
        if text not in self._read:
            (self._read[text],) = parse_overrides([text], self._loader)
        return self._read[text]

    def _is_value(self, override: Override) -> bool:
        key = override.key_or_group
        if key not in self._is_group:
            name, of_hydra = self._config.hydra.job.config_name, list(self._config.hydra.overrides.hydra)
            self._is_group[key] = bool(self._loader.get_group_options(key, config_name=name, overrides=of_hydra))
        is_choice = self._is_group[key] and not isinstance(override.value(), dict)  # as Hydra distinguishes them
        return not is_choice and not override.is_hydra_override()

"""Configs that differ in values alone are composed as Hydra composes them one by one, only sooner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from blitz.config.composer import Composer
from blitz.config.groups import CONF
from blitz.config.hydra_internals import COMPOSING_ERRORS, VERSION_BASE, parse_overrides

OF_HYDRA = ["hydra.sweep.subdir=some", "hydra.job.config.override_dirname.item_sep=' '"]


class Sweeping(NamedTuple):
    """What Hydra hands to a sweeper, and a count of what it was asked to compose."""

    composer: Composer
    loader: ConfigLoader
    master: DictConfig
    composed: list[list[str]]


@pytest.fixture
def sweeping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeping]:
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", overrides=OF_HYDRA, run_mode=RunMode.MULTIRUN)
        composed: list[list[str]] = []
        real = loader.load_sweep_config

        def counted(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
            composed.append(sweep_overrides)
            return real(master_config, sweep_overrides)

        monkeypatch.setattr(loader, "load_sweep_config", counted)
        composer = Composer(
            lambda overrides: loader.load_sweep_config(master, overrides),
            lambda text: parse_overrides([text], loader)[0],
            lambda key: (CONF / key).is_dir(),
        )
        yield Sweeping(composer, loader, master, composed)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3"],
        ["optimizer.lr=0.1", "model=resnet20", "+model.width=8", "epochs=2", "data=digits"],
        ["optimizer.lr=0.1", "optimizer=adamw", "optimizer.lr=0.2"],
        ["++tags.author=me", "+tags.why='a b'", "name='lr ${optimizer.lr}'"],
        ["+optimizer.extra=1", "~optimizer.extra", "~eval_flip"],
        ["seed=1", "++seed=2"],
        ["++seed=2", "seed=1"],
        ["schedule=cosine", "experiment=quickstart", "epochs=1"],
        ["optimizer={lr:0.3}", "optimizer.momentum=0.1"],
    ],
)
def test_what_is_composed_is_what_hydra_makes_of_it(sweeping: Sweeping, overrides: list[str]) -> None:
    ours = sweeping.composer.compose(overrides)
    theirs = sweeping.loader.load_sweep_config(sweeping.master, overrides)
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
    assert OmegaConf.is_struct(ours)


def test_values_alone_compose_nothing_again(sweeping: Sweeping) -> None:
    for model in ("net", "resnet20"):
        for seed in range(5):
            assert sweeping.composer.compose([f"seed={seed}", f"model={model}"]).seed == seed
    assert sweeping.composed == [["model=net"], ["model=resnet20"]]


@pytest.mark.parametrize("wrong", ["optimizer.speed=1", "+seed=1", "~optimizer.speed", "model=none_such", "seed=[1"])
def test_a_mistake_is_reported_in_hydras_own_words(sweeping: Sweeping, wrong: str) -> None:
    with pytest.raises(COMPOSING_ERRORS) as theirs:
        sweeping.loader.load_sweep_config(sweeping.master, ["epochs=1", wrong])
    with pytest.raises(type(theirs.value)) as ours:
        sweeping.composer.compose(["epochs=1", wrong])
    assert str(ours.value) == str(theirs.value)

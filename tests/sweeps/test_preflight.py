"""blitz.sweeps.preflight: what a run would be refused for, found without training, each part built once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from torch import nn

import blitz
from blitz.errors import BadInput
from blitz.parts.registry import Registry
from blitz.runner.build import build_parts
from blitz.sweeps.combinations import Combination
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.launch import runs_here
from blitz.sweeps.preflight import PartsCache, preflight


def jobs(*asked: str) -> list[SweepJob]:
    """A job for each text of overrides."""
    found = []
    for number, text in enumerate(asked):
        settings = blitz.compose(["data=digits", "batch_size=32", *text.split()])
        found.append(SweepJob(number, Combination((), (text,)), DictConfig({}), settings))
    return found


def built(*asked: str) -> Counter[str]:
    """How often each part was built in the preflight of these jobs."""
    cache, times = PartsCache(), Counter[str]()

    def made(make: Callable[..., Any], *arguments: Any) -> Any:
        def count(*arguments: Any) -> Any:
            times[make.__name__] += 1
            return make(*arguments)

        return cache(wraps(make)(count), *arguments)

    for job in jobs(*asked):
        build_parts(job.settings, made=made)
    return times


def test_preflight_builds_each_part_once() -> None:
    names = "device_of data_of schedule_of model_of on_device loss_and_mix_of optimizer_of augment_of"
    once = dict.fromkeys(names.split(), 1)
    asked = [f"optimizer.lr={lr} seed={seed}" for lr in (0.1, 0.2, 0.3) for seed in (0, 1)]
    assert built(*asked) == {**once, "optimizer_of": 3}
    two_models = {"model_of": 2, "on_device": 2, "optimizer_of": 2}
    assert built("model=net", "model=mlp", "model=mlp epochs=3") == {**once, **two_models, "schedule_of": 2}


def test_mistakes_of_all_jobs_are_told_with_the_jobs_that_make_them() -> None:
    wrong = jobs(
        "seed=1", "data.limit=10", "data.limit=10 seed=2", "loss.class_weights=[1,2]", "model=vit model.patch=5"
    )
    with pytest.raises(BadInput) as told:
        preflight(wrong)
    limit, weights, patch = told.value.problems
    assert limit == (
        "batch_size=32: accepted: at most 10, the number of training images "
        "(in 2 of 5 jobs, the first of them limit=10)"
    )
    assert weights.startswith("loss.class_weights=[1.0, 2.0]: ")
    assert patch.startswith("model.patch=5: ")


@pytest.mark.parametrize("error", [ValueError("never"), SystemExit(3)])
def test_a_part_that_fails_in_its_own_way_is_left_to_its_job(error: BaseException, models: Registry) -> None:
    def broken(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        raise error

    models.add("broken", broken)
    preflight(jobs("model=broken", "model=net"))
    with pytest.raises(BadInput, match=r"at most 10, .* \(in 1 of 2 jobs"):
        preflight(jobs("model=broken", "data.limit=10"))


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", True),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", True),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", True),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", False),
    ],
)
def test_jobs_of_other_machines_are_not_judged_by_this_one(target: str, here: bool) -> None:
    config = OmegaConf.create({"hydra": {"launcher": {"_target_": target}}})
    assert runs_here(config) is here

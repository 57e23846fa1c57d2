"""blitz.config.compose: overrides to checked settings, as the Python API and a menu's additions see it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

import blitz
from blitz.config.compose import as_hydra_job_overrides, as_hydra_overrides, as_typed, compose, overrides_of
from blitz.config.groups import CONF
from blitz.config.hydra_internals import VERSION_BASE
from blitz.config.recorded import change
from blitz.config.refused import refuse_shadowed
from blitz.config.settings import Settings, check, menus
from blitz.errors import BadInput
from blitz.parts.registry import Count, Registry


def problems(*overrides: str) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        compose(overrides)
    return caught.value.problems


# Overrides


def test_without_overrides_the_defaults_of_the_settings_and_the_menus():
    record = compose().as_dict()
    for field, value in Settings.model_construct().model_dump(exclude=set(menus())).items():
        assert record[field] == value, field
    for group, registry in menus().items():
        assert registry.check({"name": record[group]["name"]}) == record[group], group


def test_values_choices_and_options_of_a_choice_in_any_order():
    settings = compose(["optimizer.beta1=0.8", "epochs=7", "optimizer=adamw", "optimizer.lr=1", "clip_norm=0.5"])
    assert (settings.epochs, settings.clip_norm) == (7, 0.5)
    assert settings.optimizer == menus()["optimizer"].check({"name": "adamw", "lr": 1.0, "beta1": 0.8})


def test_an_option_of_a_choice_may_be_a_list_or_null():
    settings = compose(["model=mlp", "model.hidden=[8, 4]", "tracking.step_loss=null"])
    assert settings.model["hidden"] == [8, 4]
    assert settings.tracking.step_loss is None


def test_a_recipe_gives_way_to_what_is_given_beside_it():
    alone = compose(["experiment=quickstart"])
    changed = compose(["epochs=1", "experiment=quickstart", "schedule=constant"])
    assert (changed.epochs, changed.schedule["name"]) == (1, "constant")
    assert changed.as_dict() == alone.as_dict() | {"epochs": 1, "schedule": {"name": "constant"}}
    assert changed.epochs != alone.epochs
    assert changed.schedule != alone.schedule


def test_recipes_stack():
    settings = compose(["experiment=quickstart", "debug=fast"])
    assert settings.data["name"] == compose(["experiment=quickstart"]).data["name"]
    assert settings.data["limit"] == compose(["debug=fast"]).data["limit"]


def test_any_tag_can_be_set():
    assert compose(["tags.author=me", "+tags.paper=yes please"]).tags == {"author": "me", "paper": "yes please"}
    assert compose(["tags={author: me}"]).tags == {"author": "me"}


def test_numbers_are_read_as_hydra_reads_them():
    assert compose(["optimizer.lr=1e-3"]).optimizer["lr"] == 0.001
    assert compose(["optimizer.lr=${ema}", "ema=0.5"]).optimizer["lr"] == 0.5


@pytest.mark.parametrize("start", ["1234567890", "12e4567890", "0123456789", "deadbeef01", "7"])
def test_the_start_of_a_runs_id_is_text_whatever_it_looks_like(start):
    override = f"model.weights={start}"
    assert compose([override]).model["weights"] == start
    assert change(compose().as_dict(), [override])["model"]["weights"] == start


def test_an_option_that_is_removed_is_refused_and_does_not_come_back_as_its_default():
    with pytest.raises(BadInput, match=r"^~optimizer\.lr: cannot be removed; accepted: optimizer\.lr=VALUE$"):
        compose(["~optimizer.lr"])
    assert compose(["tags.a=x", "tags.b=y", "~tags.a"]).tags == {"b": "y"}


def test_overrides_are_left_alone():
    overrides = ("tags.author=me", "optimizer.lr=0.5")
    kept = list(overrides)
    compose(kept)
    assert kept == list(overrides)


# A record is a config


@pytest.mark.parametrize(
    "overrides", [[], ["experiment=quickstart"], ["model=mlp", "model.hidden=[]", "tags.a=b", "ema=0.9"]], ids=repr
)
def test_a_record_checks_to_the_same_settings(overrides):
    settings = compose(overrides)
    assert check(settings.as_dict()) == settings


def test_a_record_survives_its_yaml_file(tmp_path):
    settings = compose(["optimizer.lr=1e-5", "name=3e5x", "notes='1e-3'", "tags.yes='no'", "data.mean=[0.5]"])
    file = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(settings.as_dict()), file)
    container: Any = OmegaConf.to_container(OmegaConf.load(file))
    assert check(container) == settings


# Mistakes


def test_all_mistakes_are_reported_together():
    found = problems("model=resnt20", "optimizer.lrr=1", "epochs=abc", "seed=-1", "modle=net", "data=digits", "a.b=[1")
    assert {problem.partition(" (")[0] for problem in found} == {
        "a.b=[1: cannot be read as KEY=VALUE",
        "model=resnt20: no such model; did you mean resnet20?",
        "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
        "epochs=abc: accepted: integer >= 1",
        "seed=-1: accepted: integer >= 0",
        "modle: no such key of a config; did you mean model?",
    }


def test_several_values_are_a_sweep():
    assert problems("optimizer.lr=1,2") == (
        "optimizer.lr=1,2: several values need -m, for a sweep; a list is written optimizer.lr=[A,B]",
    )


def test_options_are_judged_by_the_choice_that_was_probably_meant():
    found = problems("model=resnt20", "model.shortcut=C", "experiment=quikstart", "schedule.div_factor=0")
    assert [problem.partition(";")[0] for problem in found] == [
        "model=resnt20: no such model",
        "experiment=quikstart: no such experiment",
        "model.shortcut=C: accepted: A or B",
        "schedule.div_factor=0: accepted: number > 0",
    ]


def test_options_of_an_unknown_choice_are_not_judged_by_the_default_one():
    (found,) = problems("model=zzzzzz", "model.zzzzzz=3")
    assert found.startswith("model=zzzzzz: no such model (accepted: ")


# A part without a YAML


class Mine(nn.Module):
    """A model of one's own.

    Args:
        width: of its only layer
        depth: of nothing
        scales: a list
    """

    def __init__(self, num_classes: int, input_shape: Any, *, width: Count, depth: Count = 3, scales: Any = (1, 2)):
        super().__init__()


def test_a_name_that_was_added_can_be_chosen_and_is_checked(models):
    blitz.MODELS.add("mine", Mine)
    settings = compose(["model=mine", "model.width=8", "model.depth=4"])
    assert settings.model == {"name": "mine", "width": 8, "depth": 4, "scales": [1, 2], "weights": None}
    assert check(settings.as_dict()) == settings


def test_a_config_file_that_is_edited_counts_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("blitz.config.compose.CONF", shutil.copytree(CONF, tmp_path / "conf"))
    assert blitz.compose(["epochs=2"]).optimizer["momentum"] == 0.9
    sgd = tmp_path / "conf" / "optimizer" / "sgd.yaml"
    sgd.write_text(sgd.read_text().replace("momentum: 0.9", "momentum: 0.75"))
    assert blitz.compose(["epochs=2"]).optimizer["momentum"] == 0.75
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nepochs: 7\n")
    assert blitz.compose(["experiment=mine"]).epochs == 7


@pytest.mark.parametrize("default", [3, 4])
def test_a_part_of_the_same_name_in_another_menu_is_another_one(models: Registry, default: int) -> None:
    def mine(num_classes: int, input_shape: tuple[int, int, int], *, size: int = default) -> nn.Module:
        """Mine.

        Args:
            size: any
        """
        raise NotImplementedError

    models.add("mine", mine)
    assert blitz.compose(["model=mine"]).model["size"] == default


def test_what_such_a_part_needs_must_be_given(models):
    models.add("needy", Mine)
    assert problems("model=needy") == ("model.width: a value is needed (accepted: integer >= 1)",)
    assert problems("model=needy", "model.widht=3", "model.depth=0") == (
        "model.width: a value is needed (accepted: integer >= 1)",
        "model.depth=0: accepted: integer >= 1",
        "model.widht: no such option of needy; did you mean model.width?",
    )


def test_a_part_of_ones_own_can_be_named_in_a_recipe(models, tmp_path):
    models.add("another", Mine)
    (tmp_path / "experiment").mkdir()
    recipe = "# @package _global_\ndefaults:\n  - override /model: another\nmodel:\n  width: 5\n"
    (tmp_path / "experiment" / "own.yaml").write_text(recipe)
    settings = compose([f"hydra.searchpath=[file://{tmp_path}]", "experiment=own"])
    assert (settings.model["name"], settings.model["width"]) == ("another", 5)


# Hydra's global state


@pytest.fixture(params=["no app", "an app"])
def hydra_at_work(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Returns what tells whether Hydra is as it was."""
    if request.param == "no app":
        yield lambda: GlobalHydra.instance().hydra
        return
    (tmp_path / "theirs.yaml").write_text("answer: 42\n")
    with initialize_config_dir(str(tmp_path), **VERSION_BASE):
        yield lambda: (GlobalHydra.instance().hydra, hydra_compose("theirs"))
    assert not GlobalHydra.instance().is_initialized()


def test_composing_leaves_hydra_as_it_was(hydra_at_work):
    before = hydra_at_work()
    compose(["epochs=3"])
    assert hydra_at_work() == before
    problems("epochs=0", "optimizer.lrr=1", "~nope", "a=[")
    assert hydra_at_work() == before


# A folder of the user's own


def test_files_that_hydra_would_pass_over_for_ours_are_refused(tmp_path):
    for name in ("model/net.yaml", "experiment/quickstart.yaml", "config.yaml", "model/own.yaml", "own/net.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("name: net\n")
    with pytest.raises(BadInput) as caught:
        refuse_shadowed(str(tmp_path))
    assert set(caught.value.problems) == {
        f"{tmp_path / name}: blitz has a file of that name, which goes first; rename yours"
        for name in ("model/net.yaml", "experiment/quickstart.yaml", "config.yaml")
    }


@pytest.mark.parametrize("part", ["model", "optimizer", "device", "tracking", "checkpoint", "sweep"])
def test_a_part_of_every_config_cannot_be_deleted(part: str) -> None:
    with pytest.raises(BadInput, match=rf"~{part}: every config has one; accepted: "):
        compose([f"~{part}"])


@pytest.mark.parametrize(
    "typed",
    [
        ["seed=1", "tags.author=me", "+tags.why=x", "optimizer.lr=0.1", "~eval_flip", "model=net"],
        ["tags={a: b}", "model.dropout=0.1", "experiment=quickstart"],
    ],
)
def test_overrides_are_recorded_as_they_were_typed(typed: list[str]) -> None:
    assert as_typed(as_hydra_overrides(typed)) == typed
    assert as_typed(as_hydra_job_overrides(typed)) == typed


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data=digits", "model=resnet20", "epochs=5"],
        ["experiment=quickstart", "tags.a='b c'", "name='it\\'s x, y'", "optimizer=adamw", "data.mean=[0.5]"],
        [
            "model.weights='123456'",
            "early_stopping=3",
            "ema=0.9",
            "device=cpu",
            "tracking=none",
            "runs_dir=/some/where",
        ],
    ],
)
def test_overrides_of_settings_make_the_same_settings(overrides: list[str]) -> None:
    settings = compose(overrides)
    assert compose(overrides_of(settings)) == settings


def test_a_folder_of_other_names_and_our_own_folder_are_fine(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "own.yaml").write_text("name: net\n")
    for folder in (tmp_path, CONF):
        refuse_shadowed(str(folder))  # would raise
    (tmp_path / "model" / "own.yaml").rename(tmp_path / "model" / "net.yaml")
    with pytest.raises(BadInput, match="blitz has a file of that name"):
        refuse_shadowed(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"^--config-dir=.*nope: no such folder$"):
        refuse_shadowed(str(tmp_path / "nope"))

"""A run in words: its name, its note, its parameters, as MLflow shows them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import blitz
from blitz.config.settings import UNSAID, check
from blitz.run_folder import provenance
from blitz.runner import description
from blitz.runner.build import Setup, build

SMALL = ["data=digits", "data.limit=100", "batch_size=25", "device.threads=1"]


@pytest.fixture(scope="module")
def job() -> Setup:
    return build(blitz.compose(SMALL))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "net on digits"),
        (["data.root=/somewhere", "tracking.uri=http://host", "runs_dir=x", "tags.author=me"], "net on digits"),
        (["experiment=quickstart"], "quickstart"),
        (["experiment=quickstart", "optimizer.lr=0.1", "seed=1"], "lr=0.1 seed=1 quickstart"),
        (["model=resnet20", "optimizer=adamw"], "model=resnet20 optimizer=adamw"),
        (["optimizer.nesterov=true", "+loss.gamma=2", "++mix.alpha=1"], "nesterov=true gamma=2 alpha=1"),
        (["schedule.warmup=1", "other.warmup=2"], "schedule.warmup=1 other.warmup=2"),
        (["model.hidden=" + "1" * 200], "hidden=" + "1" * 111 + " …"),
    ],
)
def test_a_name_is_made_of_what_was_overridden(job: Setup, overrides: list[str], name: str) -> None:
    assert description.name(job, overrides) == name
    assert len(name) <= 120


def test_a_name_that_was_given() -> None:
    assert description.name(build(blitz.compose([*SMALL, "name=mine"])), ["name=mine", "seed=0"]) == "mine"


def test_a_note_says_what_it_was_and_how_to_repeat_it(job: Setup) -> None:
    code = {"commit": "abc123", "dirty": True}
    asked = ["data=digits", "notes=why not", "tags.author=me and you", "device.threads=1"]
    note = description.note(job, asked, code, Path("runs/x"), "**50 % test accuracy**")
    assert note.startswith("net (61,706 parameters) on digits (100 training images), sgd, 2 epochs of batches of 25")
    assert "**50 % test accuracy**" in note
    commands = note.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert commands[0] == "git checkout abc123"
    assert commands[1].startswith("git apply git.diff ")
    assert shlex.split(commands[2]) == ["blitz", "data=digits", "tags.author=me and you", "device.threads=1"]
    assert "git " not in description.note(job, asked, {"commit": None, "dirty": None}, Path("runs/x"), "")


def test_the_repeating_command_of_a_note_composes_to_the_same_config(job: Setup) -> None:
    note = description.note(job, SMALL, {"commit": None, "dirty": None}, Path("runs/x"), "")
    command = shlex.split(note.partition("```sh\n")[2].partition("```")[0])
    assert blitz.compose(command[1:]) == job.settings


def test_the_command_of_a_sweeps_job_is_one_of_a_single_run(job: Setup) -> None:
    asked = [*SMALL, "seed=1", "sweep.on_failure=stop", "+sweep.samples=3"]
    note = description.note(job, asked, {"commit": None, "dirty": None}, Path("runs/x"), "")
    command = shlex.split(note.partition("```sh\n")[2].partition("```")[0])
    assert blitz.compose(command[1:]).seed == 1
    assert description.command(asked) == shlex.join(["blitz", *SMALL, "seed=1"])
    assert description.command(["-m", *asked]) == shlex.join(["blitz", "-m", *asked])


def test_parameters_are_what_is_compared_or_not_at_its_default() -> None:
    settings = blitz.compose(["data=digits", "optimizer.momentum=0.5", "clip_norm=1", "data.validation=0.2"])
    notable = settings.notable()
    assert notable["optimizer.momentum"] == 0.5
    assert notable["clip_norm"] == 1.0
    assert notable["data.validation"] == 0.2
    assert notable["optimizer.lr"] == settings.optimizer["lr"]
    assert {"model.name", "optimizer.name", "data.name", "epochs", "batch_size", "seed"} <= notable.keys()
    assert not {"ema", "model.weights", "data.limit", "runs_dir", "tracking.uri", "report_every"} & notable.keys()
    assert len(notable) < 12


def test_choices_that_go_without_saying_are_those_of_the_default_config() -> None:
    default = blitz.compose([]).as_dict()
    assert {group: default[group]["name"] for group in UNSAID} == UNSAID
    assert blitz.compose(["mix=cutmix"]).notable()["mix.name"] == "cutmix"


def test_parameters_hold_every_difference_of_the_config_that_changes_results() -> None:
    plain = blitz.compose(["data=digits"])
    for override in ("ema=0.9", "loss.label_smoothing=0.1", "device.precision=bf16", "mix=mixup", "optimizer.lr=0.5"):
        other = blitz.compose(["data=digits", override])
        assert plain.config_hash("x") != other.config_hash("x")
        assert plain.notable() != other.notable()


def test_a_users_tags_have_other_names_than_ours(job: Setup) -> None:
    facts = provenance.collect([])
    ours = description.tags(job, [], facts, Path("runs/x")).keys() | {"record", "heartbeat"}
    for tag in ours:
        with pytest.raises(blitz.BadInput) as raised:
            check({**job.settings.as_dict(), "tags": {tag: "mine"}})
        assert str(raised.value) == f"tags.{tag}: blitz sets this tag itself; choose another name"
    assert check({**job.settings.as_dict(), "tags": {"author": "me", "hosts": "two"}}).tags["hosts"] == "two"

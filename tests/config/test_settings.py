"""blitz.config.settings: a config checked as a whole, and its identity."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from blitz.config.settings import CAME_LATER, NOT_IN_DATA_HASH, NOT_IN_HASH, Settings, Tracking, check, menus
from blitz.errors import BadInput

FINGERPRINT = "0123456789abcdef"


def config(**changes: Any) -> dict[str, Any]:
    """The least that can be checked, with keys changed: the first choice of every menu."""
    return {group: {"name": registry.names()[0]} for group, registry in menus().items()} | changes


def option(group: str, **options: Any) -> dict[str, Any]:
    """`config` with options of one group."""
    return config(**{group: {**config()[group], **options}})


def problems(values: dict[str, Any]) -> set[str]:
    with pytest.raises(BadInput) as caught:
        check(values)
    assert len(set(caught.value.problems)) == len(caught.value.problems)
    return set(caught.value.problems)


# check


def test_everything_but_the_choices_has_a_default():
    settings = check(config())
    assert settings.as_dict().items() >= Settings.model_construct().model_dump(exclude=set(menus())).items()
    for group, registry in menus().items():
        assert getattr(settings, group) == registry.check(config()[group])


def test_a_record_is_plain_values_in_the_order_of_the_fields_and_checks_to_itself():
    settings = check(config(optimizer={"name": "adam", "lr": 1}, epochs=3, tags={"author": "me"}, ema=0.99))
    record = settings.as_dict()
    assert list(record) == list(Settings.model_fields)
    assert check(json.loads(json.dumps(record))) == settings
    assert check(record).as_dict() == record


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        check(config()).epochs = 3


def test_check_leaves_its_input_alone():
    values = config(epochs=3)
    before = json.dumps(values)
    check(values)
    assert json.dumps(values) == before


def test_mistakes_everywhere_are_reported_together():
    values = config(
        model={"name": "resnt20"},
        optimizer={"name": "sgd", "lrr": 1, "momentum": "0.9"},
        tracking={"name": "mlflow", "step_los": 1},
        checkpoint={"keep": "bset"},
        epochs=0,
        seed=True,
        modle=1,
        clip_norm=math.inf,
    )
    del values["loss"]
    found = {problem.partition(" (accepted")[0] for problem in problems(values)}
    assert found == {
        "model=resnt20: no such model; did you mean resnet20?",
        "loss: no choice made",
        "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
        'optimizer.momentum="0.9": accepted: number >= 0 and < 1',
        "tracking.step_los: no such option; did you mean tracking.step_loss?",
        "checkpoint.keep=bset: accepted: all or best or last or none or null",
        "epochs=0: accepted: integer >= 1",
        "seed=true: accepted: integer >= 0",
        "clip_norm=Infinity: accepted: number > 0 or null",
        "modle: no such key of a config; did you mean model?",
    }


@pytest.mark.parametrize(("steps", "window"), [(1, 1), (39, 1), (41, 2), (352, 17), (1000, 50), (12_500, 50)])
def test_an_epoch_of_few_steps_has_a_curve_of_their_losses(steps: int, window: int) -> None:
    assert Tracking().window(steps) == window
    assert Tracking(step_loss=7).window(steps) == 7
    assert Tracking(step_loss=None).window(steps) is None


@pytest.mark.parametrize("group", [*menus(), "tracking", "checkpoint"])
@pytest.mark.parametrize("value", [None, "sgd", 3, [1]])
def test_a_group_is_a_mapping(group, value):
    assert problems(config(**{group: value})) == {
        f"{group}={json.dumps(value)}: accepted: mapping of options to values"
    }


def test_a_key_marked_as_without_a_value_needs_one():
    assert problems(config(runs_dir="???", epochs="???")) == {
        "runs_dir: a value is needed (accepted: text)",
        "epochs: a value is needed (accepted: integer >= 1)",
    }


@pytest.mark.parametrize("value", [{"years": [2015]}, {"author": None}, "author", None, ["a"]])
def test_tags_are_text(value):
    assert problems(config(tags=value)) == {f"tags={_shown(value)}: accepted: mapping of text to text"}


def test_numbers_and_truth_values_are_text_in_quotes():
    """Which are not put around them silently: 1.10 is the number 1.1, and another text."""
    assert problems(config(name=7, notes=1.5, tags={"year": 2015, "ok": True, "author": "me"})) == {
        "name=7: accepted: text, such as 'name=\"7\"'",
        "notes=1.5: accepted: text, such as 'notes=\"1.5\"'",
        "tags.year=2015: accepted: text, such as 'tags.year=\"2015\"'",
        "tags.ok=true: accepted: text, such as 'tags.ok=\"true\"'",
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# Contradictions


def test_early_stopping_needs_a_validation_split():
    found = problems(option("data", validation=0) | {"early_stopping": 3})
    assert found == {"early_stopping=3: needs a validation split; set data.validation above 0"}
    assert check(option("data", validation=0.2) | {"early_stopping": 3}).early_stopping == 3
    assert check(option("data", validation=0)).early_stopping is None


def test_a_micro_batch_is_part_of_a_batch():
    found = problems(config(batch_size=8, micro_batch_size=9))
    assert found == {"micro_batch_size=9: accepted: at most batch_size=8"}
    assert check(config(batch_size=8, micro_batch_size=8)).micro_batch_size == 8


def test_contradictions_are_reported_together():
    values = option("data", validation=0) | {"early_stopping": 3, "batch_size": 8, "micro_batch_size": 9}
    assert len(problems(values)) == 2


# Identity


def hashes(values: dict[str, Any], fingerprint: str = FINGERPRINT) -> tuple[str, str]:
    settings = check(values)
    return settings.config_hash(fingerprint), settings.group_hash(fingerprint)


def test_hashes_are_sixteen_hexadecimal_digits_and_differ_from_each_other():
    config_hash, group_hash = hashes(config())
    assert len(config_hash) == len(group_hash) == 16
    assert int(config_hash, 16) != int(group_hash, 16)


@pytest.mark.parametrize(
    "values",
    [
        option("optimizer", lr=0.5),
        option("data", validation=0.2),
        option("data", split_seed=1),
        option("device", threads=1),
        config(optimizer={"name": "adam"}),
        config(epochs=3),
        config(batch_size=5),
        config(ema=0.9),
        config(eval_flip=True),
        config(eval_shift=1),
    ],
    ids=repr,
)
def test_what_can_change_a_result_changes_both_hashes(values):
    assert not set(hashes(values)) & set(hashes(config()))


def test_the_data_changes_both_hashes():
    assert not set(hashes(config(), "other")) & set(hashes(config()))


def test_the_seed_changes_the_config_hash_alone():
    (config_hash, group_hash), (other_hash, other_group_hash) = hashes(config()), hashes(config(seed=1))
    assert config_hash != other_hash
    assert group_hash == other_group_hash


ELSEWHERE: dict[str, Any] = {
    "tracking": {"name": "none", "experiment": "other", "step_loss": 7, "uri": "sqlite:///other.db"},
    "checkpoint": {"keep": "none"},
    "runs_dir": "other",
    "name": "other",
    "tags": {"author": "me"},
    "notes": "other",
    "report_every": 7,
    "checkpoint_every": 5,
    "profile": 7,
}


def test_a_key_that_came_later_leaves_the_hash_of_older_runs():
    assert "eval_shift" in check(config(eval_shift=0)).as_dict()
    assert "eval_shift" not in check(config(eval_shift=0)).parameters()
    assert check(config(eval_shift=2)).parameters()["eval_shift"] == 2


def test_what_cannot_change_a_result_changes_no_hash():
    assert set(ELSEWHERE) == set(NOT_IN_HASH)
    for key, value in ELSEWHERE.items():
        assert check(config(**{key: value})) != check(config()), key
        assert hashes(config(**{key: value})) == hashes(config()), key


@pytest.mark.parametrize("key", NOT_IN_DATA_HASH)
def test_where_the_data_lies_changes_no_hash(key):
    assert hashes(option("data", **{key: "/elsewhere"})) == hashes(config())


def test_every_other_key_is_part_of_the_config_hash():
    changed = {key: value + 1 for key, value in CAME_LATER.items()}
    identity = check(config(**changed))._identity()
    assert set(identity) == set(Settings.model_fields) - set(NOT_IN_HASH)


def test_neither_the_order_of_the_keys_nor_how_a_value_is_written_matters():
    values = config(epochs=3, optimizer={"name": "sgd", "lr": 1, "momentum": 0.5})
    turned = {key: values[key] for key in reversed(values)}
    turned["optimizer"] = {"momentum": 0.5, "lr": 1.0, "name": "sgd"}
    assert hashes(turned) == hashes(values)


def test_a_default_that_is_written_out_changes_no_hash():
    assert hashes(check(config()).as_dict()) == hashes(config())

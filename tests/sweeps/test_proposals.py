"""What a search proposes jobs from: how it is recorded, and what is checked of it before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blitz.errors import BadInput
from blitz.sweeps.folder import PLAN
from blitz.sweeps.plan import Plan
from blitz.sweeps.proposals import Proposals
from blitz.sweeps.search.interval import Interval

LR, WIDTH = Interval(1e-4, 1.0, is_log=True), Interval(4, 64, is_whole=True)
GIVEN = Proposals(
    {"optimizer.lr": LR, "model.hidden": WIDTH, "model": ["mlp", "net", "vit"]}, ["0", "1"],
    ["epochs=2", "runs_dir=here", "++tags.api_key=geheimnis"], {"optimizer.lr": "optimizer.lr=interval(1,2)"}, 5, 0, 2,
)  # fmt: skip


def test_proposals_are_recorded_without_credentials_and_read_again() -> None:
    text = json.dumps(GIVEN.as_dict())
    assert "geheimnis" not in text
    found = Proposals.of_dict(json.loads(text), lambda override: not override.startswith(("runs_dir", "++tags")))
    assert (found.ranges, found.seeds, found.drawn) == (GIVEN.ranges, GIVEN.seeds, GIVEN.drawn)
    assert (found.samples, found.seed, found.at_once, found.number) == (5, 0, 2, 10)
    assert found.fixed == ["epochs=2"]


@pytest.mark.parametrize(
    "damage",
    [{"samples": None}, {"seed": "x"}, {"ranges": {"a": {"low": "1"}}}, {"ranges": {"a": {"low": 0, "high": "1"}}},
     {"ranges": {"a": {"low": 0, "high": 1, "is_log": True}}}, {"ranges": 5}, {"drawn": 5}, {"fixed": None}],
)  # fmt: skip
def test_a_plan_with_damaged_proposals_is_refused(damage: dict[str, Any], tmp_path: Path) -> None:
    Plan("s", [], {}, {}, proposals=GIVEN).save(tmp_path)
    file = tmp_path / PLAN
    assert Plan.load(file, trusted=False).proposals is not None
    plan = json.loads(file.read_text())
    file.write_text(json.dumps({**plan, "proposals": {**plan["proposals"], **damage}}))
    with pytest.raises(BadInput, match="not the plan of a sweep, or only a part of it"):
        Plan.load(file, trusted=False)


def test_each_value_and_both_ends_of_an_interval_are_checked() -> None:
    ends = GIVEN.ends()
    assert [end.values["model"] for end in ends] == ["mlp", "net", "vit"]
    assert [end.values["model.hidden"] for end in ends] == ["4", "63", "4"]
    assert float(ends[0].values["optimizer.lr"]) == 1e-4
    assert 0.999 < float(ends[1].values["optimizer.lr"]) < 1
    assert all(end.overrides[:3] == tuple(GIVEN.fixed) for end in ends)
    assert ends[0].blamed_for("optimizer.lr=0.1: accepted: less", None) == "optimizer.lr=interval(1,2): accepted: less"


def test_weights_of_last_stay_those_of_the_same_run() -> None:
    with_weights = GIVEN.with_weights(("model.weights=last", "epochs=2", "model.weights='1e5'"))
    assert with_weights.fixed[-1] == "model.weights='1e5'"
    assert GIVEN.with_weights(("epochs=2",)) == GIVEN

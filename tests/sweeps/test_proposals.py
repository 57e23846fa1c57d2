"""What a search proposes jobs from: how it is recorded, and what is checked of it before anything starts."""

from __future__ import annotations

import json

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

"""Which epoch's weights are kept, and when it is time to stop."""

from __future__ import annotations

import json
import math
from typing import Any

import torch

from blitz.training.loop import EpochResult
from blitz.training.metrics import Evaluation
from blitz.training.selection import Best, Selection


def report(epoch: int, right: int | None, loss: float = 1.0) -> EpochResult:
    """An epoch after which so many of ten validation images were right; None where it was not validated."""
    validation = None
    if right is not None:
        confusion = torch.tensor([[right, 10 - right], [0, 0]])
        validation = Evaluation(loss, 1.0, confusion, torch.zeros(10), torch.ones(10))
    return EpochResult(epoch, 7 * epoch, {"train/accuracy": 0.25, "train/loss": 2.0}, validation)


def kept(selection: Selection, *reports: EpochResult) -> list[int]:
    return [each.epoch for each in reports if selection.consider(each)]


def test_the_highest_accuracy_then_the_lowest_loss_then_the_earlier_epoch_is_the_best() -> None:
    selection = Selection(validated=True)
    reports = [
        report(1, 5),
        report(2, 4, 0.1),
        report(3, None),
        report(4, 5, 0.9),
        report(5, 5, 0.9),
        report(6, 6, 9.0),
    ]
    assert kept(selection, *reports) == [1, 4, 6]
    assert selection.best == Best(6, 0.6, 9.0)


def test_a_loss_that_is_not_a_number_is_beaten_by_any_other() -> None:
    selection = Selection(validated=True)
    reports = [report(1, 5, math.nan), report(2, 5, 9.0), report(3, 5, math.nan), report(4, 5, 8.0)]
    assert kept(selection, *reports) == [1, 2, 4]


def test_patience_counts_evaluations_since_the_best() -> None:
    selection = Selection(validated=True, patience=2)
    kept(selection, report(1, 5), report(2, 4), report(3, None), report(4, None))
    assert not selection.is_over
    kept(selection, report(5, 6), report(6, 5))
    assert not selection.is_over
    kept(selection, report(7, 5))
    assert selection.is_over


def test_without_a_validation_split_the_last_epoch_is_the_best() -> None:
    selection = Selection(validated=False)
    assert kept(selection, report(1, None), report(2, None)) == [1, 2]
    assert selection.best == Best(2, 0.25, 2.0)
    assert not selection.is_over


def test_a_selection_resumes_from_its_state() -> None:
    whole = Selection(validated=True, patience=3)
    kept(whole, report(1, 5), report(2, 4), report(3, 3))
    state: dict[str, Any] = json.loads(json.dumps(whole.state_dict()))
    again = Selection(validated=True, patience=3)
    again.load_state_dict(state)
    for selection in (whole, again):
        assert kept(selection, report(4, 5, 2.0)) == []
        assert selection.is_over
        assert selection.best == Best(1, 0.5, 1.0)
    fresh = Selection(validated=True)
    fresh.load_state_dict(Selection(validated=True).state_dict())
    assert fresh.best is None

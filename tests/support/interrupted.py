"""Runs that end before their time, as a second Ctrl-C ends them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import blitz
from blitz.runner import run as runner
from blitz.training.loop import Learner, fit

TINY = [
    "data=synthetic", "data.train_size=90", "data.test_size=20", "data.image_size=16", "data.validation=0.2",
    "batch_size=10", "epochs=3", "device.threads=1", "tracking.figures=false", "tracking.system_metrics=null",
    "tracking.step_loss=3",
]  # fmt: skip


def stopped(overrides: list[str], step: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that a second Ctrl-C ended at once, at this step or at the next report."""

    def cut_short(learner: Learner, *arguments: Any, **options: Any) -> Iterator[Any]:
        for report in fit(learner, *arguments, **options):
            if learner.step >= step:
                raise KeyboardInterrupt
            yield report

    settings = blitz.compose(overrides)
    before = set(Path(settings.runs_dir).glob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(runner, "fit", cut_short)
        with pytest.raises(KeyboardInterrupt):
            blitz.run(settings, overrides)
    (folder,) = set(Path(settings.runs_dir).glob("*")) - before
    return folder

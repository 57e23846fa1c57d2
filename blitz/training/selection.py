"""Which epoch's weights are kept, and when to stop because it gets no better."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from blitz.run_folder.journal import TRAIN_ACCURACY, TRAIN_LOSS
from blitz.training.loop import EpochResult


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept."""

    epoch: int
    accuracy: float  # on the validation images, or on the training images where there is no such split
    loss: float


class Selection:
    """The epoch of the highest validation accuracy, then of the lowest loss; the last where there is no such split."""

    def __init__(self, validated: bool, patience: int | None = None) -> None:
        self.best: Best | None = None
        self.worse = 0  # evaluations since the best one
        self._validated = validated
        self._patience = patience

    def consider(self, report: EpochResult) -> bool:
        """Whether this epoch's weights are to be kept in place of an earlier one's."""
        if not self._validated:
            self.best = Best(report.epoch, report.metrics[TRAIN_ACCURACY], report.metrics[TRAIN_LOSS])
            return True
        if report.validation is None:
            return False
        candidate = Best(report.epoch, report.validation.accuracy, report.validation.loss)
        if self.best is None or _rank(candidate) > _rank(self.best):
            self.best, self.worse = candidate, 0
            return True
        self.worse += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether as many evaluations as there is patience for were no better."""
        return self._patience is not None and self.worse >= self._patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": asdict(self.best) if self.best else None, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = Best(**state["best"]) if state["best"] else None
        self.worse = state["worse"]


def _rank(best: Best) -> tuple[float, float]:
    """Larger is better; a loss that is not a number is worse than any other."""
    return best.accuracy, -math.inf if math.isnan(best.loss) else -best.loss

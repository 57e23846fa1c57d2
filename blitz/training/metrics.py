"""Sums and counts on the device; means only when they are read."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Sums:
    """The loss and the correct predictions of one epoch of training, added up on the device.

    Reading `loss` or `accuracy` waits for the device; adding does not.
    """

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64; elsewhere it keeps sums over millions of images exact to a few bits.
        precise = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=precise, device=device)
        self._weight = torch.zeros((), dtype=precise, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self.count = 0

    def add(self, loss: Tensor, weight: Tensor, logits: Tensor, targets: Tensor) -> None:
        """One (micro-)batch: its loss sum, its weight, logits (B, K), targets (B,) or soft (B, K)."""
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        self._loss += loss
        self._weight += weight
        self._correct += (logits.argmax(1) == labels).sum()
        self.count += labels.shape[0]

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self._loss, "weight": self._weight, "correct": self._correct, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loss.copy_(state["loss"])
        self._weight.copy_(state["weight"])
        self._correct.copy_(state["correct"])
        self.count = state["count"]

    @property
    def loss(self) -> float:
        return float(self._loss / self._weight)

    @property
    def accuracy(self) -> float:
        return int(self._correct) / self.count


class WindowMeans:
    """Means of a step's metrics over windows of `every` steps, wherever the reports that hold them begin and end."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._open: dict[str, list[float]] = {}  # values since the last window's end

    def add(self, last_step: int, metrics: dict[str, list[float]]) -> list[tuple[int, dict[str, float]]]:
        """Metrics of the steps up to `last_step`, as many of each; returns the windows that end: (step, means)."""
        names = list(metrics)
        steps = list(zip(*metrics.values(), strict=True))
        windows = []
        for step, values in enumerate(steps, start=last_step - len(steps) + 1):
            for name, value in zip(names, values, strict=True):
                self._open.setdefault(name, []).append(value)
            if step % self._every == 0:
                windows.append((step, {name: statistics.fmean(self._open[name]) for name in names}))
                self._open.clear()
        return windows

    def flush(self, last_step: int) -> list[tuple[int, dict[str, float]]]:
        """The window that is still open, as if it ended at `last_step`; none where a window has just ended."""
        means = {name: statistics.fmean(values) for name, values in self._open.items()}
        self._open.clear()
        return [(last_step, means)] if means else []

    def state_dict(self) -> dict[str, list[float]]:
        return {name: list(values) for name, values in self._open.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._open = {name: list(values) for name, values in state.items()}


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for a whole split and how good they are, on the CPU."""

    loss: float
    top5: float  # share of images whose class is among the five likeliest (all of them, with five classes or fewer)
    confusion: Tensor  # (K, K) counts; rows are true classes, columns predicted ones
    predicted: Tensor  # (N,) class of each image
    confidence: Tensor  # (N,) probability given to it

    @property
    def accuracy(self) -> float:
        return int(self.confusion.diagonal().sum()) / int(self.confusion.sum())

    @property
    def per_class(self) -> list[float]:
        """Accuracy of each class; NaN for one without images."""
        return (self.confusion.diagonal() / self.confusion.sum(1)).tolist()

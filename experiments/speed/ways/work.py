"""What every way is asked to do, and what it prints of it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # as in the tutorial


class Work:
    """All epochs together, of `steps` steps, and when the first, the warm-up's last and the last of them ended."""

    def __init__(self, summary: str) -> None:
        parser = argparse.ArgumentParser(description=summary)
        parser.add_argument("--images", type=Path, required=True, help="a file of uint8 tensors, as peers.py writes it")
        parser.add_argument("--model", choices=["net", "resnet20", "resnet18"], default="net")
        parser.add_argument("--batch", type=int, default=4)
        parser.add_argument("--epochs", type=int, default=1)
        parser.add_argument("--workers", type=int, default=0)
        parser.add_argument("--augment", action="store_true")
        parser.add_argument("--float32", action="store_true", help="by_hand.py: normalise all images beforehand")
        self.asked = parser.parse_args()
        images = torch.load(self.asked.images, mmap=True)
        self.train: tuple[Tensor, Tensor] = images["train"]
        self.test: tuple[Tensor, Tensor] = images["test"]
        self.steps = self.asked.epochs * -(-len(self.train[1]) // self.asked.batch)
        self.step = 0
        self.times: dict[int, float] = {}

    def model(self, net: Callable[[], nn.Module]) -> nn.Module:
        """`net`, the tutorial's own, or one of blitz's ResNets."""
        if self.asked.model == "net":
            return net()
        from blitz.parts.models.cifar_resnet import CifarResNet, ResNet18

        return CifarResNet(10, (3, 32, 32)) if self.asked.model == "resnet20" else ResNet18(10, (3, 32, 32))

    def step_is_done(self) -> None:
        self.step += 1
        if self.step in (1, warm_up(self.steps), self.steps):
            self.times[self.step] = time.time()

    def print(self, correct: int) -> None:
        warm = warm_up(self.steps)
        images_per_second = (self.steps - warm) * self.asked.batch / (self.times[self.steps] - self.times[warm])
        found = {"first_step": self.times[1], "images_per_second": images_per_second}
        found |= {"seconds": self.times[self.steps] - self.times[1], "accuracy": correct / len(self.test[1])}
        print(json.dumps(found))


def warm_up(steps: int) -> int:
    """A fifth of the steps, in which memory and kernels are set up, does not count."""
    return max(1, steps // 5)

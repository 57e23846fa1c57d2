"""How long a sweep may train, and how many images: then its running jobs are paused."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blitz.config.settings import Sweep
from blitz.errors import BadInput
from blitz.sweeps.progress import TrainedImages

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}  # seconds
TIME = re.compile(r"(?:\d+(?:\.\d+)?(?:s|min|h|d))+")
LOOK_EVERY = 2.0  # seconds between two counts of images


def seconds_of(text: str) -> float:
    """`90s`, `30min`, `2h`, `1h30min` or `1d` in seconds. Raises BadInput."""
    if not TIME.fullmatch(text) or not (seconds := _sum(text)):
        raise BadInput(f"sweep.budget={text}: accepted: a time such as 90s, 30min, 2h, 1h30min or 1d")
    return seconds


def _sum(text: str) -> float:
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(s|min|h|d)", text))


@dataclass
class Budget:
    """What a sweep may spend, from now on."""

    is_spent: Callable[[], bool]

    @classmethod
    def of(cls, options: Sweep, folder: Path) -> Budget:
        began = time.monotonic()
        seconds = seconds_of(options.budget) if options.budget is not None else math.inf
        if options.max_images is None:
            return cls(lambda: time.monotonic() - began >= seconds)
        trained = TrainedImages(folder)
        most, looked, found = trained.count() + options.max_images, began, 0

        def is_spent() -> bool:
            nonlocal looked, found
            if time.monotonic() - looked >= LOOK_EVERY:
                looked, found = time.monotonic(), trained.count()
            return found >= most or time.monotonic() - began >= seconds

        return cls(is_spent)

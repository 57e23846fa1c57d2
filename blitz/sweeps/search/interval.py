"""An interval of numbers that a sweep draws from, and how one of them is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

DIGITS = 4  # significant ones of what is drawn, and of the interval's width: few enough to be typed again


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` up to but excluding `high`."""

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False  # integers alone; then both ends are

    def at(self, share: float) -> str:
        """The number at this share of the way from `low` to `high`, as the command line takes it."""
        low, high = self.low, self.high
        return self.text(low * (high / low) ** share if self.is_log else low + (high - low) * share)

    def text(self, value: float) -> str:
        """A number of the interval, with as many digits as tell it from others."""
        if self.is_whole:
            return str(math.floor(value))
        width = value * math.log(self.high / self.low) if self.is_log else self.high - self.low
        rounded = float(f"{value:.{DIGITS + max(0, _magnitude(value) - _magnitude(width))}g}")
        return repr(rounded if self.low <= rounded < self.high else value)


def _magnitude(value: float) -> int:
    """That of 0.0123 is -2. Of a value as it is rounded: 1 - 0.9 is 0.09999999999999998."""
    return int(f"{value:.{DIGITS - 1}e}".partition("e")[2])

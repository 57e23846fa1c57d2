"""The memory of this machine, and how it shows that sizes were asked for which it does not hold."""

from __future__ import annotations

import re

import psutil

# What PyTorch and NumPy say of sizes that nothing can hold.
TOO_LARGE = re.compile(
    "can't allocate memory|not enough memory|Storage size calculation overflowed|Overflow when unpacking|"
    "multiplication overflow|Maximum allowed|array is too big",
)


def free() -> int:
    """Bytes."""
    return int(psutil.virtual_memory().available)


def is_too_large(error: Exception) -> bool:
    """Whether a builder failed because of sizes that were asked for."""
    return isinstance(error, MemoryError | OverflowError) or TOO_LARGE.search(str(error)) is not None

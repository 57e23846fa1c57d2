"""How the threads of GNU's OpenMP, which PyTorch computes with on Linux, wait for each other between operations.

By itself in a busy loop of 300,000 turns: where other programs want the cores, it keeps them from the very thread that
is waited for. Measured in experiments/speed/waiting.py; the bits are the same however they wait.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

LOAD = Path("/proc/loadavg")
TURNS = 10_000  # as fast as the long loop on free cores, and up to three times as fast on busy ones


def bound_waiting() -> None:
    """Set the number of turns before torch is imported, which reads it then; a user's own setting stays."""
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        load = ""
        with suppress(OSError):  # of another system, or of one that hides it
            load = LOAD.read_text()
        os.environ["GOMP_SPINCOUNT"] = str(0 if wants_more_than(os.cpu_count() or 1, load) else TURNS)


def wants_more_than(cores: int, load: str) -> bool:
    """Whether by /proc/loadavg more threads want to compute now, this one among them, than there are cores."""
    found = re.fullmatch(r"(?:\S+ ){3}(\d+)/.*\s*", load)
    return found is not None and int(found[1]) > cores

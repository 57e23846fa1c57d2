"""How the threads of GNU's OpenMP, which PyTorch computes with on Linux, wait for each other between operations.

By itself in a busy loop of 300,000 turns: where other programs want the cores, it keeps them from the very thread that
is waited for. Measured in experiments/speed/environment.py; the bits are the same however they wait.
"""

from __future__ import annotations

import os

LOAD = "/proc/loadavg"
TURNS = 10_000  # as fast as the long loop on free cores, and up to three times as fast on busy ones


def bound_waiting() -> None:
    """Set the number of turns before torch is imported, which reads it then; a user's own setting stays."""
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        try:
            with open(LOAD) as file:
                load = file.read()
        except OSError:  # of another system, or of one that hides it
            load = ""
        os.environ["GOMP_SPINCOUNT"] = str(0 if wants_more_than(os.cpu_count() or 1, load) else TURNS)


def wants_more_than(cores: int, load: str) -> bool:
    """Whether by /proc/loadavg more threads want to compute now, this one among them, than there are cores."""
    words = load.split()
    wanted = words[3].split("/")[0] if len(words) == 5 else ""
    return wanted.isdecimal() and int(wanted) > cores

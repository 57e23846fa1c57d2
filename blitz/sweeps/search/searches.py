"""The search strategies, by name."""

from __future__ import annotations

from collections.abc import Sequence

from blitz.parts.registry import Registry
from blitz.sweeps.search.halving import halving
from blitz.sweeps.search.race import race
from blitz.sweeps.search.strategy import Round, Space, Strategy, Task, Trial
from blitz.sweeps.search.tpe import tpe


def grid(space: Space) -> Strategy:
    """Every job is trained to its end, in one round."""

    def next_round(trials: Sequence[Trial]) -> Round:
        return Round([Task(trial.number) for trial in trials if not trial.is_over])

    return next_round


SEARCHES = Registry("search", "blitz.searches", grid=grid, halving=halving, race=race, tpe=tpe)

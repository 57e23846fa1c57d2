"""A search on scores that were made up: what it will train, before anything is."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from blitz.run_folder.run_info import FINISHED, PAUSED
from blitz.sweeps.search.strategy import RowKey, Strategy, Trial

MOST_ROUNDS = 1000  # of a search that never ends on scores that were made up


@dataclass(frozen=True)
class Pace:
    """How long a job takes."""

    epoch: float  # seconds
    rest: float = 0.0  # seconds of a run besides its epochs
    runs: int = 0  # earlier ones that it was seen in
    steps: int = 0  # that were timed instead


@dataclass(frozen=True)
class Play:
    """A search on scores that were made up."""

    epochs: float
    seconds: float
    seeds: Sequence[int]  # of each row that has jobs trained to their end

    def times(self, factor: float) -> Play:
        """Of a search so many times as long."""
        seeds = [*self.seeds] * math.ceil(factor)
        return Play(self.epochs * factor, self.seconds * factor, seeds[: round(len(self.seeds) * factor)])


def play(
    strategy: Strategy,
    trials: Sequence[Trial],
    paces: Mapping[RowKey, Pace],
    ranked: Sequence[RowKey],
    score: Callable[[float, int], float],
    slots: Callable[[int], int],
) -> Play:
    """What a search trains from now on, where a row's place among `ranked` and a seed's in its row decide the score.

    `score`: of a share from the first row to the last, which is 1, and of a seed's place. `slots`: how many of so many
    jobs run side by side.
    """
    known: dict[int, Trial] = {}
    places: dict[int, int] = {}
    rows: dict[RowKey, list[int]] = {}
    share = {key: (place + 1) / len(ranked) for place, key in enumerate(ranked)}

    def add(trial: Trial) -> None:
        row = rows.setdefault(trial.row, [])
        known[trial.number], places[trial.number] = trial, len(row)
        row.append(trial.number)

    for trial in trials:
        add(trial)
    epochs = seconds = 0.0
    for _ in range(MOST_ROUNDS):
        asked = strategy(list(known.values()))
        if asked.is_last:
            break
        for values in asked.new:
            others = {name: value for name, value in values.items() if name != "seed"}
            alike = next((trial for trial in trials if trial.values == others), trials[0])
            add(Trial(max(known) + 1, others, int(values.get("seed", alike.seed)), alike.epochs))
        if asked.new:
            continue
        durations = []
        for task in asked.tasks:
            trial = known[task.job]
            key = trial.row
            pace, objective = paces.get(key, paces[ranked[0]]), score(share.get(key, 0.0), places[task.job])
            trained = max(0.0, (task.until or trial.epochs) - max(trial.rungs, default=0.0))
            epochs += trained
            if task.until is None:
                durations.append(trained * pace.epoch + pace.rest)
                known[task.job] = replace(trial, status=FINISHED, objective=objective)
            else:
                durations.append(trained * pace.epoch)
                known[task.job] = replace(trial, status=PAUSED, rungs={**trial.rungs, task.until: objective})
        seconds += makespan(durations, slots(len(durations)))
    ended = [sum(known[number].status == FINISHED for number in row) for row in rows.values()]
    return Play(epochs, seconds, [number for number in ended if number])


def makespan(durations: Sequence[float], slots: int) -> float:
    """When the last job ends, where each begins as soon as there is a slot."""
    ends = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def clear(share: float, place: int) -> float:
    """A score that tells all rows apart, the last row the best: some spread is needed for a test."""
    return 0.9 * share + 1e-4 * share * (-1) ** place


def even(share: float, place: int) -> float:
    """A score that tells no two rows apart: their means are the same, up and down from seed to seed."""
    return 0.5 + 0.4 * share * (-1) ** place


def plays(
    strategy: Strategy, trials: Sequence[Trial], paces: Mapping[RowKey, Pace], slots: Callable[[int], int]
) -> list[Play]:
    """The slowest rows are the best ones, the fastest are, and none is: what a search may take lies between."""
    epochs = {trial.row: trial.epochs for trial in trials}
    ranked = sorted(epochs, key=lambda key: epochs[key] * paces[key].epoch)
    return [
        play(strategy, trials, paces, order, score, slots)
        for order, score in ((ranked, clear), (ranked[::-1], clear), (ranked, even))
    ]

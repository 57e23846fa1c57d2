"""What a search strategy sees, and what it answers: a round of jobs, and the decisions that led to it.

A strategy is a pure function of what is recorded. Asked again with the same trials it answers the same, so a sweep that
was killed goes on where it was, and a finished one's decisions can be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from blitz.run_folder.decisions import Decision
from blitz.run_folder.run_info import FAILED, FINISHED
from blitz.sweeps.search.interval import Interval

RowKey = tuple[tuple[str, str], ...]
Range = Interval | Sequence[str]  # what a key may be: any number of an interval, or what is listed

GO_ON, PAUSE, PROPOSE = "go on", "pause", "propose"  # what may be decided about a job
MORE, DROP, STOP = "more seeds", "drop", "stop"  # what may be decided about a row, recorded with its first job


@dataclass(frozen=True)
class Trial:
    """What is recorded of one job."""

    number: int
    values: Mapping[str, str]  # what differs from job to job, without the seed: dotted key -> value, as it was typed
    seed: int
    epochs: int  # that its whole training takes
    status: str | None = None  # as in its outcome; None for one that never began
    rungs: Mapping[float, float] = field(default_factory=dict)  # epochs at which it was paused -> its objective there
    objective: float | None = None  # of one that finished

    @property
    def is_over(self) -> bool:
        return self.status in (FINISHED, FAILED)

    @property
    def row(self) -> RowKey:
        """What trials that differ in their seed alone have in common."""
        return tuple(sorted(self.values.items()))


@dataclass(frozen=True)
class Task:
    """A job that is to be trained now."""

    job: int
    until: float | None = None  # epochs after which it is paused, counted from the start; None: to its end


@dataclass(frozen=True)
class Round:
    """What is to be trained next."""

    tasks: Sequence[Task] = ()
    new: Sequence[Mapping[str, str]] = ()  # values, with their seed, of jobs to be made first; then it is asked anew
    decisions: Sequence[Decision] = ()  # all so far, of earlier rounds as well
    conclusion: str = ""  # a sentence about the whole, where nothing is left to train

    @property
    def is_last(self) -> bool:
        return not self.tasks and not self.new


@dataclass(frozen=True)
class Space:
    """What a sweep was asked to train: jobs that are listed, or what a search proposes them from."""

    trials: Sequence[Trial] = ()  # those that are listed, none of them begun
    ranges: Mapping[str, Range] = field(default_factory=dict)  # by dotted key
    seeds: Sequence[str] = ()  # with which each proposal is trained; none: the config's
    samples: int | None = None  # how many proposals were asked for
    seed: int = 0  # of what is drawn
    at_once: int = 1  # how many jobs run side by side
    epochs: Collection[int] = ()  # of the jobs that may be proposed


Strategy = Callable[[Sequence[Trial]], Round]
Builder = TypeVar("Builder", bound=Callable[..., Strategy])


def proposing(builder: Builder) -> Builder:
    """Marks a search that proposes all jobs itself, from the ranges of its space."""
    builder.proposes = True  # type: ignore[attr-defined]
    return builder


def rows(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials that differ in their seed alone together, in the order of the first of each."""
    found: dict[RowKey, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.row, []).append(trial)
    return list(found.values())

"""Runs that are compared: what was varied, which of it are numbers, and the mean and interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from blitz.intervals import margin
from blitz.terminal.names import short_names

HUGE = 1e100  # numbers beyond it, or nearer to 0 than its inverse, are no places on an axis
SPAN, SPAN_OF_TWO = 3, 20  # factors that numbers on a logarithmic axis span at least

Value = float | str | None  # None: the run has no such key


@dataclass(frozen=True)
class Trial:
    """One run as it is drawn."""

    name: str  # such as `lr=0.01 seed=2`
    values: Mapping[str, str]  # dotted key -> text of what was varied, without the seed
    score: float  # the objective: a fraction 0 … 1, the higher the better; nan: there is none
    curve: Sequence[tuple[int, float]]  # the objective's metric by epoch


@dataclass(frozen=True)
class Combination:
    """Runs that differ in their seed alone."""

    values: Mapping[str, Value]  # of the keys that differ among all runs
    trials: tuple[Trial, ...]

    @cached_property
    def scores(self) -> np.ndarray:
        """In percent, of the runs that have one."""
        scores = np.array([100 * trial.score for trial in self.trials])
        return scores[np.isfinite(scores)]

    @property
    def seeds(self) -> np.ndarray:
        """The scores where there are several."""
        return self.scores if self.scores.size > 1 else self.scores[:0]

    @cached_property
    def mean(self) -> float:
        return float(self.scores.mean()) if self.scores.size else math.nan

    @cached_property
    def margin(self) -> float:
        return margin(self.scores)


class Sweep:
    """Runs by what differs among them.

    A key is numeric where every run that has it has a number, and at least two have different ones. Numbers are
    compared as such: `1e-1` is `0.1`.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        keys = dict.fromkeys(key for trial in trials for key in trial.values)
        columns = {key: _parsed([trial.values.get(key) for trial in trials]) for key in keys}
        self.trials = trials
        self.keys = [key for key in keys if len(set(columns[key])) > 1]
        self.names = short_names(self.keys)
        self.numeric = [key for key in self.keys if _is_numeric(columns[key])]
        self.categories = [key for key in self.keys if key not in self.numeric]
        self._order = {key: {value: n for n, value in enumerate(_sorted(columns[key]))} for key in self.keys}
        members: dict[tuple[Value, ...], list[Trial]] = {}
        for number, trial in enumerate(trials):
            members.setdefault(tuple(columns[key][number] for key in self.keys), []).append(trial)
        self.combinations = [
            Combination(dict(zip(self.keys, values, strict=True)), tuple(members[values]))
            for values in sorted(members, key=lambda values: self._places(values, self.keys))
        ]

    def scored(self, keys: Iterable[str] = ()) -> list[Combination]:
        """Those that have a result, and all these keys."""
        return [
            one for one in self.combinations if one.scores.size and all(one.values[key] is not None for key in keys)
        ]

    def grouped(
        self, combinations: Iterable[Combination], keys: Sequence[str]
    ) -> dict[tuple[Value, ...], list[Combination]]:
        """By their values of `keys`: numbers in ascending order, texts in that of the runs."""
        groups: dict[tuple[Value, ...], list[Combination]] = {}
        for combination in combinations:
            groups.setdefault(tuple(combination.values[key] for key in keys), []).append(combination)
        return {values: groups[values] for values in sorted(groups, key=lambda values: self._places(values, keys))}

    def num_values(self, key: str) -> int:
        return len(self._order[key])

    def told(self, values: Sequence[Value], keys: Sequence[str]) -> str:
        """`lr=0.1 momentum=0.9`; of a single key the value alone."""
        if len(keys) == 1:
            return shown(values[0])
        pairs = zip(keys, values, strict=True)
        return " ".join(f"{self.names[key]}={shown(value)}" for key, value in pairs if value is not None)

    def _places(self, values: Sequence[Value], keys: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._order[key][value] for key, value in zip(keys, values, strict=True))


def top(members: Iterable[Combination]) -> float:
    """The best mean; what has no result comes after all others."""
    return max((one.mean for one in members if one.scores.size), default=-math.inf)


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The first with the highest score."""
    return max((trial for trial in trials if math.isfinite(trial.score)), key=lambda trial: trial.score, default=None)


def at(combination: Combination, key: str) -> float:
    """The place on the axis of a numeric key."""
    value = combination.values[key]
    assert isinstance(value, float), (key, value)
    return value


def shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return "(not set)" if value is None else value


def is_logarithmic(numbers: Iterable[float]) -> bool:
    """Whether the numbers are apart by factors and not by differences.

    All are positive, they span a factor of `SPAN`, and their ratios are more alike than their differences: 16, 32, 64
    and what was drawn from a log-uniform distribution, but not 1, 2, 3. Two numbers span a factor of `SPAN_OF_TWO`.
    """
    values = np.unique(np.fromiter(numbers, float))
    if values[0] <= 0 or values[-1] < (SPAN_OF_TWO if values.size == 2 else SPAN) * values[0]:
        return False
    return values.size == 2 or _unevenness(np.log(values)) < _unevenness(values)


def _unevenness(values: np.ndarray) -> float:
    """The standard deviation of the gaps between ascending numbers, over their mean."""
    gaps = np.diff(values)
    return float(gaps.std() / gaps.mean())


def _parsed(texts: Sequence[str | None]) -> list[Value]:
    """Numbers where all texts are, else the texts."""
    numbers = [None if text is None else _number(text) for text in texts]
    return list(texts) if any(math.isnan(number) for number in numbers if number is not None) else list(numbers)


def _number(text: str) -> float:
    """nan where it is none."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if number == 0 or 1 / HUGE < abs(number) < HUGE else math.nan


def _is_numeric(values: Sequence[Value]) -> bool:
    return len({value for value in values if isinstance(value, float)}) > 1


def _sorted(values: Sequence[Value]) -> list[Value]:
    """Each once: numbers in ascending order, texts in their own; what is missing comes last."""
    different = [value for value in dict.fromkeys(values) if value is not None]
    numbers = sorted(value for value in different if isinstance(value, float))
    return [*(numbers or different), *([None] if None in values else [])]

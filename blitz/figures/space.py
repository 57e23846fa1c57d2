"""What was varied among runs that are drawn together: categories, and numbers that have a place on an axis."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from blitz.intervals import Estimate
from blitz.terminal.names import short_names

HUGE = 1e100  # numbers beyond it, or nearer to 0 than its inverse, have no place on an axis
SPAN, SPAN_OF_TWO = 3, 20  # factors that numbers on a logarithmic axis span at least

Value = float | str | None  # None: the run has no such key


@dataclass(frozen=True)
class PlotRun:
    """One run as it is drawn."""

    name: str  # such as `lr=0.01 seed=2`
    score: float  # the objective: a fraction 0 … 1; nan: there is none
    curve: Sequence[tuple[int, float]]  # the objective's metric by epoch

    @property
    def points(self) -> list[tuple[int, float]]:
        """Those of its curve that can be drawn."""
        return [(epoch, value) for epoch, value in self.curve if math.isfinite(value)]


@dataclass(frozen=True)
class PlotRow:
    """Runs that differ in their seed alone, and their mean."""

    values: Mapping[str, Value]  # by dotted key, without the seed
    runs: Sequence[PlotRun]
    estimate: Estimate | None  # None where no run has a score

    @property
    def scores(self) -> list[float]:
        """In percent, of the runs that have one."""
        return [100 * score for score in self.estimate.values] if self.estimate else []

    @property
    def seeds(self) -> int:
        return len(self.scores)

    @property
    def mean(self) -> float:
        return 100 * self.estimate.mean if self.estimate else math.nan

    @property
    def margin(self) -> float:
        margin = self.estimate.margin if self.estimate else None
        return math.nan if margin is None else 100 * margin

    def place(self, key: str) -> float:
        """On the axis of a numeric key."""
        value = self.values[key]
        assert isinstance(value, float), (key, value)
        return value


Groups = dict[tuple[Value, ...], list[PlotRow]]  # by their values of some keys


class Space:
    """Rows, the best first, by what differs among them.

    A key is numeric where every row that has it has a number, and at least two have different ones.
    """

    def __init__(self, rows: Sequence[PlotRow]) -> None:
        keys = dict.fromkeys(key for row in rows for key in row.values)
        columns = {key: _parse([row.values.get(key) for row in rows]) for key in keys}
        self.keys = [key for key in keys if len(set(columns[key])) > 1]
        self.names = short_names(self.keys)
        self.numeric = [
            key for key in self.keys if len({value for value in columns[key] if isinstance(value, float)}) > 1
        ]
        self.categories = [key for key in self.keys if key not in self.numeric]
        self.num_values = {key: len(set(columns[key])) for key in self.keys}
        self.rows = [replace(row, values={key: columns[key][n] for key in self.keys}) for n, row in enumerate(rows)]
        self.runs = [run for row in rows for run in row.runs]

    def best_run(self, runs: Iterable[PlotRun]) -> PlotRun | None:
        return max((run for run in runs if math.isfinite(run.score)), key=lambda run: run.score, default=None)

    def measured(self, keys: Iterable[str] = ()) -> list[PlotRow]:
        """Those that have a result, and all these keys."""
        return [row for row in self.rows if row.estimate and all(row.values[key] is not None for key in keys)]

    def grouped(self, rows: Iterable[PlotRow], keys: Sequence[str]) -> Groups:
        """By their values of `keys`: numbers in ascending order, texts as they rank."""
        groups: Groups = {}
        for row in rows:
            groups.setdefault(tuple(row.values[key] for key in keys), []).append(row)

        def order(values: tuple[Value, ...]) -> list[float]:
            return [value if isinstance(value, float) else math.inf for value in values]

        return {values: groups[values] for values in sorted(groups, key=order)}

    def label(self, values: Sequence[Value], keys: Sequence[str]) -> str:
        """`lr=0.1 momentum=0.9`; of a single key the value alone."""
        if len(keys) == 1:
            return brief(values[0])
        pairs = zip(keys, values, strict=True)
        return " ".join(f"{self.names[key]}={brief(value)}" for key, value in pairs if value is not None)


def brief(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return "(not set)" if value is None else value


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def is_logarithmic(numbers: Iterable[float]) -> bool:
    """Whether the numbers are apart by factors and not by differences: 16, 32, 64, but not 1, 2, 3.

    All are positive, they span a factor of `SPAN`, and the middle one is nearer to the geometric mean of the ends than
    to the arithmetic one. Two numbers span a factor of `SPAN_OF_TWO`.
    """
    values = sorted(set(numbers))
    low, high, middle = values[0], values[-1], statistics.median(values)
    if low <= 0 or high < (SPAN_OF_TWO if len(values) == 2 else SPAN) * low:
        return False
    return len(values) == 2 or abs(middle - math.sqrt(low * high)) < abs(middle - (low + high) / 2)


def _parse(column: Sequence[Value]) -> list[Value]:
    """Numbers where all texts are, else the texts."""
    try:
        numbers = [None if value is None else float(value) for value in column]
    except ValueError:
        return list(column)
    placed = all(number is None or number == 0 or 1 / HUGE < abs(number) < HUGE for number in numbers)
    return list(numbers if placed else column)

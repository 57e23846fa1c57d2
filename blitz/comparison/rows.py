"""Runs side by side: only what differs, seeds folded into mean and interval, the best first."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from blitz.intervals import Estimate, estimate
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import FAILED, FINISHED, status_word
from blitz.terminal.names import briefly

ID_LENGTH = 8  # digits of a run's id that are shown: every command takes the start of one
TITLE = "name"  # heads a column
LONGEST_NAME = 80  # characters of what a sentence calls a row by
# Parts of metrics' names; of all others more is better.
LOWER_IS_BETTER = ("loss", "time", "error", "gap", "mse", "mae", "nll", "perplexity", "latency")
SUMMARIES = ("min", "max", "best")  # of a metric's values: NAME:min, NAME:max, or at the run's best epoch NAME:best


@dataclass(frozen=True)
class ComparedRun:
    """One run, as it is compared."""

    run_id: str | None
    name: str
    seed: str
    values: Mapping[str, str]  # dotted key -> what it was made with, without the seed and without credentials
    metrics: Mapping[str, float]
    seconds: float | None  # wall time
    status: str
    group: str = ""  # runs of two groups differ in more than their seed, whatever their values say
    title: str = ""  # a name of its own, which says more than what it was made with

    @property
    def is_unfinished(self) -> bool:
        """Whether it runs, or can be resumed."""
        return self.status not in (FINISHED, FAILED)


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed alone, or one by itself."""

    values: Mapping[str, str]
    entries: tuple[ComparedRun, ...]  # one a seed

    @cached_property
    def finished(self) -> list[ComparedRun]:
        return [entry for entry in self.entries if entry.status == FINISHED]

    def estimate(self, metric: str) -> Estimate | None:
        """Over the runs that finished; None where none of them measured it."""
        found = [entry.metrics[metric] for entry in self.finished if metric in entry.metrics]
        return estimate([value for value in found if is_measured(value)])

    def so_far(self, metric: str) -> list[float]:
        """What runs that are to finish yet have of it, which is in no mean; none in a row with one that finished."""
        under_way = [entry for entry in self.entries if entry.is_unfinished and not self.finished]
        found = [entry.metrics[metric] for entry in under_way if metric in entry.metrics]
        return [value for value in found if is_measured(value)]

    @property
    def seconds(self) -> float | None:
        """The mean of a run's wall time."""
        seconds = [entry.seconds for entry in self.finished if entry.seconds is not None]
        return sum(seconds) / len(seconds) if seconds else None

    def best(self, metric: str) -> ComparedRun:
        """The run that came out best in this metric; the first one where none did."""
        measured = [entry for entry in self.finished if is_measured(entry.metrics.get(metric, math.nan))]
        return max(measured, key=lambda entry: sign(metric) * entry.metrics[metric], default=self.entries[0])

    @property
    def status(self) -> str:
        """How its runs ended, such as `FINISHED` or `2 FINISHED, 1 FAILED`."""
        counts = Counter(status_word(entry.status) for entry in self.entries)
        if len(self.entries) == 1:
            return next(iter(counts))
        return ", ".join(f"{number} {status}" for status, number in counts.most_common())


@dataclass(frozen=True)
class Comparison:
    """What `blitz compare` prints, and a sweep at its end."""

    rows: Sequence[Row]  # the best first
    keys: Sequence[str]  # of values that differ
    metrics: Sequence[str]  # the first is the one they are sorted by
    folded: bool
    notes: Sequence[str] = ()  # what is left out
    conclusion: str = ""  # of a race, in place of tests: it has looked at the same runs before

    @property
    def all_finished(self) -> bool:
        return all(entry.status == FINISHED for row in self.rows for entry in row.entries)

    def best_rows(self, metric: str) -> list[Row]:
        """Those with the best mean of this metric; none where all are the same."""
        means = [(row, estimate.mean) for row in self.rows if (estimate := row.estimate(metric)) is not None]
        if len({mean for _, mean in means}) < 2:
            return []
        best = max((mean for _, mean in means), key=lambda mean: sign(metric) * mean)
        return [row for row, mean in means if mean == best]


def sign(metric: str) -> int:
    """1 for a metric of which more is better, -1 for one of which less is."""
    metric, _ = split(metric)
    if is_share(metric) or metric.endswith("_per_second"):
        return 1
    return -1 if any(word in metric for word in LOWER_IS_BETTER) else 1


def is_measured(value: float) -> bool:
    """Whether it is a number. A store keeps infinity as the largest one."""
    return abs(value) < sys.float_info.max


def split(metric: str) -> tuple[str, str]:
    """`val/loss:min` as `val/loss` and `min`; a metric without a summary with an empty one."""
    name, _, summary = metric.rpartition(":")
    return (name, summary) if summary in SUMMARIES else (metric, "")


def is_share(metric: str) -> bool:
    """Whether it is a fraction, which is printed in percent."""
    metric, _ = split(metric)
    return metric == OBJECTIVE or metric.endswith(("accuracy", "top5"))


def name_of(row: Row, comparison: Comparison) -> str:
    """How it differs from the others: `lr=0.01 model=net`. Where that is long, the run that the table shows of it."""
    name = briefly(f"{key}={row.values[key]}" for key in comparison.keys if row.values.get(key))
    run_id = row.best(comparison.metrics[0]).run_id
    if len(name) > LONGEST_NAME and run_id is not None:
        return f"run {run_id[:ID_LENGTH]}"
    return " ".join((name or row.entries[0].name).splitlines())


def compare(entries: Sequence[ComparedRun], metrics: Sequence[str], *, everything: bool = False) -> Comparison:
    """Seeds are folded and values that are the same everywhere left out, unless everything is asked for."""
    kept, notes = (list(entries), []) if everything else _one_a_seed(entries)
    keys = list(dict.fromkeys(key for entry in kept for key in entry.values))
    if not everything:
        keys = [key for key in keys if len({entry.values.get(key, "") for entry in kept}) > 1]
    groups: dict[object, list[ComparedRun]] = {}
    for number, entry in enumerate(kept):
        groups.setdefault(number if everything else _identity(entry), []).append(entry)
    rows = [Row(members[0].values, tuple(members)) for members in groups.values()]
    if len({row.entries[0].title for row in rows}) > 1 and TITLE not in keys:
        rows = [replace(row, values={TITLE: row.entries[0].title, **row.values}) for row in rows]
        keys.insert(0, TITLE)
    if everything:  # the seed is a value as any other
        rows = [replace(row, values={**row.values, "seed": row.entries[0].seed}) for row in rows]
        keys.append("seed")
    first = metrics[0]

    def rank(row: Row) -> tuple[int, float]:
        """Those that finished, then those that are to finish yet, then those that failed; without a number last."""
        estimate, so_far = row.estimate(first), row.so_far(first)
        if estimate is not None:
            return 0, -sign(first) * estimate.mean
        if so_far:
            return 2, -sign(first) * sum(so_far) / len(so_far)
        return (1 if row.finished else 3), 0.0

    notes += _without_a_number(rows, metrics) + _unfinished(rows)
    return Comparison(sorted(rows, key=rank), keys, metrics, not everything, notes)


def _without_a_number(rows: Iterable[Row], metrics: Iterable[str]) -> list[str]:
    """What is in no mean."""
    finished = [entry for row in rows for entry in row.finished]
    counts = {name: sum(not is_measured(entry.metrics.get(name, 0.0)) for entry in finished) for name in metrics}
    return [_left_out(number, f"{name} value", "not finite") for name, number in counts.items() if number]


def _unfinished(rows: Iterable[Row]) -> list[str]:
    number = sum(entry.is_unfinished for row in rows for entry in row.entries)
    return [f"{number} run{'s are' if number > 1 else ' is'} not finished, and in no mean"] * bool(number)


def _left_out(number: int, what: str, why: str) -> str:
    return f"{number} {what}{'s' * (number > 1)} left out: {why}"


def _identity(entry: ComparedRun) -> tuple[object, ...]:
    return (entry.group, *sorted(entry.values.items()))


def _one_a_seed(entries: Sequence[ComparedRun]) -> tuple[list[ComparedRun], list[str]]:
    """Of runs with the same values and the same seed the first that finished: the others are no further seeds."""
    same: dict[object, list[ComparedRun]] = {}
    for entry in entries:
        same.setdefault((_identity(entry), entry.seed), []).append(entry)
    kept = [next((run for run in runs if run.status == FINISHED), runs[-1]) for runs in same.values()]
    repeated = sum(run.status == FINISHED for run in entries) - sum(run.status == FINISHED for run in kept)
    attempts = len(entries) - len(kept) - repeated
    notes = [_left_out(repeated, "run", "same config and seed as another")] * bool(repeated)
    return kept, notes + [_left_out(attempts, "attempt", "not finished")] * bool(attempts)

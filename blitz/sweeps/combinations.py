"""Which overrides the jobs of a sweep have: the product of lists, points of a file, and what is drawn at random."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.types import HydraContext

from blitz.config.compose import UNREADABLE, as_hydra_overrides
from blitz.config.groups import store_menu
from blitz.config.hydra_internals import (
    Override,
    ValueType,
    as_text,
    number_of_values,
    parse_override,
    parse_overrides,
    product,
)
from blitz.config.settings import Sweep
from blitz.errors import BadInput, no_such, refuse
from blitz.redaction import redact, redact_values
from blitz.sweeps import points
from blitz.terminal.names import briefly
from blitz.terminal.text import in_a_line

MOST = 100_000  # jobs of a sweep


@dataclass(frozen=True)
class Combination:
    """The overrides of a job."""

    overrides: tuple[str, ...]
    swept: tuple[str, ...]  # those that differ from job to job
    of_file: frozenset[str] = frozenset()  # keys of those that stand in a file of points
    # Keys of those that were drawn -> what from, as it was typed
    drawn: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the job is called: `lr=0.01 seed=2`."""
        return redact(in_a_line(briefly(self.swept)))

    @property
    def values(self) -> dict[str, str]:
        """What differs from job to job: dotted key -> value, as it was typed."""
        pairs = [text.lstrip("+").partition("=") for text in self.swept]
        return {key: value for key, _, value in pairs}

    @property
    def without_seed(self) -> dict[str, str]:
        """The same, without credentials, of all jobs that differ in their seed alone."""
        return {key: value for key, value in redact_values(self.values).items() if key != "seed"}

    def blamed_for(self, problem: str, file: str | None) -> str:
        """Where a mistake was made: in a file of points, or in what a value was drawn from."""
        key, what = re.split("[:=]", problem)[0], problem.partition(": ")[2]
        if key in self.drawn:
            whole = "; int(interval(A,B)) draws whole numbers" if what.startswith("accepted: integer") else ""
            return f"{self.drawn[key]}: {what}{whole}"
        is_of_file = any(known == key or known.startswith(f"{key}.") for known in self.of_file)
        return f"{file}: {problem}" if is_of_file else problem


def listed_in_a_recipe(options: Mapping[str, Any], arguments: Sequence[str]) -> list[str]:
    """The overrides of `hydra.sweeper.params`, in which a recipe lists what is swept: `optimizer.lr: 0.1,0.01`.

    What is typed goes first. Raises BadInput for other options of the sweeper, and for what is no value of a job.
    """
    others = [name for name in options if name != "params"]
    refuse(no_such(f"hydra.sweeper.{name}", "option", name, ["params"]) for name in others)
    params = options.get("params") or {}
    if not isinstance(params, Mapping):
        raise BadInput(f"hydra.sweeper.params={params}: accepted: mapping of keys to what is swept")
    listed = dict(points.flat(params))
    refuse(
        f"hydra.sweeper.params.{key}: accepted: the dotted key of a job's value or choice, such as optimizer.lr"
        for key in listed
        if not points.is_of_a_job(key)
    )
    typed = {text.lstrip("+~").partition("=")[0] for text in arguments}
    texts = [
        f"{key}={value if isinstance(value, str) else as_text(value)}"
        for key, value in listed.items()
        if key not in typed
    ]
    refuse(f"hydra.sweeper.params: {text}: {UNREADABLE}" for text in texts if parse_override(text) is None)
    return texts


def combinations(context: HydraContext, arguments: Sequence[str], sweep: Sweep) -> list[Combination]:
    """The product of all that is listed, with each point of the file and each that is drawn.

    Raises BadInput where there are none, or where it is not clear what they are.
    """
    given = parse_overrides(arguments, context.config_loader)
    for override in given:
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            store_menu(override.key_or_group)
    intervals = [override for override in given if override.value_type == ValueType.INTERVAL_SWEEP]
    others = [override for override in given if override not in intervals]
    _refuse_draws(intervals, others, sweep.samples)
    listed = points.read(sweep.points) if sweep.points is not None else [{}]
    _refuse_products(given, listed, sweep)
    drawn = points.draw(intervals, sweep.samples, sweep.seed) if sweep.samples is not None else [{}]
    products = product(others)
    swept = [override.get_key_element() for override in given if override.is_sweep_override()]
    ranges = {override.key_or_group: str(override.input_line) for override in intervals}
    found = []
    for point, random_point in itertools.product(listed, drawn):
        chosen = [f"{key}={value}" for key, value in (point | random_point).items()]
        for values in products:
            differing = [text for text in values if text.partition("=")[0] in swept]
            overrides = (*values, *as_hydra_overrides(chosen))
            found.append(Combination(overrides, (*chosen, *differing), frozenset(point), ranges))
    return found


def _refuse_draws(intervals: Sequence[Override], others: Sequence[Override], samples: int | None) -> None:
    if samples is None:
        what = "needs sweep.samples=N, the number of values to draw"
        refuse(f"{override.input_line}: {what}" for override in intervals)
    if samples is not None and not intervals:
        raise BadInput(
            f"sweep.samples={samples}: nothing to draw from; give an interval, such as "
            "'optimizer.lr=tag(log,interval(1e-4,1))'"
        )
    twice = {override.key_or_group for override in intervals} & {other.key_or_group for other in others}
    refuse(f"{key}: is drawn, and given as well; leave one of them out" for key in sorted(twice))


def _refuse_products(given: Sequence[Override], listed: Sequence[points.Point], sweep: Sweep) -> None:
    twice = {override.key_or_group for override in given} & {key for point in listed for key in point}
    refuse(f"{key}: is given by {sweep.points} and on the command line" for key in sorted(twice))
    lists = [o for o in given if o.is_sweep_override() and o.value_type != ValueType.INTERVAL_SWEEP]
    numbers = {str(override.input_line): number_of_values(override) for override in lists}
    refuse(f"{text}: holds no value, and the sweep no job" for text, number in numbers.items() if not number)
    numbers |= {f"sweep.points={sweep.points}": len(listed), f"sweep.samples={sweep.samples}": sweep.samples or 1}
    if (asked := math.prod(numbers.values())) > MOST:
        most = max(numbers, key=lambda text: numbers[text])
        jobs = f"{asked:,} jobs" if asked < 10**15 else "too many jobs"
        raise BadInput(f"{most}: {jobs}; accepted: at most {MOST:,}")

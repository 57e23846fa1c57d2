"""What a search proposes the jobs of a sweep from, in place of combinations: intervals and lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hydra.types import HydraContext

from blitz.config.groups import store_menu
from blitz.config.hydra_internals import Override, ValueType, number_of_values, parse_overrides, product
from blitz.config.settings import Choice, Sweep
from blitz.errors import BadInput, refuse
from blitz.redaction import redact_command, redact_values
from blitz.sweeps import points
from blitz.sweeps.combinations import MOST, Combination
from blitz.sweeps.jobs import key_of
from blitz.sweeps.search.interval import Interval
from blitz.sweeps.search.searches import SEARCHES
from blitz.sweeps.search.strategy import Range, Space

ALMOST = 1 - 1e-9  # of the way to the end of an interval, which is no part of it


def proposes(search: Choice) -> bool:
    """Whether this search proposes all jobs itself."""
    return getattr(SEARCHES.builder(search["name"]), "proposes", False)


@dataclass(frozen=True)
class Proposals:
    """All that the proposals of a sweep depend on, besides its search and what its jobs have shown."""

    ranges: Mapping[str, Range]  # by dotted key
    seeds: Sequence[str]  # with which each proposal is trained; none: the config's
    fixed: Sequence[str]  # overrides that all jobs have
    drawn: Mapping[str, str]  # the intervals, as they were typed, by dotted key
    samples: int | None  # how many proposals were asked for
    seed: int  # of what is drawn
    at_once: int  # how many jobs run side by side

    @classmethod
    def of(cls, context: HydraContext, arguments: Sequence[str], sweep: Sweep, at_once: int) -> Proposals:
        """Raises BadInput for what nothing can be proposed from."""
        if sweep.points is not None:
            raise BadInput(
                f"sweep.points={sweep.points}: accepted with a search that trains what is listed, such as grid"
            )
        given = parse_overrides(arguments, context.config_loader)
        swept = [override for override in given if override.is_sweep_override()]
        ranges = {override.key_or_group: _range(override) for override in swept}
        keys = [override.key_or_group for override in given]
        refuse(f"{key}: is swept, and given as well; leave one of them out" for key in ranges if keys.count(key) > 1)
        intervals = [override for override in swept if override.value_type == ValueType.INTERVAL_SWEEP]
        drawn = {override.key_or_group: str(override.input_line) for override in intervals}
        seeds = ranges.pop("seed", [])
        if isinstance(seeds, Interval):
            raise BadInput(f"{drawn['seed']}: accepted: a list; each proposal is trained with all seeds")
        refuse(
            f"{key}: accepted: one value; a credential is not recorded, and nothing can be proposed by it"
            for key, each in ranges.items()
            if redact_values({key: each}) != {key: each}
        )
        fixed = [text for override in given if override not in swept for text in product([override])[0]]
        found = cls(ranges, seeds, fixed, drawn, sweep.samples, sweep.seed, at_once)
        if found.number > MOST:
            raise BadInput(f"sweep.samples={sweep.samples}: {found.number:,} jobs; accepted: at most {MOST:,}")
        return found

    @property
    def number(self) -> int:
        """Of jobs, with all seeds."""
        return (self.samples or 0) * max(1, len(self.seeds))

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it, without credentials."""
        return {**asdict(self), "fixed": redact_command(self.fixed)}

    @classmethod
    def of_dict(cls, found: Mapping[str, Any], is_kept: Callable[[str], bool]) -> Proposals:
        """As `as_dict` made it, with those overrides that are to be kept. Raises what reading it raises."""
        ranges = {
            key: Interval(**each) if isinstance(each, dict) else [str(text) for text in each]
            for key, each in found["ranges"].items()
            if is_kept(key)
        }
        fixed = [text for text in found["fixed"] if is_kept(text)]
        seeds, drawn = [str(seed) for seed in found["seeds"]], dict(found["drawn"])
        samples, seed, at_once = (int(found[key]) for key in ("samples", "seed", "at_once"))
        proposals = cls(ranges, seeds, fixed, drawn, samples, seed, at_once)
        proposals.ends()  # which reads the rest
        return proposals

    def ends(self) -> list[Combination]:
        """Combinations in which each value of a list, and both ends of each interval, occur: what is wrong with a value
        is found in these, before anything starts.
        """
        values = {
            key: [each.at(0), each.at(ALMOST)] if isinstance(each, Interval) else each
            for key, each in self.ranges.items()
        }
        found = []
        for number in range(max(map(len, values.values()), default=1)):
            texts = tuple(f"{key}={each[number % len(each)]}" for key, each in values.items())
            found.append(Combination((*self.fixed, *texts), texts, drawn=self.drawn))
        return found

    def with_weights(self, overrides: Sequence[str]) -> Proposals:
        """With the weights that a job starts from, whose overrides these are: `last` would be another run later."""
        found = [text for text in overrides if key_of(text) == "model.weights" and "model.weights" not in self.ranges]
        return replace(self, fixed=[*self.fixed, *found[-1:]])

    def space(self, epochs: Collection[int]) -> Space:
        """For a search; `epochs`: those that the jobs may have."""
        return Space((), self.ranges, self.seeds, self.samples, self.seed, self.at_once, epochs)


def _range(override: Override) -> Range:
    if override.value_type == ValueType.INTERVAL_SWEEP:
        return points.interval_of(override)
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        store_menu(override.key_or_group)
    if not (number := number_of_values(override)):
        raise BadInput(f"{override.input_line}: holds no value, and the sweep no job")
    if number > MOST:
        raise BadInput(f"{override.input_line}: {number:,} values; accepted: at most {MOST:,}")
    return list(dict.fromkeys(text.partition("=")[2] for (text,) in product([override])))

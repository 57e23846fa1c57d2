"""How long a sweep will take, and which differences it can find: printed by a dry run, which changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from blitz.config.settings import COMPARED, Settings
from blitz.errors import BadInput, in_one_line
from blitz.parts.datasets.cache import reading_only
from blitz.parts.devices import Device
from blitz.redaction import redact, redact_values
from blitz.run_folder import provenance
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import FINISHED, REPRODUCES, texts
from blitz.runner.build import data_of, device_of
from blitz.sweeps.asked import Asked
from blitz.sweeps.folder import Outcome
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.launch import at_once, runs_here
from blitz.sweeps.preflight import PartsCache, timed_epoch
from blitz.sweeps.search.play import Pace, Play, plays
from blitz.sweeps.search.searches import SEARCHES
from blitz.sweeps.search.strategy import RowKey, Strategy
from blitz.terminal.text import print_line
from blitz.tracking import health, queries

if TYPE_CHECKING:
    from mlflow.entities import Run

    from blitz.comparison.power import Spread

EPOCH = "time/epoch"
# Parameters that decide how long an epoch takes; `optimizer.name` too, and none of an optimizer's other options.
OF_SPEED = ("model", "data", "device", "augment", "mix", "batch_size", "micro_batch_size", "eval_every")
NEWEST = 200  # runs of a store that are looked through for those of one kind
LIKE_IT = 20  # of which so many give its time
MOST_ROWS = 20  # of which the spread is looked for
MOST_SECONDS = 60.0  # that all jobs are timed for
MOST_PROPOSALS = 30  # that are played; each takes a search longer than the one before
POINT = 0.01


# ---- what is known of the jobs


@dataclass(frozen=True)
class Kind:
    """Jobs of which an epoch takes the same time."""

    settings: Settings
    device: Device | None  # None: they run elsewhere, or it is not here
    fingerprint: str | None  # of their data; None: it is not here

    @classmethod
    def of(cls, settings: Settings, cores: int | None, is_here: bool, cache: PartsCache) -> Kind:
        device = fingerprint = None
        try:
            fingerprint = cache(data_of, settings.data)[0].fingerprint
            device = device_of(settings.device, settings.images_at_once, cores=cores) if is_here else None
        except (Exception, SystemExit):  # of a part of somebody's own, too: timing says so
            pass
        return cls(settings, device, fingerprint)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """As a store has those that decide about the time; what the device is, is known by its tags."""
        found = {name: text for name, text in parameters(self.settings).items() if is_of_speed(name)}
        if self.device is not None:
            del found["device.name"]
            found |= {"device.threads": str(self.device.threads)}
        elif self.settings.device["threads"] == "auto":
            del found["device.threads"]
        return {name: text for name, text in found.items() if name not in ("device.index", "model.weights")}

    @property
    def with_its_threads(self) -> Settings:
        """As a run alone needs them to compute as these jobs do."""
        if self.device is None:
            return self.settings
        return self.settings.model_copy(update={"device": {**self.settings.device, "threads": self.device.threads}})

    def tags(self, machine: Mapping[str, str]) -> dict[str, str]:
        found = {} if self.fingerprint is None else {"data.fingerprint": self.fingerprint}
        if self.device is not None:
            hardware = "device.gpu" if self.device.torch.type == "cuda" else "device.cpu"
            found |= {"device": self.device.torch.type, hardware: machine[hardware]}
        return found


def parameters(settings: Settings) -> dict[str, str]:
    """As a store has them."""
    return texts(redact_values(settings.parameters()))


def is_of_speed(name: str) -> bool:
    return name.partition(".")[0] in OF_SPEED or name == "optimizer.name"


class Earlier:
    """The earlier runs of a store. Raises BadInput where there are none."""

    def __init__(self, uri: str | None) -> None:
        if uri is None:
            raise BadInput("tracking=none keeps no earlier runs")
        try:
            self._client = health.connect(uri)
        except health.Empty:
            raise BadInput(f"no run is recorded in {redact(uri)}") from None
        self._experiments = queries.experiment_ids(self._client)
        self._found: dict[str, list[Run]] = {}  # by query

    @cached_property
    def _machine(self) -> dict[str, str]:
        return provenance.tags(provenance.collect(()))

    def pace(self, kind: Kind) -> Pace | None:
        """Of runs with the same model, data, batch size and device; None where there is none."""
        runs = [run for run in self._runs(kind.parameters, {}) if EPOCH in run.data.metrics]
        if runs:
            wanted = kind.tags(self._machine)
            runs = [run for run in runs if all(_tag(run, name) == text for name, text in wanted.items())][:LIKE_IT]
        if not runs:
            return None
        known = [(queries.seconds(run), int(run.data.params["epochs"]) * run.data.metrics[EPOCH]) for run in runs]
        rest = [max(0.0, seconds - epochs) for seconds, epochs in known if seconds is not None]
        return Pace(median(run.data.metrics[EPOCH] for run in runs), median(rest or [0.0]), runs=len(runs))

    def spread(self, rows: Sequence[Kind]) -> Spread | None:
        """Of runs that differ from these jobs in their seed alone; None where no row has two of them."""
        from blitz.comparison.power import Spread  # with scipy half a second

        found: dict[str, dict[str, float]] = {}  # by group hash and seed, of which the first run counts
        for row in rows[:MOST_ROWS]:
            wanted = parameters(row.settings)
            del wanted["seed"], wanted["device.threads"]
            tags = {} if row.fingerprint is None else {"data.fingerprint": row.fingerprint}
            for run in reversed(self._runs(wanted, tags)):
                if OBJECTIVE in run.data.metrics and (group := run.data.tags.get("group_hash")):
                    objective = run.data.metrics[OBJECTIVE]
                    found.setdefault(group, {}).setdefault(run.data.params["seed"], objective)
        return Spread.of([list(by_seed.values()) for by_seed in found.values()])

    def _runs(self, wanted: Mapping[str, str], tags: Mapping[str, str]) -> list[Run]:
        """Finished runs with these parameters and tags, the newest first; none that was extended, or repeats one."""
        query = f"attributes.status = '{FINISHED}' and tags.{REPRODUCES} IS NULL and tags.epochs IS NULL"
        query += "".join(f" and params.`{name}` = '{wanted[name]}'" for name in COMPARED if name in wanted)
        if query not in self._found:
            runs = queries.newest(self._client, self._experiments, NEWEST, f"{queries.TRAINED} and {query}")
            self._found[query] = runs
        return [
            run
            for run in self._found[query]
            if wanted.items() <= run.data.params.items() and tags.items() <= run.data.tags.items()
        ]


def _tag(run: Run, name: str) -> str:
    text = str(run.data.tags.get(name, ""))
    return text.partition(":")[0] if name == "device" else text


# ---- the lines of a dry run


def print_forecast(
    config: DictConfig, asked: Asked, outcomes: Mapping[int, Outcome], cores: int | None, uri: str | None
) -> None:
    """How long it takes, and what difference its seeds detect. Whatever is not known is said, and is no error.

    `outcomes`: of jobs that have been trained; `uri`: of the store with earlier runs.
    """
    earlier, why = None, ""
    try:
        earlier = Earlier(uri)
    except Exception as error:
        why = redact(in_one_line(error))
    is_here = runs_here(config)
    jobs, trials = asked.jobs, [job.trial(outcomes.get(job.number)) for job in asked.jobs]
    firsts: dict[RowKey, SweepJob] = {}
    for trial, job in zip(trials, jobs, strict=True):
        firsts.setdefault(trial.row, job)
    with reading_only():
        cache = PartsCache()
        kinds = {key: Kind.of(job.settings, cores, is_here, cache) for key, job in firsts.items()}
        try:
            paces, unknown = _paces(kinds, earlier, is_here), ""
        except (Exception, SystemExit) as error:  # of a part of somebody's own, too
            paces, unknown = {key: Pace(1.0) for key in kinds}, redact(in_one_line(error))
    try:
        strategy, share = _to_play(asked, sum(trial.is_over for trial in trials))
        found = [play.times(1 / share) for play in plays(strategy, trials, paces, lambda n: at_once(config, n))]
    except Exception as error:  # a search of somebody's own may not like scores that were made up
        print_line(f"time     not known: {redact(in_one_line(error))}")
        return
    stop = any(job.settings.early_stopping is not None for job in jobs)
    print_line(f"time     {time_line(found, list(paces.values()), unknown, _side_by_side(config, len(jobs)), stop)}")
    spread = None
    if earlier is not None:
        try:
            spread = earlier.spread(list(kinds.values()))
            why = "" if spread is not None else "no row has two finished runs in the store"
        except Exception as error:
            why = redact(in_one_line(error))
    print_line(f"seeds    {seeds_line(found, spread, why)}")


def _to_play(asked: Asked, over: int) -> tuple[Strategy, float]:
    """A search of which not too many proposals are played, and their share of all that are left.

    `over`: how many of its jobs are.
    """
    if asked.proposals is None:
        return asked.strategy, 1.0
    rows = len(asked.jobs) // max(1, len(asked.proposals.seeds))
    few = replace(asked.proposals, samples=min(asked.proposals.samples or 0, rows + MOST_PROPOSALS))
    strategy = SEARCHES.build(asked.search, few.space({job.settings.epochs for job in asked.ends}))
    left = asked.proposals.number - over
    return strategy, (few.number - over) / left if left else 1.0


def _paces(kinds: Mapping[RowKey, Kind], earlier: Earlier | None, is_here: bool) -> dict[RowKey, Pace]:
    """Of each row, from the store, else from timed steps. Raises BadInput where one cannot be known."""
    began = monotonic()
    known: dict[str, Pace] = {}
    found = {}
    for key, kind in kinds.items():
        name = json.dumps(kind.parameters, sort_keys=True)
        if name not in known:
            pace = earlier.pace(kind) if earlier is not None else None
            if pace is None and not is_here:
                raise BadInput("no earlier run of the same model, data and batch size, and the jobs run elsewhere")
            if pace is None and monotonic() - began >= MOST_SECONDS:
                raise BadInput(f"the jobs are of many kinds, of which {len(known)} were timed in {MOST_SECONDS:.0f} s")
            if pace is None:
                seconds, steps = timed_epoch(kind.with_its_threads)
                pace = Pace(seconds, steps=steps)
            known[name] = pace
        found[key] = known[name]
    return found


def _side_by_side(config: DictConfig, number: int) -> str:
    if not runs_here(config):
        return "as if one job ran at a time"
    most = at_once(config, number)
    return f"{most} jobs at a time" if most > 1 else "one job at a time"


def time_line(found: Sequence[Play], paces: Sequence[Pace], unknown: str, side_by_side: str, stop: bool) -> str:
    """`stop`: whether jobs may stop early."""
    epochs = _range(f"{number:,.1f}".removesuffix(".0") for number in sorted(play.epochs for play in found))
    epochs += f" epoch{'s' * (epochs != '1')}"
    if unknown:
        return f"not known, for {epochs}: {unknown}"
    seconds = _range(str(timedelta(seconds=math.ceil(number))) for number in sorted(play.seconds for play in found))
    distinct = set(paces)
    sources = []
    if runs := sum(pace.runs for pace in distinct):
        sources.append(f"as {runs} earlier run{'s' * (runs > 1)} of the same model, data, batch size and device")
    if steps := [pace.steps for pace in distinct if pace.steps]:
        sources.append(f"by {min(steps)} timed steps{' of the others' * bool(runs)}, without validation")
    about = "at most" if stop else "about"
    return f"{about} {seconds} for {epochs}, {side_by_side}, {' and '.join(sources)}"


def seeds_line(found: Sequence[Play], spread: Spread | None, why: str) -> str:
    """What differences the seeds of rows that are trained to their end detect; `why` nothing is known of the spread."""
    from blitz.comparison.power import detectable, seeds_needed  # with scipy half a second

    rows = min(len(play.seeds) for play in found)
    if rows < 2:
        return "only one row is trained to its end: there is nothing to compare"
    pairs = rows * (rows - 1) // 2
    is_known = spread is not None and spread.std > 0
    unit, times = (
        (100 * spread.std, "points") if spread is not None and is_known else (1.0, "times the spread over seeds")
    )
    numbers = sorted({min(play.seeds) for play in found})
    able = _range(f"{unit * detectable(number, pairs):.3g}" for number in numbers if number > 1)
    what = f"{_range(map(str, numbers))} a row"
    what += f" detect differences of {able} {times} in four of five cases" if able else ", which cannot be compared"
    test = (
        f"Welch's t-test, Holm's correction for {f'all {pairs} pairs' if pairs > 1 else 'the one pair'}, normal scores"
    )
    if spread is not None:
        of = f"of {spread.runs} earlier runs of {spread.rows} row{'s' * (spread.rows > 1)}"
        if is_known:
            needed = f"{seeds_needed(POINT / spread.std, pairs):,}"
            return f"{what}; 1 point needs {needed} ({test}; the spread {of}: {unit:.3g} points)"
        why = f"that {of} is 0"
    return f"{what} ({test}); nothing is known yet of the spread: {why}"


def _range(texts: Iterable[str]) -> str:
    """The first to the last, or the one that they all are; none for none."""
    found = list(dict.fromkeys(texts))
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else "".join(found)

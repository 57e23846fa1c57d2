"""The jobs of a sweep: every combination, composed and checked, before the first one starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from blitz.config.compose import explained, plain, with_id_as_text
from blitz.config.hydra_internals import COMPOSING_ERRORS
from blitz.config.settings import Settings, Sweep, check
from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.runner.find import is_path, pinned
from blitz.sweeps.combinations import Combination, is_listed, parsed
from blitz.sweeps.composer import Composer
from blitz.terminal.names import title_of_job

MOST_TOLD = 20  # mistakes
SET_BY_THE_SWEEP = ("sweep.id", "sweep.job", "sweep.label", "sweep.cores", "sweep.gpu", "sweep.go_on")


@dataclass(frozen=True)
class SweepJob:
    """One combination of a sweep's values, checked."""

    number: int
    combination: Combination
    config: DictConfig
    settings: Settings

    @property
    def overrides(self) -> tuple[str, ...]:
        return self.combination.overrides

    @property
    def label(self) -> str:
        """What it is called: `lr=0.01 seed=2`."""
        return self.combination.label

    @property
    def title(self) -> str:
        return title_of_job(self.number, self.label)

    def renumbered(self, number: int) -> SweepJob:
        return replace(self, number=number)

    def swept(self) -> dict[str, str]:
        """What differs from job to job: dotted key -> value, as it was typed."""
        pairs = [text.lstrip("+").partition("=") for text in self.combination.swept]
        return {key: value for key, _, value in pairs}


def first_settings(context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> Settings | None:
    """The settings with the first of all that is listed, which tell how to go about the sweep; None for mistakes."""
    given = parsed(context, arguments)
    first = [text for text, override in given if not override.is_sweep_override()]
    for _, override in given:
        if is_listed(override) and (value := next(override.sweep_string_iterator(), None)) is not None:
            first.append(f"{override.get_key_element()}={value}")
    try:
        return check(plain(context.config_loader.load_sweep_config(config, first)))
    except (BadInput, *COMPOSING_ERRORS):
        return None


def options(context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> Sweep:
    """How to go about the sweep, whatever else may be wrong. Raises BadInput for mistakes in that."""
    return check(plain(context.config_loader.load_sweep_config(config, [x for x in arguments if _is_option(x)]))).sweep


def _is_option(text: str) -> bool:
    return text.startswith("sweep.")


def composed(
    context: HydraContext, config: DictConfig, wanted: Sequence[Combination], file: str | None
) -> list[SweepJob]:
    """All jobs, checked; one that is there twice is told, and is one. Raises BadInput, or what Hydra raises.

    `file`: where the points come from.
    """
    jobs: list[SweepJob] = []
    seen: dict[str, int] = {}
    problems: dict[str, list[str]] = {}  # what is wrong -> the jobs it is wrong in
    composer, pin = Composer(context, config), _Pin()
    for number, combination in enumerate(wanted):
        overrides = list(combination.overrides)
        try:
            config_of_job = composer.compose(overrides)
            job = pin.job(SweepJob(number, combination, config_of_job, check(plain(config_of_job))))
        except (BadInput, *COMPOSING_ERRORS) as error:
            bad = (
                error
                if isinstance(error, BadInput)
                else explained(overrides, error, own_groups(config), composing=composer.compose)
            )
            for problem in bad.problems:
                problems.setdefault(combination.blamed_for(problem, file), []).append(combination.label)
            continue
        record = json.dumps(job.settings.as_dict(), sort_keys=True)
        if record in seen:
            told = f"{job.title} is the same as job {seen[record]}, and is left out"
            print(f"blitz: {redact(told)}", file=sys.stderr)
            continue
        seen[record] = number
        jobs.append(job)
        first, this = _of_the_whole_sweep(jobs[0].settings), _of_the_whole_sweep(job.settings)
        wrong = [f"{key}={this[key]}: is set by the sweep itself" for key in SET_BY_THE_SWEEP if this[key] is not None]
        wrong += [f"{key}: accepted: the same for all jobs of a sweep" for key in this if this[key] != first[key]]
        for problem in wrong:
            problems.setdefault(redact(problem), []).append(combination.label)
    if problems:
        raise BadInput(*each_told(problems, len(wanted)))
    return jobs


class _Pin:
    """Gives all jobs that start from a run's weights the whole id of that run.

    `last` would be the job before, in each but the first, and another run where the sweep is gone on with.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str | None], str] = {}

    def job(self, job: SweepJob) -> SweepJob:
        """Raises BadInput where there is no such run."""
        typed, uri = job.settings.model["weights"], job.settings.tracking.uri
        if typed is None or is_path(typed):
            return job
        if (typed, uri) not in self._ids:
            self._ids[typed, uri] = pinned(job.settings).model["weights"]
        if (run_id := self._ids[typed, uri]) == typed:
            return job
        with open_dict(job.config):
            job.config.model.weights = run_id
        model = {**job.settings.model, "weights": run_id}
        overrides = (*job.overrides, with_id_as_text(f"model.weights={run_id}"))
        return replace(
            job,
            combination=replace(job.combination, overrides=overrides),
            settings=job.settings.model_copy(update={"model": model}),
        )


def own_groups(config: DictConfig) -> str | None:
    """The folder that `--config-dir` names."""
    sources = config.hydra.runtime.config_sources
    return next((source.path for source in sources if source.provider == "command-line"), None)


def _of_the_whole_sweep(settings: Settings) -> dict[str, Any]:
    """What is no job's own, with dotted keys."""
    tracking = settings.tracking
    recorded = {
        "tracking.name": tracking.name,
        "tracking.uri": tracking.uri,
        "tracking.experiment": tracking.experiment,
    }
    return {"runs_dir": settings.runs_dir, **recorded, **{f"sweep.{key}": value for key, value in settings.sweep}}


def refuse_lists(context: HydraContext, arguments: Sequence[str]) -> None:
    """Raises BadInput for a list of values of what is about the sweep as a whole."""
    given = parsed(context, arguments)
    lists = [text for text, override in given if override.is_sweep_override() and _is_option(text)]
    if lists:
        raise BadInput(*(f"{text}: accepted: one value, which is about the whole sweep" for text in lists))


def each_told(problems: Mapping[str, Sequence[str]], number: int) -> Iterator[str]:
    """What is wrong, of all of so many jobs or of those with these labels."""
    for problem, labels in list(problems.items())[:MOST_TOLD]:
        some = f" (in {len(labels)} of {number} jobs, the first of them {labels[0]})"
        yield problem if len(labels) == number else problem + some
    if (more := len(problems) - MOST_TOLD) > 0:
        yield f"and {more:,} more mistakes like these"

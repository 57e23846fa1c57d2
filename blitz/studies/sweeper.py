"""`blitz -m`: every job is composed and checked before the first one starts; then they run, and what failed is told."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from blitz.config import COMPOSING_ERRORS, explained, plain
from blitz.description import briefly
from blitz.display import print_table
from blitz.errors import BadInput, SweepFailed, in_one_line
from blitz.settings import Settings, check
from blitz.studies.outcomes import FAILED, NOT_STARTED, Outcome, read_outcomes, times_begun
from blitz.tracking.credentials import redact

ATTEMPTS = 3  # that a job may begin: after that, what kills it is taken to be the job


@dataclass(frozen=True)
class SweepJob:
    """One combination of a sweep's values."""

    number: int
    overrides: tuple[str, ...]  # all of them, as a launcher hands them on
    label: str  # those that differ from job to job
    config: DictConfig
    settings: Settings


@dataclass
class Frozen:
    """Hands out the configs that were checked, whatever became of the files that they were composed from."""

    configs: dict[tuple[str, ...], DictConfig]

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        return self.configs[tuple(sweep_overrides)]


def sweep(context: HydraContext, task: TaskFunction, config: DictConfig, arguments: Sequence[str]) -> list[Any]:
    """Run all jobs of a sweep. Raises BadInput for mistakes in any of them, before anything starts; SweepFailed where
    jobs failed.
    """
    jobs = _composed(context, config, arguments)
    first = jobs[0].settings
    if first.sweep.dry_run:
        _list(jobs)
        return []
    folder = _folder(Path(first.runs_dir) / "sweeps")
    for job in jobs:
        with open_dict(job.config):
            job.config.hydra.sweep.dir = str(folder)
            job.config.sweep.id, job.config.sweep.label = folder.name, job.label
    outcomes = _launched(context, task, config, jobs, folder)
    failed = [(job, outcomes[job.number]) for job in jobs if outcomes[job.number].status == FAILED]
    for job, outcome in failed:
        print(f"blitz: job {job.number} ({job.label}) failed: {redact(outcome.why)}", file=sys.stderr)
    finished = [(job, outcomes[job.number]) for job in jobs if outcomes[job.number].objective is not None]
    if finished:
        job, best = max(finished, key=lambda pair: pair[1].objective or 0.0)
        again = f"; blitz reproduce {best.run_id}" if best.run_id else ""
        images = "validation" if job.settings.data["validation"] else "training"
        print(f"best     {job.label}: {best.objective:.2%} on the {images} images{again}")
    left = sum(outcome.status == NOT_STARTED for outcome in outcomes.values())
    if failed:
        also = f", {left} not started (sweep.on_failure=stop)" if left else ""
        raise SweepFailed(f"{len(failed)} of {len(jobs)} jobs failed{also}")
    return [outcomes[job.number].objective for job in jobs]


def _composed(context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> list[SweepJob]:
    """All jobs, checked; one that is there twice is told, and is one. Raises BadInput, or what Hydra raises."""
    parser = OverridesParser.create(config_loader=context.config_loader)
    overrides = parser.parse_overrides(list(arguments))
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    swept = [override.get_key_element() for override in overrides if override.is_sweep_override()]
    jobs: list[SweepJob] = []
    seen: dict[str, int] = {}
    problems: dict[str, list[str]] = {}  # what is wrong -> the jobs it is wrong in
    explain = _explainer(config)
    for number, combination in enumerate(combinations):
        label = briefly(text for text in combination if text.partition("=")[0] in swept)
        try:
            composed = context.config_loader.load_sweep_config(config, list(combination))
            settings = check({key: value for key, value in plain(composed).items() if key != "hydra"})
        except (BadInput, *COMPOSING_ERRORS) as error:
            for problem in error.problems if isinstance(error, BadInput) else explain(combination, error):
                problems.setdefault(problem, []).append(label)
            continue
        record = json.dumps(settings.record(), sort_keys=True)
        if record in seen:
            told = f"job {number} ({label}) is the same as job {seen[record]}, and is left out"
            print(f"blitz: {redact(told)}", file=sys.stderr)
            continue
        seen[record] = number
        jobs.append(SweepJob(number, tuple(combination), label, composed, settings))
    if problems:
        raise BadInput(*(_told(problem, labels, len(combinations)) for problem, labels in problems.items()))
    return jobs


def _explainer(config: DictConfig) -> Callable[[Sequence[str], Exception], tuple[str, ...]]:
    """What is wrong with a job's overrides, in our words; composing again to find out, once for each of Hydra's."""
    found: dict[str, tuple[str, ...]] = {}
    sources = config.hydra.runtime.config_sources
    folder = next((source.path for source in sources if source.provider == "command-line"), None)

    def explain(combination: Sequence[str], error: Exception) -> tuple[str, ...]:
        words = str(error)
        if words not in found:
            found[words] = explained(combination, error, folder).problems
        return found[words]

    return explain


def _told(problem: str, labels: Sequence[str], number: int) -> str:
    if len(labels) == number:
        return problem
    return f"{problem} (in {len(labels)} of {number} jobs, the first of them {labels[0]})"


def _list(jobs: Sequence[SweepJob]) -> None:
    print_table(("job", "what differs"), [(str(job.number), job.label) for job in jobs], texts=(1,))
    print(f"{len(jobs)} job{'s' * (len(jobs) != 1)}; sweep.dry_run=true: none was started")


def _folder(sweeps: Path) -> Path:
    """A folder of the sweep's own. Raises BadInput where none can be made."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = sweeps / f"{name}_{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"runs_dir={sweeps.parent}: no folder can be made there ({error.strerror})") from None
    return folder


def _launched(
    context: HydraContext, task: TaskFunction, config: DictConfig, jobs: Sequence[SweepJob], folder: Path
) -> dict[int, Outcome]:
    """What became of each job. One without an end was killed, or never began, and is launched again."""
    with open_dict(config):
        config.hydra.sweep.dir = str(folder)
    frozen = Frozen({job.overrides: job.config for job in jobs})
    frozen_context = HydraContext(config_loader=frozen, callbacks=context.callbacks)  # type: ignore[arg-type]
    outcomes, begun = read_outcomes(folder), times_begun(folder)
    while pending := [job for job in jobs if job.number not in outcomes]:
        launcher = Plugins.instance().instantiate_launcher(frozen_context, task, config)
        why = "its process was gone"
        try:
            for row in _in_rows(pending):
                launcher.launch([list(job.overrides) for job in row], initial_job_idx=row[0].number)
        except Exception as error:  # of the launcher: a job's own are in its outcome
            why = f"{why} ({type(error).__name__}: {in_one_line(error)[:150]})"
        before, begun = begun, times_begun(folder)
        outcomes |= read_outcomes(folder)
        for job in pending:
            if job.number not in outcomes and (begun == before or begun.get(job.number, 0) >= ATTEMPTS):
                outcomes[job.number] = Outcome(FAILED, why)
        if len(outcomes) < len(jobs):
            left = len(jobs) - len(outcomes)
            print(f"blitz: {left} jobs have no end: {redact(why)}; launching them again", file=sys.stderr)
    return outcomes


def _in_rows(jobs: Sequence[SweepJob]) -> Iterator[list[SweepJob]]:
    """Jobs in rows of successive numbers: a launcher counts on from the first."""
    row: list[SweepJob] = []
    for job in jobs:
        if row and job.number != row[-1].number + 1:
            yield row
            row = []
        row.append(job)
    if row:
        yield row

"""The jobs of a sweep: every combination, composed and checked, before the first one starts."""

from __future__ import annotations

import json
import operator
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from blitz.config.compose import explain, plain, with_id_as_text
from blitz.config.composer import Composer
from blitz.config.groups import own_folders
from blitz.config.hydra_internals import COMPOSING_ERRORS, parse_overrides
from blitz.config.recorded import leaves
from blitz.config.settings import OF_A_SWEEP, Choice, Settings, Sweep, check
from blitz.errors import BadInput, refuse
from blitz.parts.registry import validate
from blitz.redaction import redact
from blitz.run_folder.run_info import FINISHED
from blitz.runner.find import fix_weights, is_path
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import Outcome
from blitz.sweeps.search.searches import SEARCHES
from blitz.sweeps.search.strategy import Trial
from blitz.terminal.names import title_of_job
from blitz.terminal.text import print_line, print_table

MOST_PRINTED = 20  # problems
LINK = re.compile(r"\$\{\s*(" + "|".join(OF_A_SWEEP) + r")\b")


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
        return self.combination.label

    @property
    def title(self) -> str:
        return title_of_job(self.number, self.label)

    def trial(self, outcome: Outcome | None) -> Trial:
        """As a search sees it."""
        values, settings = self.combination.without_seed, self.settings
        if outcome is None:
            return Trial(self.number, values, settings.seed, settings.epochs)
        objective = outcome.objective if outcome.status == FINISHED else None
        rungs = dict(outcome.rungs)
        return Trial(self.number, values, settings.seed, settings.epochs, outcome.status, rungs, objective)


def separate(context: HydraContext, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What was typed for the jobs, and the keys of what was typed for the sweep itself: `sweep.*` and `search`.

    Raises BadInput for a list of values of the latter.
    """
    given = parse_overrides(arguments, context.config_loader)
    ours = [override for override in given if is_option(override.key_or_group)]
    lists = [override.input_line for override in ours if override.is_sweep_override()]
    refuse(f"{text}: accepted: one value, which is about the whole sweep" for text in lists)
    return [str(override.input_line) for override in given if override not in ours], [o.key_or_group for o in ours]


def refuse_links(config: DictConfig, arguments: Sequence[str]) -> None:
    """Raises BadInput for values of jobs that interpolate an option of the sweep or its search: a job has the values,
    and the bits, of a run alone.
    """
    of_jobs: Any = OmegaConf.to_container(config, resolve=False)
    texts = [f"{'.'.join(path)}={value}" for path, value in leaves(of_jobs) if path[0] not in (*OF_A_SWEEP, "hydra")]
    wrong = dict.fromkeys(text for text in [*texts, *arguments] if LINK.search(text))
    refuse(
        f"{text}: accepted: a value that does not depend on the sweep, which a job knows nothing of" for text in wrong
    )


def key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def is_option(key: str) -> bool:
    """Whether a dotted key is one of the sweep itself."""
    return key.split(".")[0] in OF_A_SWEEP


def is_search(key: str) -> bool:
    """Whether a dotted key is one of its search."""
    return key.split(".")[0] == "search"


def options_of(values: Mapping[str, Any]) -> Sweep:
    """How to run the sweep, from the config that Hydra composed for the sweep as a whole. Raises BadInput."""
    given = values.get("sweep", {})  # which a primary config of the user's own may lack
    if not isinstance(given, Mapping):
        raise BadInput(f"sweep={given}: accepted: mapping of options to values")
    return validate(Sweep, given, "sweep", "option")


def search_of(values: Mapping[str, Any]) -> Choice:
    """The strategy that the config asks for, checked. Raises BadInput."""
    given = values.get("search", {"name": "grid"})  # which a primary config of the user's own may lack
    if not isinstance(given, Mapping):
        raise BadInput(f"search={given}: accepted: mapping of options to values")
    return SEARCHES.check(given)


def checked_jobs(
    context: HydraContext,
    config: DictConfig,
    wanted: Sequence[Combination],
    typed: Sequence[str] = (),
    points: str | None = None,
    *,
    keeps_duplicates: bool = False,
) -> list[SweepJob]:
    """All jobs, composed and checked; a duplicate is reported and skipped. Raises BadInput.

    `typed`: keys of the sweep's options on the command line; `points`: the file of points.
    """
    jobs: list[SweepJob] = []
    seen: dict[str, int] = {}
    problems: dict[str, list[str]] = {}  # what is wrong -> the jobs it is wrong in
    run_ids: dict[tuple[str, str | None], str] = {}
    composer = _composer(context, config)
    folders = own_folders(own_groups(config), config.hydra.overrides.hydra)
    for number, combination in enumerate(wanted):
        try:
            composed = _composed(composer, combination, folders)
            job = _with_whole_id(SweepJob(number, combination, composed, check(plain(composed))), run_ids)
        except BadInput as bad:
            for problem in bad.problems:
                problems.setdefault(combination.blamed_for(problem, points), []).append(combination.label)
            continue
        values = json.dumps(job.settings.as_dict(), sort_keys=True)
        if values in seen and not keeps_duplicates:
            print_line(redact(f"blitz: {job.title} is a duplicate of job {seen[values]}; skipped"), sys.stderr)
            continue
        seen[values] = number
        jobs.append(job)
        for problem in [*_differing(jobs[0], job), *_other_options(job, config, typed)]:
            problems.setdefault(redact(problem), []).append(combination.label)
    refuse(in_which_jobs(problems, len(wanted)))
    return jobs


def further_jobs(
    context: HydraContext,
    config: DictConfig,
    known: Sequence[SweepJob],
    wanted: Sequence[Mapping[str, str]],
    *,
    fixed: Sequence[str] = (),
    typed: Sequence[str] = (),
) -> list[SweepJob]:
    """Jobs with these values, numbered on from those that are known. Raises BadInput.

    One that differs from a known job in its seed alone has all else of it, credentials too; others have what is
    `fixed`. `typed`: as in `checked_jobs`.
    """
    combinations = []
    for values in wanted:
        others = {key: value for key, value in values.items() if key != "seed"}
        base = next((job.combination for job in known if job.combination.without_seed == others), None)
        swept = values if base is None else {**base.values, "seed": values["seed"]}
        kept = fixed if base is None else [text for text in base.overrides if key_of(text) not in swept]
        texts = tuple(f"{key}={value}" for key, value in swept.items())
        combinations.append(Combination((*kept, *texts), texts))
    first = max((job.number for job in known), default=-1) + 1
    # A search counts on those that it asked for.
    jobs = checked_jobs(context, config, combinations, typed, keeps_duplicates=True)
    return [replace(job, number=first + job.number) for job in jobs]


def _composer(context: HydraContext, config: DictConfig) -> Composer:
    loader, name, of_hydra = context.config_loader, config.hydra.job.config_name, list(config.hydra.overrides.hydra)

    @cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key, config_name=name, overrides=of_hydra))

    return Composer(
        lambda overrides: loader.load_sweep_config(config, overrides),
        lambda text: parse_overrides([text], loader)[0],
        is_group,
    )


def _composed(composer: Composer, combination: Combination, folders: Sequence[str]) -> DictConfig:
    overrides = list(combination.overrides)
    try:
        return composer.compose(overrides)
    except COMPOSING_ERRORS as error:
        raise explain(overrides, error, folders, composing=composer.compose) from None


def _differing(first: SweepJob, job: SweepJob) -> Iterator[str]:
    """What all jobs must have in common, and these have not."""
    for key in ("runs_dir", "tracking.name", "tracking.uri", "tracking.experiment"):
        if operator.attrgetter(key)(first.settings) != operator.attrgetter(key)(job.settings):
            yield f"{key}: accepted: the same for all jobs of a sweep"


def _other_options(job: SweepJob, config: DictConfig, typed: Sequence[str]) -> Iterator[str]:
    """Options of the sweep that a recipe sets which not all jobs have: they would be ignored."""
    for key, value in job.config.sweep.items():
        if value != config.sweep.get(key) and not {f"sweep.{key}", "sweep"} & set(typed):
            yield f"sweep.{key}={value}: accepted: on the command line, or in a recipe that is not swept"


def _with_whole_id(job: SweepJob, known: dict[tuple[str, str | None], str]) -> SweepJob:
    """The same job with the whole id of the run whose weights it starts from; ids are looked up once.

    `last` would be the job before, in each but the first, and another run where the sweep is resumed. Raises BadInput
    where there is no such run.
    """
    typed, uri = job.settings.model["weights"], job.settings.tracking.uri
    if typed is None or is_path(typed):
        return job
    if (typed, uri) not in known:
        known[typed, uri] = fix_weights(job.settings).model["weights"]
    if (run_id := known[typed, uri]) == typed:
        return job
    with open_dict(job.config):
        job.config.model.weights = run_id
    overrides = (*job.overrides, with_id_as_text(f"model.weights={run_id}"))
    settings = job.settings.model_copy(update={"model": {**job.settings.model, "weights": run_id}})
    return replace(job, combination=replace(job.combination, overrides=overrides), settings=settings)


def print_jobs(jobs: Sequence[SweepJob], further: int = 0) -> None:
    """`further`: how many jobs a search may add."""
    print_table(("job", "what differs"), [(str(job.number), job.label) for job in jobs], texts=(1,))
    more = f"; {further} more will be proposed by what these show" if further > 0 else ""
    print(f"{len(jobs)} job{'s' * (len(jobs) != 1)}{more}; sweep.dry_run=true: none was started")


def own_groups(config: DictConfig) -> str | None:
    """The folder that `--config-dir` names."""
    sources = config.hydra.runtime.config_sources
    return next((source.path for source in sources if source.provider == "command-line"), None)


def in_which_jobs(problems: Mapping[str, Sequence[str]], number: int) -> Iterator[str]:
    """What is wrong, in all of so many jobs or in those with these labels."""
    for problem, labels in list(problems.items())[:MOST_PRINTED]:
        some = f" (in {len(labels)} of {number} jobs, the first of them {labels[0]})"
        yield problem if len(labels) == number else problem + some
    if (more := len(problems) - MOST_PRINTED) > 0:
        yield f"and {more:,} more mistakes like these"

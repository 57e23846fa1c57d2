"""What a sweep is to train: by what was typed, or by the plan of the sweep that is resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from blitz.config.compose import plain
from blitz.config.settings import Choice, Sweep
from blitz.sweeps.combinations import MOST, combinations
from blitz.sweeps.jobs import SweepJob, checked_jobs, further_jobs, search_of
from blitz.sweeps.launch import at_once
from blitz.sweeps.plan import Plan
from blitz.sweeps.proposals import Proposals, proposes
from blitz.sweeps.rounds import SweepRequest
from blitz.sweeps.search.searches import SEARCHES
from blitz.sweeps.search.strategy import Space, Strategy


class Asked(NamedTuple):
    """The jobs of a sweep, and its search."""

    search: Choice
    strategy: Strategy
    jobs: list[SweepJob]  # so far
    # Makes those that the search adds to these, by their values
    further: Callable[[Sequence[SweepJob], Sequence[Mapping[str, str]]], list[SweepJob]]
    proposals: Proposals | None = None  # what all jobs are proposed from, by a search that does so
    ends: Sequence[SweepJob] = ()  # in which all occurs that may be proposed; they are not trained


def asked_now(request: SweepRequest, arguments: Sequence[str], typed: Sequence[str], options: Sweep) -> Asked:
    """Raises BadInput. `arguments`, `typed`: as `separate` returns them."""
    context, _, config, _ = request
    search = search_of(plain(config))
    if proposes(search):
        proposals = Proposals.of(context, arguments, options, at_once(config, MOST))
        asked = _by_proposals(request, search, proposals, typed)
        return asked._replace(jobs=asked.further([], asked.strategy([]).new))
    jobs = checked_jobs(context, config, combinations(context, arguments, options), typed, options.points)
    return _by_list(request, search, jobs, jobs, typed)


def asked_before(request: SweepRequest, plan: Plan, changes: Sequence[str], typed: Sequence[str]) -> Asked:
    """With the changes that are typed for its jobs. Raises BadInput."""
    context, _, config, _ = request
    search = plan.changed_search(request.arguments, plain(config).get("search", {}))
    keeps_duplicates = plan.proposals is not None
    wanted = plan.combinations(changes)
    jobs = plan.numbered(checked_jobs(context, config, wanted, typed, keeps_duplicates=keeps_duplicates))
    if plan.proposals is not None:
        proposals = replace(plan.proposals, fixed=[*plan.proposals.fixed, *changes])
        return _by_proposals(request, search, proposals, typed)._replace(jobs=jobs)
    return _by_list(request, search, jobs, [job for job in jobs if job.number < plan.listed], typed)


def _by_list(
    request: SweepRequest, search: Choice, jobs: list[SweepJob], listed: Sequence[SweepJob], typed: Sequence[str]
) -> Asked:
    strategy = SEARCHES.build(search, Space([job.trial(None) for job in listed]))
    return Asked(search, strategy, jobs, partial(further_jobs, request.context, request.config, typed=typed))


def _by_proposals(request: SweepRequest, search: Choice, proposals: Proposals, typed: Sequence[str]) -> Asked:
    """Without its jobs. Raises BadInput for mistakes in anything that may be proposed."""
    context, _, config, _ = request
    ends = checked_jobs(context, config, proposals.ends(), typed, keeps_duplicates=True)
    proposals = proposals.with_weights(ends[0].overrides)
    strategy = SEARCHES.build(search, proposals.space({job.settings.epochs for job in ends}))
    further = partial(further_jobs, context, config, fixed=proposals.fixed, typed=typed)
    return Asked(search, strategy, [], further, proposals, ends)

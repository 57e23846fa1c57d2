"""What the search of a sweep decides by what is recorded of its jobs, and whether that is what it has decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from blitz.errors import BadInput
from blitz.run_folder.decisions import FILE, Decision, Heading, Line
from blitz.run_folder.run_info import FAILED, FINISHED, PAUSED
from blitz.sweeps.proposals import Proposals
from blitz.sweeps.search.searches import SEARCHES
from blitz.sweeps.search.strategy import Round, Space, Strategy, Trial
from blitz.terminal.names import briefly, in_epochs, title_of_job
from blitz.terminal.text import printable

NOTHING = "nothing"
OWN = ("objective", "mean")  # numbers of a decision that are about its own job or row


@dataclass(frozen=True)
class Attempt:
    """A run of a job. One that failed is repeated by another, where its sweep is resumed."""

    trial: Trial  # what it found
    started_at: int
    run: str  # by which it is found: its id, or its folder
    is_own: bool = True  # of this sweep: an earlier one had finished before it began
    curve: Mapping[int, float] = field(default_factory=dict)  # epoch -> objective


@dataclass(frozen=True)
class Records:
    """What is recorded of a sweep."""

    sweep: str  # its id
    search: Mapping[str, Any]
    lines: Sequence[Line]
    jobs: Sequence[Trial]  # all of them, none begun
    listed: int  # those below this number were asked for; the search has added the others
    attempts: Mapping[int, Sequence[Attempt]]  # of each job that has any, the first one first
    status: str = FINISHED
    proposals: Proposals | None = None  # what all jobs were proposed from, by a search that does so

    @property
    def space(self) -> Space:
        """What the sweep was asked to train."""
        if self.proposals is not None:
            return self.proposals.space({job.epochs for job in self.jobs})
        return Space([job for job in self.jobs if job.number < self.listed])

    @property
    def finished(self) -> dict[int, Attempt]:
        """By job; one that is paused is not among them."""
        newest = {number: attempts[-1] for number, attempts in self.attempts.items()}
        return {number: newest[number] for number in sorted(newest) if newest[number].trial.status == FINISHED}


@dataclass(frozen=True)
class Answer:
    """Whether the decisions of a sweep follow from its records."""

    follow: int  # decisions that do
    wrong: Sequence[str] = ()  # each that does not, or that follows and is not recorded
    contradictions: Sequence[str] = ()  # other records that do not agree

    @property
    def is_sound(self) -> bool:
        return not self.wrong and not self.contradictions


class Replay(NamedTuple):
    decisions: Sequence[Decision]
    jobs: frozenset[int]  # those that were asked for
    is_over: bool  # the search has decided all that it had to


def check(records: Records) -> Answer:
    """Ask the search of each heading again, and the last one for what is not recorded.

    A run that was repeated counts for what was decided before that. Raises BadInput for options that are none, and
    where no decision is recorded although some follow.
    """
    searches: list[tuple[Mapping[str, Any], list[Decision]]] = []
    for line in records.lines:
        if isinstance(line, Heading):
            searches.append((line.search, []))
        else:
            searches = searches or [(records.search, [])]
            searches[-1][1].append(line)
    last = next(_replays(records, records.search))
    if last.decisions and not records.lines:
        what = f"its record has no {FILE}, and {len(last.decisions)} decisions follow from its jobs' records"
        raise BadInput(f"sweep {records.sweep}: {what}")
    wrong, known, follow = [], set(last.jobs), 0
    for search, recorded in searches:
        replays = _replays(records, search)
        newest = next(replays)
        left = [decision for decision in recorded if decision not in newest.decisions]
        for earlier in replays if left or len(known) < len(records.jobs) else ():
            left = [decision for decision in left if decision not in earlier.decisions]
            known |= earlier.jobs
        follow += len(recorded) - len(left)
        follows = {(decision.round, decision.job): decision for decision in newest.decisions}
        pairs = [(decision, follows.get((decision.round, decision.job))) for decision in left]
        pairs.sort(key=lambda pair: not _is_about_itself(*pair))
        wrong += [_difference(*pair) for pair in pairs]
    if not wrong:
        wrong = [_difference(None, decision) for decision in _missing(records, last)]
    return Answer(follow, wrong, [*_other_objectives(records), *_added(records, known)])


def _missing(records: Records, replay: Replay) -> list[Decision]:
    """Decisions that follow and are not recorded: of a sweep that was stopped, those before others that are."""
    is_recorded = [decision in records.lines for decision in replay.decisions]
    is_over = records.status in (FINISHED, FAILED) and replay.is_over
    due = len(is_recorded) if is_over else max((n for n, known in enumerate(is_recorded) if known), default=0)
    return [decision for decision, known in zip(replay.decisions[:due], is_recorded[:due], strict=True) if not known]


def _replays(records: Records, search: Mapping[str, Any]) -> Iterator[Replay]:
    """By the newest run of each job; then by those that there were before others were repeated, the newest first."""
    strategy: Strategy = SEARCHES.build(search, records.space)
    times = {attempt.started_at for attempts in records.attempts.values() for attempt in attempts[1:]}
    for time in (math.inf, *sorted(times, reverse=True)):
        found = {
            number: known[-1]
            for number, attempts in records.attempts.items()
            if (known := [attempt for attempt in attempts if attempt.started_at < time])
        }
        yield _replay(strategy, records, found)
        if records.status == FAILED:  # a job whose process was killed has no record of its end
            yield _replay(strategy, records, found, without_end=FAILED)


def _replay(
    strategy: Strategy, records: Records, found: Mapping[int, Attempt], without_end: str | None = None
) -> Replay:
    jobs = {job.number: job for job in records.jobs}
    trials = {number: job for number, job in jobs.items() if number < records.listed}
    trials |= {n: attempt.trial for n, attempt in found.items() if not attempt.is_own and n in trials}
    while not (asked := strategy(list(trials.values()))).is_last:
        if asked.new:
            added = _wanted(asked, [job for number, job in jobs.items() if number not in trials])
            after = {job.number: job for job in added}
        else:
            ends = {task.job: _end(found.get(task.job), task.until) for task in asked.tasks}
            after = {number: end for number, end in ends.items() if end is not None and end != trials[number]}
            if not after and without_end is not None:
                after = {n: replace(trials[n], status=without_end) for n in ends if not trials[n].is_over}
        if not after:
            break
        trials |= after
    return Replay(asked.decisions, frozenset(trials), asked.is_last)


def _wanted(asked: Round, jobs: Sequence[Trial]) -> list[Trial]:
    """The jobs that a search asks for; none where one of them is not recorded."""
    found: list[Trial] = []
    for values in asked.new:
        others = {key: value for key, value in values.items() if key != "seed"}
        fitting = (
            job
            for job in jobs
            if job not in found and job.values == others and values.get("seed", str(job.seed)) == str(job.seed)
        )
        job = next(fitting, None)
        if job is None:
            return []
        found.append(job)
    return sorted(found, key=lambda job: job.number)


def _end(attempt: Attempt | None, until: float | None) -> Trial | None:
    """A job at the end of a task; None where the record has no such end."""
    if attempt is None:
        return None
    trial = attempt.trial
    if until is not None and until in trial.rungs:
        reached = {rung: objective for rung, objective in trial.rungs.items() if rung <= until}
        return replace(trial, status=PAUSED, rungs=reached, objective=None)
    return trial if trial.is_over else None


def _difference(recorded: Decision | None, follows: Decision | None) -> str:
    """In a line, with the numbers that are others."""
    decision = recorded or follows
    assert decision is not None
    where = f"round {decision.round}, job {decision.job}"
    if recorded is None or follows is None:
        was, now = (f"{each.decision} ({each.why})" if each is not None else NOTHING for each in (recorded, follows))
        return printable(f"{where}: recorded {was}, follows {now}")
    before, after = _flat(recorded), _flat(follows)
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if len(changed) > 1 and "why" in changed:
        changed.remove("why")  # says the same in words
    texts = [f"{key} recorded {before.get(key, NOTHING)}, follows {after.get(key, NOTHING)}" for key in changed]
    return printable(f"{where}: {'; '.join(texts)}")


def _is_about_itself(recorded: Decision, follows: Decision | None) -> bool:
    """Whether it was decided otherwise because of its own job, and not of others."""
    return follows is not None and any(recorded.numbers.get(key) != follows.numbers.get(key) for key in OWN)


def _flat(decision: Decision) -> dict[str, Any]:
    return {"decision": decision.decision, **decision.numbers, "why": decision.why}


def _other_objectives(records: Records) -> Iterator[str]:
    """What a job was ranked by at a rung, and its metrics say otherwise."""
    for number, attempts in records.attempts.items():
        for attempt in attempts:
            for rung, ranked_by in attempt.trial.rungs.items():
                measured = attempt.curve.get(int(rung)) if rung.is_integer() else None
                if measured not in (None, ranked_by):
                    where = f"job {number}: its objective after {in_epochs(rung)}"
                    yield f"{where}: {measured} in its metrics, {ranked_by} by its rungs"


def _added(records: Records, asked: set[int]) -> Iterator[str]:
    for job in records.jobs:
        if job.number not in asked:
            yield f"{title(job)}: recorded, and the search asks for no such job"


def title(job: Trial) -> str:
    """`job 3 (lr=0.01 seed=2)`."""
    return printable(
        title_of_job(job.number, briefly(f"{key}={value}" for key, value in job.values.items()) + f" seed={job.seed}")
    )

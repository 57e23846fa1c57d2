"""The rounds of a sweep: its search asks for jobs, they are trained, and it is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from blitz.run_folder import decisions
from blitz.sweeps.budget import Budget
from blitz.sweeps.folder import STOP, UNFINISHED, JobOptions, Outcome, write_outcome
from blitz.sweeps.jobs import SweepJob
from blitz.sweeps.launch import launch
from blitz.sweeps.plan import Plan
from blitz.sweeps.progress import Progress, shown
from blitz.sweeps.results import Results
from blitz.sweeps.search.strategy import PROPOSE, Round, Strategy
from blitz.terminal.signals import Interrupt
from blitz.terminal.text import Unbroken, print_line


class SweepRequest(NamedTuple):
    """What Hydra hands to a sweeper."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig  # of the sweep as a whole: without the values that are swept
    arguments: Sequence[str]  # without those that are Hydra's own

    @property
    def of_hydra(self) -> list[str]:
        """Those that choose the launcher, and the like."""
        return [text for text in self.config.hydra.overrides.hydra if not text.startswith("hydra.mode=")]


@dataclass
class Rounds:
    """A sweep under way: what it has, and what came out so far."""

    request: SweepRequest
    strategy: Strategy
    plan: Plan
    jobs: list[SweepJob]
    outcomes: dict[int, Outcome]
    options: JobOptions  # of all its jobs
    budget: Budget
    folder: Path
    further: Callable[[Sequence[SweepJob], Sequence[Mapping[str, str]]], list[SweepJob]]  # makes those that are added
    skipped: Callable[[Sequence[SweepJob]], dict[int, Outcome]]  # finds those of them that have finished elsewhere
    interrupt: Interrupt | None = None  # of the last round

    def train(self, screen: Unbroken) -> Results:
        """Train what the search asks for until it asks for nothing, or until the sweep is stopped."""
        while not (asked := self._next()).is_last:
            if asked.new:
                self._add(asked)
                continue
            jobs = self._hand_out(asked)
            context, task, config, _ = self.request
            with shown(self._progress(asked), screen):
                ended, self.interrupt = launch(context, task, config, jobs, self.folder, self.budget)
            self.outcomes |= ended
            if self.interrupt.requested or (self.folder / STOP).exists():
                break
        further = 0 if asked.is_last else self.plan.number - len(self.jobs)
        return Results(self.jobs, self.outcomes, asked.is_last, asked.conclusion, further)

    def _next(self) -> Round:
        """What the search asks for by what there is; its new decisions are recorded first."""
        asked = self.strategy([job.trial(self.outcomes.get(job.number)) for job in self.jobs])
        noted = decisions.note(self.folder, self.plan.search, asked.decisions)
        new = [decision for decision in noted if decision.decision != PROPOSE]  # whose values each job prints
        for number in sorted({decision.round for decision in new}):
            counts = Counter(decision.decision for decision in new if decision.round == number)
            what = ", ".join(f"{count} {decision}" for decision, count in counts.items())
            print_line(f"decided  after round {number}: {what}")
        return asked

    def _add(self, asked: Round) -> None:
        """Make the jobs that the search proposes."""
        more = self.further(self.jobs, asked.new)
        self.jobs, self.plan = [*self.jobs, *more], self.plan.with_more(more)
        self.plan.save(self.folder)
        for number, outcome in self.skipped(more).items():
            self.outcomes[number] = outcome
            write_outcome(self.folder, number, outcome)

    def _hand_out(self, asked: Round) -> list[SweepJob]:
        """The jobs of a round; where each of them begins and ends is written down for it."""
        until = {task.job: task.until for task in asked.tasks}
        runs = {
            str(number): outcome.folder
            for number, outcome in self.outcomes.items()
            if number in until and outcome.status in UNFINISHED and outcome.folder is not None
        }
        pauses = {str(number): epochs for number, epochs in until.items() if epochs is not None}
        replace(self.options, until=pauses, runs=runs).save(self.folder)
        return [job for job in self.jobs if job.number in until]

    def _progress(self, asked: Round) -> Progress:
        """Of a round: what it is to train, and what came out before."""
        until = {task.job: task.until for task in asked.tasks}
        epochs = 0.0
        for job in self.jobs:
            if job.number in until:
                outcome = self.outcomes.get(job.number)
                rungs = [rung for rung, _ in outcome.rungs] if outcome is not None else []
                epochs += (until[job.number] or job.settings.epochs) - max(rungs, default=0.0)
        more = self.plan.number - len(self.jobs)  # that are proposed later
        epochs += more * self.jobs[-1].settings.epochs
        earlier = {number: outcome for number, outcome in self.outcomes.items() if number not in until}
        return Progress(self.folder, self.jobs, earlier, epochs, more)

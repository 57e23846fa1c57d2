"""The results of a sweep: its failures, its table, its best job, and how to resume it."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from blitz.comparison import report
from blitz.comparison.plot import plot_rows
from blitz.comparison.rows import ComparedRun, Comparison, compare
from blitz.config.settings import Settings
from blitz.redaction import redact
from blitz.run_folder import journal
from blitz.run_folder.files import write_whole
from blitz.run_folder.journal import JOURNAL, OBJECTIVE, TRAIN_ACCURACY, VAL_ACCURACY
from blitz.run_folder.run_info import FAILED, FINISHED, PAUSED, status_word
from blitz.sweeps.folder import NOT_STARTED, Outcome
from blitz.sweeps.jobs import SweepJob
from blitz.terminal.text import print_line
from blitz.tracking import health
from blitz.tracking.queries import BEST_JOB, CONCLUSION, OF_A_SWEEP


@dataclass(frozen=True)
class Results:
    """The jobs of a sweep, and how each of them ended so far."""

    jobs: Sequence[SweepJob]
    outcomes: Mapping[int, Outcome]  # none for a job that never began
    is_over: bool = True  # the search has decided all that it had to
    conclusion: str = ""  # of the search
    further: int = 0  # jobs that it has yet to propose, as far as that is known

    @property
    def failed(self) -> list[tuple[SweepJob, Outcome]]:
        return [(job, self.outcomes[job.number]) for job in self.jobs if self._status(job) == FAILED]

    @property
    def left(self) -> int:
        """The number of jobs that are yet to be trained."""
        over = (FINISHED, FAILED, PAUSED) if self.is_over else (FINISHED, FAILED)
        return sum(self._status(job) not in over for job in self.jobs) + self.further

    @property
    def paused(self) -> int:
        """The number of jobs that the search has paused."""
        return sum(self._status(job) == PAUSED for job in self.jobs)

    def objective(self, job: SweepJob) -> float | None:
        """Of a job that finished."""
        return self.outcomes[job.number].objective if self._status(job) == FINISHED else None

    @property
    def finished(self) -> list[tuple[SweepJob, Outcome]]:
        return [(job, self.outcomes[job.number]) for job in self.jobs if self._status(job) == FINISHED]

    @property
    def best(self) -> tuple[SweepJob, Outcome] | None:
        """The best run of the row that is best over its seeds; none where no run has an objective."""
        best = self.comparison.rows[0].best(OBJECTIVE) if self.finished else None
        of_row = (pair for pair in self.finished if self._entries[pair[0].number] is best)
        return next((pair for pair in of_row if pair[1].objective is not None), None)

    @cached_property
    def comparison(self) -> Comparison:
        """The jobs side by side, by what was swept."""
        found = replace(compare(list(self._entries.values()), [OBJECTIVE]), conclusion=self.conclusion)
        if len({_validates(job) for job in self.jobs}) > 1:
            note = "Without validation images it is the training accuracy that counts, which says less"
            found = replace(found, notes=[*found.notes, note])
        return found

    @cached_property
    def _entries(self) -> dict[int, ComparedRun]:
        return {job.number: _entry(job, self.outcomes[job.number]) for job in self.jobs if job.number in self.outcomes}

    def as_markdown(self) -> str:
        """The table, where anything came out."""
        return report.as_markdown(self.comparison) if self.finished else ""

    def save_tables(self, folder: Path) -> None:
        """The same table as `print` prints. Raises OSError."""
        if self.finished:
            write_whole(folder / "results.md", self.as_markdown())
            write_whole(folder / "results.csv", report.as_csv(self.comparison))

    def save_figures(self, folder: Path, uri: str | None) -> None:
        """The objective by what was swept, and the course of each job. Raises OSError."""
        from blitz.figures import canvas, many_runs  # matplotlib takes a second

        pairs = {id(self._entries[job.number]): (job, outcome) for job, outcome in self.finished}
        rows = plot_rows(self.comparison, lambda run: _curve(*pairs[id(run)], uri))
        for stem, figure in many_runs.figures(rows, f"{self._accuracy.capitalize()} accuracy").items():
            canvas.save(figure, folder / "figures" / f"{stem}.png")

    def save_page(self, folder: Path, uri: str | None) -> None:
        """The table, the curves and what decided, for a browser. Raises OSError."""
        from blitz.comparison import page  # Optuna takes seconds
        from blitz.run_folder import decisions

        if self.finished:
            jobs = {id(self._entries[job.number]): (job, outcome) for job, outcome in self.finished}
            label, made = f"{self._accuracy.capitalize()} accuracy", decisions.read(folder / decisions.FILE)
            text = page.render(
                self.comparison, lambda run: _curve(*jobs[id(run)], uri), f"Sweep {folder.name}", label, uri, made,
                self._entries,
            )  # fmt: skip
            write_whole(folder / "results.html", text)

    def tags(self) -> dict[str, str]:
        """The best job's values, for the sweep's own run."""
        if self.best is None:
            return {}
        job, outcome = self.best
        values = {OF_A_SWEEP: str(len(self.jobs) + self.further)}  # a search may have added some
        values |= {CONCLUSION: self.conclusion} if self.conclusion else {}
        values |= {f"sweep.best.{key}": value for key, value in job.combination.values.items()}
        return {**values, BEST_JOB: outcome.run_id or "", "sweep.best.objective": repr(outcome.objective)}

    def summary(self) -> str:
        """How many jobs ended how."""
        counts = Counter(self._status(job) or NOT_STARTED for job in self.jobs)
        numbers = ", ".join(f"{number} {status_word(status).lower()}" for status, number in counts.items())
        return f"{len(self.jobs)} jobs: {numbers}."

    def print(self) -> None:
        for job, outcome in self.failed:
            print_line(f"blitz: {job.title} failed: {redact(outcome.why)}", sys.stderr)
        if self.finished and len(self.jobs) > 1:
            report.print_table(self.comparison)
        if self.best is not None:
            job, outcome = self.best
            again = f"; blitz reproduce {outcome.run_id}" if outcome.run_id else ""
            images = "validation" if _validates(job) else "training"
            print_line(f"best     {job.label or job.title}: {outcome.objective:.2%} on the {images} images{again}")

    @property
    def _accuracy(self) -> str:
        """Of what images the objective is the accuracy."""
        return " or ".join(sorted({"validation" if _validates(job) else "training" for job in self.jobs}))

    def _status(self, job: SweepJob) -> str | None:
        return self.outcomes[job.number].status if job.number in self.outcomes else None


def resume_command(sweep: str, of_hydra: Sequence[str], config_dir: str | None, settings: Settings) -> str:
    """With the launcher and the user's own groups that the sweep was started with, and where it is to be found."""
    where = [] if settings.runs_dir == "runs" else [f"runs_dir={settings.runs_dir}"]
    where += ["tracking=none"] if settings.tracking.name == "none" else []
    where += [f"tracking.uri={redact(settings.tracking.uri)}"] if settings.tracking.uri is not None else []
    flags = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["blitz", "-m", f"sweep.resume={sweep}", *where, *of_hydra, *flags])


def _validates(job: SweepJob) -> bool:
    return job.settings.data["validation"] > 0


def _entry(job: SweepJob, outcome: Outcome) -> ComparedRun:
    objective = outcome.rungs[-1][1] if outcome.status == PAUSED and outcome.rungs else outcome.objective
    metrics = {} if objective is None else {OBJECTIVE: objective}
    seed, values = str(job.settings.seed), job.combination.without_seed
    return ComparedRun(outcome.run_id, job.label, seed, values, metrics, outcome.seconds, outcome.status)


def _curve(job: SweepJob, outcome: Outcome, uri: str | None) -> list[tuple[int, float]]:
    """Accuracy by epoch, from the run's folder; from the store for one that was trained elsewhere."""
    name = VAL_ACCURACY if _validates(job) else TRAIN_ACCURACY
    path = Path(outcome.folder or "") / JOURNAL
    if path.exists():
        return [(int(row["epoch"]), row[name]) for row in journal.epochs(path) if name in row]
    if uri is None or outcome.run_id is None:
        return []
    history = health.connect(uri).get_metric_history(outcome.run_id, name)
    return sorted((point.step, point.value) for point in history)

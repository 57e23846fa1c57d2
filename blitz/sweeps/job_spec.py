"""What a sweep has for each of its jobs besides the config: a JSON in the sweep's folder, `NUMBER.spec.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from blitz.errors import BadInput
from blitz.run_folder.files import write_whole
from blitz.runner.build import JobInfo
from blitz.sweeps.folder import unfinished_runs
from blitz.sweeps.jobs import SweepJob


@dataclass(frozen=True)
class JobSpec:
    """One job of a sweep. A launcher carries its number and the sweep's folder to the process that trains it."""

    number: int
    label: str  # what differs from the other jobs
    combination: str  # the same for jobs that differ in their seed alone
    on_failure: str = "continue"
    cores: int | None = None  # processor cores that it has for itself; None: all
    resume: str | None = None  # folder of the run to continue
    overrides: Sequence[str] = ()  # with which that is continued

    def save(self, sweep: Path) -> None:
        write_whole(self._path(sweep, self.number), json.dumps(asdict(self)) + "\n", synced=False)

    @classmethod
    def load(cls, sweep: Path, number: int) -> JobSpec:
        path = cls._path(sweep, number)
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(f"{path}: cannot be read, so job {number} cannot be started: {error}") from None

    @classmethod
    def load_all(cls, sweep: Path) -> list[JobSpec]:
        numbers = [path.name.partition(".")[0] for path in sweep.glob("*.spec.json")]
        return [cls.load(sweep, int(number)) for number in numbers if number.isdigit()]

    def info(self, sweep: Path, gpu: int | None) -> JobInfo:
        return JobInfo(sweep.name, self.number, self.label, self.cores, gpu)

    @staticmethod
    def _path(sweep: Path, number: int) -> Path:
        return sweep / f"{number}.spec.json"


def write_specs(
    sweep: Path,
    jobs: Sequence[SweepJob],
    on_failure: str,
    cores: int | None,
    runs: Mapping[int, Path],
    overrides: Sequence[str],
) -> None:
    """`runs`: of the jobs that continue one, with these overrides."""
    for job in jobs:
        combination = json.dumps(job.without_seed(), sort_keys=True)
        run = str(runs[job.number]) if job.number in runs else None
        JobSpec(job.number, job.label, combination, on_failure, cores, run, overrides).save(sweep)


def continue_runs(sweep: Path, numbers: Sequence[int]) -> None:
    """Let jobs that have an unfinished run continue it."""
    for number, run in unfinished_runs(sweep, numbers).items():
        replace(JobSpec.load(sweep, number), resume=str(run)).save(sweep)

"""How the jobs of a sweep ended: a file each in the sweep's folder, written by the job, whatever a launcher returns."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from blitz.tracking.folder import write_whole

FINISHED, FAILED, NOT_STARTED = "FINISHED", "FAILED", "NOT STARTED"
STOP = "stop"  # a file: no more jobs are to begin


@dataclass(frozen=True)
class Outcome:
    """The end of one job."""

    status: str
    why: str = ""  # it failed
    objective: float | None = None
    folder: str | None = None
    run_id: str | None = None


def begin(sweep: Path, number: int) -> bool:
    """Note that a job begins; False where none is to begin any more."""
    if (sweep / STOP).exists():
        write_outcome(sweep, number, Outcome(NOT_STARTED))
        return False
    with (sweep / f"{number}.begun").open("a") as file:
        file.write(".")
    return True


def times_begun(sweep: Path) -> dict[int, int]:
    return {int(file.stem): file.stat().st_size for file in sweep.glob("*.begun")}


def write_outcome(sweep: Path, number: int, outcome: Outcome) -> None:
    write_whole(sweep / f"{number}.json", json.dumps(asdict(outcome)) + "\n")


def read_outcomes(sweep: Path) -> dict[int, Outcome]:
    return {int(file.stem): Outcome(**json.loads(file.read_text())) for file in sweep.glob("*.json")}

"""A sweep's own record: a folder and an MLflow run that its jobs' runs are the children of."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blitz.config.compose import as_typed
from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.redaction import redact, redact_command, redact_values
from blitz.run_folder import provenance
from blitz.run_folder.files import write_opening
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import ABOUT, FINISHED, SWEEP, TAG_LENGTH, RunInfo, shortened, texts
from blitz.runner import description, start
from blitz.sweeps.folder import PLAN, Outcome
from blitz.sweeps.jobs import SweepJob, key_of
from blitz.sweeps.plan import Plan
from blitz.sweeps.results import Results
from blitz.terminal.names import briefly
from blitz.tracking.queries import OF_A_SWEEP, SKIPPED
from blitz.tracking.recorder import Recorder

IDS_OF_A_TAG = TAG_LENGTH // 33  # 32 digits and a space


@dataclass
class SweepRecord:
    """The record of a sweep that is under way."""

    recorder: Recorder
    command: str

    @classmethod
    def begin(
        cls, folder: Path, plan: Plan, jobs: Sequence[SweepJob], outcomes: Mapping[int, Outcome], uri: str | None
    ) -> SweepRecord:
        """Write down what is going to be trained. Raises BadInput where the folder cannot be written to."""
        command = description.command(["-m", *as_typed(plan.arguments)])
        done = [outcome for outcome in outcomes.values() if outcome.status == FINISHED]
        skipped = skipped_tags([outcome.run_id for outcome in done if outcome.run_id])
        try:
            if (folder / ABOUT).exists():
                tags = {**skipped, "folder": str(folder.absolute()), "host": platform.node()}
                about = RunInfo.load(folder).resume(tags)
                if Plan.load(folder / PLAN, trusted=True).search != plan.search:
                    plan.save(folder)
            else:
                plan.save(folder)
                about = _about(folder, plan, jobs, uri, command, skipped)
            recorder = Recorder(folder, uri, about)
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written to ({error.strerror})") from None
        return cls(recorder, command)

    def end(self, status: str, results: Results) -> str:
        """Close it; returns what the store lacks of it, in words."""
        objective = results.best[1].objective if results.best is not None else None
        if objective is not None:
            try:
                self.recorder.log({OBJECTIVE: objective}, 0)
            except OSError as error:  # a full disk: the jobs' own records are what counts
                print(f"blitz: {error.filename or self.recorder.folder}: {error.strerror}", file=sys.stderr)
        again = f"Again:\n\n```sh\n{self.command}\n```"
        note = shortened(redact("\n\n".join([results.summary(), results.as_markdown(), again])), TAG_LENGTH)
        return self.recorder.end(status, {**redact_values(results.tags()), "mlflow.note.content": note})


def _about(
    folder: Path, plan: Plan, jobs: Sequence[SweepJob], uri: str | None, command: str, skipped: Mapping[str, str]
) -> RunInfo:
    first = jobs[0].settings
    facts, diff = start.surroundings()
    write_opening(folder, redact_command(as_typed(plan.arguments)), facts, diff)
    found = provenance.tags(facts)
    tags = {
        **found,
        SWEEP: plan.id,
        OF_A_SWEEP: str(plan.number),
        **skipped,
        "folder": str(folder.absolute()),
        **description.source_tags(found, command),
        **first.tags,
    }
    return RunInfo(
        record=plan.id,
        store=redact(uri) if uri else None,
        experiment=redact(first.tracking.experiment),
        name=redact(first.name or _name(plan, jobs)),
        started_at=time.time_ns() // 1_000_000,
        params=texts(redact_values(_in_common([job.settings for job in jobs]))),
        tags=redact_values(tags),
        dataset={},
    )


def skipped_tags(run_ids: Sequence[str]) -> dict[str, str]:
    """Tags with the ids of runs that are not repeated."""
    chunks = [run_ids[first : first + IDS_OF_A_TAG] for first in range(0, len(run_ids), IDS_OF_A_TAG)]
    return {f"{SKIPPED}.{n}" if n else SKIPPED: " ".join(ids) for n, ids in enumerate(chunks)}


def _name(plan: Plan, jobs: Sequence[SweepJob]) -> str:
    """What is swept, as it was typed."""
    keys = {key for job in jobs for key in job.combination.values} | {"sweep.points", "sweep.samples"}
    return shortened(briefly(text for text in plan.arguments if key_of(text) in keys), description.NAME_LENGTH)


def _in_common(settings: Sequence[Settings]) -> dict[str, object]:
    first, *others = [each.notable() for each in settings]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}

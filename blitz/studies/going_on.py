"""Jobs that need not be trained, or not from the start: what a sweep that is gone on with finds done already."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blitz.description import is_unnamed
from blitz.errors import BadInput, did_you_mean
from blitz.opening import surroundings
from blitz.parts.datasets import DATASETS
from blitz.redaction import HIDDEN, redact, redact_command
from blitz.run_folder import provenance
from blitz.run_folder.files import write_whole
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import newest
from blitz.studies.combinations import Combination
from blitz.studies.jobs import SweepJob
from blitz.tracking import health, store
from blitz.tracking.sweep_folder import FINISHED, Outcome, read_outcomes

if TYPE_CHECKING:
    from mlflow.entities import Run

PLAN = "sweep.json"  # in a sweep's folder, and an artifact of its run
OF_THE_CODE = ("git.commit", "git.diff")
OF_THE_JOBS = ("sweep.points", "sweep.samples", "sweep.seed")  # which a sweep that goes on has already


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep as it was begun."""

    id: str
    arguments: Sequence[str]  # what was typed
    jobs: Mapping[int, Combination]
    identities: Mapping[int, str]  # of each job's config, without its data

    @classmethod
    def of(cls, sweep: str, arguments: Sequence[str], jobs: Sequence[SweepJob]) -> Plan:
        combinations = {job.number: job.combination for job in jobs}
        return cls(sweep, arguments, combinations, {job.number: job.settings.config_hash("") for job in jobs})

    def save(self, folder: Path) -> None:
        """Without credentials. Raises OSError."""
        jobs = [
            {
                "number": number,
                "overrides": redact_command(job.overrides),
                "swept": redact_command(job.swept),
                "identity": self.identities[number],
            }
            for number, job in self.jobs.items()
        ]
        arguments = redact_command(self.arguments)
        write_whole(folder / PLAN, json.dumps({"id": self.id, "arguments": arguments, "jobs": jobs}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, trusted: bool) -> Plan:
        """As it was begun here; one from a store (not `trusted`) has its paths and addresses taken out.

        How the sweep goes about its jobs is told anew each time. Raises BadInput for a file that is none, and for one
        from a store that is more than data.
        """

        def is_kept(text: str) -> bool:
            key = text.lstrip("+").partition("=")[0]
            place = is_unnamed(key) and (not trusted or HIDDEN in text)
            return not place and not key.startswith(("sweep.", "hydra.", "hydra/"))

        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            jobs: dict[int, Combination] = {}
            for job in found["jobs"]:
                overrides = tuple(str(text) for text in job["overrides"] if is_kept(str(text)))
                jobs[int(job["number"])] = Combination(overrides, tuple(str(text) for text in job["swept"]))
            identities = {int(job["number"]): str(job["identity"]) for job in found["jobs"]}
            plan = cls(str(found["id"]), [str(text) for text in found["arguments"]], jobs, identities)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f"{path}: not the plan of a sweep, or only a part of it") from None
        texts = [text for job in plan.jobs.values() for text in job.overrides]
        if wrong := [text for text in texts if "${" in text and not trusted]:
            raise BadInput(f"{wrong[0]}: an interpolation; a recorded sweep holds plain values")
        if not re.fullmatch(r"[\w-]+", plan.id):  # it names a folder
            raise BadInput(f"{plan.id}: not the id of a sweep")
        return plan

    @classmethod
    def find(cls, wanted: str, runs_dir: str, uri: str | None) -> Plan:
        """The sweep of this id, or the start of one, in `runs_dir`, else in the store; `last` is the newest.

        Raises BadInput where there is none.
        """
        folders = sorted(path.parent for path in (Path(runs_dir) / "sweeps").glob(f"*/{PLAN}"))
        names = [folder.name for folder in folders]
        if wanted == store.LAST:
            last = newest(folders)
            fitting = [last] if last is not None else []
        else:
            fitting = [folder for folder in folders if folder.name == wanted]
            fitting = fitting or [folder for folder in folders if folder.name.startswith(wanted)]
        if len(fitting) > 1:
            raise BadInput(f"sweep.resume={wanted}: more than one sweep starts like this; give more of its id")
        if fitting:
            return cls.load(fitting[0] / PLAN, trusted=True)
        where = f"in {runs_dir}/sweeps"
        if uri is not None and _exists(uri):
            client = health.connect(uri)
            run = store.find_sweep(client, wanted)
            if run is not None:
                with tempfile.TemporaryDirectory(prefix="blitz-") as folder:
                    return cls.load(store.fetch(client, run, PLAN, Path(folder)), trusted=False)
            where += f" and in {redact(uri)}"
        raise BadInput(f"sweep.resume={wanted}: no such sweep {where}{did_you_mean(wanted, names)}")

    def combinations(self, arguments: Sequence[str]) -> list[Combination]:
        """Those of the jobs, with what is typed this time. Raises BadInput where that would make other jobs of them."""
        more = [text for text in arguments if text not in self.arguments]
        keys = {text: text.lstrip("+~").partition("=")[0] for text in more}
        wrong = [text for text, key in keys.items() if not is_unnamed(key) or key in OF_THE_JOBS]
        if wrong:
            told = f"would make another sweep of {self.id}; leave it out, or begin one without sweep.resume"
            raise BadInput(*(f"{text}: {told}" for text in wrong))
        return [Combination((*job.overrides, *more), job.swept) for job in self.jobs.values()]

    def numbered(self, jobs: Sequence[SweepJob]) -> list[SweepJob]:
        """The jobs under the numbers that they had. Raises BadInput for a config that has become another one."""
        if len(jobs) < len(self.jobs):
            raise BadInput(f"sweep.resume={self.id}: what is typed makes jobs the same; leave it out")
        numbered, changed = [], []
        for (number, identity), job in zip(self.identities.items(), jobs, strict=True):
            numbered.append(job.renumbered(number))
            if job.settings.config_hash("") != identity:
                changed.append(numbered[-1].title)
        if changed:
            raise BadInput(
                f"sweep.resume={self.id}: {changed[0]} has another config now than when the sweep was begun (a file in "
                "conf/ or --config-dir has changed, or a default of blitz); begin a new sweep with "
                "sweep.skip_finished=true"
            )
        return numbered


def finished(jobs: Sequence[SweepJob], uri: str | None, folder: Path | None) -> dict[int, Outcome]:
    """Jobs whose config has finished already, by its hash in the store; without a store, by the sweep's folder.

    Raises BadInput where the data, whose fingerprint is a part of it, is not here.
    """
    if uri is None:
        outcomes = read_outcomes(folder) if folder is not None else {}
        return {number: outcome for number, outcome in outcomes.items() if outcome.status == FINISHED}
    if not _exists(uri):
        return {}
    fingerprints: dict[str, str] = {}
    hashes: dict[int, tuple[str, str]] = {}
    for job in jobs:
        data = json.dumps(job.settings.data, sort_keys=True)
        if data not in fingerprints:
            fingerprints[data] = DATASETS.build(job.settings.data).fingerprint
        fingerprint = fingerprints[data]
        hashes[job.number] = (job.settings.config_hash(fingerprint), job.settings.group_hash(fingerprint))
    sweep = folder.name if folder is not None else None
    found = store.finished_runs(health.connect(uri), dict(hashes.values()), sweep)
    runs = _each_its_own({number: found.get(config_hash, []) for number, (config_hash, _) in hashes.items()}, sweep)
    _tell_other_code(runs.values(), len(jobs))
    groups = {job.number: job.settings.group_hash("") for job in jobs}
    return {number: _outcome(run, groups[number]) for number, run in runs.items()}


def _tell_other_code(runs: Iterable[Run], number: int) -> None:
    """Runs are found by their configs, which know nothing of the code that trained them."""
    here = provenance.tags(surroundings()[0])
    others = sum(any(run.data.tags.get(tag) != here[tag] for tag in OF_THE_CODE) for run in runs)
    if others:
        told = f"{others} of {number} jobs have finished already by other code than there is now"
        print(f"blitz: {told} (the tags {' and '.join(OF_THE_CODE)})", file=sys.stderr)


def _each_its_own(candidates: Mapping[int, Sequence[Run]], sweep: str | None) -> dict[int, Run]:
    """A run for each job that has one: that of this very job, else one that no other job has.

    Jobs may differ in what changes no result, such as a tag, and then have the same config hash.
    """
    runs: dict[int, Run] = {}
    for number, found in candidates.items():
        own = [
            run for run in found if (run.data.tags.get("sweep"), run.data.tags.get("sweep.job")) == (sweep, str(number))
        ]
        if own:
            runs[number] = own[0]
    taken = {run.info.run_id for run in runs.values()}
    for number, found in candidates.items():
        others = (run for run in found if sweep is None or run.data.tags.get("sweep") != sweep)
        free = next((run for run in others if run.info.run_id not in taken), None)
        if number not in runs and free is not None:
            runs[number] = free
            taken.add(free.info.run_id)
    return runs


def _exists(uri: str) -> bool:
    path = store.sqlite_path(uri)
    return path is None or path.exists()


def _outcome(run: Run, group: str) -> Outcome:
    tags, objective = run.data.tags, run.data.metrics.get(OBJECTIVE)
    return Outcome(FINISHED, "", objective, store.seconds(run), tags.get("folder"), run.info.run_id, group)

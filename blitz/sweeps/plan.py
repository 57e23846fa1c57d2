"""A sweep's plan: its jobs as it was started, by which it is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blitz.config.settings import Choice
from blitz.errors import BadInput, did_you_mean, refuse
from blitz.redaction import HIDDEN, redact, redact_command
from blitz.run_folder.files import write_whole
from blitz.run_folder.run_info import RunInfo, runs_in
from blitz.runner.description import UNNAMED, is_unnamed
from blitz.runner.resume import ACCEPTED
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import PLAN
from blitz.sweeps.jobs import SweepJob, is_option, is_search, key_of
from blitz.sweeps.proposals import Proposals
from blitz.sweeps.search.searches import SEARCHES
from blitz.tracking import health, queries

OF_THE_JOBS = ("sweep.points", "sweep.samples", "sweep.seed")  # a sweep that is resumed has its jobs
WHERE = ("runs_dir", "tracking.uri")  # a sweep and its runs are
GRID = {"name": "grid"}  # of a sweep that says nothing of its search
OF_A_SEARCH = ("keep",)  # options that may be others on resume: how many jobs go on


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep as it was started."""

    id: str
    arguments: Sequence[str]  # what was typed
    jobs: Mapping[int, Combination]
    identities: Mapping[int, str]  # of each job's config, without its data
    search: Mapping[str, Any] = field(default_factory=lambda: GRID)
    listed: int = 0  # jobs below this number were asked for; a search has added the others
    proposals: Proposals | None = None  # what all jobs are proposed from, by a search that does so

    @classmethod
    def of(
        cls,
        sweep: str,
        arguments: Sequence[str],
        jobs: Sequence[SweepJob],
        search: Mapping[str, Any] = GRID,
        proposals: Proposals | None = None,
    ) -> Plan:
        combinations = {job.number: job.combination for job in jobs}
        identities = {job.number: job.settings.config_hash("") for job in jobs}
        listed = max(combinations, default=-1) + 1 if proposals is None else 0
        return cls(sweep, arguments, combinations, identities, search, listed, proposals)

    @property
    def number(self) -> int:
        """Of jobs, as far as it is known."""
        return self.proposals.number if self.proposals is not None else len(self.jobs)

    def with_more(self, jobs: Sequence[SweepJob]) -> Plan:
        """The same with jobs that a search has added."""
        more = Plan.of(self.id, self.arguments, jobs)
        return replace(self, jobs={**self.jobs, **more.jobs}, identities={**self.identities, **more.identities})

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
        plan = {
            "id": self.id, "arguments": arguments, "search": self.search, "listed": self.listed,
            "proposals": self.proposals.as_dict() if self.proposals is not None else None, "jobs": jobs,
        }  # fmt: skip
        write_whole(folder / PLAN, json.dumps(plan, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, trusted: bool) -> Plan:
        """As it was saved here; one from a store (not `trusted`) loses its paths and addresses.

        Options of the sweep and the launcher are given anew each time. Raises BadInput for a file that is no plan, and
        for one from a store that is more than data.
        """

        def is_kept(text: str) -> bool:
            key = key_of(text)
            place = is_unnamed(key) and (not trusted or HIDDEN in text)
            return not place and not key.startswith(("sweep.", "search.", "hydra.", "hydra/")) and key != "search"

        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            jobs: dict[int, Combination] = {}
            for job in found["jobs"]:
                overrides = tuple(str(text) for text in job["overrides"] if is_kept(str(text)))
                jobs[int(job["number"])] = Combination(overrides, tuple(str(text) for text in job["swept"]))
            identities = {int(job["number"]): str(job["identity"]) for job in found["jobs"]}
            arguments = [str(text) for text in found["arguments"]]
            search, listed = dict(found.get("search", GRID)), int(found.get("listed", max(jobs, default=-1) + 1))
            proposals = Proposals.of_dict(given, is_kept) if (given := found.get("proposals")) else None
            plan = cls(str(found["id"]), arguments, jobs, identities, search, listed, proposals)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            raise BadInput(f"{path}: not the plan of a sweep, or only a part of it") from None
        texts = [text for job in plan.jobs.values() for text in job.overrides]
        texts += [text for end in proposals.ends() for text in end.overrides] if proposals is not None else []
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
        if (found := find_folder(wanted, runs_dir, "sweep.resume")) is not None:
            return cls.load(found / PLAN, trusted=True)
        where = f"in {runs_dir}/sweeps"
        if uri is not None:
            where += f" and in {redact(uri)}"
            with suppress(health.Empty):
                client = health.connect(uri)
                run = queries.find_sweep(client, wanted)
                if run is not None:
                    with queries.scratch(str(run.info.run_id)) as folder:
                        return cls.load(queries.fetch(client, run, PLAN, folder), trusted=False)
        hint = did_you_mean(wanted, [folder.name for folder in folders_in(runs_dir)])
        raise BadInput(f"sweep.resume={wanted}: no such sweep {where}{hint}")

    def changes(self, arguments: Sequence[str]) -> list[str]:
        """What is typed for the jobs beside the sweep's own arguments. Raises BadInput for what makes other jobs."""
        more = {text: key_of(text) for text in arguments if text not in self.arguments}
        more = {text: key for text, key in more.items() if not is_search(key)}
        allowed = ", ".join(key for key in UNNAMED if not is_option(key))
        what = f"cannot be changed on resume of sweep {self.id} (allowed: {allowed})"
        refuse(f"{text}: {what}" for text, key in more.items() if not is_unnamed(key) or key in OF_THE_JOBS)
        return [text for text, key in more.items() if not is_option(key)]

    def changed_search(self, arguments: Sequence[str], given: Mapping[str, Any]) -> Choice:
        """The search, with what is typed of its options beside the sweep's own arguments.

        `given`: the values of `search`, as they were composed. Raises BadInput for what would be another search.
        """
        typed = {text: key_of(text) for text in arguments if text not in self.arguments}
        typed = {text: key.removeprefix("search").removeprefix(".") for text, key in typed.items() if is_search(key)}
        allowed = ", ".join(f"search.{option}" for option in OF_A_SEARCH)
        what = f"cannot be changed on resume of sweep {self.id} (allowed: {allowed})"
        refuse(f"{text}: {what}" for text, option in typed.items() if option not in OF_A_SEARCH)
        return SEARCHES.check({**self.search, **{option: given.get(option) for option in typed.values()}})

    def combinations(self, changes: Sequence[str]) -> list[Combination]:
        return [Combination((*job.overrides, *changes), job.swept) for job in self.jobs.values()]

    def numbered(self, jobs: Sequence[SweepJob]) -> list[SweepJob]:
        """The jobs under the numbers that they had. Raises BadInput for one whose config has changed."""
        if len(jobs) < len(self.jobs):
            raise BadInput(f"sweep.resume={self.id}: what is typed makes duplicates of jobs; leave it out")
        numbered, changed = [], []
        for (number, identity), job in zip(self.identities.items(), jobs, strict=True):
            numbered.append(replace(job, number=number))
            if job.settings.config_hash("") != identity:
                changed.append(numbered[-1].title)
        if changed:
            raise BadInput(
                f"sweep.resume={self.id}: {changed[0]} has another config now than when the sweep was started (a file "
                "in conf/ or --config-dir has changed, or a default of blitz); start a new sweep with "
                "sweep.skip_finished=true"
            )
        return numbered


def folders_in(runs_dir: str) -> list[Path]:
    """Those of all its sweeps."""
    return sorted(path.parent for path in (Path(runs_dir) / "sweeps").glob(f"*/{PLAN}"))


def find_folder(wanted: str, runs_dir: str, option: str) -> Path | None:
    """The folder of the sweep of this id, or the start of one; `last` is the newest. None where there is none.

    Raises BadInput, in words of the `option`, where there is more than one.
    """
    folders = folders_in(runs_dir)
    if wanted == queries.LAST:
        fitting = [folder for folder, _ in runs_in(Path(runs_dir) / "sweeps") if folder in folders][-1:]
    else:
        fitting = [folder for folder in folders if folder.name == wanted]
        fitting = fitting or [folder for folder in folders if folder.name.startswith(wanted)]
    if len(fitting) > 1:
        raise BadInput(f"{option}={wanted}: more than one sweep starts like this; give more of its id")
    return fitting[0] if fitting else None


def for_continued_runs(changes: Sequence[str], runs: Mapping[int, Path], tracked: bool) -> list[str]:
    """What of it a run can be continued with. Raises BadInput for what such a run would ignore.

    `tracked`: whether the jobs are recorded in a store.
    """
    accepted = [key for key in ACCEPTED if is_unnamed(key)]
    is_as_before = all((RunInfo.load(run).store is not None) == tracked for run in runs.values())
    ignored = [
        text
        for text in changes
        if (key := key_of(text)) not in (*accepted, *WHERE) and not (key == "tracking" and is_as_before)
    ]
    if ignored and runs:
        what = f"cannot be changed for job {min(runs)}, which continues its run (allowed: {', '.join(accepted)})"
        raise BadInput(*(f"{text}: {what}" for text in ignored))
    return [text.lstrip("+") for text in changes if key_of(text) in accepted]

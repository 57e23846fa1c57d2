"""The start of a run's record: its folder with config and provenance, and what MLflow gets of it."""

from __future__ import annotations

import logging
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blitz.config.compose import overrides_of
from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.redaction import redact, redact_command, redact_values, remember
from blitz.run_folder import files, git, journal, provenance
from blitz.run_folder.differences import differences
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import (
    ABOUT,
    DIGEST_LENGTH,
    NOTABLE,
    PAUSED,
    RESUMED,
    TAG_LENGTH,
    RunInfo,
    shortened,
    texts,
)
from blitz.runner import description
from blitz.runner.build import JobInfo, Setup
from blitz.runner.find import LAST
from blitz.tracking import health, store

logger = logging.getLogger("blitz")


@dataclass(frozen=True)
class RunStart:
    """A run's folder, ready for its record."""

    folder: Path
    about: RunInfo
    uri: str | None  # the store, with credentials where it needs some
    facts: dict[str, Any]  # its provenance.json
    overrides: Sequence[str]
    resumed_at: int | None = None  # position in the journal of the checkpoint that it is resumed from
    warnings: Sequence[str] = ()  # for its log
    seconds: float | None = 0.0  # wall time before a pause; None where that is unknown


@contextmanager
def start_run(setup: Setup, uri: str | None, overrides: Sequence[str], tags: Mapping[str, str]) -> Iterator[RunStart]:
    """A new run in a folder of its own, locked while the block trains it.

    Where the block ends before the run is recorded, nothing is left of it. Raises BadInput where there can be none.
    """
    name = redact(description.name(setup, overrides))
    facts, diff = facts_of(setup)  # takes longest, so before there is a folder
    folder = files.new_folder(setup.settings.runs_dir)
    try:
        with files.sole_trainer(folder):
            files.write_config(folder, redact_values(setup.settings.as_dict()))
            files.write_opening(folder, redact_command(overrides), facts, diff)
            overrides = overrides or overrides_of(setup.settings)  # of a run that was started in Python
            notable = {**setup.settings.notable(), "device.threads": setup.device.threads}
            tags = {**description.tags(setup, overrides, facts, folder), NOTABLE: " ".join(notable), **tags}
            about = RunInfo(
                record=uuid.uuid4().hex,
                store=redact(uri) if uri else None,
                experiment=redact(setup.settings.tracking.experiment),
                name=name,
                started_at=time.time_ns() // 1_000_000,
                params=texts(redact_values({**setup.settings.parameters(), **notable})),
                tags=_tag_texts(tags),
                dataset={
                    "name": setup.dataset.name,
                    "source": redact(setup.dataset.source),
                    "digest": setup.dataset.fingerprint[:DIGEST_LENGTH],
                    "rows": str(len(setup.splits.train)),
                },
            )
            yield RunStart(folder, about, uri, facts, overrides)
    except BaseException as error:  # a signal, say
        if (folder / ABOUT).exists():
            raise
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            where = f"runs_dir={setup.settings.runs_dir}"
            raise BadInput(f"{where}: cannot be written to ({error.strerror}); name another with runs_dir=") from None
        raise


def continue_run(
    setup: Setup,
    uri: str | None,
    folder: Path,
    about: RunInfo,
    facts: Mapping[str, Any],
    state: Mapping[str, Any] | None,
) -> RunStart:
    """A run that continues from a checkpoint, or starts again where it has none; config and provenance are updated.

    Raises BadInput where the folder cannot be written to.
    """
    facts_now, diff = facts_of(setup)
    changes = [f"since the run started, {difference}" for difference in differences(facts, facts_now)]
    epoch, step = setup.learner.epoch, setup.learner.step
    facts = {key: value for key, value in facts.items() if key != "result"}
    earlier = facts.get("resumed", [])
    diff_name = f"git.resumed-{len(earlier) + 1}.diff"
    facts["resumed"] = [*earlier, {**facts_now, "epoch": epoch, "step": step, "diff": diff_name}]
    tags = {RESUMED: str(len(facts["resumed"])), "folder": str(folder.absolute()), "host": facts_now["host"]}
    overrides = files.read_overrides(folder) or overrides_of(setup.settings)
    epochs = str(setup.settings.epochs)
    if epochs != about.tags.get("epochs", about.params.get("epochs")):  # MLflow's parameters cannot change
        tags |= {**description.hashes(setup), "epochs": epochs}
        overrides = [override for override in overrides if not override.startswith("epochs=")]
        overrides.append(f"epochs={epochs}")
    if state is None:
        changes.append(f"{LAST} was never saved, or is gone: the run starts again")
    elif damaged := journal.damaged(folder / JOURNAL, state["journal"]):
        where = f"{len(damaged):,}, the first at byte {damaged[0]:,}"
        changes.append(f"{JOURNAL}: lines that cannot be read, and what was measured there is lost: {where}")
    try:
        (folder / "checkpoints").mkdir(exist_ok=True)
        files.write_whole(folder / diff_name, diff)
        files.write_config(folder, redact_values(setup.settings.as_dict()))
        files.write_provenance(folder, facts)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written to ({error.strerror})") from None
    seconds = about.seconds if about.status == PAUSED else None
    resumed_at = state["journal"] if state is not None else 0
    return RunStart(folder, about.resume(_tag_texts(tags)), uri, facts, overrides, resumed_at, changes, seconds)


def tracking_store(settings: Settings, uri: str | None = None, job: JobInfo | None = None) -> str | None:
    """The store to record in, `uri` or the settings'; None for none.

    Raises BadInput for one that cannot be, or does not answer now. A job of a sweep is trained through an outage: the
    store answered when the sweep began, and nobody may be there to start it again.
    """
    tracking = settings.tracking
    if tracking.name == "none":
        return None
    uri = store.resolve(uri or tracking.uri)
    remember(uri)
    try:
        health.check(uri, tracking.experiment)
    except health.Unreachable as outage:
        if tracking.offline == "fail" and job is None:
            raise
        logger.warning("%s", outage)
        why = "tracking.offline=allow" if tracking.offline == "allow" else "the sweep has begun"
        logger.warning("%s: training all the same; the record is sent when the store is back", why)
    return uri


def facts_of(setup: Setup) -> tuple[dict[str, Any], str]:
    """What a run that begins now will have to be repeated with, and the code's diff."""
    facts, diff = surroundings()
    facts["data"] = description.about_data(setup.dataset, setup.splits)
    facts["device"] = description.about_device(setup.device)
    return facts, diff


def surroundings() -> tuple[dict[str, Any], str]:
    """The same without data and device, which this process has to be set up for already."""
    facts, diff = provenance.collect(sys.argv), ""
    if (root := facts["code"]["root"]) is not None:
        diff = git.diff(Path(root))
        facts["code"]["diff_sha256"] = git.fingerprint(diff)
    return facts, diff


def _tag_texts(tags: Mapping[str, str]) -> dict[str, str]:
    return {tag: shortened(text, TAG_LENGTH) for tag, text in redact_values(tags).items()}

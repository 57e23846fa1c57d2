"""Whether the process of a run that a store calls RUNNING is alive, or gone, as after kill -9 or a power cut."""

from __future__ import annotations

import logging
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blitz.errors import BadInput
from blitz.run_folder.files import is_locked, no_trainer
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import KILLED, RUNNING, RunInfo
from blitz.tracking import queries
from blitz.tracking.sending import Busy, Delivery, RecordedElsewhere, brief, sole_sender

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("blitz")

HEARTBEAT = "heartbeat"  # the tag with the time at which a run's writer last reached the store
HEARTBEAT_EVERY = 30.0  # seconds
STALE_AFTER = 10 * HEARTBEAT_EVERY
ORPHANED = "ORPHANED"  # no status of MLflow's: how a run is shown until it is marked
WHY = "its process was gone: killed (kill -9, out of memory), or the machine went down"
NAMED = 5  # orphaned runs of other hosts that a message names


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def end_orphan(folder: Path, about: RunInfo) -> RunInfo:
    """The run of `about` with its end: as its folder has it, or else KILLED at its last sign of life.

    It is still RUNNING where a process trains it.
    """
    with no_trainer(folder) as is_free:
        try:
            found = RunInfo.load(folder)
        except BadInput:
            found = about
        if found.status != RUNNING or not is_free:
            return found
        journal = folder / JOURNAL
        last = round(journal.stat().st_mtime * 1000) if journal.exists() else None
        found = found.ended(KILLED, {"ended": WHY}, last)
        try:
            found.save(folder)
        except OSError as error:
            logger.warning("%s", error)
        return found


def trained_elsewhere(delivery: Delivery) -> str:
    """Why a run must not be resumed in this folder, a copy of another one: empty where nothing is known against it.

    Raises what the store's side raises.
    """
    if (run := delivery.recorded()) is None:
        return ""
    try:
        delivery.refuse_copy(run)
    except RecordedElsewhere as why:
        return str(why)
    host, folder = run.data.tags.get("host", ""), Path(run.data.tags.get("folder", ""))
    if run.info.status != RUNNING or folder == delivery.folder.absolute():
        return ""  # the folder itself, maybe on a disk that hosts share: whoever resumes it has its lock
    is_here = host == platform.node() and folder.is_dir()
    if not is_locked(folder) if is_here else _is_stale(run):
        return ""
    since = (
        f"last heartbeat {_heartbeat(run):%H:%M:%S}; without one, it counts as gone after {STALE_AFTER / 60:g} minutes"
    )
    return f"run {run.info.run_id} is being trained in {host}:{folder}" + ("" if is_here else f" ({since})")


def status(run: Run) -> str:
    """A run's status for those who only look: of one that its store calls RUNNING, what is known here of its process.

    It is ORPHANED where that is gone and nobody has marked the run so far.
    """
    tags = run.data.tags
    if run.info.status != RUNNING or not {"record", "host", "folder"} <= tags.keys():
        return str(run.info.status)
    folder = Path(tags["folder"])
    with suppress(BadInput, OSError):
        if tags["host"] == platform.node() and (about := RunInfo.load(folder)).record == tags["record"]:
            is_gone = about.status == RUNNING and not is_locked(folder)
            return ORPHANED if is_gone else about.status
    return ORPHANED if _is_stale(run) else RUNNING


def mark_orphans(client: MlflowClient) -> None:
    """Mark this host's orphaned runs as ended, and report those of other hosts.

    Where the folder is here, its lock says whether a run is alive; elsewhere a heartbeat in the store does. Whatever
    fails is logged; nothing is raised.
    """
    stale = []
    query = "attributes.status = 'RUNNING' and tags.record != '' and tags.host != '' and tags.folder != ''"
    try:
        running = list(queries.search(client, query))
    except Exception as error:  # an unfinished look at other runs must not disturb this one
        logger.warning("orphaned runs may still have the status RUNNING: %s", brief(error))
        return
    for run in running:
        try:
            if run.data.tags["host"] == platform.node():
                _mark(client, run)
            elif _is_stale(run):
                stale.append(run)
        except Exception as error:
            run_id = run.info.run_id
            logger.warning("run %s may be orphaned and still have the status RUNNING: %s", run_id, brief(error))
    if stale:
        names = [f"{run.info.run_id} on {run.data.tags['host']} (last {_heartbeat(run)})" for run in stale[:NAMED]]
        more = f" and {len(stale) - NAMED} more" if len(stale) > NAMED else ""
        since = f"no heartbeat for {STALE_AFTER / 60:g} minutes"
        logger.info("orphaned runs of other hosts, left as they are: %s from %s%s", since, ", ".join(names), more)


def _heartbeat(run: Run) -> datetime:
    """The last one; the run's start where it never sent any."""
    try:
        return datetime.fromisoformat(run.data.tags[HEARTBEAT])
    except (KeyError, ValueError):
        return datetime.fromtimestamp(run.info.start_time / 1000, UTC)


def _is_stale(run: Run) -> bool:
    return (datetime.now(UTC) - _heartbeat(run)).total_seconds() > STALE_AFTER


def _mark(client: MlflowClient, run: Run) -> None:
    """Give an orphaned run the end that its folder has; the rest of its folder is left to `blitz sync`."""
    run_id, tags = run.info.run_id, run.data.tags
    folder = Path(tags["folder"])
    try:
        about = RunInfo.load(folder)
        if about.record != tags["record"]:
            raise BadInput(f"{folder}: another run's folder")
        with sole_sender(folder):
            about = end_orphan(folder, about)
        status, ended_at, why = about.status, about.ended_at, about.tags.get("ended")
    except Busy:
        return  # its own writer is at work
    except BadInput:
        # The folder is gone, or this is a container whose host has the same name: only the heartbeat can say which.
        if not _is_stale(run):
            return
        status, ended_at, why = KILLED, round(_heartbeat(run).timestamp() * 1000), WHY
    if status == RUNNING:
        return
    if why:
        client.set_tag(run_id, "ended", why)
    client.set_terminated(run_id, status, ended_at)
    more = f"; 'blitz sync {folder}' sends what its folder has" if folder.is_dir() else ""
    name = run.info.run_name
    logger.info("orphaned run %s (%s) is marked as %s: %s%s", run_id, name, status, why or "it ended so", more)

"""Runs that a store still calls RUNNING though nothing trains them: killed with kill -9, or in a power cut."""

from __future__ import annotations

import logging
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from blitz.errors import BadInput
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import KILLED, RUNNING, RunInfo
from blitz.tracking import queries
from blitz.tracking.sending import Busy, brief, sole_sender

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("blitz")

HEARTBEAT = "heartbeat"  # the tag that tells when a run was last heard of
HEARTBEAT_EVERY = 30.0  # seconds
STALE_AFTER = 10 * HEARTBEAT_EVERY
SAME_START = 2.0  # seconds that a process's start may seem to move, because the system's clock was set
WHY = "its process was gone: killed (kill -9, out of memory), or the machine went down"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def is_alive(pid: int, started_at: float) -> bool:
    """Whether the process that was started then is still there, and no later one with its number."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started_at) < SAME_START and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def killed(folder: Path, about: RunInfo) -> RunInfo:
    """How a run ended whose process, that of `about`, is gone: as its folder says, or KILLED at its last sign of life.

    It is still RUNNING where another process has gone on with it.
    """
    try:
        found = RunInfo.load(folder)
    except BadInput:
        found = about
    taken_over = (found.pid, found.pid_started_at) != (about.pid, about.pid_started_at)
    if found.status != RUNNING or (taken_over and is_alive(found.pid, found.pid_started_at)):
        return found
    journal = folder / JOURNAL
    last = round(journal.stat().st_mtime * 1000) if journal.exists() else None
    found = found.ended(KILLED, {"ended": WHY}, last)
    try:
        found.save(folder)
    except OSError as error:
        logger.warning("%s", error)
    return found


def settle(client: MlflowClient) -> None:
    """Mark this host's runs whose process is gone; tell of other hosts' stale ones.

    What it does or cannot do is told line by line; nothing is raised.
    """
    stale = []
    try:
        running = _running(client)
    except Exception as error:  # an unfinished look at other runs must not disturb this one
        logger.warning("runs that were killed may still be called RUNNING: %s", brief(error))
        return
    for run in running:
        tags = run.data.tags
        try:
            if tags["host"] != platform.node():
                stale += [run] if _is_stale(run) else []
            elif not is_alive(int(tags["pid"]), float(tags["pid.started_at"])):
                _mark(client, run)
        except Exception as error:
            logger.warning("run %s may still be called RUNNING: %s", run.info.run_id, brief(error))
    if stale:
        told = [f"{run.info.run_id} on {run.data.tags['host']} since {run.data.tags[HEARTBEAT]}" for run in stale[:5]]
        more = f" and {len(stale) - 5} more" if len(stale) > 5 else ""
        logger.info("not heard of, and not touched because they are other hosts': %s%s", ", ".join(told), more)


def _running(client: MlflowClient) -> list[Run]:
    query = "attributes.status = 'RUNNING' and tags.record != ''"
    found = queries.pages(client.search_runs, experiment_ids=queries.experiment_ids(client), filter_string=query)
    return [run for run in found if run.data.tags.keys() >= {"record", "host", "pid", "pid.started_at", "folder"}]


def _is_stale(run: Run) -> bool:
    """Whether a run was last heard of long ago; one that never sent a heartbeat was heard of at its start."""
    try:
        heard = datetime.fromisoformat(run.data.tags[HEARTBEAT])
    except (KeyError, ValueError):
        heard = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return (datetime.now(UTC) - heard).total_seconds() > STALE_AFTER


def _mark(client: MlflowClient, run: Run) -> None:
    """Mark a run as its folder says it ended; what else its folder holds may be much, and is left to `blitz sync`."""
    run_id, tags = run.info.run_id, run.data.tags
    folder = Path(tags["folder"])
    try:
        about = RunInfo.load(folder)
        if about.record != tags["record"]:
            raise BadInput(f"{folder}: another run's folder")
        with sole_sender(folder):
            if about.status == RUNNING and is_alive(about.pid, about.pid_started_at):
                return  # another process has gone on with it
            about = killed(folder, about)
        status, ended_at, why = about.status, about.ended_at, about.tags.get("ended")
    except Busy:
        return  # its own writer is at work
    except BadInput:
        # The folder is gone, or this is a container whose host has the same name: only silence tells the two apart.
        if not _is_stale(run):
            return
        status, ended_at, why = KILLED, _heartbeat_milliseconds(run), WHY
    if why:
        client.set_tag(run_id, "ended", why)
    client.set_terminated(run_id, status, ended_at)
    more = f"; 'blitz sync {folder}' sends what its folder has" if folder.is_dir() else ""
    logger.info("run %s (%s) is marked as %s: %s%s", run_id, run.info.run_name, status, why or "as it ended", more)


def _heartbeat_milliseconds(run: Run) -> int | None:
    heard = run.data.tags.get(HEARTBEAT)
    return round(datetime.fromisoformat(heard).timestamp() * 1000) if heard else None

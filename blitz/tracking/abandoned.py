"""Runs that a store still calls RUNNING though nothing trains them: killed with kill -9, or in a power cut."""

from __future__ import annotations

import logging
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from blitz.errors import BadInput
from blitz.tracking import store
from blitz.tracking.about import RUNNING, About
from blitz.tracking.journal import JOURNAL
from blitz.tracking.sending import Busy, Delivery, brief, sole_sender

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


def killed(folder: Path, about: About) -> About:
    """How a run ended whose process is gone: as its folder says, or as KILLED at its last sign of life."""
    try:
        found = About.load(folder)
    except BadInput:
        found = about
    if found.status != RUNNING:
        return found
    journal = folder / JOURNAL
    last = round(journal.stat().st_mtime * 1000) if journal.exists() else None
    found = found.ended("KILLED", {"ended": WHY}, last)
    try:
        found.save(folder)
    except OSError as error:
        logger.warning("%s", error)
    return found


def settle(client: MlflowClient, uri: str) -> None:
    """Mark this host's runs whose process is gone, and send what their folders hold; tell of other hosts' stale ones.

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
                _mark(client, uri, run)
        except Exception as error:
            logger.warning("run %s may still be called RUNNING: %s", run.info.run_id, brief(error))
    if stale:
        told = [f"{run.info.run_id} on {run.data.tags['host']} since {run.data.tags[HEARTBEAT]}" for run in stale[:5]]
        more = f" and {len(stale) - 5} more" if len(stale) > 5 else ""
        logger.info("not heard of, and not touched because they are other hosts': %s%s", ", ".join(told), more)


def _running(client: MlflowClient) -> list[Run]:
    query = "attributes.status = 'RUNNING' and tags.record != ''"
    found = store.pages(client.search_runs, experiment_ids=store.experiment_ids(client), filter_string=query)
    return [run for run in found if run.data.tags.keys() >= {"record", "host", "pid", "pid.started_at", "folder"}]


def _is_stale(run: Run) -> bool:
    try:
        heard = datetime.fromisoformat(run.data.tags[HEARTBEAT])
    except (KeyError, ValueError):
        return False
    return (datetime.now(UTC) - heard).total_seconds() > STALE_AFTER


def _mark(client: MlflowClient, uri: str, run: Run) -> None:
    run_id, tags = run.info.run_id, run.data.tags
    folder = Path(tags["folder"])
    try:
        about = About.load(folder)
        if about.record != tags["record"]:
            raise BadInput(f"{folder}: another run's folder")
        with sole_sender(folder):
            delivery = Delivery(folder, uri, killed(folder, about))
            delivery.send()
        status = delivery.about.status
    except Busy:
        return  # its own writer is at work
    except BadInput:  # the folder is gone
        status = "KILLED"
        client.set_tag(run_id, "ended", WHY)
        client.set_terminated(run_id, status, _heartbeat_milliseconds(run))
    logger.info("run %s (%s) is marked as %s: %s", run_id, run.info.run_name, status, WHY)


def _heartbeat_milliseconds(run: Run) -> int | None:
    heard = run.data.tags.get(HEARTBEAT)
    return round(datetime.fromisoformat(heard).timestamp() * 1000) if heard else None

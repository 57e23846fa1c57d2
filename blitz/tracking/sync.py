"""`blitz sync`: send what stores lack of runs whose folders are here."""

from __future__ import annotations

import contextlib
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from blitz.errors import BadInput
from blitz.redaction import redact, remember
from blitz.run_folder.files import is_locked
from blitz.run_folder.run_info import ABOUT, RUNNING, RunInfo
from blitz.tracking import health, store
from blitz.tracking.orphaned import end_orphan, mark_orphans
from blitz.tracking.sending import Busy, Delivery, brief, sole_sender

logger = logging.getLogger("blitz")

RUNS = Path("runs")


class _NotSent(Exception):
    """Why a run could not be sent."""


class _Waiting(Exception):
    """Who else sends a run."""


def sync(folders: Sequence[str], uri: str | None) -> int:
    """A line for each run that was not complete; returns the exit code, 1 where one still is not.

    Raises BadInput for a named folder that holds no run, and for a named store that cannot be.
    """
    sweeps_first = [*sorted(RUNS.glob(f"sweeps/*/{ABOUT}")), *sorted(RUNS.glob(f"*/{ABOUT}"))]
    found = [Path(folder) for folder in folders] or [path.parent for path in sweeps_first]
    runs = [(folder, _loaded(folder, bool(folders))) for folder in found]
    if uri is not None:
        uri = store.resolve(uri)
        remember(uri)
        with contextlib.suppress(health.Unreachable):  # reported below, run by run
            health.check(uri)
    sent = complete = apart = waiting = failed = 0
    troubles: dict[str, str | None] = {}  # store -> why it cannot be used
    for folder, about in runs:
        if about is None:
            failed += 1
            continue
        if about.store is None and uri is None:
            apart += 1
            if folders:
                print(f"{folder}: recorded with tracking=none; name a store: blitz sync --store URI {folder}")
            continue
        try:
            where = uri or _recorded_in(about)
            delivery = Delivery(folder, where, about)
            if delivery.complete and not (folders and _is_gone(delivery)):
                complete += 1
                continue
            if where not in troubles:
                troubles[where] = _trouble(where)
            if trouble := troubles[where]:
                raise _NotSent(trouble)
            print(f"{folder}: {_send(delivery)}", flush=True)
            sent += 1
        except _Waiting as reason:
            print(f"{folder}: {reason}", flush=True)
            waiting += 1
        except _NotSent as reason:
            print(f"{folder}: not sent: {reason}", flush=True)
            failed += 1
    counts = {"sent": sent, "complete already": complete, "recorded with tracking=none": apart}
    counts |= {"sent by others": waiting, "not sent": failed}
    summary = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    looked_in = ", ".join(folders) or str(RUNS.absolute())
    print(f"{len(runs)} run{'s' * (len(runs) != 1)} in {looked_in}: {summary or 'nothing to send'}")
    return 1 if failed else 0


def _loaded(folder: Path, named: bool) -> RunInfo | None:
    """None for a folder in ./runs that cannot be read, which is printed. Raises BadInput for one that was named."""
    try:
        return RunInfo.load(folder)
    except BadInput as problem:
        if named:
            raise
        print(f"{problem}", flush=True)
        return None


def _recorded_in(about: RunInfo) -> str:
    try:
        return store.recorded_in(about)
    except BadInput as problem:
        raise _NotSent(str(problem)) from None


def _is_gone(delivery: Delivery) -> bool:
    """Whether a store has lost a run that it had. Where that cannot be asked, sending says why."""
    try:
        return delivery.recorded() is None
    except Exception:
        return True


def _trouble(where: str) -> str | None:
    try:
        health.check(where)
        mark_orphans(store.connect(where))
    except health.Unreachable as outage:
        print(f"blitz: {outage}", file=sys.stderr)
        return f"{redact(where)} does not answer"
    except BadInput as problem:
        return str(problem)
    except Exception as error:
        return brief(error)
    return None


def _send(delivery: Delivery) -> str:
    """What was sent, in words. Raises _NotSent and _Waiting."""
    folder, about = delivery.folder, delivery.about
    local = about.host == platform.node()
    if about.status == RUNNING and is_locked(folder):
        raise _Waiting("still training; it sends by itself")
    try:
        with sole_sender(folder):
            if about.status == RUNNING and local:
                known = delivery.recorded()  # a full disk may have kept the end from being written into the folder
                if known is not None and known.info.status != RUNNING:
                    delivery.about = about.ended(known.info.status, known.data.tags, known.info.end_time)
                else:
                    delivery.about = end_orphan(folder, about)
            missing = delivery.missing()
            delivery.send()
    except Busy:
        raise _Waiting("another process is sending it") from None
    except Exception as error:
        raise _NotSent(brief(error)) from None
    doubt = ""
    if delivery.about.status == RUNNING:
        doubt = f"; whether {about.host} still trains it cannot be seen from here"
    return f"sent {missing or 'nothing'}; run {delivery.sent.run_id} in {redact(delivery.uri)}{doubt}"

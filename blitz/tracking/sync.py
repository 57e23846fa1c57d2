"""`blitz sync`: send what stores lack of runs whose folders are here."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from blitz.errors import BadInput
from blitz.tracking import health, store
from blitz.tracking.abandoned import is_alive, killed, settle
from blitz.tracking.about import ABOUT, RUNNING, About
from blitz.tracking.credentials import HIDDEN, redact, remember
from blitz.tracking.sending import Busy, Delivery, brief, sole_sender

logger = logging.getLogger("blitz")

RUNS = Path("runs")


class _NotSent(Exception):
    """Why a run could not be sent."""


def sync(folders: Sequence[str], uri: str | None) -> int:
    """A line for each run that was not complete; returns the exit code, 1 where one still is not.

    Raises BadInput for a folder that holds no run, and for a store that cannot be.
    """
    found = [Path(folder) for folder in folders] or [path.parent for path in sorted(RUNS.glob(f"*/{ABOUT}"))]
    runs = [(folder, About.load(folder)) for folder in found]
    if uri is not None:
        uri = store.resolve(uri)
        remember(uri)
    sent = complete = apart = failed = 0
    troubles: dict[str, str | None] = {}  # store -> why it cannot be used
    for folder, about in runs:
        if about.store is None and uri is None:
            apart += 1
            if folders:
                print(f"{folder}: recorded with tracking=none; name a store: blitz sync --store URI {folder}")
            continue
        where = uri or _store(folder, about)
        delivery = Delivery(folder, where, about)
        if delivery.complete:
            complete += 1
            continue
        try:
            if where not in troubles:
                troubles[where] = _trouble(where)
            if trouble := troubles[where]:
                raise _NotSent(trouble)
            print(f"{folder}: {_send(delivery)}", flush=True)
            sent += 1
        except _NotSent as reason:
            print(f"{folder}: not sent: {reason}", flush=True)
            failed += 1
    counts = {"sent": sent, "complete already": complete, "recorded with tracking=none": apart, "not sent": failed}
    told = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    where = ", ".join(folders) or str(RUNS.absolute())
    print(f"{len(runs)} run{'s' * (len(runs) != 1)} in {where}: {told or 'nothing to send'}")
    return 1 if failed else 0


def _store(folder: Path, about: About) -> str:
    """Where a run was to be recorded. Its record holds no credentials: an address with some comes from here."""
    assert about.store is not None
    if HIDDEN not in about.store:
        return about.store
    ours = store.resolve(None)
    if redact(ours) != about.store:
        raise BadInput(
            f"{folder}: was recorded in {about.store}, whose credentials are not kept; "
            "give the address again: --store URI, or MLFLOW_TRACKING_URI"
        )
    return ours


def _trouble(where: str) -> str | None:
    try:
        health.check(where)
        settle(store.connect(where), where)
    except health.Unreachable as outage:
        print(f"blitz: {outage}", file=sys.stderr)
        return f"{redact(where)} does not answer"
    except BadInput:
        raise
    except Exception as error:
        return brief(error)
    return None


def _send(delivery: Delivery) -> str:
    """What was sent, in words. Raises _NotSent."""
    folder, about = delivery.folder, delivery.about
    local = about.host == platform.node()
    if about.status == RUNNING and local and is_alive(about.pid, about.pid_started_at):
        return "still training; it sends by itself"
    try:
        with sole_sender(folder):
            if about.status == RUNNING and local:
                delivery.about = killed(folder, about)
            missing = delivery.missing()
            delivery.send()
    except Busy:
        return "another process is sending it"
    except Exception as error:
        raise _NotSent(brief(error)) from None
    doubt = ""
    if delivery.about.status == RUNNING:
        doubt = f"; whether {about.host} still trains it cannot be seen from here"
    return f"sent {missing or 'nothing'}; run {delivery.sent.run_id} in {redact(delivery.uri)}{doubt}"

"""`blitz sync`: send what stores lack of runs whose folders are here."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from blitz.errors import BadInput
from blitz.redaction import redact, remember
from blitz.run_folder.files import is_locked
from blitz.run_folder.run_info import ABOUT, RUNNING, RunInfo
from blitz.terminal.text import print_line
from blitz.tracking import health, store
from blitz.tracking.orphaned import end_orphan, mark_orphans
from blitz.tracking.sending import Busy, Delivery, brief, sole_sender

RUNS = Path("runs")
# What came of a run, in the order of the summary:
SENT, COMPLETE, APART = "sent", "complete already", "recorded with tracking=none"
BY_OTHERS, NOT_SENT = "sent by others", "not sent"


def sync(folders: Sequence[str], uri: str | None) -> int:
    """A line for each run that was not complete; returns the exit code, 1 where one still is not.

    Raises BadInput for a named folder that holds no run, and for a named store that cannot be.
    """
    named = [Path(folder) for folder in folders]
    for folder in named:
        RunInfo.load(folder)
    sweeps_first = [*sorted(RUNS.glob(f"sweeps/*/{ABOUT}")), *sorted(RUNS.glob(f"*/{ABOUT}"))]
    found = named or [path.parent for path in sweeps_first]
    if uri is not None:
        uri = store.resolve(uri)
        remember(uri)
        with contextlib.suppress(health.Unreachable):  # reported below, run by run
            health.check(uri)
    counts = dict.fromkeys((SENT, COMPLETE, APART, BY_OTHERS, NOT_SENT), 0)
    troubles: dict[str, str] = {}
    for folder in found:
        outcome, line = _sync_run(folder, uri, bool(named), troubles)
        counts[outcome] += 1
        if line:
            print_line(line)
            sys.stdout.flush()
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)
    looked_in = ", ".join(folders) or str(RUNS.absolute())
    print_line(f"{len(found)} run{'s' * (len(found) != 1)} in {looked_in}: {summary or 'nothing to send'}")
    return 1 if counts[NOT_SENT] else 0


def _sync_run(folder: Path, uri: str | None, is_named: bool, troubles: dict[str, str]) -> tuple[str, str]:
    """What came of it, and the line about it, empty for none; `troubles`: by store why it cannot be used."""
    try:
        about = RunInfo.load(folder)
    except BadInput as problem:
        return NOT_SENT, str(problem)
    if about.store is None and uri is None:
        line = f"{folder}: recorded with tracking=none; name a store: blitz sync --store URI {folder}"
        return APART, line if is_named else ""
    try:
        where = uri or store.recorded_in(about)
        delivery = Delivery(folder, where, about)
        if delivery.complete and not (is_named and _is_gone(delivery)):
            return COMPLETE, ""
        if where not in troubles:
            troubles[where] = _trouble(where)
        if trouble := troubles[where]:
            return NOT_SENT, f"{folder}: not sent: {trouble}"
        if about.status == RUNNING and is_locked(folder):
            return BY_OTHERS, f"{folder}: still training; it sends by itself"
        return SENT, f"{folder}: {_send(delivery)}"
    except Busy:
        return BY_OTHERS, f"{folder}: another process is sending it"
    except Exception as error:
        return NOT_SENT, f"{folder}: not sent: {_reason(error)}"


def _is_gone(delivery: Delivery) -> bool:
    """Whether a store has lost a run that it had. Where that cannot be asked, sending says why."""
    try:
        return delivery.recorded() is None
    except Exception:
        return True


def _trouble(where: str) -> str:
    """Why a store cannot be used; empty where it can."""
    try:
        health.check(where)
        mark_orphans(store.connect(where))
    except health.Unreachable as outage:
        print(f"blitz: {outage}", file=sys.stderr)
        return f"{redact(where)} does not answer"
    except Exception as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, BadInput) else brief(error)


def _send(delivery: Delivery) -> str:
    """What was sent, in words. Raises Busy, and whatever the store's side raises."""
    folder, about = delivery.folder, delivery.about
    with sole_sender(folder):
        if about.status == RUNNING and about.host == platform.node():
            known = delivery.recorded()  # a full disk may have kept the end from being written into the folder
            if known is not None and known.info.status != RUNNING:
                delivery.about = about.ended(known.info.status, known.data.tags, known.info.end_time)
            else:
                delivery.about = end_orphan(folder, about)
        missing = delivery.missing()
        delivery.send()
    doubt = ""
    if delivery.about.status == RUNNING:
        doubt = f"; whether {about.host} still trains it cannot be seen from here"
    return f"sent {missing or 'nothing'}; run {delivery.sent.run_id} in {redact(delivery.uri)}{doubt}"

"""Runs whose process is gone: marked by the next command on their host, and only told of on others."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from support.recorded import client, runs

from blitz.tracking.orphaned import WHY, is_alive, settle


def test_alive_is_the_process_that_was_started_then() -> None:
    me = psutil.Process()
    assert is_alive(me.pid, me.create_time())
    assert not is_alive(me.pid, me.create_time() - 60)  # an earlier process of this number
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(ended.pid).create_time()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(ended.pid, started)  # it ended, and its parent has not heard of it yet
    ended.wait()
    assert not is_alive(ended.pid, started)


@pytest.fixture
def found(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "blitz")


def running(folder: str = "/nowhere", host: str | None = None, alive: bool = False, heard: str | None = None) -> str:
    """A run that the store calls RUNNING."""
    me = psutil.Process()
    tags = {
        "record": "r", "host": host or platform.node(), "folder": folder, "pid": str(me.pid),
        "pid.started_at": str(me.create_time() - (0 if alive else 60)), **({"heartbeat": heard} if heard else {}),
    }  # fmt: skip
    return str(client().create_run("0", start_time=1_700_000_000_000, tags=tags).info.run_id)


def settled() -> None:
    settle(client())


def test_a_dead_run_of_this_host_is_marked(found: None, caplog: pytest.LogCaptureFixture) -> None:
    heard = datetime.now(UTC) - timedelta(hours=3)
    dead, alive = running(heard=heard.isoformat()), running(alive=True)
    hidden = running(heard=datetime.now(UTC).isoformat())  # in a container whose host has the same name
    settled()
    run = client().get_run(dead)
    assert run.info.status == "KILLED"
    assert run.data.tags["ended"] == WHY
    assert run.info.end_time == round(heard.timestamp() * 1000)
    assert {client().get_run(run_id).info.status for run_id in (alive, hidden)} == {"RUNNING"}
    assert [record.getMessage() for record in caplog.records] == [
        f"run {dead} ({run.info.run_name}) is marked as KILLED: {WHY}"
    ]
    caplog.clear()
    settled()
    assert caplog.records == []


def test_stale_runs_of_other_hosts_are_told_and_not_touched(found: None, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    old = (now - timedelta(hours=1)).isoformat(timespec="seconds")
    stale = running(host="elsewhere", heard=old)
    running(host="elsewhere", heard=now.isoformat(timespec="seconds"))
    settled()
    assert {run.info.status for run in runs()} == {"RUNNING"}
    assert [record.getMessage() for record in caplog.records] == [
        f"not heard of, and not touched because they are other hosts': {stale} on elsewhere since {old}"
    ]


def test_a_run_that_cannot_be_looked_at_is_told_and_the_others_are_marked(
    found: None, caplog: pytest.LogCaptureFixture
) -> None:
    dead, broken, dead_too = running(), running(), running()
    client().set_tag(broken, "pid", "no number")
    settled()
    assert f"run {broken} may still be called RUNNING: ValueError" in caplog.text
    assert {client().get_run(run_id).info.status for run_id in (dead, dead_too)} == {"KILLED"}

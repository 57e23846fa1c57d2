"""Orphaned runs: marked by the next command where their folder or host is this one, and only reported elsewhere."""

from __future__ import annotations

import json
import logging
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.recorded import client, runs
from support.shell import blitz as command

from blitz.run_folder.files import LOCK, sole_trainer
from blitz.run_folder.run_info import RunInfo
from blitz.tracking.orphaned import WHY, end_orphan, mark_orphans
from blitz.tracking.sending import sole_sender


@pytest.fixture
def logged(here: Path, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "blitz")
    return caplog


def running(folder: Path = Path("/nowhere"), host: str | None = None, heartbeat: datetime | None = None) -> str:
    """A run that the store calls RUNNING; returns its id. Its folder is made where it can be."""
    tags = {"record": f"r-{folder.name}", "host": host or platform.node(), "folder": str(folder)}
    if folder.parent.is_dir() and folder.parent != Path("/"):
        folder.mkdir()
        (folder / LOCK).touch()
        RunInfo(tags["record"], None, "e", folder.name, 0, {}, tags, {}).save(folder)
    if heartbeat is not None:
        tags["heartbeat"] = heartbeat.isoformat(timespec="seconds")
    return str(client().create_run("0", start_time=1_700_000_000_000, tags=tags).info.run_id)


def status(run_id: str) -> str:
    return str(client().get_run(run_id).info.status)


def test_lock_alone_says_whether_a_run_is_alive_where_its_folder_is_here(
    logged: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Whatever the clocks say: the heartbeats of an hour ago and of now would say the opposite."""
    now = datetime.now(UTC)
    alive, dead = tmp_path / "alive", tmp_path / "dead"
    with_lock, without = running(alive, heartbeat=now - timedelta(hours=1)), running(dead, heartbeat=now)
    with sole_trainer(alive):
        mark_orphans(client())
    assert (status(with_lock), status(without)) == ("RUNNING", "KILLED")
    assert (RunInfo.load(alive).status, RunInfo.load(dead).status) == ("RUNNING", "KILLED")
    run = client().get_run(without)
    assert run.data.tags["ended"] == WHY
    assert [record.getMessage() for record in logged.records] == [
        f"orphaned run {without} ({run.info.run_name}) is marked as KILLED: {WHY}; "
        f"'blitz sync {dead}' sends what its folder has"
    ]
    logged.clear()
    mark_orphans(client())
    assert status(with_lock) == "KILLED"  # its lock is free now


@pytest.mark.parametrize("is_here", [True, False])
def test_orphaned_run_is_marked_by_compare(here: Path, tmp_path: Path, is_here: bool) -> None:
    """Whether its folder is here, or its heartbeats alone are known."""
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    run_id = running(tmp_path / "run") if is_here else running(heartbeat=an_hour_ago)
    (row,) = json.loads(command("compare", "--format", "json").output)["rows"]
    assert row["status"] == status(run_id) == "KILLED"


def test_orphaned_run_that_its_own_writer_still_sends_is_left_to_it(here: Path, tmp_path: Path) -> None:
    run_id = running(tmp_path / "run")
    with sole_sender(tmp_path / "run"):
        mark_orphans(client())
    assert status(run_id) == "RUNNING"


@pytest.mark.parametrize("ended", ["KILLED", "FINISHED"])
def test_orphaned_run_ends_as_its_folder_says(here: Path, tmp_path: Path, ended: str) -> None:
    run_id = running(tmp_path / "run")
    RunInfo.load(tmp_path / "run").ended(ended, {}, 1_800_000_000_000).save(tmp_path / "run")
    mark_orphans(client())
    run = client().get_run(run_id)
    assert (run.info.status, run.info.end_time) == (ended, 1_800_000_000_000)


def test_heartbeat_says_whether_a_run_is_alive_where_its_folder_is_not_here(logged: pytest.LogCaptureFixture) -> None:
    last = datetime.now(UTC) - timedelta(hours=3)
    dead = running(heartbeat=last)
    hidden = running(heartbeat=datetime.now(UTC))  # in a container whose host has the same name
    mark_orphans(client())
    assert (status(dead), status(hidden)) == ("KILLED", "RUNNING")
    run = client().get_run(dead)
    assert run.data.tags["ended"] == WHY
    assert run.info.end_time == int(last.timestamp()) * 1000
    assert [record.getMessage() for record in logged.records] == [
        f"orphaned run {dead} ({run.info.run_name}) is marked as KILLED: {WHY}"
    ]
    logged.clear()
    mark_orphans(client())
    assert logged.records == []


def test_folder_of_another_run_says_nothing(here: Path, tmp_path: Path) -> None:
    """Containers with one host name and one path, such as /runs/1, that is another folder in each."""
    hidden = running(tmp_path / "run", heartbeat=datetime.now(UTC))
    RunInfo("another", None, "e", "n", 0, {}, {}, {}).save(tmp_path / "run")
    mark_orphans(client())
    assert status(hidden) == "RUNNING"
    assert RunInfo.load(tmp_path / "run").status == "RUNNING"


def test_orphaned_runs_of_other_hosts_are_reported_and_left_as_they_are(logged: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    old = now - timedelta(hours=1)
    stale = running(host="elsewhere", heartbeat=old)
    running(host="elsewhere", heartbeat=now)
    mark_orphans(client())
    assert {run.info.status for run in runs()} == {"RUNNING"}
    assert [record.getMessage() for record in logged.records] == [
        f"orphaned runs of other hosts, left as they are: no heartbeat for 5 minutes from {stale} on elsewhere "
        f"(last {old})"
    ]


def test_a_run_that_cannot_be_looked_at_is_reported_and_the_others_are_marked(
    logged: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    dead, broken, dead_too = (running(tmp_path / name) for name in ("a", "b", "c"))
    (tmp_path / "b" / LOCK).unlink()
    (tmp_path / "b" / LOCK).mkdir()
    mark_orphans(client())
    assert f"run {broken} may be orphaned and still have the status RUNNING: IsADirectoryError" in logged.text
    assert (status(dead), status(dead_too)) == ("KILLED", "KILLED")


def test_end_of_an_orphaned_run_is_its_last_metric(tmp_path: Path) -> None:
    about = RunInfo("r", None, "e", "n", 0, {}, {}, {})
    about.save(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 0, "time": 0, "train/loss": 1.0}) + "\n")
    ended = end_orphan(tmp_path, about)
    assert ended.status == "KILLED"
    assert ended.ended_at == round((tmp_path / "metrics.jsonl").stat().st_mtime * 1000)
    with sole_trainer(tmp_path):  # resumed by now: as the folder has it
        assert end_orphan(tmp_path, about) == ended

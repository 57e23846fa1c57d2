"""A store and a journal that loses its end: nothing twice, nothing lost, once a run was resumed."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from support.recorded import Note, client, lines

from blitz.run_folder.run_info import RUNNING, RunInfo
from blitz.tracking import store
from blitz.tracking.recorder import Recorder
from blitz.tracking.sending import Delivery


def new_run(folder: Path) -> RunInfo:
    folder.mkdir()
    about = RunInfo(uuid.uuid4().hex, store.resolve(None), "power", folder.name, 1, {}, {}, {})
    about.save(folder)
    return about


def measured(step: int) -> bytes:
    """As a line of a journal, in the seventies: measured again it has another time."""
    return json.dumps({"step": step, "time": step, "a": float(step)}).encode() + b"\n"


def append(path: Path, *steps: int) -> None:
    with path.open("ab") as file:
        file.write(b"".join(map(measured, steps)))


def in_the_store(run_id: str) -> list[tuple[int, int, float]]:
    points = client().get_metric_history(run_id, "a")
    return sorted((point.step, point.timestamp, point.value) for point in points)


def in_the_journal(folder: Path) -> list[tuple[int, int, float]]:
    return sorted((int(line["step"]), int(line["time"]), line["a"]) for line in lines(folder))


def resume(folder: Path, about: RunInfo, checkpoint: int, steps: range) -> str | None:
    """Measure these steps again, and end; returns the id of the run in the store."""
    recorder = Recorder(folder, store.resolve(None), about, resumed_at=checkpoint)
    for step in steps:
        recorder.log({"a": float(step)}, step)
    assert recorder.end("FINISHED", {}) == ""
    return recorder.run_id


def test_points_that_may_be_lost_are_not_sent(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a disk that does not take them."""
    about = new_run(here / "run")
    append(here / "run" / "metrics.jsonl", 1, 2)
    delivery = Delivery(here / "run", store.resolve(None), about)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            delivery.send()
    run_id = str(delivery.sent.run_id)
    assert in_the_store(run_id) == []
    delivery.send()
    assert in_the_store(run_id) == [(1, 1, 1.0), (2, 2, 2.0)]


def power_cut(folder: Path, at: int, keep_sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that a power cut ends at a byte behind what the disk had, sent in part; resumed, with each point once."""
    about, path = new_run(folder), folder / "metrics.jsonl"
    append(path, 1)
    checkpoint = durable = path.stat().st_size
    append(path, 2, 3)
    synced, fsync = 0, os.fsync

    def note(descriptor: int) -> None:
        nonlocal synced
        fsync(descriptor)
        if os.path.sameopenfile(descriptor, opened.fileno()):
            synced = os.fstat(descriptor).st_size

    with monkeypatch.context() as patch, path.open("rb") as opened:
        patch.setattr(os, "fsync", note)
        Delivery(folder, store.resolve(None), about).send()
    append(path, 4, 5)
    durable = max(checkpoint, synced)
    assert durable + at <= path.stat().st_size
    os.truncate(path, durable + at)
    if not keep_sent:
        (folder / "sent.json").unlink()
    run_id = resume(folder, about, checkpoint, range(2, 8))
    assert [step for step, *_ in in_the_journal(folder)] == list(range(1, 8))
    assert in_the_store(str(run_id)) == in_the_journal(folder), at


UNSYNCED = len(measured(4) + measured(5))


@pytest.mark.parametrize("keep_sent", [True, False])
def test_resume_after_a_power_cut_has_each_point_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, keep_sent: bool
) -> None:
    for at in (0, len(measured(4)) - 1, len(measured(4))):
        power_cut(here / str(at), at, keep_sent, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("keep_sent", [True, False])
def test_resume_after_a_power_cut_at_every_byte(
    here: Path, monkeypatch: pytest.MonkeyPatch, keep_sent: bool, record_property: Note
) -> None:
    record_property("tries", UNSYNCED + 1)
    for at in range(UNSYNCED + 1):
        power_cut(here / str(at), at, keep_sent, monkeypatch)


def test_resume_of_a_journal_that_lost_what_was_sent_loses_no_more(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a disk that says that it has what it has not."""
    folder = here / "run"
    about, path = new_run(folder), folder / "metrics.jsonl"
    append(path, *range(1, 9))
    Delivery(folder, store.resolve(None), about).send()
    kept = len(measured(1) + measured(2))
    os.truncate(path, kept)
    run_id = resume(folder, about, len(measured(1)), range(2, 12))
    assert set(in_the_journal(folder)) <= set(in_the_store(str(run_id)))
    lost = len(b"".join(map(measured, range(3, 9))))
    assert f"{path} has lost {lost} bytes that MLflow has: points may be there twice" in caplog.messages


def log(path: Path, **metrics: float) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"step": 1, "time": 1, **metrics}) + "\n")


def test_first_objective_is_sent_before_all_other_metrics(here: Path) -> None:
    """MLflow's compare page opens on the metric that arrived first."""
    folder, hour = here / "run", 3_600_000  # by which the clock was stepped back: on no machine is a minute over
    about = replace(new_run(folder), started_at=time.time_ns() // 1_000_000 + hour)
    delivery, path = Delivery(folder, store.resolve(None), about), folder / "metrics.jsonl"
    log(path, **{"system/cpu": 50.0})
    log(path, **{"train/step_loss": 2.0})
    delivery.send()
    run_id = str(delivery.sent.run_id)
    assert client().get_run(run_id).data.metrics == {}  # until the end of its first epoch, a minute at most
    log(path, **{"train/loss": 1.0, "objective": 0.5})
    delivery.send()
    assert list(client().get_run(run_id).data.metrics) == ["objective", "train/step_loss", "train/loss", "system/cpu"]
    assert [point.value for point in client().get_metric_history(run_id, "objective")] == [0.5]


@pytest.mark.parametrize("status", [RUNNING, "FAILED"])
def test_metrics_do_not_wait_for_an_objective_that_is_a_minute_away_or_never_comes(here: Path, status: str) -> None:
    minute = 60_000 if status == RUNNING else 0
    about = replace(new_run(here / "run"), started_at=time.time_ns() // 1_000_000 - minute, status=status)
    log(here / "run" / "metrics.jsonl", **{"system/cpu": 50.0})
    log(here / "run" / "metrics.jsonl", **{"train/step_loss": 2.0})
    delivery = Delivery(here / "run", store.resolve(None), about)
    delivery.send()
    assert list(client().get_run(str(delivery.sent.run_id)).data.metrics) == ["train/step_loss", "system/cpu"]


def test_the_end_of_a_run_is_on_the_disk_after_its_metrics(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = new_run(here / "run")
    recorder = Recorder(here / "run", None, about)
    recorder.log({"a": 1.0}, 1)
    status: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), recorder.journal.path.stat()):
            status.append(RunInfo.load(here / "run").status)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    recorder.end("FINISHED", {})
    assert status == [RUNNING]
    assert RunInfo.load(here / "run").status == "FINISHED"

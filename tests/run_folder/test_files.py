"""A run's folder: what is written into it survives what may happen meanwhile."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from blitz.errors import BadInput
from blitz.run_folder.files import (
    LOCK,
    is_locked,
    log_file,
    new_folder,
    no_trainer,
    replacing,
    sole_trainer,
    write_whole,
)
from blitz.run_folder.run_info import RunInfo


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "mlflow.json", []

    def note(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append("folder" if stat.S_ISDIR(status.st_mode) else (status.st_size, path.read_text()))

    monkeypatch.setattr(os, "fsync", note)
    path.write_text("old")
    write_whole(path, "newer", synced=False)
    assert (path.read_text(), synced) == ("newer", [])
    write_whole(path, "the newest")
    assert (path.read_text(), synced) == ("the newest", [(len("the newest"), "newer"), "folder"])
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_keeps_the_old_file_where_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("old")

    def fail(error: Exception) -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(OSError, match="No space left on device") as raised:
        fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert raised.value.filename == str(path)
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_temporary_files_of_a_process_that_was_killed_are_removed_at_resume(tmp_path: Path) -> None:
    """Or replaced by whoever writes the same file next."""
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    for name in ("last.pt", "best.pt"):
        code = (
            "import os; from pathlib import Path; from blitz.run_folder.files import replacing\n"
            f"with replacing(Path('{checkpoints / name}')) as file:\n"
            "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
        )
        killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    (tmp_path / ".model-1.unfinished" / "model").mkdir(parents=True)
    assert len(list(checkpoints.iterdir())) == 2
    write_whole(checkpoints / "last.pt", "whole")
    assert {path.name for path in checkpoints.iterdir()} == {"last.pt", ".best.pt.unfinished"}
    with sole_trainer(tmp_path):
        assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", "last.pt", LOCK}


TRAINS = """
import sys
from pathlib import Path
from blitz.run_folder.files import sole_trainer
with sole_trainer(Path(sys.argv[1])):
    print("training", flush=True)
    sys.stdin.read()
"""


def test_lock_of_a_run_is_held_for_as_long_as_its_process_lives(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nowhere")
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"training\n"
        assert is_locked(tmp_path)
        with pytest.raises(BadInput, match="another process is training it"), sole_trainer(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()
    assert not is_locked(tmp_path)
    with sole_trainer(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_lock_can_be_looked_at_by_many_and_in_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with sole_trainer(tmp_path):
        pass
    (tmp_path / LOCK).chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with no_trainer(tmp_path) as is_free, no_trainer(tmp_path) as is_free_too:
            assert is_free
            assert is_free_too
            assert not is_locked(tmp_path)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("target", ["nowhere", "file"])
def test_runs_dir_that_is_a_link_to_no_folder_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs").symlink_to(tmp_path / target)
    with pytest.raises(BadInput, match="runs: is a file; name a folder"):
        new_folder(str(tmp_path / "runs"))


def test_record_of_an_older_blitz_with_more_fields_is_read(tmp_path: Path) -> None:
    about = RunInfo("r", None, "e", "n", 0, {}, {"host": "h"}, {})
    text = json.dumps({**asdict(about), "host": "h", "pid": 1, "pid_started_at": 0.5})
    (tmp_path / "mlflow.json").write_text(text)
    assert RunInfo.load(tmp_path) == about
    assert about.host == "h"


def test_log_holds_no_credential_and_what_cannot_be_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2hunter2")
    logger = logging.Logger("of this test")
    with log_file(tmp_path, logger):
        logger.info("%s", "hunter2hunter2 and \udcff")
        assert (tmp_path / "run.log").read_text().endswith("  *** and ?\n")  # at once: a kill loses nothing
        try:
            raise ValueError("hunter2hunter2")
        except ValueError:
            logger.exception("it failed")
    logger.info("later")
    text = (tmp_path / "run.log").read_text()
    assert text.endswith("ValueError: ***\n")
    assert "Traceback" in text


def test_log_on_a_full_disk_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.log").symlink_to("/dev/full")
    logger = logging.Logger("of this test")
    with log_file(tmp_path, logger):
        for number in range(3):
            logger.info("line %d", number)
    message = f"blitz: {tmp_path / 'run.log'}: No space left on device; it is not complete\n"
    assert capsys.readouterr().err == message

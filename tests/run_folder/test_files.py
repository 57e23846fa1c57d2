"""A run's folder: what is written into it survives what may happen meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blitz.errors import BadInput
from blitz.run_folder.files import LOCK, is_locked, no_trainer, sole_trainer, write_whole
from blitz.run_folder.run_info import RunInfo


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "mlflow.json", []

    def noted(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.read_text()))

    monkeypatch.setattr(os, "fsync", noted)
    path.write_text("old")
    write_whole(path, "newer", synced=False)
    assert (path.read_text(), synced) == ("newer", [])
    write_whole(path, "the newest")
    assert (path.read_text(), synced) == ("the newest", [(len("the newest"), "newer")])
    assert list(tmp_path.iterdir()) == [path]


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


def test_record_of_an_older_blitz_with_more_fields_is_read(tmp_path: Path) -> None:
    about = RunInfo("r", None, "e", "n", 0, {}, {"host": "h"}, {})
    text = json.dumps({**json.loads(about.to_json()), "host": "h", "pid": 1, "pid_started_at": 0.5})
    (tmp_path / "mlflow.json").write_text(text)
    assert RunInfo.load(tmp_path) == about
    assert about.host == "h"

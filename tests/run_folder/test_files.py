"""A run's folder: what is written into it survives what may happen meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blitz.run_folder.files import write_whole


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

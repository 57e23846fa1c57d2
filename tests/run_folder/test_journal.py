"""The journal: whole lines, in order, whatever the disk does."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from blitz.run_folder import journal
from blitz.run_folder.journal import Journal, Point


def test_what_is_written_is_there_at_once_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written = Journal(path)
    written.write([(1, {"a": 0.1, "b": math.inf}), (2, {"a": 1e-320})])
    points, offset = journal.read(path, 0, 1000)
    assert [(point.name, point.value, point.step) for point in points] == [
        ("a", 0.1, 1), ("b", math.inf, 1), ("a", 1e-320, 2),
    ]  # fmt: skip
    assert offset == path.stat().st_size
    assert len({point.milliseconds for point in points}) == 1
    written.write([(3, {"a": math.nan})])
    ((name, value, step, _),), behind = journal.read(path, offset, 1000)
    assert (name, step, behind) == ("a", 3, path.stat().st_size)
    assert math.isnan(value)
    assert journal.read(path, behind, 1000) == ([], behind)
    assert [len(list(journal.every_point(path, start))) for start in (0, offset)] == [4, 1]
    written.close()


def test_a_batch_ends_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written = Journal(path)
    written.write((step, {"a": 1.0, "b": 2.0, "c": 3.0}) for step in range(10))
    written.close()
    offset, batches = 0, []
    while True:
        points, behind = journal.read(path, offset, 7)
        if behind == offset:
            break
        batches.append(len(points))
        offset = behind
    assert batches == [6, 6, 6, 6, 6]


def test_a_line_that_is_not_written_to_its_end_waits(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 1, "time": 5, "a": 1.0}\n'
    path.write_text(whole + '{"step": 2, "ti')
    assert journal.read(path, 0, 10) == ([Point("a", 1.0, 1, 5)], len(whole))
    with path.open("a") as file:
        file.write('me": 6, "a": 2.0}\n')
    assert journal.read(path, len(whole), 10)[0] == [Point("a", 2.0, 2, 6)]


def test_a_damaged_line_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "time": 5, "a": 1.0}\n\0\0\0\n[1]\n{"step": 2, "time": 6, "a": 2.0}\n')
    points, offset = journal.read(path, 0, 10)
    assert [point.step for point in points] == [1, 2]
    assert offset == path.stat().st_size
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the line at byte {byte} cannot be read and is left out" for byte in (33, 37)
    ]


def test_lines_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    written = Journal(tmp_path / "metrics.jsonl")

    def write(name: str) -> None:
        for step in range(200):
            written.write([(step, {name: float(step)})] * 3)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written.close()
    lines = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert len(lines) == 4 * 200 * 3


def test_a_full_disk_leaves_whole_lines_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    code = f"""
import resource
from pathlib import Path
from blitz.run_folder.journal import Journal
journal = Journal(Path({str(path)!r}))
journal.write([(1, {{"a": 1.0}})])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    journal.write((step, {{"a": 1.0}}) for step in range(50))
except OSError as error:
    print(error.errno, error.filename)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.write([(2, {{"a": 2.0}})])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["27", str(path)]  # EFBIG: what a limit gives in place of a full disk's ENOSPC
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # here nothing was limited


# Going on with one


def written(path: Path, *rows: tuple[int, dict[str, float]]) -> None:
    with closing(Journal(path)) as fresh:
        for row in rows:
            fresh.write([row])


@pytest.mark.parametrize("torn", [b"", b'{"step": 2, "ti', b"\0" * 10, b"x" * (journal.CHUNK + 7)])
def test_what_was_not_written_to_its_end_is_cut_off(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, (1, {"a": 1.0}))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    journal.mend(path)
    assert path.read_bytes() == whole
    cut = [f"{path}: the last {len(torn)} bytes are no whole line, and are cut off"] if torn else []
    assert caplog.messages == cut
    (tmp_path / "empty.jsonl").write_bytes(torn)
    journal.mend(tmp_path / "empty.jsonl")
    journal.mend(tmp_path / "none.jsonl")
    assert (tmp_path / "empty.jsonl").read_bytes() == (tmp_path / "none.jsonl").read_bytes() == b""


def test_points_behind_the_checkpoint_are_not_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, (1, {"a": 1.0}))
    checkpoint = path.stat().st_size
    written(path, (2, {"a": 2.0, "time/epoch": 0.5}), (0, {"system/cpu": 3.0}))
    before = path.read_bytes()
    with closing(Journal(path, resumed_at=checkpoint)) as again:
        assert again.position == checkpoint  # a checkpoint of now comes before what is there already
        again.write([(2, {"a": 2.0, "time/epoch": 0.7})])
        assert path.read_bytes() == before
        assert again.position == len(before)
        again.write([(0, {"system/cpu": 4.0}), (2, {"b": 1.0}), (3, {"a": 3.0})])
    told = [(point.name, point.step, point.value) for point in journal.every_point(path, len(before))]
    assert told == [("system/cpu", 0, 4.0), ("b", 2, 1.0), ("a", 3, 3.0)]


def test_a_point_that_comes_out_otherwise_is_written_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, (1, {"a": 1.0, "b": math.nan}), (2, {"a": 2.0}))
    with closing(Journal(path, resumed_at=0)) as again:
        again.write([(1, {"a": math.nextafter(1.0, 2), "b": math.nan}), (2, {"a": 2.5})])
    assert [point.value for point in journal.every_point(path)][3:] == [1.0000000000000002, 2.5]
    (line,) = caplog.messages
    assert line.startswith("a at step 1 was 1.0 and is 1.0000000000000002 now")


def test_epochs_and_samples_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, (1, {"train/step_loss": 9.0}), (0, {"system/cpu": 1.0}), (1, {"train/loss": 2.0, "val/loss": 3.0}))
    written(path, (1, {"system/cpu": 1.0}), (2, {"train/loss": 1.0}), (2, {"test/loss": 4.0}))
    assert journal.epochs(path) == [{"epoch": 1, "train/loss": 2.0, "val/loss": 3.0}, {"epoch": 2, "train/loss": 1.0}]
    assert journal.next_sample(path) == 2

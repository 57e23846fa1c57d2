"""What a run shows: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from support.processes import PATIENCE
from support.terminal import shown as shown_on_a_terminal
from support.terminal import terminal

import blitz
from blitz.commands import VERBS
from blitz.terminal import progress
from blitz.terminal.progress import Display, lines_of_test

METRICS = {
    "train/loss": 1.5, "train/accuracy": 0.25, "val/loss": 1.25, "val/accuracy": 0.5,
    "time/images_per_second": 1234.0, "time/epoch": 2.0,
}  # fmt: skip


def show() -> None:
    """Two epochs of ten steps of four images."""
    with Display() as screen:
        screen.begin(1, 2, 10, 4)
        for epoch in (1, 2):
            screen.progress(epoch, 5, 5, 2.0, 0.125, 0.1, None)
            screen.progress(epoch, 10, 5, 1.0, 0.25, 0.05, 3 * 2**30)
            screen.epoch(epoch, METRICS, best=epoch == 2)
        screen.end()
        logging.getLogger("blitz").error("printed by whoever catches the exception")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    show()
    return capsys.readouterr().out


def bar(columns: int, *, done: int, of: int = 391, memory: int | None = None) -> str:
    """The longest state of the bar in the 12th of 200 epochs, as a terminal with so many columns shows it."""
    with terminal(columns) as found, Display() as screen:
        screen.begin(12, 200, of, 128)
        screen.progress(12, done, done, 1.23456, 0.4561, 0.0123, memory)
        screen.console.print(screen._line())
    assert found.wider_than(columns) == []
    return max((line for line in found.lines if f"{done}/{of}" in line), key=len)


def test_a_terminal_gets_a_bar_with_loss_accuracy_rate_time_left_memory_and_speed() -> None:
    line = bar(150, done=234, memory=3 * 2**30)
    assert re.match(
        r"epoch 12/200  step 234/391  loss 1.2346  accuracy 45.61%  lr 0.0123  \d:\d\d:\d\d left  GPU 3.0 GB  "
        r"[\d,]+ images/s  [━╸╺]+$",
        line,
    ), line


def test_the_bar_leaves_out_what_there_is_no_room_for() -> None:
    assert re.match(
        r"epoch 12/200  234/391  loss 1.2346  45.61%  lr 0.0123  \d:\d\d:\d\d left  3.0 GB",
        bar(80, done=234, memory=3 * 2**30),
    )
    assert re.match("epoch 12/200  234/391  loss 1.2346  ━+", bar(40, done=234))


def test_time_left_is_that_of_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def left(first: int, epochs: int, last: int | None = None) -> list[str]:
        """After 5 of 10 steps of an epoch that took 30 s, then at its end, and after its validation of 20 s."""
        found = []
        screen = Display()
        screen.begin(first, epochs, 10, 4, last)
        for step in (5, 10):
            now[0] += 30
            screen.progress(first, step, 5, 1.0, 0.5, 0.1, None)
            found += [fact for fact in screen._line().facts if fact.endswith("left")]
        now[0] += 20
        screen.epoch(first, METRICS, best=False)
        return [*found, *(fact for fact in screen._line().facts if fact.endswith("left"))]

    assert left(1, 3) == ["0:02:30 left", "0:02:00 left", "0:02:40 left"]
    assert left(61, 62) == ["0:01:30 left", "0:01:00 left", "0:01:20 left"]  # a resumed run
    assert left(1, 100, last=2) == ["0:01:30 left", "0:01:00 left", "0:01:20 left"]  # a repetition of two epochs
    assert left(1, 20_000)[0] == "13 days, 21:19:30 left"


def test_lines_of_a_run_fit_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["data=digits", "data.limit=60", "model=mlp", "batch_size=20", "epochs=2", "report_every=1"]
    asked += ["tracking=none", "tracking.figures=false", "device.threads=1", f"name={' '.join(['a long name'] * 20)}"]
    with terminal(80) as found:
        result = blitz.run(blitz.compose(asked), asked)
    assert found.wider_than(80) == []
    assert any(re.match(r"epoch 2/2  3/3  .*lr 0.001  0:00:00 left", line) for line in found.lines)
    (line,) = [line for line in found.lines if line.startswith("epoch 1/2  train ")]
    assert re.fullmatch(r"epoch 1/2  train \d\.\d{4}  [\d.]+%  val \d\.\d{4}  [\d.]+%  [\d,]+/s  [\d.]+ s(  \*)?", line)
    log = (result.folder / "run.log").read_text()
    assert "epoch 1/2  |  train loss " in log  # a file has room
    assert f"record   {result.folder}/ (config.yaml, metrics.jsonl," in found.lines
    assert "         checkpoints/, figures/, run.log)" in found.lines


@pytest.mark.slow
def test_what_commands_print_fits_a_terminal(tmp_path: Path) -> None:
    sweep = ["data=digits", "data.limit=100", "model=mlp", "batch_size=20", "epochs=1", "device.threads=1"]
    sweep += ["tracking.figures=false", "tracking.uri=sqlite:///mlflow.db", "optimizer.lr=0.1,0.0123456", "seed=0,1"]
    sweep += ["optimizer.weight_decay=0.00123456", "checkpoint.keep=best"]
    for command in (
        ["--help"], ["-m", *sweep], ["compare"], ["compare", "--sweep", "last", "--all"], ["evaluate", "last"],
        ["reproduce", "last"], ["-m", *sweep, "sweep.skip_finished=true"], ["-m", *sweep, "sweep.dry_run=true"],
        ["options"], ["options", "model", "vit"], *([verb, "--help"] for verb in VERBS.commands),
    ):  # fmt: skip
        found = shown_on_a_terminal(tmp_path, *command)
        assert found.wider_than(80) == [], command
        assert len(found.lines) > 1


NOTEBOOK = """
import blitz
from blitz.terminal import progress
progress.REDRAW_EVERY = -1.0
asked = ["data=digits", "data.limit=100", "epochs=2", "batch_size=50", "report_every=1"]
asked += ["tracking=none", "device.threads=1"]
result = blitz.run(blitz.compose(asked), asked)
result
"""


@pytest.mark.slow
def test_a_notebook_gets_a_bar_and_all_lines_in_one_output(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = []
    with a_kernel(tmp_path) as kernel:
        reply = kernel.execute_interactive(NOTEBOOK, timeout=PATIENCE, output_hook=messages.append)
    assert reply["content"]["status"] == "ok", reply["content"]
    (shown,) = [m["content"] for m in messages if m["msg_type"] == "display_data"]
    assert shown["data"]["text/html"] == '<progress value="0" max="2"></progress> epoch 1/2  step 0/2'
    states = [m["content"]["data"]["text/html"] for m in messages if m["msg_type"] == "update_display_data"]
    first = '<progress value="1" max="2"></progress> epoch 1/2  step 1/2  loss '
    assert states[0].startswith(first)
    assert states[-1] == ""
    lines = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream").splitlines()
    assert [line.split()[0] for line in lines if not line.startswith((" ", "busy"))] == [
        "data", "model", "device", "epoch", "epoch", "test", "record",
    ]  # fmt: skip
    (result,) = [m["content"]["data"]["text/html"] for m in messages if m["msg_type"] == "execute_result"]
    assert result.startswith("<table><tr><th>test accuracy</th><td>")


@contextmanager
def a_kernel(folder: Path) -> Iterator[BlockingKernelClient]:
    """A real one, of a notebook in this folder."""
    with tempfile.TemporaryDirectory(prefix="kernel-") as own:  # a short path, since it holds sockets
        kernel = KernelManager(transport="ipc", ip=f"{own}/socket", connection_file=f"{own}/kernel.json")
        kernel.start_kernel(cwd=str(folder), env={**os.environ, "IPYTHONDIR": own, "JUPYTER_RUNTIME_DIR": own})
        client = kernel.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=PATIENCE)
            yield client
        finally:
            client.stop_channels()
            kernel.shutdown_kernel(now=True)


def test_no_terminal_gets_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    line = "train loss 1.5000  accuracy  25.00%  |  val loss 1.2500  accuracy  50.00%  |  1,234 images/s  2.0 s"
    assert shown(capsys) == f"epoch 1/2  |  {line}\nepoch 2/2  |  {line}  *\n"


def test_long_epochs_get_lines_in_between(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    assert "epoch 1/2  step 5/10  loss 2.0000  accuracy 12.50%" in shown(capsys)


def test_the_logger_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("blitz")
    before = logger.level, logger.propagate, list(logger.handlers)
    shown(capsys)
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_many_classes_are_printed_as_the_worst_and_the_best() -> None:
    few = lines_of_test(0.5, 0.9, 1.0, [("cat", 0.25), ("dog", 0.75), ("none", math.nan)])
    assert few == ["test     accuracy 50.00%   top-5 90.00%   loss 1.0000", "         cat 25.0%, dog 75.0%"]
    many = lines_of_test(0.5, 0.9, 1.0, [(f"c{number}", number / 100) for number in range(100)])
    assert many[1:] == ["         100 classes, from c0 0.0% to c99 99.0%"]

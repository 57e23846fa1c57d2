"""What a run shows: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math

import pytest

from blitz.terminal import progress
from blitz.terminal.progress import Display, lines_of_test

METRICS = {
    "train/loss": 1.5, "train/accuracy": 0.25, "val/loss": 1.25, "val/accuracy": 0.5,
    "time/images_per_second": 1234.0, "time/epoch": 2.0,
}  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Two epochs of ten steps of four images."""
    with Display() as screen:
        screen.begin(1, 2, 10, 4)
        for epoch in (1, 2):
            screen.progress(epoch, 5, 5, 2.0, 0.125)
            screen.progress(epoch, 10, 5, 1.0, 0.25)
            screen.epoch(epoch, METRICS, best=epoch == 2)
        screen.end()
        logging.getLogger("blitz").error("printed by whoever catches the exception")
    return capsys.readouterr().out


def test_a_terminal_gets_a_bar_with_loss_accuracy_and_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    output = shown(capsys)
    assert "10/10" in output
    assert "loss 1.0000  accuracy 25.00%" in output
    assert "images/s" in output


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

"""The first Ctrl-C or SIGTERM is a flag, the second an exception; handlers are restored, and the request is logged."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from support.processes import PATIENCE
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from blitz.terminal.signals import Terminated, graceful
from blitz.training.batches import Batches
from blitz.training.loop import Learner, fit

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ERRORS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[int]]:
    """Handlers of a program's own, which note what reaches them, and are to be there again after each test."""
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    yield seen
    left = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in before.items():
        signal.signal(number, handler)
    assert left == [note, note]


def in_a_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


# Flag and exception


@pytest.mark.parametrize(("number", "error"), ERRORS)
def test_the_first_signal_sets_a_flag(number: int, error: type[KeyboardInterrupt], handlers: list[int]) -> None:
    with graceful() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(number)
        assert interrupt.requested
        assert type(interrupt.error()) is error
    assert interrupt.requested  # who looks later sees it too
    assert handlers == []


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize(("second", "error"), ERRORS)
def test_the_second_signal_raises_at_once(first: int, second: int, error: type[KeyboardInterrupt]) -> None:
    with graceful() as interrupt:
        signal.raise_signal(first)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt) as raised:
                signal.raise_signal(second)
            assert raised.type is error
        assert type(interrupt.error()) is dict(ERRORS)[signal.Signals(first)]


def test_handlers_are_put_back_after_the_second_signal(handlers: list[int]) -> None:
    def twice() -> None:
        with graceful():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated):
        twice()
    signal.raise_signal(signal.SIGTERM)
    assert handlers == [signal.SIGTERM]


def test_a_signal_from_another_process_is_one_as_well() -> None:
    with graceful() as interrupt:
        command = f"import os, signal; os.kill({os.getpid()}, signal.SIGTERM)"
        subprocess.run([sys.executable, "-c", command], check=True)
        deadline = time.monotonic() + PATIENCE
        while not interrupt.requested:
            assert time.monotonic() < deadline
    assert type(interrupt.error()) is Terminated


def test_a_sigterm_ends_whatever_ctrl_c_ends() -> None:
    assert issubclass(Terminated, KeyboardInterrupt)
    assert not issubclass(Terminated, Exception)


# Handlers


def test_each_block_begins_without_a_request_and_leaves_the_handlers_as_they_were(handlers: list[int]) -> None:
    for number in SIGNALS:
        with graceful() as interrupt:
            assert not interrupt.requested
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert handlers == list(SIGNALS)


def test_handlers_are_put_back_after_an_error(handlers: list[int]) -> None:
    with pytest.raises(ValueError, match="planted"), graceful():
        raise ValueError("planted")
    signal.raise_signal(signal.SIGINT)
    assert handlers == [signal.SIGINT]


def test_a_signal_that_was_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell makes the jobs that it starts in the background deaf to Ctrl-C."""
    own = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with graceful() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert not interrupt.requested
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.requested
    assert signal.signal(signal.SIGINT, own) is signal.SIG_IGN


def test_a_block_within_a_block_is_part_of_it() -> None:
    with graceful() as outer:
        with graceful() as inner:
            signal.raise_signal(signal.SIGINT)
            assert inner.requested
            with pytest.raises(KeyboardInterrupt), graceful():
                signal.raise_signal(signal.SIGINT)
        assert outer.requested
        assert in_a_thread(requested_in_a_block)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def requested_in_a_block() -> bool:
    with graceful() as interrupt:
        return interrupt.requested


def test_another_thread_has_a_flag_and_touches_no_handler(handlers: list[int]) -> None:
    def work() -> tuple[bool, bool, list[Any]]:
        with graceful() as interrupt:
            before, there = interrupt.requested, [signal.getsignal(number) for number in SIGNALS]
            interrupt.request(signal.SIGTERM)
            assert type(interrupt.error()) is Terminated
            return before, interrupt.requested, there

    assert in_a_thread(work) == (False, True, [signal.getsignal(number) for number in SIGNALS])
    signal.raise_signal(signal.SIGINT)
    assert handlers == [signal.SIGINT]


def test_no_thread_is_left() -> None:
    def tellers() -> int:  # threads of earlier tests may end meanwhile
        return [thread.name for thread in threading.enumerate()].count("blitz-interrupt")

    with graceful():
        assert tellers() == 1
        with graceful():
            assert tellers() == 1
    assert tellers() == 0


# The line that is logged


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGINT, "stopping after this step; Ctrl-C again stops at once"),
        (signal.SIGTERM, "SIGTERM: stopping after this step; a second one stops at once"),
    ],
)
def test_request_is_logged_once_and_before_the_block_ends(
    number: int, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with graceful():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("blitz", "WARNING", line)
    ]


def test_request_is_logged_while_training_does_not_look(caplog: pytest.LogCaptureFixture) -> None:
    with graceful():
        signal.raise_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        while not caplog.records:  # as in an evaluation
            assert time.monotonic() < deadline


def test_request_again_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with graceful() as interrupt:
        interrupt.request(signal.SIGTERM)
        interrupt.request(signal.SIGINT)
        assert type(interrupt.error()) is Terminated
    assert len(caplog.records) == 1


def test_no_request_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with graceful():
        pass
    assert caplog.records == []


class Slow(io.RawIOBase):
    """A terminal that takes its time, and is interrupted while it does."""

    def __init__(self) -> None:
        self.lines = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if b"step 1" in bytes(data):
            signal.raise_signal(signal.SIGINT)
        self.lines += bytes(data)
        return len(data)


def test_a_signal_in_the_middle_of_a_log_line_loses_neither_line() -> None:
    """Logging within the handler would raise "reentrant call" in the stream, and lose both."""
    terminal = Slow()
    handler = logging.StreamHandler(io.TextIOWrapper(io.BufferedWriter(terminal), write_through=True))
    logger = logging.getLogger("blitz")
    logger.addHandler(handler)
    try:
        with graceful() as interrupt:
            logger.warning("step 1")
            assert interrupt.requested
    finally:
        logger.removeHandler(handler)
    assert terminal.lines.decode().splitlines() == ["step 1", "stopping after this step; Ctrl-C again stops at once"]


# In training


def test_a_step_in_which_a_signal_comes_is_finished_reported_and_the_last() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    steps: list[Tensor] = []

    def loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        steps.append(logits)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGTERM)
        return nn.functional.cross_entropy(logits, labels, reduction="sum"), torch.tensor(float(len(labels)))

    learner = Learner(
        model, loss, torch.optim.SGD(model.parameters()), lambda step: 1.0, GradScaler(enabled=False), nullcontext
    )
    images, labels = torch.zeros(40, 3, 1, 1, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64)
    data = Batches(images, labels, 4, torch.device("cpu"), Tensor.float)
    found: list[Any] = []
    with graceful() as interrupt:
        for report in fit(
            learner, data, None, lambda images, generator: images, lambda images, labels, generator: (images, labels),
            epochs=1, report_every=5, stop=lambda: interrupt.requested,
        ):  # fmt: skip
            found.append(report)
            if interrupt.requested:
                break
    assert [report.epoch_step for report in found] == [5, 7]
    assert len(steps) == learner.step == learner.epoch_step == 7
    assert type(interrupt.error()) is Terminated


TRAINING = """
import contextlib, logging, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from blitz.terminal.signals import graceful
from blitz.training import checkpoint
from blitz.training.batches import Batches
from blitz.training.loop import EpochResult, Learner, Progress, fit

logging.basicConfig(format="%(message)s")
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
pause = 0.01


def loss(logits, labels):
    print("step", flush=True)
    time.sleep(pause)
    return nn.functional.cross_entropy(logits, labels, reduction="sum"), torch.tensor(float(len(labels)))


learner = Learner(model, loss, torch.optim.SGD(model.parameters()), lambda step: 1.0, GradScaler(enabled=False),
                  contextlib.nullcontext)
data = Batches(torch.zeros(10_000, 3, 1, 1, dtype=torch.uint8), torch.zeros(10_000, dtype=torch.int64), 4,
               torch.device("cpu"), torch.Tensor.float)
with graceful() as interrupt:
    for report in fit(learner, data, None, lambda images, generator: images, lambda *batch: batch[:2], epochs=1,
                      stop=lambda: interrupt.requested):
        if interrupt.requested:
            if sys.argv[1:] == ["stubborn"]:
                print("hanging", flush=True)
                time.sleep(600)  # a disk that hangs
            checkpoint.save(checkpoint.snapshot(learner), Path("last.pt"))
            print("saved", learner.epoch_step, report.epoch_step, len(report.losses), flush=True)
            raise interrupt.error()
"""


@pytest.mark.slow
def test_a_run_is_saved_within_a_step_of_a_sigterm(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        steps = [process.stdout.readline() for _ in range(57)]
        process.send_signal(signal.SIGTERM)
        # Not with `communicate`, which would not know of lines that came with the 57th and were read ahead.
        out, err = process.stdout.read(), process.stderr.read()
    assert set(steps) == {"step\n"}
    *more, last = out.splitlines()
    said, learners, reports, losses = last.split()
    assert said == "saved"
    assert learners == reports == str(57 + len(more))
    assert set(more) <= {"step"}  # the signal takes its time to arrive
    assert int(losses) == (int(learners) % 50 or 50)  # those since the last report
    assert err.startswith("SIGTERM: stopping after this step; a second one stops at once\nTraceback")
    assert err.endswith("blitz.terminal.signals.Terminated\n")
    assert (tmp_path / "last.pt").exists()


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_by_the_second_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, "stubborn"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "stopping after this step; Ctrl-C again stops at once\n"
        while process.stdout.readline() != "hanging\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert err.endswith("KeyboardInterrupt\n")
    assert not (tmp_path / "last.pt").exists()

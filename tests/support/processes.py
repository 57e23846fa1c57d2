"""blitz and mlflow servers as processes of their own, as users start them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from blitz.tracking.health import PROBE

BLITZ = [sys.executable, "-m", "blitz"]
QUICK = ["data=digits", "batch_size=32", "device.threads=1", "tracking.figures=false"]
PATIENCE = 1200.0  # seconds after which a process hangs, on a machine however busy
CHECKPOINTS = "runs/*/checkpoints/last.pt"


def start(folder: Path, *arguments: str, own_group: bool = False, **environment: str) -> subprocess.Popen[str]:
    """`blitz ARGUMENTS…` in a folder; in a process group of its own, as a shell starts it in a terminal."""
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [*BLITZ, *arguments],
        cwd=folder, env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0 if own_group else None,
    )  # fmt: skip


def finished(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `blitz ARGUMENTS…`."""
    process = start(folder, *arguments, own_group=False, **environment)
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


@contextmanager
def in_a_terminal(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`blitz ARGUMENTS…` in a terminal of its own, which is closed at the end of the block."""
    ours, its = pty.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        [sys.executable, "-c", take, *BLITZ, *arguments],
        cwd=folder, env=inherited, stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    closed = threading.Event()

    def read() -> None:  # a full terminal would hold the process up
        while not closed.is_set():
            if select.select([ours], [], [], 0.05)[0]:
                os.read(ours, 65536)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield process
    finally:
        closed.set()
        reader.join()
        os.close(ours)


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the process's output up to the line that holds `text`; ends a process that does not say it."""
    assert process.stdout is not None
    patience = threading.Timer(PATIENCE, process.kill)
    patience.start()
    said = []
    try:
        for line in process.stdout:
            if text in line:
                return line
            said.append(line)
    finally:
        patience.cancel()
    errors = process.stderr.read() if process.stderr is not None else ""
    raise AssertionError(f"{text!r} never came: {''.join(said)}{errors}")


@contextmanager
def together(program: str, number: int) -> Iterator[Callable[[str, str], list[str]]]:
    """So many processes of a Python program that says `ready`; the function hands all of them a line at once.

    It waits until each has printed a line with its second argument, and returns these lines.
    """
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(number)]
    with ExitStack() as ended:
        for process in processes:
            ended.enter_context(process)
            ended.callback(process.kill)

        def hand(line: str, answer: str) -> list[str]:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
            return [wait_for(process, answer) for process in processes]

        for process in processes:
            wait_for(process, "ready")
        yield hand


def wait_for_checkpoints(folder: Path, number: int) -> None:
    """Until so many runs have a checkpoint to resume from."""
    until(lambda: len(list(folder.glob(CHECKPOINTS))) >= number)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two looks, not for luck


@contextmanager
def held(
    process: subprocess.Popen[Any], folder: Path, enough: int | Callable[[], object]
) -> Iterator[dict[Path, psutil.Process]]:
    """The processes of so many runs of a sweep by their folders, each suspended as soon as it has a checkpoint.

    However unevenly they get on, none has come to its end when the block begins; they continue when it ends. Where
    `enough` is a condition, as many are suspended as have a checkpoint before it is true.
    """
    found: dict[Path, psutil.Process] = {}

    def hold() -> bool:
        if callable(enough) and enough():
            return True
        assert process.poll() is None, f"the sweep ended with {process.returncode}"
        for path in folder.glob(CHECKPOINTS):
            run = path.parents[1]
            if run not in found:
                trainer = psutil.Process(pid_of(run))
                trainer.suspend()
                found[run] = trainer
        return not callable(enough) and len(found) >= enough

    try:
        until(hold)
        yield found
    finally:
        for trainer in found.values():
            with suppress(psutil.NoSuchProcess):  # it was killed
                trainer.resume()


def pid_of(run: Path) -> int:
    """Of the process that trains, or trained, the run in this folder."""
    facts = json.loads((run / "provenance.json").read_text())
    return int(facts.get("resumed", [facts])[-1]["process"]["pid"])


def kill_with_its_children(process: subprocess.Popen[str]) -> None:
    """As a power cut would: kill -9 for all of them at once."""
    victims = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for victim in victims:
        victim.suspend()  # so that none has time to react to another's end
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=PATIENCE)
    process.communicate(timeout=PATIENCE)


class Server:
    """A real `mlflow server` on loopback, with a store of its own; may be killed, frozen and started again.

    Or `mlflow COMMAND…`, which is up once it answers to `probe`.
    """

    def __init__(self, folder: Path, *command: str, probe: str = PROBE, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._command, self._probe = command, probe
        if not command:
            self._command = ("server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1")
            self._command += ("--artifacts-destination", str(folder / "artifacts"))
        # Without jobs of MLflow's own, whose five processes take as long to start as everything else.
        self._environment = {
            "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment,
        }  # fmt: skip
        # Bound all along, so that nobody else is given the port while no server listens; as the server will bind it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = int(self._reserved.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", *self._command, "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **self._environment},
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:  # not /health: opening the store, for the first question to it, may take longer than blitz waits
                with urllib.request.urlopen(self.uri + self._probe, timeout=30):
                    return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.1)  # between two looks, not for luck

    def signal(self, number: signal.Signals) -> None:
        """To the server and its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
        self._reserved.close()

"""The process beside training that sends its record to MLflow.

A process and no thread: MLflow's own Python takes 0.15 ms for a metric and two seconds to be imported, and a thread
would take them from the training loop, which needs the same interpreter lock. It reads the journal like anybody else,
so nothing but a few words passes between the two, and training never waits for it. When training is killed, its input
ends: it then sends what is left and marks the run.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from blitz.redaction import redact, remember
from blitz.run_folder.run_info import RUNNING, RunInfo
from blitz.tracking import store
from blitz.tracking.orphaned import HEARTBEAT, HEARTBEAT_EVERY, end_orphan, mark_orphans, now, trained_elsewhere
from blitz.tracking.sending import OPEN_SECONDS, STEP_SECONDS, Delivery, brief, sole_sender

logger = logging.getLogger("blitz")

SEND_EVERY = 5.0  # seconds that a metric waits at most
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries while a store fails
LAST_TRIES = 2
REPORT_AFTER, REPORT_EVERY = 2.0, 15.0  # seconds that a run's end waits for the store before it says so, and again
RELEASE_SECONDS = 5.0  # between the two that a system closes of a process that is gone: our input, and its lock
UNKNOWN = "an unknown part"
# A server that hangs must not hold a run's end up for MLflow's own four minutes; trying again is our own work.
REQUESTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


# ---- the side of the process that trains


class Writer:
    """One writer process, as the training process sees it; records one run at a time."""

    _idle: ClassVar[list[Writer]] = []  # importing mlflow takes seconds, so a process serves one run after another

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from blitz.tracking.writer import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",  # libraries print what they like
            start_new_session=True,  # Ctrl-C in the terminal is for the run alone
        )
        self.run_id: str | None = None
        self._folder, self._uri = Path(), ""  # of the run that it records
        self._discarded = False
        self._patience = OPEN_SECONDS  # how long it may be silent; before its first word it may be importing mlflow
        self._report_at = 0.0  # when a wait for the run's end is to be reported
        self._awaited = False
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()  # while one is awaited
        self._thread = threading.Thread(target=self._listen, name="mlflow-writer", daemon=True)
        self._thread.start()

    @classmethod
    def prepare(cls) -> None:
        """Have a process ready, or on its way: it imports mlflow while this one imports torch and reads the data."""
        cls._idle = [writer for writer in cls._idle if writer._process.poll() is None] or [cls()]

    @classmethod
    def take(cls, folder: Path, uri: str, about: RunInfo) -> Writer:
        cls.prepare()
        writer = cls._idle.pop()
        writer.run_id, writer._patience = None, OPEN_SECONDS
        writer._folder, writer._uri = folder, uri
        writer._send_run("open", folder, uri, about)
        return writer

    @classmethod
    def trained_elsewhere(cls, folder: Path, uri: str, about: RunInfo) -> str:
        """Why this run must not be resumed in this folder; empty also where the store does not answer."""
        cls.prepare()
        writer = cls._idle[-1]
        writer._awaited = True
        writer._send_run("ask", folder, uri, about)
        answer = ""
        with suppress(queue.Empty):
            while (word := writer._answers.get(timeout=writer._patience)) is not None:
                if "elsewhere" in word:
                    answer = str(word["elsewhere"])
                    break
        writer._awaited = False
        return answer

    def flush(self) -> None:
        """Ask for what is in the journal to be sent now."""
        self._send({})

    def end(self, about: RunInfo) -> str:
        """Send the run's end, and wait while the store takes what is left. Returns what it lacks then, in words."""
        self._awaited, self._report_at = True, time.monotonic() + REPORT_AFTER
        self._send({"end": asdict(about)})
        try:
            while (word := self._next_word(about)) is not None:
                if "missing" in word:
                    self._awaited = False
                    Writer._idle.append(self)
                    return str(word["missing"])
            return UNKNOWN  # it died, and its last words were logged
        except queue.Empty:
            self._discard()
            return UNKNOWN
        except KeyboardInterrupt:  # the process continues until it has sent what it can
            self._close()
            raise

    def _next_word(self, about: RunInfo) -> dict[str, Any] | None:
        """None where it died. A store that takes long is waited for aloud. Raises queue.Empty where it hangs."""
        silent_until = time.monotonic() + self._patience
        while True:
            wait = min(silent_until, self._report_at) - time.monotonic()
            try:
                return self._answers.get(timeout=max(0.0, wait))
            except queue.Empty:
                if time.monotonic() >= silent_until:
                    raise
            missing = Delivery(self._folder, self._uri, about).missing()
            what = "waiting for MLflow to take %s (Ctrl-C: 'blitz sync %s' sends it later)"
            logger.info(what, missing or "the run's end", self._folder)
            self._report_at += REPORT_EVERY

    def _discard(self) -> None:
        """End the process at once: it has nothing to send, or hangs."""
        self._discarded = True
        self._process.kill()
        self._close()
        self._thread.join()

    def _close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone already
            self._process.stdin.close()

    def _send_run(self, command: str, folder: Path, uri: str, about: RunInfo) -> None:
        # With today's environment, which may hold other credentials than when the process was started.
        environment = {**REQUESTS, **os.environ}
        self._send({command: str(folder.absolute()), "uri": uri, "about": asdict(about), "environment": environment})

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it died, which its listener has logged
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        """Pass on what the writer says: log lines, the run's id, and at the end what is missing."""
        assert self._process.stdout is not None
        last_words: list[str] = []
        try:
            with self._process.stdout as output:
                for line in output:
                    try:
                        word = json.loads(line)
                        level, text = word.get("log", (None, None))
                    except (ValueError, AttributeError):  # not ours: a traceback, or a library that prints
                        last_words = [*last_words[-20:], line]
                        continue
                    self.run_id = word.get("run_id", self.run_id)
                    self._patience = word.get("wait", STEP_SECONDS)
                    if self._awaited:  # in this order: `end` reads the one after it has set the other
                        self._answers.put(word)
                    if level is not None:
                        logger.log(level, "%s", text)
            code = self._process.wait()
            if code and not self._discarded:
                words = redact(" ".join("".join(last_words).split()))[-500:]
                logger.warning("the process that writes to MLflow ended with %d: %s", code, words)
        finally:
            self._answers.put(None)  # whatever happened here: a run's end must not wait for it


@atexit.register
def _discard_idle() -> None:
    while Writer._idle:
        Writer._idle.pop()._discard()


# ---- the writer's own side


def main() -> None:
    """Serve commands from standard input, a line each; say what there is to say on standard output, a line each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a batch system ends all: the end of the input is what counts
    handler = _PipeHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(commands,), daemon=True).start()
    store.prepare()  # while the first steps are trained
    current: _Sending | None = None
    while True:
        try:
            command = commands.get(timeout=SEND_EVERY if current else None)
        except queue.Empty:
            command = {}
        if command is None:
            if current is not None:
                current.orphaned()
            return
        if not command and not commands.empty():  # what is asked for next sends this as well
            continue
        if "environment" in command:
            os.environ.clear()
            os.environ.update(command["environment"])
            remember(command["uri"])
        if "ask" in command:
            _say({"elsewhere": _elsewhere(Path(command["ask"]), command["uri"], RunInfo(**command["about"]))})
        if "open" in command:
            current = _Sending(Path(command["open"]), command["uri"], RunInfo(**command["about"]))
        if current is not None and "end" in command:
            _say({"missing": current.end(RunInfo(**command["end"]))})
            current = None
        if current is not None and time.monotonic() >= current.next_try:
            current.attempt()


def _elsewhere(folder: Path, uri: str, about: RunInfo) -> str:
    _say({"wait": OPEN_SECONDS})
    try:
        return trained_elsewhere(Delivery(folder, uri, about))
    except Exception as error:  # a silent store says nothing against a run
        logger.debug("%s", brief(error))
        return ""


def _hear(commands: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with suppress(OSError, ValueError):  # a line that was cut off when training was killed: its input has ended
        for line in sys.stdin:
            commands.put(json.loads(line))
    commands.put(None)


def _say(word: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody is left to hear it
        print(json.dumps(word), flush=True)


class _PipeHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say({"log": [record.levelno, redact(record.getMessage())]})


class _Sending(Delivery):
    """One run on its way, through whatever happens to the store."""

    looked_after: ClassVar[set[str]] = set()  # stores whose orphaned runs this process has looked after

    def __init__(self, folder: Path, uri: str, about: RunInfo) -> None:
        super().__init__(folder, uri, about, announce=lambda seconds: _say({"wait": seconds}))
        self._held = ExitStack()  # the lock, once it is ours
        self._locked = self._warned = self._failing = False
        self.next_try = 0.0  # where a pause is on, its end
        self._pause, self._next_heartbeat = FIRST_PAUSE, 0.0

    def attempt(self) -> bool:
        """Send what there is; True if the store took it. Logs the first failure, and its end."""
        try:
            if not self._locked:
                self._held.enter_context(sole_sender(self.folder, seconds=STEP_SECONDS / 4))
                self._locked = True
            self.send()
            self._beat()
        except Exception as error:
            # Whatever the tracking side raises, training continues.
            if not self._warned:
                what = "MLflow failed (%s); training continues, and %s has the record"
                logger.warning(what, brief(error), self.folder)
            self._warned = self._failing = True
            self.next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        if self._failing:
            logger.info("MLflow answers again and has everything so far")
        self._failing, self._pause = False, FIRST_PAUSE
        return True

    def end(self, about: RunInfo) -> str:
        """The last attempts; what is missing then, in words."""
        self.about = about
        tries = 1 if self._failing else LAST_TRIES  # an outage is known by now; anything else may pass
        while not self.attempt() and (tries := tries - 1):
            time.sleep(FIRST_PAUSE)
        self._held.close()
        return self.missing()

    def orphaned(self) -> None:
        """Training is gone without a last word."""
        deadline = time.monotonic() + RELEASE_SECONDS
        while (about := end_orphan(self.folder, self.about)).status == RUNNING:
            if time.monotonic() > deadline:
                return  # another process has resumed the run, and has a writer of its own
            time.sleep(0.05)
        self.end(about)

    def _beat(self) -> None:
        _say({"run_id": self.sent.run_id})
        if self.about.status == RUNNING and time.monotonic() >= self._next_heartbeat:
            self.client.set_tag(str(self.sent.run_id), HEARTBEAT, now())
            self._next_heartbeat = time.monotonic() + HEARTBEAT_EVERY
        if self.uri not in self.looked_after:
            self.looked_after.add(self.uri)
            mark_orphans(self.client)

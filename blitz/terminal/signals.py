"""Ctrl-C, SIGTERM and a closed terminal: the first signal stops after the current step, the second at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import FrameType

logger = logging.getLogger("blitz")

MESSAGES = {
    signal.SIGINT: "stopping after this step; Ctrl-C again stops at once",
    signal.SIGTERM: "SIGTERM: stopping after this step; a second one stops at once",
    signal.SIGHUP: "the terminal was closed; stopping after this step",
    signal.SIGUSR2: "SIGUSR2: the job's time is up; stopping after this step",
}
SPENT = 0  # no signal, but a sweep whose budget is spent
PAUSING = "the sweep's budget is spent; pausing after this step"
ALWAYS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM or a closed terminal: ends a run like Ctrl-C, with another exit code."""


class Paused(KeyboardInterrupt):
    """Its sweep pauses a run, which may yet be continued."""


class Interrupt:
    """A request to stop, set by a signal or by another thread."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._unlogged: SimpleQueue[int | None] = SimpleQueue()

    @property
    def requested(self) -> bool:
        return self._number is not None

    def request(self, number: int = signal.SIGINT) -> None:
        """Request to stop, as the first signal does; from any thread. Repeating it has no effect."""
        if self._number is None:
            self._number = number
            self._unlogged.put(number)

    @property
    def is_pause(self) -> bool:
        return self._number == SPENT

    def error(self) -> KeyboardInterrupt:
        """What to raise after saving: KeyboardInterrupt after Ctrl-C, Paused of a sweep, else Terminated."""
        return _error(self._number)

    def receive(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.request(number)
        elif number != signal.SIGHUP:  # which the kernel and the shell both send
            raise _error(number)

    @contextmanager
    def logging_requests(self) -> Iterator[None]:
        """Log the request at once, from a separate thread.

        A handler runs between any two instructions of the main thread, which may be writing a log line: logging's lock
        is reentrant, but the stream is not ("RuntimeError: reentrant call"). The main thread may not check `requested`
        for a while, during an evaluation for example. `SimpleQueue.put` is documented to be reentrant;
        `threading.Event.set` could wait for itself.
        """

        def log() -> None:
            while (number := self._unlogged.get()) is not None:
                if number == SPENT:
                    logger.info("%s", PAUSING)
                else:
                    logger.warning("%s", MESSAGES[signal.Signals(number)])

        thread = threading.Thread(target=log, name="blitz-interrupt", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._unlogged.put(None)
            thread.join()


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Turn the first signal into a flag that the block checks; the second signal raises as usual.

    A nested block shares the flag of the outer one. Outside the main thread no handler is set, and only `request` sets
    the flag. A signal that was ignored before stays ignored, as for a job that a shell started in the background. The
    previous handlers are restored at the end; check the flag once more after the block.
    """
    before = {number: signal.getsignal(number) for number in MESSAGES}
    for handler in before.values():
        outer = getattr(handler, "__self__", None)
        if isinstance(outer, Interrupt):
            yield outer
            return
    interrupt = Interrupt()
    with ExitStack() as stack:
        stack.enter_context(interrupt.logging_requests())
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                # None: not set from Python, and could not be restored. SIGHUP and SIGUSR2 are handled only if the
                # program had a handler; otherwise they keep their default, which ends the process.
                if handler not in (signal.SIG_IGN, None) and (number in ALWAYS or callable(handler)):
                    stack.callback(signal.signal, number, handler)
                    signal.signal(number, interrupt.receive)
        yield interrupt


def _error(number: int | None) -> KeyboardInterrupt:
    if number == SPENT:
        return Paused()
    return Terminated() if number in (signal.SIGTERM, signal.SIGHUP) else KeyboardInterrupt()

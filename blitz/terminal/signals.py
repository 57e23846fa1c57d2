"""Ctrl-C, SIGTERM and a closed terminal: the first asks to stop after this step, the second stops at once."""

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
ALWAYS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, or the end of the terminal: ends a run as Ctrl-C does, with another exit code."""


class Interrupt:
    """Whether, and how, it was asked to stop."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._untold: SimpleQueue[int | None] = SimpleQueue()

    @property
    def requested(self) -> bool:
        return self._number is not None

    def request(self, number: int = signal.SIGINT) -> None:
        """Ask to stop, as the first signal does; from any thread. Asking again changes nothing."""
        if self._number is None:
            self._number = number
            self._untold.put(number)

    def error(self) -> KeyboardInterrupt:
        """What to raise once all is saved: KeyboardInterrupt after Ctrl-C, else Terminated."""
        return _error(self._number)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler of them all."""
        if not self.requested:
            self.request(number)
        elif number != signal.SIGHUP:  # of which the kernel and the shell both tell
            raise _error(number)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Log the request, at once and from a thread of its own.

        A handler runs between any two instructions of the main thread, which may be writing a log line just then:
        logging's lock would let the handler in, and the stream refuse it ("RuntimeError: reentrant call"). The main
        thread itself may be far from its next look at `requested`, in an evaluation say. `SimpleQueue.put` is the one
        way out of a handler that is documented to be reentrant; `threading.Event.set` could wait for itself.
        """
        teller = threading.Thread(target=self._tell, name="blitz-interrupt", daemon=True)
        teller.start()
        try:
            yield
        finally:
            self._untold.put(None)
            teller.join()

    def _tell(self) -> None:
        while (number := self._untold.get()) is not None:
            logger.warning("%s", MESSAGES[signal.Signals(number)])


@contextmanager
def graceful() -> Iterator[Interrupt]:
    """Turn the first signal to stop into a flag, which the block looks at; the second raises as if all were usual.

    Within another such block it is that block's flag. In a thread that is not the main one, signals go where they went
    before, and only `request` sets the flag. A signal that was ignored before stays so, as it is for a job that a
    shell started in the background. The handlers that were there are put back at the end; a request that came after
    the block's last look is still to be read then.
    """
    before = {number: signal.getsignal(number) for number in MESSAGES}
    for handler in before.values():
        outer = getattr(handler, "__self__", None)
        if isinstance(outer, Interrupt):
            yield outer
            return
    interrupt = Interrupt()
    with ExitStack() as stack:
        stack.enter_context(interrupt.telling())
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                # None: not set from Python, and could not be put back. SIGUSR2 is a batch system's, or nobody's; that a
                # terminal is closed ends a program which does not know what to do about it.
                if handler not in (signal.SIG_IGN, None) and (number in ALWAYS or callable(handler)):
                    stack.callback(signal.signal, number, handler)
                    signal.signal(number, interrupt.receive)
        yield interrupt


def _error(number: int | None) -> KeyboardInterrupt:
    return Terminated() if number in (signal.SIGTERM, signal.SIGHUP) else KeyboardInterrupt()

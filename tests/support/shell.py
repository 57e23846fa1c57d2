"""A blitz command line inside this process: a second instead of five."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import signal
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from blitz import cli


class Ended(NamedTuple):
    code: int
    output: str
    told: list[str]  # lines on stderr


def blitz(*arguments: str) -> Ended:
    """Run `blitz ARGUMENTS…` to its end."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, _process_wide_state():
        patch.setattr(sys, "argv", ["blitz", *arguments])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            cli.main()
    return Ended(int(ended.value.code or 0), output.getvalue(), errors.getvalue().splitlines())


@contextlib.contextmanager
def _process_wide_state() -> Iterator[None]:
    """Put back what a command changes, since its process is expected to end: signals, the log, the garbage."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    log = logging.getLogger()  # Hydra's flags print through it
    level, before = log.level, list(log.handlers)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        log.setLevel(level)
        for added in set(log.handlers) - set(before):
            log.removeHandler(added)
        gc.unfreeze()


def refused(*arguments: str) -> list[str]:
    """The mistakes that a command reports: exit code 2, a line each on stderr and no other output."""
    ended = blitz(*arguments)
    assert (ended.code, ended.output) == (2, ""), ended
    return problems(ended.told)


def problems(errors: list[str]) -> list[str]:
    """Lines on stderr, each of which is a mistake, without the name of the program."""
    assert [line for line in errors if not line.startswith("blitz: ")] == []
    return [line.removeprefix("blitz: ") for line in errors]

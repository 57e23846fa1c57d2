"""A blitz command line inside this process: a second instead of five."""

from __future__ import annotations

import contextlib
import gc
import io
import signal
import sys
from typing import NamedTuple

import pytest

from blitz import cli


class Ended(NamedTuple):
    code: int
    output: str
    told: list[str]  # lines on stderr


def blitz(*arguments: str) -> Ended:
    """Run `blitz ARGUMENTS…` to its end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    output, errors = io.StringIO(), io.StringIO()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["blitz", *arguments])
            with (
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(errors),
                pytest.raises(SystemExit) as ended,
            ):
                cli.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        gc.unfreeze()  # this process goes on
    return Ended(int(ended.value.code or 0), output.getvalue(), errors.getvalue().splitlines())


def refused(*arguments: str) -> list[str]:
    """What is told of mistakes: exit code 2, a line each and nothing else."""
    ended = blitz(*arguments)
    assert (ended.code, ended.output) == (2, ""), ended
    assert [line for line in ended.told if not line.startswith("blitz: ")] == []
    return [line.removeprefix("blitz: ") for line in ended.told]

"""What a user can do wrong and what can fail around a run, as exceptions, and the words for it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(Exception):
    """One or more mistakes of the user's, each told in one line; the command line ends with exit code 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunFailed(Exception):
    """A run that could not go on, for a reason outside of it that is told in one line; exit code 1."""


class SweepFailed(Exception):
    """Some jobs of a sweep failed, which is told of each; exit code 1."""


def in_one_line(error: Exception) -> str:
    """The words of somebody else's exception, which may take several lines."""
    return " ".join(str(error).split())


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """`; did you mean NAME?`, or an empty string where nothing is near."""
    near = nearest(name, names)
    return f"; did you mean {prefix}{near}?" if near else ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name itself where it is one of the names."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=0.55)), None)

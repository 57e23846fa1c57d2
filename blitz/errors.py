"""The exceptions that end a command, and parts of their messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(Exception):
    """One or more mistakes of the user, one line each; exit code 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunFailed(Exception):
    """A run stopped for a reason outside of it, such as a full disk; one line, exit code 1."""


class SweepFailed(Exception):
    """Some jobs of a sweep failed, after each failure was printed; exit code 1."""


class Bug(Exception):
    """Wraps an error that is no mistake of the user's, though of a kind that Hydra raises for these."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def refuse(problems: Iterable[str]) -> None:
    """Raises BadInput with these mistakes, if there are any."""
    if found := list(problems):
        raise BadInput(*found)


def in_one_line(error: BaseException) -> str:
    """The message of a library's exception, which may have several lines."""
    return " ".join(str(error).split())


def no_such(text: str, kind: str, name: str, names: Iterable[str]) -> str:
    """`TEXT: no such KIND; did you mean NAME? (accepted: …)`."""
    names = list(names)
    return f"{text}: no such {kind}{did_you_mean(name, names)} (accepted: {', '.join(names)})"


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """`; did you mean NAME?`, or an empty string if no name is close."""
    near = nearest(name, names)
    return f"; did you mean {prefix}{near}?" if near else ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The closest of the names, `name` itself if it is one of them; None if none is close."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=0.55)), None)

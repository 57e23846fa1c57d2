"""What a user can do wrong, as one exception, and the nearest name to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(Exception):
    """One or more mistakes of the user's, each told in one line; the command line ends with exit code 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """`; did you mean NAME?`, or an empty string where nothing is near."""
    near = get_close_matches(name, list(names), n=1, cutoff=0.55)
    return f"; did you mean {prefix}{near[0]}?" if near else ""

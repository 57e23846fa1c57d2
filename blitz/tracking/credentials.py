"""Credentials out of text: logins in URLs, and the values of what is called password, token, secret, ….

Where it is in doubt it takes out too much: a path with an @ after a port loses its host.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAME = r"(?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|private)[_-]?key|credential|authorization)"
_LOGIN = re.compile(r"(?<=://)(?:[^\s/:@\"']*:[^\s@\"']*@|[^\s/?#@]+@)(?:[^\s/?#@]*@)*")
_VALUE = re.compile(
    rf"(?P<query>[?&;](?:[\w.-]*{_NAME}[\w.-]*|sig|signature|auth|key)=)[^\s&#\"']*"
    rf"|(?P<named>{_NAME}[\w.-]*[\"']?[ \t]*(?:=|:|%3D)[ \t]*(?:bearer\s+|basic\s+)?)"
    r"(?:\*{3}(?!\w)|\"[^\"]*\"|'[^']*'|\S+)"
    rf"|(?P<option>--?[\w.-]*{_NAME}[\w-]*\s+|\bbearer\s+)\S+",
    re.IGNORECASE,
)
_NAMED_ARGUMENT = re.compile(rf"([^\s=?&:/]*{_NAME}[^\s=?&]*=).*", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(rf"--?[\w.-]*{_NAME}[\w-]*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with `***` for each credential."""
    text = _VALUE.sub(lambda found: (found["query"] or found["named"] or found["option"]) + "***", text)
    return _LOGIN.sub("***@", text)


def redact_command(argv: Sequence[str]) -> list[str]:
    """The same for each argument of a command line.

    An argument is one value to its end, with spaces and ampersands; an option's value may be the next argument.
    """
    command: list[str] = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if _OPTION.fullmatch(before) and not argument.startswith("--"):
            command.append("***")
        elif named := _NAMED_ARGUMENT.fullmatch(argument):
            command.append(named[1] + "***")
        else:
            command.append(redact(argument))
    return command

"""Credentials out of text: logins in URLs, the values of what is called password, token, secret, …, and known secrets.

Known secrets are those in environment variables and those given to `remember`; they are removed wherever they occur.
Not known are values of fewer than 6 characters, ordinary words of our own texts, and paths of existing files: removing
them everywhere would damage ordinary text. They are still removed where a URL or a name marks them as secret. In doubt
too much is removed: a path with an @ after a port loses its host.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 6  # characters of a known secret
SHORTEST_ALONE = 16  # of one that stands as a URL's user, without a password: shorter ones are people
ORDINARY = frozenset(
    {"bearer", "default", "disabled", "enabled", "mlflow", "password", "postgres", "postgresql", "secret", "sqlite"}
)

# Words that begin what a message says of a value: model=/etc/passwd: no such model.
VERDICTS = ("no", "not", "is", "does", "cannot", "needs", "holds", "names", "has")

_KEY = r"(?:api|access|account|private|secret)[_-]?key"
_NAME = rf"(?:passw(?:or)?d|passphrase|pwd|secret|token(?!iz)|{_KEY}|credential|authorization)"
_LOGIN = re.compile(r"(?<=://)(?:[^\s/:@\"']*:[^\s@\"']*@|[^\s/?#@]+@)(?:[^\s/?#@]*@)*")
_VALUE = re.compile(
    rf"(?P<query>[?&;](?:[\w.-]*{_NAME}[\w.-]*|sig|signature|auth|key)=)[^\s&#\"']*"
    rf"|(?P<named>{_NAME}[\w.-]*[\"']?[ \t]*(?:=|:|%3D)[ \t]*(?:bearer\s+|basic\s+)?)"
    rf"(?!(?<=: )(?:{'|'.join(VERDICTS)})\s)(?:\*{{3}}(?!\w)|\"[^\"]*\"|'[^']*'|\S+)"
    rf"|(?P<option>(?<![\w.-])--?[\w.-]*{_NAME}[\w-]*\s+|\bbearer\s+)\S+",
    re.IGNORECASE,
)
_NAMED_ARGUMENT = re.compile(rf"([^\s=?&:/]*{_NAME}[^\s=?&]*=).*", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(rf"--?[\w.-]*{_NAME}[\w-]*", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"(?:{_NAME}[\w.-]*|[?&;](?:sig|signature|auth|key))=(?:(?:bearer|basic)(?:\s|%20)+)?[\"']?([^\s;,&#\"']+)",
    re.IGNORECASE,
)
_PORT = re.compile(r"\d{1,5}/.*")
_VARIABLE = re.compile(rf"{_NAME}|(?:^|_)(?:pass|key)$", re.IGNORECASE)
_NO_SECRET_VARIABLE = re.compile(r"(?:OLD)?PWD|.*_(?:FILE|PATH|DIR)", re.IGNORECASE)
# A key of a config. No num_tokens, no pad_token: those are ordinary options of models.
_SECRET_KEY = re.compile(
    rf"(?:[\w-]*[_-])?(?:password|passwd|passphrase|pwd|secret|{_KEY}|credential)s?|(?:[\w-]+[_-])?authorization"
    r"|(?!(?:cls|class|mask|pad|bos|eos|sep|unk)[_-])(?:[\w-]+[_-])?token",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """`text` with `***` for each credential."""
    text = _known_secrets().sub(HIDDEN, text)
    text = _VALUE.sub(lambda found: (found["query"] or found["named"] or found["option"]) + HIDDEN, text)
    return _LOGIN.sub(f"{HIDDEN}@", text)


def redact_command(argv: Sequence[str]) -> list[str]:
    """The same for each argument of a command line, and for each override.

    An argument is one value to its end, with spaces and ampersands; an option's value may be the next argument.
    """
    command: list[str] = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if _OPTION.fullmatch(before) and not argument.startswith("--"):
            command.append(HIDDEN)
        elif named := _NAMED_ARGUMENT.fullmatch(argument):
            command.append(named[1] + HIDDEN)
        else:
            command.append(redact(argument))
    return command


def redact_values(value: Any) -> Any:
    """The same for each string in nested mappings, lists and tuples, whose keys stay as they are.

    What stands under a key such as `password` or `hf_token` goes as a whole, unless it is empty, None or a bool.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key, inner) else redact_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        values = map(redact_values, value)
        return list(values) if isinstance(value, list) else tuple(values)
    return value


class Redacting(logging.Formatter):
    """A formatter whose lines, tracebacks included, hold no credentials."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def holds_secret(text: str) -> bool:
    """Whether a known secret stands in `text`. Names and logins that `redact` would go by do not count."""
    return _known_secrets().search(text) is not None


def remember(text: str) -> None:
    """From now on, in this process: the credentials in a URI (or an override, or an argument) are known secrets."""
    global _remembered
    _remembered |= frozenset(_written_in(text))


def _is_secret(key: Any, value: Any) -> bool:
    if value is None or isinstance(value, bool) or value in ("", [], {}):
        return False
    return isinstance(key, str) and _SECRET_KEY.fullmatch(key.rpartition(".")[2]) is not None


# ---- known secrets


_remembered: frozenset[str] = frozenset()
# The environment and `_remembered` as they were when the pattern beside them was made.
_known: tuple[dict[Any, Any], frozenset[str], re.Pattern[str]] = ({}, _remembered, re.compile("(?!)"))


def _known_secrets() -> re.Pattern[str]:
    """A pattern that finds them, made anew whenever the environment is another."""
    global _known
    remembered, (environment_before, remembered_before, pattern) = _remembered, _known
    # The mapping behind os.environ: comparing it takes 0.3 µs, and reading 50 variables through os.environ 17 µs.
    environment = getattr(os.environ, "_data", os.environ)
    if remembered_before is not remembered or environment_before != environment:
        snapshot = dict(environment)
        variables = {os.fsdecode(name): os.fsdecode(value) for name, value in snapshot.items()}
        pattern = _pattern(filter(_is_telling, {*remembered, *_in_variables(variables)}))
        # Another thread may be here as well: whatever it stores belongs to the snapshot beside it.
        _known = snapshot, remembered, pattern
    return pattern


def _in_variables(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in variables.items():
        if _VARIABLE.search(name) and not _NO_SECRET_VARIABLE.fullmatch(name):
            yield value.strip()
        yield from _written_in(value)


def _written_in(text: str) -> Iterator[str]:
    """Passwords of URL logins and the values of `password=…` in a text, as they stand there and percent-decoded."""
    for login in _LOGIN.finditer(text):
        user, _, password = login[0].removesuffix("@").partition(":")
        if password not in ("", user) and not _PORT.fullmatch(password):
            yield from (password, unquote(password))
        elif not password and len(user) >= SHORTEST_ALONE:
            yield from (user, unquote(user))
    for decoded in {text, unquote(text)}:  # ?odbc_connect= holds another such text, percent-encoded
        for assigned in _ASSIGNED.finditer(decoded):
            yield from (assigned[1], unquote(assigned[1]))


def _is_telling(value: str) -> bool:
    """Whether a value is a secret wherever it stands, and not ordinary text there."""
    return (
        len(value) >= SHORTEST
        and value.lower() not in ORDINARY
        and value.strip("*") != ""
        and not (os.sep in value and os.path.exists(value))
    )


def _pattern(values: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    return re.compile("|".join("".join(map(_spellings, value)) for value in longest_first) or "(?!)")


def _spellings(character: str) -> str:
    """A pattern: the character itself, percent-encoded once or more, or escaped as in JSON, by repr or by a shell."""
    if character.isascii() and character.isalnum():
        return character
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode(errors="surrogateescape"))
    forms = [f"(?i:{encoded})", rf"\\?{re.escape(character)}", re.escape(json.dumps(character)[1:-1])]
    if character == " ":
        forms.append(r"\+")
    elif character == "\n":  # between lines of a log or of a diff
        forms.append(r"\s*\n[-+]?\s*")
    return f"(?:{'|'.join(forms)})"

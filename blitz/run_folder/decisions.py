"""`decisions.jsonl` in a sweep's folder: what its search has decided, on which numbers, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from blitz.errors import BadInput
from blitz.run_folder.files import write_whole

FILE = "decisions.jsonl"  # in the folder of a sweep, and an artifact of its run


@dataclass(frozen=True)
class Decision:
    """A line of the file."""

    round: int  # that it was made after, counted from 1; of a proposal, that it is trained in
    job: int
    decision: str
    numbers: dict[str, Any]  # that it was made on
    why: str


@dataclass(frozen=True)
class Heading:
    """A line before the decisions of a search: its options."""

    search: dict[str, Any]


Line = Decision | Heading


def read(path: Path) -> list[Line]:
    """The lines in a sweep's folder; none where it has no such file. Raises BadInput for one that is damaged."""
    if not path.exists():
        return []
    schema: TypeAdapter[Line] = TypeAdapter(Line)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(schema.validate_json(line))
        except ValidationError as error:
            raise BadInput(f"{path}: line {number} is no decision: {error.errors()[0]['msg']}") from None
    return found


def note(sweep: Path, search: Mapping[str, Any], decisions: Sequence[Decision]) -> list[Decision]:
    """Write down what is new of all decisions that a search has made so far; returns that.

    Before the first of them, and before those that it makes with other options, goes a line with the search itself.
    Raises OSError, and BadInput for a file that is damaged.
    """
    lines = read(sweep / FILE)
    new = [decision for decision in decisions if decision not in lines]
    if new:
        headings = [line.search for line in lines if isinstance(line, Heading)]
        more: list[Line] = [*([] if headings[-1:] == [search] else [Heading(dict(search))]), *new]
        write_whole(sweep / FILE, "".join(f"{json.dumps(asdict(line))}\n" for line in [*lines, *more]))
    return new

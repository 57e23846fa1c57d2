"""`decisions.jsonl` in a sweep's folder: what its search has decided, on which numbers, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blitz.run_folder.files import write_whole
from blitz.sweeps.search.strategy import Decision

DECISIONS = "decisions.jsonl"


def note(folder: Path, search: Mapping[str, Any], decisions: Sequence[Decision]) -> list[Decision]:
    """Write down what is new of all decisions that a search has made so far; returns that.

    A line with the search itself goes before the first of them, and before those that it makes with other options.
    Raises OSError.
    """
    path = folder / DECISIONS
    lines = read(path)
    known = [line for line in lines if "decision" in line]
    new = [decision for decision in decisions if _as_plain(decision.as_dict()) not in known]
    if new:
        before = next((line["search"] for line in reversed(lines) if "search" in line), None)
        heading = [{"search": search}] if before != search else []
        found = [*lines, *heading, *(decision.as_dict() for decision in new)]
        write_whole(path, "".join(f"{json.dumps(line)}\n" for line in found))
    return new


def read(path: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _as_plain(line: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(line))

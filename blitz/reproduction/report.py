"""What came of training a run again: in lines, as `reproduction.md` and as `reproduction.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blitz.comparison.packages import OF_CONSEQUENCE
from blitz.reproduction.verdict import DIFFERENT, IDENTICAL, Verdict
from blitz.run_folder.differences import Difference
from blitz.run_folder.files import write_whole
from blitz.run_folder.run_info import shortened
from blitz.terminal.text import printable

HEADINGS = ("what differs", "recorded", "now")
LONGEST = 60  # characters of a value in a table
NAMED = 5  # packages of no consequence that are named


@dataclass(frozen=True)
class Reproduction:
    """A run, the one that repeats it, and how they compare."""

    original: str  # run id
    run_id: str | None  # of the new run; None where the store failed meanwhile
    verdict: Verdict
    changes: tuple[Difference, ...]  # in provenance
    overrides: tuple[str, ...]  # values that were changed on purpose
    until: int | None  # epochs that were compared; None for all there are, tests and final weights
    deterministic: bool
    folder: Path

    @property
    def exit_code(self) -> int:
        return 1 if self.verdict.word == DIFFERENT else 0


def rows(changes: Sequence[Difference]) -> list[tuple[str, str, str]]:
    """A table of what differs, a row each, but for packages of no consequence."""
    listed, others = [], []
    for change in changes:
        group, _, package = change.key.partition(".")
        if group == "packages" and package not in OF_CONSEQUENCE:
            others.append(package)
        else:
            listed.append((printable(change.key), _cut(change.then), _cut(change.now)))
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        listed.append(("other packages", printable(", ".join(others[:NAMED])) + more, ""))
    return listed


def lines(found: Reproduction) -> Iterator[str]:
    verdict = found.verdict
    epochs = f"{found.until} epoch{'s' * (found.until > 1)}" if found.until else "the whole run"
    weights = f"; weights: {', '.join(verdict.weights)}" if verdict.weights else ""
    yield f"compared {verdict.points:,} values of {verdict.metrics} metrics, {epochs}{weights}"
    yield f"verdict  {verdict.word}" + (": the same bits" if verdict.word == IDENTICAL else "")
    if verdict.word == IDENTICAL:
        return
    if "initial" in verdict.other_weights:
        yield "         the initial weights differ already"
    if verdict.first is not None:
        yield f"         first difference: {verdict.first}"
    elif verdict.other_weights:
        yield f"         all metrics are the same, and the weights are not: {', '.join(verdict.other_weights)}"
    if judged := verdict.judged:
        width, source = judged.tolerance
        change = f"recorded {judged.recorded:.4f}, now {judged.now:.4f}, difference {judged.difference:.4f}"
        yield f"         {judged.name}: {change}"
        yield f"         tolerance {width:.4f}: {source}"
    yield f"         {_causes(found)}"


def _causes(found: Reproduction) -> str:
    reasons = list(found.overrides) + [f"{key} (recorded {then}, now {now})" for key, then, now in rows(found.changes)]
    if not found.deterministic:
        reasons.append("device.deterministic=false")
    if not reasons:
        return "no recorded fact differs; please report this with both run ids"
    return "possible causes: " + "; ".join(reasons)


def write(found: Reproduction) -> None:
    """`reproduction.md` for people and `reproduction.json` for programs, into the new run's folder."""
    values = {**asdict(found), "folder": str(found.folder), "changes": [change._asdict() for change in found.changes]}
    write_whole(found.folder / "reproduction.json", json.dumps(values, indent=2) + "\n")
    text = [f"# Run {found.run_id} repeats {found.original}", "", "```text", *lines(found), "```", ""]
    if found.changes:
        text += [f"| {' | '.join(HEADINGS)} |", "|---|---|---|"]
        text += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows(found.changes)]
    else:
        text.append("No recorded fact of code, packages, machine, device and data differs.")
    write_whole(found.folder / "reproduction.md", "\n".join(text) + "\n")


def _cut(text: str) -> str:
    text = printable(text)
    if re.fullmatch("[0-9a-f]{40,}", text):  # a hash
        return text[:12]
    return shortened(text, LONGEST)

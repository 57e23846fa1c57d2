"""`--where KEY=VALUE`: which runs, by their parameters, metrics, tags, name and status."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blitz.comparison.rows import is_share
from blitz.errors import did_you_mean, nearest, refuse
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED, PAUSED, RUNNING, status_word
from blitz.tracking import orphaned
from blitz.tracking.orphaned import ORPHANED

if TYPE_CHECKING:
    from mlflow.entities import Run

NAME, STATUS = ALL_HAVE = "name", "status"
STATUSES = (FINISHED, RUNNING, status_word(PAUSED), FAILED, KILLED, ORPHANED)  # as they are shown
CONDITION = re.compile(r"([^=!<>]*[^=!<>\s])\s*(==|!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
ACCEPTED = "accepted: KEY=VALUE, or with != < <= > >=, in quotes: 'optimizer.lr>0.01'"
# Metrics of blitz, which no parameter is called like: a store can compare them.
MEASURED = (OBJECTIVE, "train/", "val/", "test/")


@dataclass(frozen=True)
class Condition:
    """KEY SIGN VALUE."""

    text: str
    key: str
    sign: str
    value: str

    def holds(self, facts: Mapping[str, str | float]) -> bool:
        """A run that lacks the key is unlike every value, and neither less nor more."""
        found = facts.get(self.key)
        if self.sign in SIGNS:
            ours, theirs = _number(found), _number(self.value)
            return ours is not None and theirs is not None and SIGNS[self.sign](ours, theirs)
        return _is_same(found, self.value) == (self.sign == "=")

    @property
    def query(self) -> str:
        """For a store, to find these runs and maybe more; empty where it would compare in another way."""
        if self.key == STATUS and self.sign == "=" and self.value in (RUNNING, ORPHANED):
            return f" and attributes.status = '{RUNNING}'"
        if self.key == STATUS and (self.sign == "=") != (self.value == FINISHED):
            return f" and attributes.status != '{FINISHED}'"  # of the others it may know no end so far
        number = repr(_number(self.value))  # of the ways to write one MLflow reads these
        is_plain = re.fullmatch(r"[\d.]+(e-\d+)?", number) and "`" not in self.key
        if self.key.startswith(MEASURED) and self.sign != "!=" and is_plain:
            return f" and metrics.`{self.key}` {self.sign} {number}"
        return ""


class Where:
    """What runs must be like. Raises BadInput for what is no condition."""

    def __init__(self, texts: Sequence[str]) -> None:
        found = [_parse(text) for text in texts]
        refuse(problem for problem in found if isinstance(problem, str))
        self.conditions = [condition for condition in found if isinstance(condition, Condition)]

    def __str__(self) -> str:
        return " and ".join(condition.text for condition in self.conditions)

    @property
    def query(self) -> str:
        """As that of a condition."""
        return "".join(condition.query for condition in self.conditions)

    def holds(self, run: Run) -> bool:
        facts = facts_of(run)
        return all(condition.holds(facts) for condition in self.conditions)

    def refuse_unknown(self, is_known: Callable[[str], bool], examples: Callable[[], Sequence[Run]]) -> None:
        """Raises BadInput for keys of no run; the examples suggest others. Where there are no runs nothing is wrong."""
        unknown = [condition for condition in self.conditions if not is_known(condition.key)]
        if unknown and (runs := examples()):
            names = sorted({name for run in runs for name in facts_of(run)})
            refuse(
                f"--where={condition.text}: none of the runs has {condition.key}{_suggestion(condition.key, names)}"
                for condition in unknown
            )


def _suggestion(key: str, names: Sequence[str]) -> str:
    """A key that ends in the same word, or the most similar one."""
    near = next((name for name in names if name.endswith(f".{key}")), None) or nearest(key, names)
    return f"; did you mean {near}?" if near else f" (accepted: a parameter, metric or tag, {NAME}, {STATUS})"


def facts_of(run: Run) -> dict[str, str | float]:
    """Everything a condition may ask for. A tag is found as `tags.NAME`, and by its name where nothing else has it."""
    tags = run.data.tags
    facts: dict[str, str | float] = {**tags, **{f"tags.{name}": text for name, text in tags.items()}}
    facts |= {**run.data.metrics, **run.data.params}
    if "epochs" in tags:  # of a run that was extended
        facts["epochs"] = tags["epochs"]
    return {**facts, NAME: str(run.info.run_name), STATUS: status_word(orphaned.status(run))}


def _parse(text: str) -> Condition | str:
    """The condition, or what is wrong with the text."""
    match = CONDITION.fullmatch(text.strip())
    if match is None:
        return f"--where={text}: {ACCEPTED}"
    key, sign, value = match.groups()
    sign = sign.replace("==", "=")
    if key == STATUS:
        value = value.upper()
        if value not in STATUSES or sign in SIGNS:
            near = did_you_mean(value, STATUSES) if value not in STATUSES else ""
            return f"--where={text}: accepted: {STATUS}= or != {', '.join(STATUSES)}{near}"
    number = _number(value)
    if sign in SIGNS and number is None:
        return f"--where={text}: {sign} compares numbers; {value or 'nothing'} is none"
    if is_share(key) and number is not None and number > 1:
        return f"--where={text}: {key} is at most 1; accepted: {number / 100:g}, or {number:g}%"
    return Condition(text, key, sign, value)


def _number(value: str | float | None) -> float | None:
    """`1e-2`, `0.01` and `1%` are one and the same; None for what is no number."""
    if not isinstance(value, str):
        return value
    try:
        return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        return None


def _is_same(found: str | float | None, value: str) -> bool:
    """As numbers where both are, else as values of a config: `True` is `true`, `[1,2]` is `[1, 2]`; else as texts."""
    if found is None or found == value:
        return found is not None
    ours, theirs = _number(found), _number(value)
    if ours is not None and theirs is not None:
        return ours == theirs
    return isinstance(found, str) and _plain(found) == _plain(value)


def _plain(text: str) -> object:
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text

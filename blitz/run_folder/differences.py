"""What differs between two provenances, and can be why results do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# What two runs may differ in without any consequence: when, where and by whom.
OF_NO_CONSEQUENCE = (
    "started_at", "command", "host", "user", "process", "unknown", "result", "resumed", "epoch", "step", "diff",
    "code.root", "code.branch", "code.dirty", "cpu.memory_bytes", "data.source", "torch.threads", "torch.version",
    "device.hardware",
)  # fmt: skip
ABSENT = "-"


class Difference(NamedTuple):
    key: str  # dotted, in provenance.json
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.key}: {self.then} then, {self.now} now"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """In the order of `provenance.json`; what is known of one of the two alone is a difference as well."""
    before, after = dict(_leaves(then)), dict(_leaves(now))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        Difference(key, before.get(key, ABSENT), after.get(key, ABSENT))
        for key in keys
        if before.get(key) != after.get(key) and not any(f"{key}.".startswith(f"{name}.") for name in OF_NO_CONSEQUENCE)
    ]


def _leaves(value: Mapping[str, Any], *path: str) -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, *path, key)
        elif inner is not None:
            yield ".".join((*path, key)), inner if isinstance(inner, str) else json.dumps(inner)

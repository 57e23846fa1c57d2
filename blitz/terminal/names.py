"""Dotted keys and overrides in short, as runs are called by them and tables headed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The last words of dotted keys; the whole key where others end in the same word. `model.name` is the model."""
    words = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    times = Counter(words.values())
    return {key: word if times[word] == 1 else key for key, word in words.items()}


def briefly(overrides: Iterable[str]) -> str:
    """Overrides by the last words of their keys where these are enough: `lr=0.01 seed=2`."""
    pairs = [override.lstrip("+~").partition("=") for override in overrides]
    names = short_names(dict.fromkeys(key for key, _, _ in pairs))
    return " ".join(f"{names[key]}{sign}{value}" for key, sign, value in pairs)


def title_of_job(number: int, label: str) -> str:
    """`job 3 (lr=0.01 seed=2)`; where nothing is swept, `job 0`."""
    return f"job {number} ({label})" if label else f"job {number}"

"""Short names for dotted keys and overrides, for the names of runs and the headings of tables; numbers of things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The last word of each dotted key, or the whole key if several end in the same word; `model.name` is `model`."""
    words = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    counts = Counter(words.values())
    return {key: word if counts[word] == 1 else key for key, word in words.items()}


def briefly(overrides: Iterable[str]) -> str:
    """Overrides with short names for their keys: `lr=0.01 seed=2`."""
    pairs = [override.lstrip("+~").partition("=") for override in overrides]
    names = short_names(dict.fromkeys(key for key, _, _ in pairs))
    return " ".join(f"{names[key]}{sign}{value}" for key, sign, value in pairs)


def title_of_job(number: int, label: str) -> str:
    """`job 3 (lr=0.01 seed=2)`, or `job 0` if nothing is swept."""
    return f"job {number} ({label})" if label else f"job {number}"


def in_epochs(number: float) -> str:
    """`1 epoch`, `0.33 epochs`."""
    return f"{round(number, 2):g} epoch{'s' * (number != 1)}"

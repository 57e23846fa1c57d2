"""A report of `blitz evaluate`, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from blitz.evaluation.evaluate import Report
from blitz.terminal.progress import MANY_CLASSES
from blitz.terminal.text import print_table

CONFUSIONS = 10  # the most frequent ones, told where a matrix would be too large
SHORT_NAME = 6  # up to here, names of classes head the columns of the matrix; longer ones are numbered


class _Class(NamedTuple):
    name: str
    images: int
    right: int
    taken_for: str | None  # the class that it is most often taken for
    times: int

    @property
    def accuracy(self) -> float | None:
        return self.right / self.images if self.images else None


def print_json(report: Report) -> None:
    recorded = report.recorded
    told: dict[str, Any] = {
        "run": report.run,
        "data": report.data,
        "split": report.split,
        "images": len(report.found.predicted),
        **_finite(report.figures),
        "as_recorded": report.as_recorded,
        "recorded": recorded and {**_finite(recorded), "images": report.recorded_images},
        "fingerprint": report.fingerprint,
        "recorded_fingerprint": report.recorded_fingerprint,
        "classes": [
            {"class": row.name, "images": row.images, "right": row.right, "accuracy": row.accuracy,
             "most_often_taken_for": row.taken_for, "times": row.times}
            for row in _classes(report)
        ],
        "confusion": report.found.confusion.tolist(),
    }  # fmt: skip
    print(json.dumps(told, allow_nan=False))


def print_tables(report: Report) -> None:
    for line in summary(report):
        print(line)
    print()
    rows = [
        (
            row.name,
            f"{row.taken_for} ({row.times:,})" if row.taken_for is not None else "",
            f"{row.images:,}",
            f"{row.right:,}",
            f"{row.accuracy:.2%}" if row.accuracy is not None else "",
        )
        for row in _classes(report)
    ]
    print_table(("class", "most often taken for", "images", "right", "accuracy"), rows, texts=(0, 1))
    print()
    if len(report.classes) > MANY_CLASSES:
        _print_confusions(report)
    else:
        _print_matrix(report)


def summary(report: Report) -> list[str]:
    """The figures, and whether they are what the run recorded."""
    figures = report.figures
    lines = [
        f"run      {report.run}",
        f"data     {report.data}: {len(report.found.predicted):,} images, {report.split}",
        f"result   accuracy {figures['accuracy']:.2%}   top-5 {figures['top5']:.2%}   loss {figures['loss']:.4f}",
    ]
    if report.as_recorded:
        lines.append("         as recorded: the run found the same, to the last bit")
    elif report.recorded is not None:
        told = report.recorded
        apart = {name: value - told[name] for name, value in figures.items()}
        lines += [
            f"recorded accuracy {told['accuracy']:.2%}   top-5 {told['top5']:.2%}   loss {told['loss']:.4f}"
            f"   on {report.recorded_images:,} images",
            f"differs  accuracy {100 * apart['accuracy']:+.2g} points   top-5 {100 * apart['top5']:+.2g} points"
            f"   loss {apart['loss']:+.2g}",
        ]
    elif report.recorded_images is not None and report.split == "test":
        lines.append("         no test is recorded: the run ended before it")
    return lines


def _classes(report: Report) -> list[_Class]:
    rows = []
    for label, counts in enumerate(report.found.confusion.tolist()):
        wrong = [count if other != label else 0 for other, count in enumerate(counts)]
        times = max(wrong)
        taken_for = report.classes[wrong.index(times)] if times else None
        rows.append(_Class(report.classes[label], sum(counts), counts[label], taken_for, times))
    return rows


def _print_matrix(report: Report) -> None:
    names = list(report.classes)
    numbered = max(map(len, names)) > SHORT_NAME
    heads = [str(index) for index in range(len(names))] if numbered else names
    rows = [
        [f"{head}  {name}" if numbered else name, *(str(count) if count else "." for count in counts)]
        for head, name, counts in zip(heads, names, report.found.confusion.tolist(), strict=True)
    ]
    print_table(["class \\ taken for", *heads], rows)


def _print_confusions(report: Report) -> None:
    counts = report.found.confusion.tolist()
    found = [
        (times, report.classes[label], report.classes[other], sum(row))
        for label, row in enumerate(counts)
        for other, times in enumerate(row)
        if times and other != label
    ]
    rows = [
        (name, other, f"{times:,}", f"{times / images:.2%}")
        for times, name, other, images in sorted(found, key=lambda one: -one[0])[:CONFUSIONS]
    ]
    print_table(("class", "taken for", "times", "of its images"), rows, texts=(0, 1))


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no word for a loss that is not a number."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}

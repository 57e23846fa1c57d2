"""What `blitz evaluate` prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from blitz.evaluation.evaluate import Report
from blitz.terminal.progress import MANY_CLASSES
from blitz.terminal.text import Screen, print_line, print_table

CONFUSIONS = 10  # the most frequent ones, printed where a matrix would be too large, or wider than the terminal
SHORT_NAME = 6  # up to here, names of classes head the columns of the matrix; longer ones are numbered


def print_json(report: Report) -> None:
    recorded = report.recorded
    values: dict[str, Any] = {
        "run": report.run,
        "data": report.data,
        "split": report.split,
        "images": len(report.found.predicted),
        **_finite(report.metrics),
        "as_recorded": report.as_recorded,
        "recorded": recorded and {**_finite(recorded), "images": report.recorded_images},
        "fingerprint": report.fingerprint,
        "recorded_fingerprint": report.recorded_fingerprint,
        "classes": _classes(report),
        "confusion": report.found.confusion.tolist(),
    }
    print(json.dumps(values, allow_nan=False))


def print_tables(report: Report) -> None:
    for line in summary(report):
        print_line(line)
    print()
    rows = [
        (
            row["class"],
            f"{row['most_often_confused_with']} ({row['times']:,})" if row["times"] else "",
            f"{row['images']:,}",
            f"{row['correct']:,}",
            f"{row['accuracy']:.2%}" if row["images"] else "",
        )
        for row in _classes(report)
    ]
    print_table(("class", "most often confused with", "images", "correct", "accuracy"), rows, texts=(0, 1))
    print()
    matrix = _matrix(report) if len(report.classes) <= MANY_CLASSES else []
    width = sum(max(map(len, column)) + 2 for column in zip(*matrix, strict=True)) - 2
    if matrix and width <= Screen().room:
        print_table(matrix[0], matrix[1:])
    else:
        _print_confusions(report)


def summary(report: Report) -> list[str]:
    """The metrics, and whether they are what the run recorded."""
    metrics = report.metrics
    lines = [
        f"run      {report.run}",
        f"data     {report.data}: {len(report.found.predicted):,} images, {report.split}",
        f"result   accuracy {metrics['accuracy']:.2%}   top-5 {metrics['top5']:.2%}   loss {metrics['loss']:.4f}",
    ]
    if report.as_recorded:
        lines.append("         as recorded, bit for bit")
    elif report.recorded is not None:
        recorded = report.recorded
        change = {name: value - recorded[name] for name, value in metrics.items()}
        lines += [
            f"recorded accuracy {recorded['accuracy']:.2%}   top-5 {recorded['top5']:.2%}   loss {recorded['loss']:.4f}"
            f"   on {report.recorded_images:,} images",
            f"differs  accuracy {100 * change['accuracy']:+.2g} points   top-5 {100 * change['top5']:+.2g} points"
            f"   loss {change['loss']:+.2g}",
        ]
    elif report.recorded_images is not None and report.split == "test":
        lines.append("         no test is recorded: the run ended before its test")
    return lines


def _classes(report: Report) -> list[dict[str, Any]]:
    rows = []
    for label, counts in enumerate(report.found.confusion.tolist()):
        wrong = [count if other != label else 0 for other, count in enumerate(counts)]
        images, correct, times = sum(counts), counts[label], max(wrong)
        rows.append({
            "class": report.classes[label],
            "images": images,
            "correct": correct,
            "accuracy": correct / images if images else None,
            "most_often_confused_with": report.classes[wrong.index(times)] if times else None,
            "times": times,
        })  # fmt: skip
    return rows


def _matrix(report: Report) -> list[list[str]]:
    """Rows, of which the first is that of the headings."""
    names = list(report.classes)
    numbered = max(map(len, names)) > SHORT_NAME
    heads = [str(index) for index in range(len(names))] if numbered else names
    rows = [
        [f"{head}  {name}" if numbered else name, *(str(count) if count else "." for count in counts)]
        for head, name, counts in zip(heads, names, report.found.confusion.tolist(), strict=True)
    ]
    return [["class \\ predicted", *heads], *rows]


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
    print_table(("class", "predicted", "times", "of its images"), rows, texts=(0, 1))


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN for a loss."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}

"""A comparison as a table on a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from blitz.comparison.noise import sentences
from blitz.comparison.rows import ID_LENGTH, Comparison, Row, is_share
from blitz.intervals import LEAST_SEEDS, Estimate
from blitz.run_folder.run_info import shortened, status_word
from blitz.terminal.names import short_names
from blitz.terminal.text import NARROW, WIDE, Screen, in_a_line, print_line

LONGEST = 40  # characters of a value in a table


def print_table(comparison: Comparison) -> None:
    """On stdout, the best of each metric in bold. On a terminal the first metric, and as much of the others and of
    what differs as there is room for.
    """
    wide, shown = Screen(width=WIDE), comparison
    while wide.measure(_table(shown)).maximum > wide.room:
        if len(shown.metrics) > 1:
            shown = replace(shown, metrics=shown.metrics[:-1])
        elif len(shown.keys) > 1:  # one is left, by which rows differ
            least = min(reversed(shown.keys), key=lambda key: _num_others(comparison, key))
            shown = replace(shown, keys=[key for key in shown.keys if key != least])
        else:
            break
    Screen(width=max(wide.room, NARROW)).print_table(_table(shown))
    for line in remarks(comparison):
        print_line(in_a_line(line))
    all_columns, columns = [[*each.keys, *each.metrics] for each in (comparison, shown)]
    if left := [column for column in all_columns if column not in columns]:
        print_line(in_a_line(f"Too wide for this terminal: {', '.join(left)}; --format csv has all."))


def _num_others(comparison: Comparison, key: str) -> int:
    """The number of rows that have not the value that most of them have."""
    values = Counter(row.values.get(key, "") for row in comparison.rows)
    return len(comparison.rows) - max(values.values())


def _table(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, is_text in headings(comparison):
        justify: Literal["left", "right"] = "left" if is_text else "right"
        table.add_column(Text(in_a_line(heading)), justify=justify, no_wrap=not is_text, overflow="fold")
    for row in cells(comparison):
        table.add_row(*(Text(shortened(in_a_line(text), LONGEST), "bold" if best else "") for text, best in row))
    return table


def as_markdown(comparison: Comparison) -> str:
    """A table with the best of each metric in bold, and what can be said of it."""
    columns = headings(comparison)
    lines = [
        _markdown_row([heading for heading, _ in columns]),
        _markdown_row([":--" if is_text else "--:" for _, is_text in columns]),
    ]
    for row in cells(comparison):
        lines.append(_markdown_row([f"**{text}**" if best and text else text for text, best in row]))
    return "\n".join([*lines, *(f"\n{line}" for line in remarks(comparison))]) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    suffixes = ("", " ±", " n") if comparison.folded else ("",)
    so_far = [metric for metric in comparison.metrics if any(row.so_far(metric) for row in comparison.rows)]
    metrics = [f"{metric}{suffix}" for metric in comparison.metrics for suffix in suffixes]
    metrics += [f"{metric} so far" for metric in so_far]
    writer.writerow([*comparison.keys, *metrics, "n", "seconds", "status", "runs"])
    for row in comparison.rows:
        numbers: list[Any] = []
        for metric in comparison.metrics:
            estimate = row.estimate(metric)
            numbers += [estimate.mean if estimate else None]
            if comparison.folded:
                numbers += [estimate.margin, estimate.n] if estimate else [None, 0]
        numbers += [" ".join(map(str, row.so_far(metric))) for metric in so_far]
        runs = " ".join(entry.run_id for entry in row.entries if entry.run_id)
        values = [row.values.get(key) for key in comparison.keys]
        writer.writerow([*values, *numbers, len(row.finished), row.seconds, row.status, runs])
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """All of it, numbers in full; null for what was not measured."""
    rows = [
        {
            "values": {key: row.values.get(key) for key in comparison.keys},
            "metrics": {metric: _as_plain(row.estimate(metric)) for metric in comparison.metrics},
            "so_far": {metric: found for metric in comparison.metrics if (found := row.so_far(metric))},
            "seconds": row.seconds,
            "status": row.status,
            "runs": [
                {"id": entry.run_id, "seed": entry.seed, "status": status_word(entry.status)} for entry in row.entries
            ],
        }
        for row in comparison.rows
    ]
    return json.dumps({"rows": rows, "notes": remarks(comparison)}, indent=2, allow_nan=False) + "\n"


def remarks(comparison: Comparison) -> list[str]:
    """Whether differences are significant, and what is not in the table."""
    few = any(_has_too_few(row.estimate(metric)) for row in comparison.rows for metric in comparison.metrics)
    lines = ["Two seeds are too few for an interval: the values are shown."] * few
    return [*sentences(comparison), *lines, *(f"{note}." for note in comparison.notes)]


def headings(comparison: Comparison) -> list[tuple[str, bool]]:
    """Headings, and whether the column holds texts."""
    keys = short_names(comparison.keys).values()
    texts = [not all(_is_number(row.values.get(key, "")) for row in comparison.rows) for key in comparison.keys]
    found = [*zip(keys, texts, strict=True), *((metric, False) for metric in comparison.metrics)]
    found += [("n", False)] if comparison.folded else []
    found += [("time", False)] + [("status", True)] * (not comparison.all_finished)
    return [*found, ("run" if not comparison.folded else "best run", True)]


def cells(comparison: Comparison) -> list[list[tuple[str, bool]]]:
    """Texts, and whether each is the best of its column."""
    best = {metric: comparison.best_rows(metric) for metric in comparison.metrics}
    lines = []
    for row in comparison.rows:
        line = [(row.values.get(key, ""), False) for key in comparison.keys]
        line += [(result(row, metric), row in best[metric]) for metric in comparison.metrics]
        line += [(str(len(row.finished)), False)] if comparison.folded else []
        line += [(duration(row.seconds), False)]
        line += [(row.status, False)] if not comparison.all_finished else []
        lines.append([*line, ((row.best(comparison.metrics[0]).run_id or "")[:ID_LENGTH], False)])
    return lines


def result(row: Row, metric: str) -> str:
    estimate = row.estimate(metric)
    scale, unit, digits, digits_of_margin = (100, "%", ".2f", ".2f") if is_share(metric) else (1, "", ".4g", ".2g")
    if estimate is None:
        so_far = ", ".join(f"{scale * value:{digits}}{unit}" for value in row.so_far(metric))
        return so_far and f"{so_far} so far"
    text = f"{scale * estimate.mean:{digits}}"
    if estimate.margin is not None:
        text += f" ± {scale * estimate.margin:{digits_of_margin}}"
    text += unit
    if _has_too_few(estimate):
        text += f" ({', '.join(f'{scale * value:{digits}}' for value in estimate.values)})"
    return text + (f" (n = {estimate.n})" if estimate.n < len(row.finished) else "")


def _has_too_few(estimate: Estimate | None) -> bool:
    return estimate is not None and 1 < estimate.n < LEAST_SEEDS


def duration(seconds: float | None) -> str:
    """As people read it; empty for None."""
    if seconds is None:
        return ""
    if seconds < 59.95:  # which rounds to 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def _as_plain(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"mean": estimate.mean, "margin": estimate.margin, "n": estimate.n, "values": list(estimate.values)}


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (in_a_line(cell).replace("\\", r"\\").replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


TEXTS = {"csv": as_csv, "json": as_json, "md": as_markdown}

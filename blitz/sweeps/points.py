"""Combinations of a sweep that are no product of lists: those of a file, and those that are drawn at random."""

from __future__ import annotations

import csv
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from blitz.config.hydra_internals import IntervalSweep, Override, as_text, parse_override
from blitz.errors import BadInput, refuse
from blitz.run_folder.yaml_files import UNREADABLE, reason, refuse_bomb
from blitz.sweeps.search.interval import Interval

Point = dict[str, str]  # dotted key -> value, as the command line takes it
KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
TAGS = ("log", "int")


def read(path: str) -> list[Point]:
    """The points of a YAML file (a list of mappings) or a CSV file (a key a column, an empty cell: left out).

    Raises BadInput for a file that holds none, or anything else.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in (".yaml", ".yml", ".csv"):
        raise BadInput(f"sweep.points={path}: accepted: a file .yaml, .yml or .csv")
    try:
        points = list(_of_csv(file) if kind == ".csv" else _of_yaml(file))
    except OSError as error:
        raise BadInput(f"sweep.points={path}: {reason(error)}") from None
    except (csv.Error, *UNREADABLE) as error:
        raise BadInput(f"sweep.points={path}: cannot be read: {reason(error)}") from None
    if not points:
        raise BadInput(f"sweep.points={path}: holds no points")
    keys = sorted({key for point in points for key in point})
    wrong = [key for key in keys if not is_of_a_job(key)]
    refuse(f"{path}: {key}: accepted: the dotted key of a value, such as optimizer.lr" for key in wrong)
    return points


def is_of_a_job(key: str) -> bool:
    """Whether it may be a key of a job's config; those of Hydra and of the sweep are about all jobs."""
    return bool(KEY.fullmatch(key)) and key.split(".")[0] not in ("hydra", "sweep")


def interval_of(override: Override) -> Interval:
    """Raises BadInput for one that nothing can be drawn from."""
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    low, high, tags = interval.start, interval.end, interval.tags
    assert low is not None
    assert high is not None
    if unknown := tags - set(TAGS):
        raise BadInput(f"{override.input_line}: no such tag as {sorted(unknown)[0]} (accepted: {', '.join(TAGS)})")
    if not (math.isfinite(high - low) and low < high):
        raise BadInput(f"{override.input_line}: accepted: interval(A,B) with A below B")
    if "log" in tags and low <= 0:
        raise BadInput(f"{override.input_line}: accepted: A above 0, where the scale is logarithmic")
    whole = "int" in tags or (isinstance(low, int) and isinstance(high, int))  # int(interval(A,B)) makes them so
    if whole:
        low, high = math.ceil(low), math.ceil(high)
        if low == high:
            raise BadInput(f"{override.input_line}: accepted: interval(A,B) with a whole number in it")
    return Interval(low, high, "log" in tags, whole)


def draw(intervals: Sequence[Override], number: int, seed: int) -> list[Point]:
    """So many combinations of values, each drawn from its interval [A, B), on a log scale where that is tagged so.

    The first ones of more are the same, and what is drawn for a key does not depend on the others. Raises BadInput for
    an interval that nothing can be drawn from.
    """
    drawn = {override.key_or_group: list(_drawn(override, number, seed)) for override in intervals}
    return [{key: values[index] for key, values in drawn.items()} for index in range(number)]


def _of_csv(file: Path) -> Iterator[Point]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, strict=True)
        keys = [key.strip() for key in next(rows, [])]
        if len(keys) == 1 and ";" in keys[0]:  # as some spreadsheets write it
            raise BadInput(f"{file}: accepted: commas between columns, not semicolons")
        if twice := [key for key, times in Counter(keys).items() if times > 1]:
            raise BadInput(f"{file}: more than one column {twice[0]}")
        filled = {""}  # a table's last commas make columns without a name
        for row in rows:
            if not row:  # an empty line
                continue
            if len(row) > len(keys):
                raise BadInput(f"{file}: line {rows.line_num}: {len(row)} cells, but {len(keys)} columns")
            cells = {key: cell.strip() for key, cell in zip(keys, row, strict=False) if cell.strip()}
            filled |= cells.keys()
            yield {key: _one_value(file, rows.line_num, key, cell) for key, cell in cells.items()}
        refuse(f"{file}: {key}: no cell of this column holds a value" for key in keys if key not in filled)


def _one_value(file: Path, line: int, key: str, cell: str) -> str:
    override = parse_override(f"x={cell}")
    if override is None or override.is_sweep_override():
        raise BadInput(f"{file}: line {line}: {key}={cell}: accepted: one value a cell, quoted as on the command line")
    return cell


def _of_yaml(file: Path) -> Iterator[Point]:
    refuse_bomb(file)
    found = OmegaConf.to_container(OmegaConf.load(file), resolve=False) if file.read_text().strip() else []
    if not isinstance(found, list) or not all(isinstance(point, dict) and point for point in found):
        raise BadInput(f"{file}: accepted: a list of points, such as - {{optimizer.lr: 0.1, batch_size: 32}}")
    for point in found:
        pairs = list(flat(point))
        if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
            raise BadInput(f"{file}: {twice[0]} stands twice in a point")
        yield {key: as_text(value) for key, value in pairs}


def flat(values: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _drawn(override: Override, number: int, seed: int) -> Iterator[str]:
    interval, chance = interval_of(override), random.Random(f"{seed} {override.key_or_group}")
    for _ in range(number):
        yield interval.at(chance.random())

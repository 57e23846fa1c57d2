"""One HTML file with tables and charts, which loads nothing: it opens from a folder, and in the MLflow UI.

All text is escaped, and the page's policy lets no script run but its own two, and nothing come from a network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from blitz.figures.charts import COLOURS, Chart
from blitz.figures.space import counted
from blitz.version import __version__

NEEDS_PLOTLY = "needs plotly: pip install 'blitz[plots]'"
RUN_PAGE = "/#/runs/{}"  # of the MLflow UI, below its address
LONGEST = 50  # characters of a cell that are seen in any case
USUAL_ADDRESS = "http://127.0.0.1:5000"  # that `blitz ui` takes where it is free

Order = Literal["ascending", "descending", "none"]


@dataclass(frozen=True)
class Link:
    """To a run in the MLflow UI."""

    run_id: str
    text: str
    about: str = ""  # shown where the pointer rests


@dataclass(frozen=True)
class Cell:
    """What a table shows, and what it sorts by."""

    text: str
    value: float | str | None = None  # None: last
    is_best: bool = False
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Column:
    """A heading, and in which order the first click on it sorts; `sorted_as`: the order that the table begins with."""

    heading: str
    kind: Literal["number", "text", "prose"]
    first: Order = "ascending"
    sorted_as: Order = "none"


@dataclass(frozen=True)
class Table:
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    colours: int = 0  # rows with a colour in the charts, from the first on


@dataclass(frozen=True)
class Section:
    """A part of the page: a chart or a table, and what there is to say."""

    title: str
    words: Sequence[str] = ()
    chart: Chart | None = None
    table: Table | None = None
    width: str = "full"  # `two-thirds` and `third` share a line


@dataclass(frozen=True)
class Page:
    title: str
    lead: Sequence[str]  # the first sentence is the result
    sections: Sequence[Section]
    address: str | None = None  # of the MLflow UI; None: whatever `blitz ui` prints
    store: str = ""


def has_plotly() -> bool:
    return find_spec("plotly") is not None


def as_html(page: Page) -> str:
    """The whole file. Without plotly it says in place of the charts what they need."""
    charts: dict[str, Chart] = {}
    with_charts = has_plotly()
    body = "\n".join(_section(section, charts, with_charts) for section in page.sections)
    scripts = [_source("page.js")]
    if charts:
        from plotly.offline import get_plotlyjs

        scripts.insert(0, get_plotlyjs())
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-eval' {hashes}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{_escaped(page.title)}</title>",
            f"<style>\n{_source('page.css')}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{_escaped(page.title)}</h1>",
            *_lead(page.lead),
            "</header>",
            f"<main>\n{body}\n</main>",
            _footer(page),
            f'<script type="application/json" id="charts">{_as_json(charts)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def _lead(sentences: Sequence[str]) -> Iterator[str]:
    """The first is the result; of the others all but the next one are folded."""
    first, second, others = sentences[0], sentences[1:2], sentences[2:]
    yield f'<p class="lead">{_escaped(first)}</p>'
    yield from (f'<p class="more">{_escaped(text)}</p>' for text in second)
    if others:
        folded = "".join(f'<p class="more">{_escaped(text)}</p>' for text in others)
        yield f"<details><summary>{counted(len(others), 'more remark')}</summary>{folded}</details>"


def _section(section: Section, charts: dict[str, Chart], with_charts: bool) -> str:
    title = _escaped(section.title)
    parts = [f'<section class="{section.width}">', f"<h2>{title}</h2>"]
    if section.chart is not None and with_charts:
        name = f"chart{len(charts)}"
        charts[name] = section.chart
        width, height = section.chart.get("min_width", 0), section.chart["height"]
        size = f"min-width: {width}px; height: {height}px"
        parts.append(
            f'<div class="scroll" role="region" tabindex="0" aria-label="{title}">'
            f'<div class="chart" id="{name}" style="{size}"></div></div>'
        )
    elif section.chart is not None:
        parts.append(f'<p class="missing">This chart {_escaped(NEEDS_PLOTLY)}.</p>')
    parts += [f'<p class="words">{_escaped(text)}</p>' for text in section.words]
    if section.table is not None:
        parts += _table(section.table, title)
    return "\n".join([*parts, "</section>"])


def _table(table: Table, title: str) -> Iterator[str]:
    yield f'<div class="scroll table" role="region" tabindex="0" aria-label="{title}"><table><thead><tr>'
    for column in table.columns:
        yield (
            f'<th scope="col" class="{column.kind}" aria-sort="{column.sorted_as}">'
            f'<button type="button" data-first="{column.first}">{_escaped(column.heading)}</button></th>'
        )
    yield "</tr></thead><tbody>"
    for number, row in enumerate(table.rows):
        dot = f'<i class="dot c{number}"></i>' if number < min(table.colours, COLOURS) else ""
        cells = []
        for column, cell in zip(table.columns, row, strict=True):
            value = "" if cell.value is None else f' data-value="{_escaped(cell.value)}"'
            best = " best" if cell.is_best and cell.text else ""
            whole = f' title="{_escaped(cell.text)}"' if column.kind == "text" and len(cell.text) > LONGEST else ""
            content = " ".join(_link(link) for link in cell.links) or _escaped(cell.text)
            cells.append(f'<td class="{column.kind}{best}"{value}{whole}>{dot}{content}</td>')
            dot = ""
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _link(link: Link) -> str:
    """Where it leads depends on where the MLflow UI is, which the page's script puts before it."""
    target, about = _escaped(RUN_PAGE.format(link.run_id)), _escaped(link.about)
    return f'<a class="run" data-run="{target}" title="{about}" rel="noopener">{_escaped(link.text)}</a>'


def _footer(page: Page) -> str:
    address = page.address or USUAL_ADDRESS
    box = f'<input type="url" id="ui" value="{_escaped(address)}" size="28" aria-label="address of the MLflow UI">'
    start = "" if page.address else " <code>blitz ui</code> starts it and prints its address."
    store = f" Recorded in <code>{_escaped(page.store)}</code>." if page.store else ""
    links = f'<p>Runs link to the MLflow UI at {box}.{start}<span id="sandbox" hidden></span>{store}</p>'
    return f"<footer>{links}<p>Made by blitz {_escaped(__version__)}. This file loads nothing else.</p></footer>"


def _escaped(value: object) -> str:
    return html.escape(str(value), quote=True)


def _as_json(charts: Mapping[str, Chart]) -> str:
    """Numbers that are none become null; no tag can begin or end in it."""
    return json.dumps(_finite(charts), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

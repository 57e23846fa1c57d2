"""The page of a comparison: what its table, its charts and its links say, read back from the file.

What it looks like, and that it sorts, is seen in a browser by `end_to_end/test_browser_page.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.pages import comparison_page, decision, run

from blitz.comparison import page, report
from blitz.comparison.rows import ComparedRun, compare
from blitz.errors import BadInput
from blitz.figures.charts import AXES, POINTS, ROWS, TICKS
from blitz.intervals import estimate
from blitz.run_folder import decisions

LRS = ("0.001", "0.01", "0.1", "1.0")
OBJECTIVES = (0.5, 0.9, 0.8, 0.2)
SAFE = {"class", "id", "role", "tabindex", "aria-label", "aria-sort", "style", "title", "scope", "type", "value"}
SAFE |= {"data-run", "data-first", "data-value", "rel", "size", "hidden", "lang", "charset", "name", "content"}
SAFE |= {"http-equiv"}


class Parsed(HTMLParser):
    """What is in the file: scripts, texts by tag, attributes, and cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tables: list[list[list[tuple[str, dict[str, str | None]]]]] = []
        self.links: list[dict[str, str | None]] = []
        self.attributes: set[str] = set()
        self.metas: dict[str | None, str | None] = {}
        self.words: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._tag = tag
        self.attributes |= found.keys()
        if tag == "script":
            self.scripts.append((found, ""))
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", found))
        elif tag == "a":
            self.links.append(found)
        elif tag == "meta":
            self.metas[found.get("http-equiv") or found.get("name")] = found.get("content")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self.tables and self._tag in ("td", "th", "a", "button", "i") and data.strip():
            text, attributes = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = " ".join([*filter(None, [text]), data.strip()]), attributes
        if self._tag not in ("script", "style"):
            self.words.append(data)

    @property
    def charts(self) -> list[dict[str, Any]]:
        return list(json.loads(self.scripts[0][1]).values())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rates(num_seeds: int = 3) -> list[ComparedRun]:
    return [
        run({"optimizer.lr": lr}, objective + 0.01 * seed, seed)
        for lr, objective in zip(LRS, OBJECTIVES, strict=True)
        for seed in range(num_seeds)
    ]


def parsed(runs: Sequence[ComparedRun], **options: Any) -> Parsed:
    return Parsed(comparison_page(runs, **options))


def chart(found: Parsed, kind: str) -> dict[str, Any]:
    """The one whose last trace is of this kind."""
    (chosen,) = [each for each in found.charts if each["data"][-1]["type"] == kind]
    return chosen


def grid(num_seeds: int = 2) -> list[ComparedRun]:
    """The rate decides, and nothing else."""
    return [
        run({"optimizer.lr": lr, "optimizer.name": name}, objective + 0.001 * seed, seed)
        for lr, objective in zip(LRS, OBJECTIVES, strict=True)
        for name in ("sgd", "adamw")
        for seed in range(num_seeds)
    ]


# ---- the table


def test_page_has_the_table_that_is_printed() -> None:
    runs = rates()
    runs[0] = run({"optimizer.lr": "0.001"}, 0.5, 0, status="FAILED")
    comparison = compare(runs, ["objective", "test/accuracy"])
    headings, *rows = parsed(runs, metrics=["objective", "test/accuracy"]).tables[0]
    assert [text for text, _ in headings[:-1]] == [text for text, _ in report.headings(comparison)[:-1]]
    assert [[text for text, _ in row[:-1]] for row in rows] == [
        [text for text, _ in row[:-1]] for row in report.cells(comparison)
    ]
    assert [text for text, _ in (row[-1] for row in rows)] == ["0 1 2"] * len(LRS)


def test_page_sorts_by_numbers_in_full_and_begins_with_the_best() -> None:
    headings, *rows = parsed(rates()).tables[0]
    assert [attributes["aria-sort"] for _, attributes in headings] == ["none", "descending", "none", "none", "none"]
    means = [estimate([objective + 0.01 * seed for seed in range(3)]) for objective in sorted(OBJECTIVES)[::-1]]
    assert [float(row[1][1]["data-value"] or "") for row in rows] == [found.mean for found in means if found]
    assert [float(row[0][1]["data-value"] or "") for row in rows] == [0.01, 0.1, 0.001, 1.0]


def test_page_of_a_loss_begins_with_the_lowest() -> None:
    headings, *_ = parsed(rates(), metrics=["train/loss"]).tables[0]
    assert [attributes["aria-sort"] for _, attributes in headings[:2]] == ["none", "ascending"]


def test_page_opens_with_the_best_and_whether_it_is_significant() -> None:
    found = parsed(rates())
    assert "12 runs of 4 combinations; best: lr=0.01, objective 91.00 ± 2.48%." in found.text
    assert "lr=0.01 (n = 3) is significantly better than lr=0.1 (n = 3), by 10.00 points" in found.text
    assert "2 more remarks" in found.text


def test_page_of_runs_without_a_result_says_so() -> None:
    found = parsed([run({"optimizer.lr": lr}, None, 0, status="RUNNING") for lr in LRS])
    assert "4 runs; none has objective yet." in found.text
    assert len(found.tables[0]) == 5
    assert found.charts == []


# ---- what a person wrote


EVIL = "<script>alert(1)</script>"


def test_script_in_a_name_stays_text() -> None:
    attack = f'"{EVIL}\'\nonmouseover="alert(2)" </td><img src=x onerror=alert(3)>'
    runs = [run({"tags.who": attack + str(n), "b": EVIL}, 0.5 + n / 10, n, name=attack) for n in range(3)]
    made = [decision(1, n, attack, objective=0.5, rung=1, other=attack) for n in range(3)]
    found = parsed(runs, title=attack, label=attack, uri=f"sqlite:///{attack}", made=made, jobs=dict(enumerate(runs)))
    assert len(found.scripts) == 3
    assert found.attributes <= SAFE
    assert EVIL in found.text
    data, *programs = (text for _, text in found.scripts)
    assert "<" not in data
    assert "alert(" not in programs[1]
    assert "&lt;script&gt;" in data  # plotly.js reads markup: there it is escaped once more
    for each in found.charts:
        for axis in each["data"][0].get("dimensions", ()):
            axis.pop("ticktext", None)  # but for these
        assert "<script" not in json.dumps(each)


def test_policy_lets_no_other_script_run_and_nothing_be_loaded() -> None:
    found = parsed(rates())
    policy = found.metas["Content-Security-Policy"] or ""
    assert policy.startswith("default-src 'none';")
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in found.scripts[1:]]
    assert re.findall("'sha256-([^']+)'", policy) == hashes
    assert "http" not in policy
    assert "src" not in found.attributes
    assert "href" not in found.attributes


# ---- links


def test_links_lead_to_the_store_of_a_server_without_its_login() -> None:
    runs = rates(1)
    found = parsed(runs, uri="https://ann:hunter22@tracking.example/base/")
    assert [link["data-run"] for link in found.links] == [
        f"/#/runs/{one.run_id}" for one in sorted(runs, key=lambda one: -one.metrics["objective"])
    ]
    text = comparison_page(runs, uri="https://ann:hunter22@tracking.example/base/")
    assert 'value="https://tracking.example/base"' in text
    assert "hunter22" not in text


def test_links_of_a_file_name_the_command_that_serves_it() -> None:
    found = parsed(rates(1), uri="sqlite:////data/mlflow.db")
    assert "blitz ui starts it and prints its address. Recorded in sqlite:////data/mlflow.db" in found.text


def test_runs_without_a_store_have_no_links() -> None:
    found = parsed([run({"optimizer.lr": lr}, 0.5, 0, run_id=None) for lr in LRS], uri=None)
    assert found.links == []


# ---- charts


def test_learning_curves_are_means_with_their_intervals_as_far_as_all_seeds_got() -> None:
    courses = [(0.1, 0.3, 0.5), (0.2, 0.3, 0.7, 0.9), (0.3, 0.9, 0.6)]
    runs = [run({"lr": "1"}, course[-1], seed, curve=course) for seed, course in enumerate(courses)]
    runs += [run({"lr": "2"}, 0.1, seed, curve=(0.1, 0.1 + seed / 10)) for seed in range(2)]
    band, two, line, _ = chart(parsed(runs), "scatter")["data"]
    estimates = [found for values in zip(*courses, strict=False) if (found := estimate(values)) is not None]
    assert line["x"] == [1, 2, 3]
    assert line["y"] == pytest.approx([100 * found.mean for found in estimates])
    margins = [found.margin or 0.0 for found in estimates]
    high = [min(100 * (found.mean + margin), 100) for found, margin in zip(estimates, margins, strict=True)]
    low = [max(100 * (found.mean - margin), 0) for found, margin in zip(estimates, margins, strict=True)]
    assert band["x"] == [1, 2, 3, 3, 2, 1]
    assert band["y"] == pytest.approx([*high, *reversed(low)])
    assert two["y"] == pytest.approx([10, 20, 10, 10])
    text = parsed(runs).text
    assert (
        "a band spans its 95 % interval, or both values of two seeds. A line ends where one of its seeds does." in text
    )


def test_curves_of_many_rows_are_capped_and_the_page_says_so() -> None:
    asked: list[str] = []
    runs = [run({"lr": str(n)}, n / 1000, 0, curve=[0.1, 0.2]) for n in range(ROWS + 7)]
    found = parsed(runs, asked=asked)
    assert len(chart(found, "scatter")["data"]) == ROWS
    assert len(asked) == ROWS
    assert f"The best {ROWS} rows are drawn; 7 more are not." in found.text
    assert len(found.tables[0]) == ROWS + 8


def test_long_curves_are_thinned_out_and_keep_their_last_point() -> None:
    found = parsed([run({"lr": "1"}, 0.5, 0, curve=[0.1] * (3 * POINTS + 1))])
    (line,) = chart(found, "scatter")["data"]
    assert POINTS / 2 < len(line["x"]) <= POINTS
    assert line["x"][-1] == 3 * POINTS + 1
    assert f"Of longer curves than {POINTS} points some are drawn, evenly chosen." in found.text


def test_parallel_coordinates_have_a_line_for_each_row_the_best_on_top() -> None:
    runs = [run({"lr": lr, "momentum": "0.9"}, objective, 0) for lr, objective in zip(LRS, OBJECTIVES, strict=True)]
    runs.append(run({"lr": "0.01"}, 0.95, 0))
    rate, momentum, accuracy = chart(parsed(runs), "parcoords")["data"][0]["dimensions"]
    assert accuracy["values"] == pytest.approx([20, 50, 80, 90, 95])
    assert rate["values"] == pytest.approx([0, -3, -1, -2, -2])  # its logarithm
    assert dict(zip(rate["tickvals"], rate["ticktext"], strict=True)) == {-3: "0.001", -2: "0.01", -1: "0.1", 0: "1"}
    assert momentum["ticktext"] == ["0.9", "not set"]
    assert momentum["values"][-1] < min(momentum["values"][:-1])


def test_parallel_coordinates_of_many_values_label_some_of_them() -> None:
    runs = [run({"lr": str(n / 100), "note": f"text {n}"}, n / 100, 0) for n in range(1, 61)]
    for axis in chart(parsed(runs), "parcoords")["data"][0]["dimensions"][:2]:
        assert len(axis["tickvals"]) == TICKS
        assert {min(axis["values"]), max(axis["values"])} <= set(axis["tickvals"])


def test_parallel_coordinates_have_no_axis_for_what_only_runs_without_a_result_have() -> None:
    runs = [*rates(1), run({"optimizer.lr": "5.0", "optimizer.momentum": "0.9"}, None, 0)]
    axes = chart(parsed(runs), "parcoords")["data"][0]["dimensions"]
    assert [axis["label"] for axis in axes] == ["lr", "Validation accuracy (%)"]


def test_parallel_coordinates_of_many_parameters_are_capped_and_the_page_says_so() -> None:
    runs = [run({f"key{k}": str(n) for k in range(AXES + 3)}, n / 10, 0) for n in range(4)]
    found = parsed(runs)
    assert len(chart(found, "parcoords")["data"][0]["dimensions"]) == AXES + 1
    assert "3 more parameters not drawn." in found.text


def test_importance_finds_the_parameter_that_decides() -> None:
    found = parsed(grid())
    (bar,) = chart(found, "bar")["data"]
    assert bar["y"] == ["optimizer", "lr"]
    assert bar["x"][1] > 90
    assert sum(bar["x"]) == pytest.approx(100)
    assert "PED-ANOVA" in found.text


def test_importance_of_a_loss_looks_for_the_lowest() -> None:
    """The lowest losses all have one momentum, the highest ones all have one optimizer."""
    losses = [(name, momentum, n / 100 if momentum == "0.9" else 5 if name == "a" else 4 + n / 100)
              for name in "ab" for momentum in ("0.9", "0.5") for n in range(5)]  # fmt: skip
    runs = [run({"optimizer.name": name, "m": m}, 0.5, n, loss=loss) for n, (name, m, loss) in enumerate(losses)]
    (bar,) = chart(parsed(runs, metrics=["train/loss"]), "bar")["data"]
    assert bar["y"][-1] == "m"


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        (rates(), "Needs two parameters that all runs have and that were varied."),
        (grid(1), "Needs 12 finished runs; there are 8."),
        (
            [run({"a": str(n % 4), "b": str(n // 4)}, 0.5, 0) for n in range(16)],
            "The best quarter of the runs is no better than the others.",
        ),
    ],
)
def test_importance_says_why_there_is_none(runs: list[ComparedRun], why: str) -> None:
    found = parsed(runs)
    assert why in found.text
    assert [each["data"][-1]["type"] for each in found.charts].count("bar") == 0


def test_importance_leaves_out_what_not_all_runs_have() -> None:
    runs = [*grid(), run({"optimizer.lr": "0.1", "optimizer.name": "sgd", "optimizer.momentum": "0.5"}, 0.3, 0)]
    found = parsed(runs)
    assert chart(found, "bar")["data"][0]["y"] == ["optimizer", "lr"]
    assert "Without momentum: not all runs have it." in found.text


def test_importance_without_optuna_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "Needs Optuna: pip install 'blitz[search]'." in parsed(grid()).text


# ---- the search


def halved() -> tuple[list[ComparedRun], list[decisions.Decision]]:
    """Two jobs of which one is paused after two epochs."""
    runs = [run({"lr": "1"}, 0.8, 0, curve=(0.3, 0.6, 0.8)), run({"lr": "2"}, None, 0, status="KILLED")]
    made = [
        decision(1, 0, "go on", objective=0.6, rung=2, place=1),
        decision(1, 1, "pause", objective=0.4, rung=2, place=2),
    ]
    return runs, made


def test_rungs_and_decisions_are_drawn_and_listed() -> None:
    runs, made = halved()
    found = parsed(runs, made=made, jobs=dict(enumerate(runs)))
    traces = {trace.get("name"): trace for trace in found.charts[-1]["data"]}
    assert [(trace["x"], trace["y"]) for name, trace in traces.items() if name] == [
        ([2.0], [60.0]), ([2.0], [40.0]), ([3.0], [80.0]),
    ]  # fmt: skip
    assert [name for name in traces if name] == ["go on", "pause", "finished"]
    assert "why 1" in traces["pause"]["text"][0]
    _, *rows = found.tables[1]
    assert [text for text, _ in rows[1]] == [
        "1", "1", "lr=2 seed=0", "pause", "objective: 0.4, rung: 2, place: 2", "why 1",
    ]  # fmt: skip
    assert "2 decisions of the search" in found.text


def test_decisions_without_rungs_are_listed_alone() -> None:
    runs, _ = halved()
    found = parsed(runs, made=[decision(1, 0, "more seeds", p=0.2)], jobs=dict(enumerate(runs)))
    assert "Decisions" in found.text
    assert "Rungs" not in found.text
    assert len(found.tables) == 2


def test_page_without_decisions_has_no_part_for_them() -> None:
    assert len(parsed(halved()[0]).tables) == 1


def test_decisions_are_read_from_a_sweeps_folder(tmp_path: Path) -> None:
    assert decisions.read(tmp_path / decisions.FILE) == []
    line = {"round": 1, "job": 3, "decision": "pause", "numbers": {"rung": 1.5, "objective": None}, "why": "it\u2028is"}
    lines = [json.dumps(each, ensure_ascii=False) for each in ({"search": {"name": "halving", "factor": 3.0}}, line)]
    (tmp_path / decisions.FILE).write_text("\n".join([*lines, ""]), encoding="utf-8")
    heading, found = decisions.read(tmp_path / decisions.FILE)
    assert heading == decisions.Heading({"name": "halving", "factor": 3.0})
    assert found == decisions.Decision(**line)  # type: ignore[arg-type]
    assert "search: name: halving, factor: 3" in parsed(rates(), made=[heading, found]).text


@pytest.mark.parametrize("line", ["{", "[]", '{"round": 1}', '{"round": 1, "job": "x", "decision": "", "why": ""}'])
def test_damaged_decisions_are_a_users_mistake(tmp_path: Path, line: str) -> None:
    (tmp_path / decisions.FILE).write_text(line + "\n")
    with pytest.raises(BadInput, match="line 1 is no decision"):
        decisions.read(tmp_path / decisions.FILE)


# ---- without plotly


def test_page_without_plotly_has_its_table_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    found = parsed(grid())
    assert "This chart needs plotly: pip install 'blitz[plots]'." in found.text
    assert len(found.tables[0]) == 9
    assert len(found.scripts) == 2  # the data of no charts, and what sorts the table


def test_html_without_plotly_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(BadInput, match=r"--html=.*a\.html: needs plotly: pip install 'blitz\[plots\]'"):
        page.check_path(str(tmp_path / "a.html"))


def test_mean_of_the_table_is_that_of_the_curve() -> None:
    """Nothing is computed in two ways: at the last epoch both are the mean of the same runs."""
    runs = [run({"lr": "1"}, value, seed, curve=(0.1, value)) for seed, value in enumerate((0.7, 0.8, 0.9))]
    found = parsed(runs)
    assert chart(found, "scatter")["data"][-1]["y"][-1] == pytest.approx(100 * fmean((0.7, 0.8, 0.9)))
    assert float(found.tables[0][1][0][1]["data-value"] or "") == fmean((0.7, 0.8, 0.9))

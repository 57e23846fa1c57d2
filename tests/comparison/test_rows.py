"""Runs side by side: what is one row, in which order, what can be said of the best, and how it is written down."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import random
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from blitz.comparison import noise, report
from blitz.comparison.noise import sentences
from blitz.comparison.report import as_csv, as_json, as_markdown
from blitz.comparison.rows import ComparedRun, Comparison, Row, compare, name_of, sign
from blitz.intervals import Estimate

CHANCE = random.Random(7)
SAMPLES = [
    ((0.91, 0.93, 0.92), (0.88, 0.90, 0.86)),
    ((0.5, 0.6), (0.55, 0.56, 0.57, 0.52)),
    ((1.0, 1.0, 1.0), (1.1, 1.2, 1.15)),
    tuple(tuple(CHANCE.gauss(0.7, 0.02) for _ in range(n)) for n in (5, 9)),
]


def entry(values: Mapping[str, str], seed: int, objective: float | None = None, **fields: Any) -> ComparedRun:
    """A run that finished, in ten seconds."""
    name = " ".join(f"{key}={value}" for key, value in values.items())
    metrics = {} if objective is None else {"objective": objective}
    made = ComparedRun(f"{name}/{seed}", name, str(seed), values, metrics, 10.0, "FINISHED")
    return replace(made, **fields)


def seeds(values: Mapping[str, str], objectives: Sequence[float]) -> list[ComparedRun]:
    return [entry(values, seed, objective) for seed, objective in enumerate(objectives)]


def table(comparison: Comparison) -> str:
    """As it is printed where the output is no terminal."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        report.print_table(comparison)
    return output.getvalue()


def estimated(row: Row, metric: str = "objective") -> Estimate:
    found = row.estimate(metric)
    assert found is not None
    return found


def keys_of(comparison: Comparison, key: str = "lr") -> list[str]:
    return [row.values[key] for row in comparison.rows]


# ---- rows


def test_runs_that_differ_in_their_seed_alone_are_one_row() -> None:
    found = compare([*seeds({"lr": "0.1"}, [0.8, 0.9]), *seeds({"lr": "0.2"}, [0.7, 0.6, 0.5])], ["objective"])
    assert [(row.values["lr"], estimated(row).n) for row in found.rows] == [("0.1", 2), ("0.2", 3)]
    assert estimated(found.rows[0]).mean == pytest.approx(0.85)
    assert estimated(found.rows[0]).values == (0.8, 0.9)
    assert (found.folded, found.notes) == (True, [])


def test_runs_of_two_groups_are_two_rows_whatever_their_values_say() -> None:
    runs = seeds({"lr": "0.1"}, [0.8, 0.9])
    found = compare([runs[0], replace(runs[1], group="another")], ["objective"])
    assert len(found.rows) == 2


@pytest.mark.parametrize(("times", "note"), [
    (1, "1 run left out: same config and seed as another"),
    (2, "2 runs left out: same config and seed as another"),
])  # fmt: skip
def test_two_runs_of_one_seed_count_once(times: int, note: str) -> None:
    runs = seeds({"lr": "0.1"}, [0.8, 0.9])
    found = compare([*runs, *[replace(runs[0], run_id="again")] * times], ["objective"])
    assert estimated(found.rows[0]).values == (0.8, 0.9)
    assert [one.run_id for one in found.rows[0].entries] == ["lr=0.1/0", "lr=0.1/1"]
    assert found.notes == [note]


@pytest.mark.parametrize("first", ["finished", "failed"])
def test_an_attempt_that_did_not_finish_gives_way_to_the_run_that_did(first: str) -> None:
    done = entry({"lr": "0.1"}, 0, 0.8)
    failed = replace(done, run_id="attempt", status="FAILED", metrics={"objective": 0.1})
    found = compare([done, failed] if first == "finished" else [failed, done], ["objective"])
    assert [one.run_id for one in found.rows[0].entries] == [done.run_id]
    assert found.notes == ["1 attempt left out: not finished"]
    assert found.all_finished


def test_of_attempts_that_all_failed_the_last_one_is_shown() -> None:
    attempts = [entry({"lr": "1"}, 0, run_id=name, status="FAILED") for name in "abc"]
    found = compare(attempts, ["objective"])
    assert [one.run_id for one in found.rows[0].entries] == ["c"]
    assert found.notes == ["2 attempts left out: not finished"]


def test_only_what_differs_is_shown() -> None:
    runs = [
        entry({"model": "net", "lr": "0.1", "epochs": "3"}, 0, 0.9),
        entry({"model": "net", "lr": "0.2", "epochs": "3", "decay": "1"}, 1, 0.8),
    ]
    found = compare(runs, ["objective"])
    assert found.keys == ["lr", "decay"]
    assert [name_of(row, found) for row in found.rows] == ["lr=0.1", "lr=0.2 decay=1"]


def test_all_makes_every_run_a_row_and_every_key_a_column() -> None:
    runs = [*seeds({"model": "net", "lr": "0.1"}, [0.8, 0.9]), replace(seeds({"lr": "0.1"}, [0.7])[0], values={})]
    found = compare(runs, ["objective"], everything=True)
    assert found.keys == ["model", "lr", "seed"]
    assert [row.values.get("seed") for row in found.rows] == ["1", "0", "0"]
    assert [estimated(row).mean for row in found.rows] == [0.9, 0.8, 0.7]
    assert (found.folded, found.notes, sentences(found)) == (False, [], [])


# ---- order


@pytest.mark.parametrize(
    "metric", ["objective", "val/accuracy", "test/top5", "time/images_per_second", "sentiment/accuracy"]
)
def test_more_is_better_of_most_metrics(metric: str) -> None:
    runs = [entry({"lr": str(value)}, 0, metrics={metric: value}) for value in (0.2, 0.3, 0.1)]
    found = compare(runs, [metric])
    assert keys_of(found) == ["0.3", "0.2", "0.1"]
    assert found.best_rows(metric) == [found.rows[0]]


@pytest.mark.parametrize(
    "metric", ["train/loss", "test/loss", "time/epoch", "error", "generalisation_gap", "val/rmse", "nll"]
)
def test_less_is_better_of_losses_times_errors_and_gaps(metric: str) -> None:
    runs = [entry({"lr": str(value)}, 0, metrics={metric: value}) for value in (0.2, 0.3, 0.1)]
    found = compare(runs, [metric])
    assert keys_of(found) == ["0.1", "0.2", "0.3"]
    assert found.best_rows(metric) == [found.rows[0]]
    assert sign(metric) == -1


def test_the_first_metric_sorts_and_each_has_a_best_of_its_own() -> None:
    runs = [
        entry({"lr": "1"}, 0, metrics={"objective": 0.9, "train/loss": 0.5}),
        entry({"lr": "2"}, 0, metrics={"objective": 0.8, "train/loss": 0.1}),
    ]
    found = compare(runs, ["objective", "train/loss"])
    assert keys_of(found) == ["1", "2"]
    assert found.best_rows("train/loss") == [found.rows[1]]


def test_rows_without_a_result_come_last_and_those_that_failed_after_all_others() -> None:
    failed = entry({"lr": "4"}, 0, 0.99, status="FAILED")
    untested = entry({"lr": "3"}, 0)
    found = compare([failed, untested, *seeds({"lr": "2"}, [0.1]), *seeds({"lr": "1"}, [0.2])], ["objective"])
    assert keys_of(found) == ["1", "2", "3", "4"]
    assert found.rows[-1].estimate("objective") is None
    assert found.rows[-1].seconds is None


def test_row_has_the_status_of_its_runs_and_is_ranked_by_those_that_finished() -> None:
    runs = [*seeds({"lr": "1"}, [0.8, 0.9]), entry({"lr": "1"}, 2, 0.1, status="FAILED", seconds=1000.0)]
    found = compare(runs, ["objective"])
    (row,) = found.rows
    assert (row.status, len(row.finished), row.seconds) == ("2 FINISHED, 1 FAILED", 2, 10.0)
    assert estimated(row).mean == pytest.approx(0.85)
    assert row.best("objective").run_id == "lr=1/1"
    assert not found.all_finished


def test_rows_that_are_not_finished_are_ranked_by_what_they_have_so_far() -> None:
    runs = [
        entry({"lr": "paused"}, 0, metrics={"val/loss": 0.3}, status="SCHEDULED"),
        entry({"lr": "failed"}, 0, metrics={"val/loss": 0.1}, status="FAILED"),
        entry({"lr": "running"}, 0, metrics={"val/loss": 0.2}, status="RUNNING"),
        entry({"lr": "running"}, 1, metrics={"val/loss": 0.26}, status="KILLED"),
        entry({"lr": "begun"}, 0, status="RUNNING"),
        entry({"lr": "nothing"}, 0),
        entry({"lr": "done"}, 0, metrics={"val/loss": 0.4}),
        entry({"lr": "done"}, 1, metrics={"val/loss": 0.01}, status="RUNNING"),
    ]
    comparison = compare(runs, ["val/loss"])
    assert keys_of(comparison) == ["done", "nothing", "running", "paused", "failed", "begun"]
    assert [row.so_far("val/loss") for row in comparison.rows] == [[], [], [0.2, 0.26], [0.3], [], []]
    lines = table(comparison).splitlines()
    assert (estimated(comparison.rows[0], "val/loss").values, lines[1].split()[1]) == ((0.4,), "0.4")
    assert "0.2, 0.26 so far" in lines[3]
    assert re.search("0.3 so far .* PAUSED ", lines[4])
    assert lines[-1] == "5 runs are not finished, and in no mean."


def test_nothing_is_the_best_where_all_are_the_same() -> None:
    found = compare([*seeds({"lr": "1"}, [0.5]), *seeds({"lr": "2"}, [0.5])], ["objective"])
    assert not found.best_rows("objective")
    assert not compare(seeds({"lr": "1"}, [0.5]), ["objective"]).best_rows("objective")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, sys.float_info.max, -sys.float_info.max])
def test_values_that_are_not_finite_are_left_out_and_noted(value: float) -> None:
    runs = [*seeds({"lr": "1"}, [0.8, value, 0.9]), *seeds({"lr": "2"}, [value])]
    found = compare(runs, ["objective"])
    assert keys_of(found) == ["1", "2"]
    assert estimated(found.rows[0]).values == (0.8, 0.9)
    assert found.rows[1].estimate("objective") is None
    assert found.rows[1].best("objective").run_id == "lr=2/0"
    assert found.notes == ["2 objective values left out: not finite"]
    assert compare(runs[-1:], ["objective"]).notes == ["1 objective value left out: not finite"]


@pytest.mark.parametrize("write", [table, as_markdown, as_csv, as_json])
def test_runs_that_measured_nothing_are_listed_all_the_same(write: Any) -> None:
    text = write(compare([entry({"lr": "1"}, 0), entry({"lr": "2"}, 0, status="RUNNING")], ["objective", "loss"]))
    assert "RUNNING" in text
    assert "nan" not in text.lower()


# ---- noise


@pytest.mark.parametrize("sample", [sample for pair in SAMPLES for sample in pair])
def test_the_interval_is_students(sample: Sequence[float]) -> None:
    found = estimated(compare(seeds({}, sample), ["objective"]).rows[0])
    assert found.mean == pytest.approx(statistics.fmean(sample), rel=1e-12)
    if len(sample) < 3:
        assert found.margin is None
        return
    assert found.margin is not None
    if len(set(sample)) == 1:
        assert (found.mean, found.margin) == (sample[0], 0.0)
        return
    error = scipy.stats.sem(sample)
    low, high = scipy.stats.t.interval(0.95, len(sample) - 1, loc=found.mean, scale=error)
    assert (found.mean - found.margin, found.mean + found.margin) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("sample", [[0.5], [0.5, 0.6], [0.5, 0.5]])
def test_fewer_than_three_seeds_have_no_interval(sample: list[float]) -> None:
    found = estimated(compare(seeds({}, sample), ["objective"]).rows[0])
    assert (found.margin, found.values) == (None, tuple(sample))
    assert found.std == pytest.approx(np.std(sample, ddof=1) if len(sample) > 1 else 0)


@pytest.mark.parametrize("write", [table, as_markdown, as_json])
def test_two_seeds_are_called_too_few_for_an_interval(write: Any) -> None:
    def said(sample: Sequence[float]) -> int:
        return int(write(compare(seeds({"lr": "1"}, sample), ["objective"])).count("too few for an interval"))

    assert [said(sample) for sample in ([0.5], [0.5, 0.6], [0.5, 0.6, 0.7])] == [0, 1, 0]


def test_equal_values_have_no_spread_though_their_sum_is_rounded() -> None:
    found = estimated(compare(seeds({}, [0.1] * 3), ["objective"]).rows[0])
    assert (found.mean, found.margin) == (0.1, 0.0)  # statistics by way of a sum: 0.10000000000000002 ± 3e-17


@pytest.mark.filterwarnings("ignore:Precision loss")  # scipy, of a sample whose values are the same
@pytest.mark.parametrize(("first", "second"), SAMPLES)
def test_the_test_is_welchs(first: Sequence[float], second: Sequence[float]) -> None:
    rows = compare([*seeds({"lr": "1"}, first), *seeds({"lr": "2"}, second)], ["objective"]).rows
    (p,) = noise.welch([estimated(row) for row in rows])
    expected = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert p == pytest.approx(expected.pvalue, rel=1e-9)


def test_ps_are_corrected_by_holm() -> None:
    # by hand: 4 x 0.01, 3 x 0.04, no less than that, 5 x 0.005, 0.9
    found = noise.holm(np.array([0.01, 0.04, 0.03, 0.005, 0.9]))
    assert found == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])
    assert noise.holm(np.full(5, 0.4)) == pytest.approx([1.0] * 5)


def test_ps_are_corrected_for_all_pairs_of_rows_with_several_seeds() -> None:
    samples = {"1": [0.91, 0.93, 0.92], "2": [0.88, 0.90, 0.86, 0.89], "3": [0.5, 0.6], "4": [0.52, 0.55, 0.7]}
    runs = [run for lr, sample in samples.items() for run in seeds({"lr": lr}, sample)]
    found = noise.tests(compare([*runs, *seeds({"lr": "5"}, [0.1])], ["objective"]))
    pairs = list(itertools.combinations(samples, 2))
    alone = [scipy.stats.ttest_ind(samples[a], samples[b], equal_var=False).pvalue for a, b in pairs]
    order = sorted(range(6), key=lambda index: alone[index])
    corrected = {pairs[index]: max(alone[order[k]] * (6 - k) for k in range(rank + 1)) for rank, index in
                 enumerate(order)}  # fmt: skip
    assert {test.other.values["lr"]: test.p for test in found} == {
        lr: pytest.approx(min(1, corrected["1", lr])) for lr in ("2", "3", "4")
    }


@pytest.mark.parametrize(("num_rows", "num_seeds"), [(10, 10), (30, 10)])
def test_of_rows_that_are_all_the_same_one_is_called_better_in_one_of_twenty_comparisons(
    num_rows: int, num_seeds: int
) -> None:
    chance, repeats = np.random.default_rng(num_rows), 100
    wrong = 0
    for _ in range(repeats):
        samples = chance.normal(0.9, 0.01, (num_rows, num_seeds))
        runs = [run for lr, sample in enumerate(samples) for run in seeds({"lr": str(lr)}, sample.tolist())]
        wrong += any(test.p < 0.05 for test in noise.tests(compare(runs, ["objective"])))
    assert wrong / repeats <= 0.05


def test_significant_difference() -> None:
    first, second = (0.91, 0.93, 0.92), (0.81, 0.82, 0.80)
    found = compare([*seeds({"lr": "2"}, second), *seeds({"lr": "1"}, first)], ["objective"])
    expected = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert sentences(found) == [
        f"lr=1 (n = 3) is significantly better than lr=2 (n = 3), by 11.00 points "
        f"(p = {expected.pvalue:.2g}; Welch's t-test, Holm's correction for all pairs)."
    ]


def test_difference_that_is_not_significant() -> None:
    found = compare([*seeds({"lr": "1"}, [0.8, 0.9]), *seeds({"lr": "2"}, [0.79, 0.88])], ["objective"])
    (line,) = sentences(found)
    assert line.startswith("lr=1 (n = 2) is ahead of lr=2 (n = 2) by 1.50 points, not significantly (p = ")


def test_of_a_loss_the_lower_one_is_better_in_its_own_unit() -> None:
    runs = [entry({"lr": lr}, seed, metrics={"test/loss": loss}) for lr, losses in
            {"1": (1.0, 1.1), "2": (0.2, 0.3)}.items() for seed, loss in enumerate(losses)]  # fmt: skip
    (line,) = sentences(compare(runs, ["test/loss"]))
    assert line.startswith("lr=2 (n = 2) is significantly better than lr=1 (n = 2), by 0.8 (")


def test_one_seed_each_allows_no_test() -> None:
    found = compare([*seeds({"lr": "1"}, [0.9]), *seeds({"lr": "2"}, [0.8])], ["objective"])
    assert sentences(found) == ["One seed each: no test of whether differences in objective are significant."]


def test_best_row_of_one_seed_allows_no_test() -> None:
    found = compare([*seeds({"lr": "1"}, [0.9]), *seeds({"lr": "2"}, [0.8, 0.7])], ["objective"])
    assert sentences(found) == ["lr=1 has one seed: no test of whether it is significantly better."]


def test_others_of_one_seed_are_listed_those_without_a_result_are_not_and_the_rest_is_tested() -> None:
    runs = [*seeds({"lr": "1"}, [0.9, 0.91]), *seeds({"lr": "2"}, [0.1, 0.11]), entry({"lr": "0"}, 0)]
    runs += [entry({"lr": str(number)}, 0, 0.5) for number in range(3, 8)]
    lines = sentences(compare(runs, ["objective"]))
    assert len(lines) == 2
    assert lines[0].startswith("lr=1 (n = 2) is significantly better than lr=2 (n = 2), by 80.00 points (")
    assert lines[1] == "Not tested: lr=3, lr=4, lr=5 and 2 more with one seed only."


@pytest.mark.parametrize("other", [0.2, 0.1 + 0.2])  # sums of three are rounded
def test_without_any_spread_there_is_no_test(other: float) -> None:
    found = compare([*seeds({"lr": "1"}, [0.7] * 3), *seeds({"lr": "2"}, [other] * 3)], ["objective"])
    assert noise.tests(found) == []
    assert sentences(found) == ["No spread over seeds: no test against lr=2 is possible."]


def test_many_differences_are_tested_and_five_listed() -> None:
    runs = [run for number in range(9) for run in seeds({"lr": str(number)}, [number / 10, number / 10 + 0.01])]
    lines = sentences(compare(runs, ["objective"]))
    assert len(lines) == 6
    assert [re.findall(r"lr=(\d)", line)[1] for line in lines[:5]] == ["7", "6", "5", "4", "3"]
    assert lines[5] == "3 more differences were tested and are not listed."


def test_nothing_is_said_of_a_single_row_or_of_one_result() -> None:
    assert sentences(compare(seeds({"lr": "1"}, [0.9, 0.8]), ["objective"])) == []
    assert sentences(compare([*seeds({"lr": "1"}, [0.9, 0.8]), entry({"lr": "2"}, 0)], ["objective"])) == []


# ---- as text


WILD = {"note": 'a, "b" | c\nd', "lr": "[red]0.1[/red]"}


def wild() -> Comparison:
    plain = {"note": "", "lr": "0.2"}
    runs = [*seeds(WILD, [2 / 3, 0.7]), *seeds(plain, [1 / 3, 0.35]), entry({"lr": "3"}, 0, status="FAILED")]
    return compare(runs, ["objective"])


def test_markdown_has_the_best_in_bold_and_a_row_in_a_line() -> None:
    lines = as_markdown(wild()).splitlines()
    assert lines[0] == "| note | lr | objective | n | time | status | best run |"
    assert lines[1] == "| :-- | :-- | --: | --: | --: | :-- | :-- |"
    assert lines[2].startswith('| a, "b" \\| c d | [red]0.1[/red] | **68.33% (66.67, 70.00)** |')
    assert lines[3].startswith("|  | 0.2 | 34.17% (33.33, 35.00) |")
    assert lines[4].startswith("|  | 3 |  | 0 |  | FAILED | ")
    assert lines[5] == ""
    assert 'note=a, "b" | c d lr=[red]0.1[/red] (n = 2) is' in lines[6]
    assert len([line for line in lines if line.startswith("|")]) == 5


def test_csv_is_read_back_as_it_was_with_numbers_in_full() -> None:
    text = as_csv(wild())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == ["note", "lr", "objective", "objective ±", "objective n", "n", "seconds", "status", "runs"]
    assert {key: rows[0][key] for key in WILD} == WILD
    best = estimated(wild().rows[0])
    assert (float(rows[0]["objective"]), rows[0]["objective ±"]) == (best.mean, "")
    (row,) = csv.DictReader(
        io.StringIO(as_csv(three := compare(seeds({}, [0.1, 0.2, 0.3]), ["objective"])), newline="")
    )
    assert float(row["objective ±"]) == estimated(three.rows[0]).margin
    assert (rows[2]["objective"], rows[2]["n"], rows[2]["status"]) == ("", "0", "FAILED")
    assert rows[1]["runs"] == "note= lr=0.2/0 note= lr=0.2/1"


def test_csv_of_runs_by_themselves_has_no_margin() -> None:
    found = compare(seeds({"lr": "1"}, [0.5, 0.25]), ["objective"], everything=True)
    heading, first, _ = as_csv(found).splitlines()
    assert (heading, first) == ("lr,seed,objective,n,seconds,status,runs", "1,0,0.5,1,10.0,FINISHED,lr=1/0")


def test_json_is_valid_with_numbers_in_full_and_null_for_none() -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)  # NaN and Infinity are no JSON

    runs = [*seeds({"lr": "1"}, [2 / 3, 1 / 3]), *seeds({"model.num_tokens": "64", "token": "x"}, [math.nan])]
    found = json.loads(as_json(compare(runs, ["objective"])), parse_constant=refuse)
    first, second = found["rows"]
    assert first["metrics"]["objective"]["values"] == [2 / 3, 1 / 3]
    assert first["metrics"]["objective"]["n"] == 2
    assert first["runs"][1] == {"id": "lr=1/1", "seed": "1", "status": "FINISHED"}
    assert first["values"] == {"lr": "1", "model.num_tokens": None, "token": None}
    assert second["values"] == {"lr": None, "model.num_tokens": "64", "token": "x"}
    assert second["metrics"] == {"objective": None}
    assert found["notes"] == [
        "Two seeds are too few for an interval: the values are shown.",
        "1 objective value left out: not finite.",
    ]


def test_the_table_shows_texts_as_they_are() -> None:
    texts = ["[red]a", "b[/red]", r"c\[bold]", "d\\", ":smile:", "[link=x]e[/link]"]
    shown = table(compare([entry({"[note]": text}, 0, 0.1) for text in texts], ["objective"]))
    assert [line.split()[0] for line in shown.splitlines()[:7]] == ["[note]", *texts]


def test_the_best_is_bold_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = table(compare([*seeds({"lr": "1"}, [0.5]), *seeds({"lr": "2"}, [0.25])], ["objective"])).splitlines()
    assert "\x1b[1m" in shown[0]
    assert "\x1b[1m   50.00%\x1b[0m" in shown[1]
    assert "\x1b" not in shown[2]


def test_table_shows_numbers_as_people_read_them() -> None:
    runs = [
        entry({"lr": "1"}, 0, metrics={"objective": 0.5, "train/loss": 1.23456}, seconds=59.94),
        entry({"lr": "1"}, 1, metrics={"objective": 0.6, "train/loss": 1.3}, seconds=59.94),
        entry({"lr": "2"}, 0, metrics={"objective": 0.4, "train/loss": 12345.678}, seconds=61.2),
        entry({"lr": "3"}, 0, metrics={"objective": 0.3}, seconds=7325.0),
    ]
    lines = table(compare(runs, ["objective", "train/loss"])).splitlines()
    heading, *rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[:4]]
    assert heading == ["lr", "objective", "train/loss", "n", "time", "best run"]
    assert rows[0] == ["1", "55.00% (50.00, 60.00)", "1.267 (1.235, 1.3)", "2", "59.9 s", "lr=1/1"]
    assert rows[1] == ["2", "40.00%", "1.235e+04", "1", "1:01 min", "lr=2/0"]
    assert rows[2] == ["3", "30.00%", "1", "2:02:05 h", "lr=3/0"]


def test_sixty_seconds_are_a_minute() -> None:
    shown = table(compare([entry({}, 0, 0.5, seconds=59.97)], ["objective"]))
    assert "1:00 min" in shown


# ---- names, and what there is no room for


def test_names_of_their_own_are_a_column_and_make_no_further_rows() -> None:
    runs = [*seeds({"lr": "1"}, [0.5, 0.6]), *seeds({"lr": "2"}, [0.4, 0.5])]
    assert compare(runs, ["objective"]).keys == ["lr"]
    named = compare([*runs[:2], replace(runs[2], title="base"), replace(runs[3], title="base again")], ["objective"])
    assert named.keys == ["name", "lr"]
    assert [(row.values["name"], len(row.entries)) for row in named.rows] == [("", 2), ("base", 2)]
    alike = [replace(run, title="all alike") for run in runs]
    assert compare(alike, ["objective"]).keys == ["lr"]
    its_own = [replace(run, values={**run.values, "name": "x"}, title=str(number)) for number, run in enumerate(runs)]
    assert compare(its_own, ["objective"]).rows[0].values["name"] == "x"


def test_a_row_with_a_long_description_is_called_by_the_run_that_the_table_shows() -> None:
    short, long = ({f"key{n}": f"{letter} value" for n in range(number)} for letter, number in (("a", 2), ("b", 9)))
    runs = [replace(run, run_id=f"{n}" * 32) for n, run in enumerate([*seeds(long, [0.5, 0.6]), *seeds(short, [0.1])])]
    found = compare(runs, ["objective"])
    assert [name_of(row, found) for row in found.rows] == ["run 11111111", "key0=a value key1=a value"]
    assert table(found).splitlines()[1].endswith(" 11111111")


def on_a_terminal(columns: int, comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    return re.sub(r"\x1b\[\d*m", "", table(comparison)).splitlines()


def test_terminal_shows_what_differs_most_and_lists_what_it_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        entry({"data.note": "n" * 20 if lr == 1 else "", "optimizer.lr": str(lr), "data.more": "m" * (15 + lr // 3)},
              0, lr / 10)
        for lr in (1, 2, 3)
    ]  # fmt: skip
    found = compare(runs, ["objective"])
    wide = on_a_terminal(200, found, monkeypatch)
    assert wide[0].split() == ["note", "lr", "more", "objective", "n", "time", "best", "run"]
    assert "terminal" not in wide[-1]
    assert on_a_terminal(len(wide[1]), found, monkeypatch) == wide
    narrow = on_a_terminal(len(wide[1]) - 1, found, monkeypatch)
    assert narrow[0].split() == ["note", "lr", "objective", "n", "time", "best", "run"]
    assert narrow[-1] == "Too wide for this terminal: data.more; --format csv has all."
    narrower = on_a_terminal(len(narrow[1]) - 1, found, monkeypatch)
    assert narrower[0].split()[0] == "lr"
    assert "terminal: data.note, data.more;" in narrower[-1]
    assert on_a_terminal(10, found, monkeypatch)[0].split()[:2] == ["lr", "objective"]  # wider, and rows that differ


def test_a_terminal_has_room_for_what_was_swept_before_other_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [entry({"lr": f"0.{n}"}, 0, metrics={"objective": n / 10, "train/loss": float(n)}) for n in (1, 2)]
    found = compare(runs, ["objective", "train/loss"])
    wide = on_a_terminal(200, found, monkeypatch)
    narrow = on_a_terminal(len(wide[1]) - 1, found, monkeypatch)
    assert narrow[0].split() == ["lr", "objective", "n", "time", "best", "run"]
    assert narrow[-1] == "Too wide for this terminal: train/loss; --format csv has all."


def test_a_mean_over_fewer_runs_than_finished_says_so() -> None:
    runs = [*seeds({"lr": "1"}, [0.9, math.nan, 0.8]), *seeds({"lr": "2"}, [0.5, 0.6])]
    found = compare(runs, ["objective"])
    assert "85.00% (90.00, 80.00) (n = 2)  3" in table(found)
    assert table(found).count("(n = ") == 1 + sum(line.count("(n = ") for line in sentences(found))
    first, second = csv.DictReader(io.StringIO(as_csv(found), newline=""))
    assert (first["objective n"], first["n"], second["objective n"]) == ("2", "3", "2")


def test_all_that_share_the_best_mean_are_bold() -> None:
    found = compare([entry({"lr": lr}, 0, value) for lr, value in (("1", 0.5), ("2", 0.5), ("3", 0.1))], ["objective"])
    assert as_markdown(found).count("**50.00%**") == 2


def test_bars_and_backslashes_stay_within_their_cell() -> None:
    found = compare([entry({"note": "a\\|b"}, 0, 0.1), entry({"note": "c|d"}, 0, 0.2)], ["objective"])
    assert r"| a\\\|b |" in as_markdown(found)  # a backslash, then a bar, each of them escaped
    assert r"| c\|d |" in as_markdown(found)


def test_long_values_are_cut_in_the_table_alone() -> None:
    found = compare([entry({"note": "x" * 100}, 0, 0.1), entry({"note": ""}, 0, 0.2)], ["objective"])
    assert "x" * 39 not in table(found)
    assert "x" * 100 in as_csv(found)
    assert "x" * 100 in as_json(found)


def test_a_value_keeps_to_its_line_and_commands_no_terminal() -> None:
    found = compare([entry({"note": "a\nb\x1b[2J"}, 0, 0.1), entry({"note": "c"}, 0, 0.2)], ["objective"])
    lines = table(found).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["note", "c", "a"]
    assert lines[2].split()[1] == "b�[2J"
    assert "\x1b" not in as_markdown(found)

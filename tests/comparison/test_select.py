"""`blitz compare` on a real store: which runs it takes, what it tells them apart by, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.lab import MADE, PLAIN, Lab, compare_as_json
from support.processes import Server, finished
from support.recorded import client
from support.shell import blitz as command
from support.shell import refused

from blitz.comparison import show, summaries
from blitz.comparison.listing import line_of
from blitz.comparison.select import _title, newest_where
from blitz.comparison.where import Where
from blitz.run_folder import decisions
from blitz.run_folder.decisions import Decision
from blitz.run_folder.run_info import SWEEP, SWEEP_JOB, TAG_LENGTH
from blitz.sweeps.record import skipped_tags
from blitz.tracking import queries, store
from blitz.tracking.queries import SKIPPED


def ids(found: Mapping[str, Any]) -> set[str]:
    return {run["id"] for row in found["rows"] for run in row["runs"]}


def values(found: Mapping[str, Any]) -> list[dict[str, str | None]]:
    return [row["values"] for row in found["rows"]]


# ---- which runs


def test_seeds_are_folded_and_the_best_comes_first(lab: Lab) -> None:
    made = [lab.run("0.1", seed, objective) for seed, objective in enumerate([0.5, 0.6])]
    made += [lab.run("0.2", seed, objective) for seed, objective in enumerate([0.8, 0.81])]
    found = lab.compare_as_json()
    assert values(found) == [{"optimizer.lr": "0.2"}, {"optimizer.lr": "0.1"}]
    best = found["rows"][0]
    assert best["metrics"]["objective"]["values"] == [0.8, 0.81]
    assert (best["metrics"]["test/accuracy"], best["seconds"], best["status"]) == (None, 30.0, "2 FINISHED")
    assert [run["seed"] for run in best["runs"]] == ["0", "1"]
    assert ids(found) == set(made)
    assert found["notes"][0].startswith("lr=0.2 (n = 2) is ahead of lr=0.1 (n = 2) by 25.50 points, not significantly")
    lines = command("compare", "--experiment", lab.experiment).output.splitlines()
    assert lines[0].split() == ["lr", "objective", "test/accuracy", "train/loss", "n", "time", "best", "run"]
    assert lines[1].split()[-1] == made[3][:8]
    assert lines[3] == found["notes"][0]


def test_by_default_the_newest_twenty_that_were_trained_are_compared(here: Path) -> None:
    lab = Lab("one")
    made = [lab.foreign({}, {}, status="RUNNING", experiment=["one", "two"][number % 2]) for number in range(21)]
    lab.sweep("s", 21)
    assert ids(compare_as_json()) == set(made[1:])
    assert ids(compare_as_json("--limit", "3")) == set(made[-3:])
    assert ids(compare_as_json("--limit", "300")) == set(made)


def test_an_experiment_has_runs_of_its_own(lab: Lab) -> None:
    made = [lab.run(str(number), experiment=["first", "second's"][number % 2]) for number in range(4)]
    assert ids(lab.compare_as_json("--experiment", "second's")) == {made[1], made[3]}
    assert ids(lab.compare_as_json("--experiment", "first", "--limit", "1")) == {made[2]}


def test_runs_are_named_by_id_by_its_start_or_as_the_last(lab: Lab) -> None:
    made = [lab.run(str(number)) for number in range(3)]
    lab.run("3", tags={"user": "somebody else"})
    assert ids(compare_as_json(made[0], made[1][:12], "last")) == set(made)
    found = compare_as_json(made[0], made[0][:12])  # one run, however often it is named
    assert [len(row["runs"]) for row in found["rows"]] == [1]
    assert found["notes"] == []


def test_a_sweep_is_named_by_its_id_the_start_of_one_as_the_last_or_by_its_run(lab: Lab) -> None:
    old = [lab.run(str(number), tags={"sweep": "2026-01-01_a1"}) for number in range(2)]
    parent = lab.sweep("2026-01-01_a1", 2)
    new = [lab.run(str(number), tags={"sweep": "2026-02-01_b2"}) for number in range(2)]
    lab.sweep("2026-02-01_b2", 2)
    for named in ("2026-01-01_a1", "2026-01", parent, parent[:10]):
        assert ids(lab.compare_as_json("--sweep", named)) == set(old), named
    assert ids(lab.compare_as_json("--sweep", "last")) == set(new)
    (line,) = refused("compare", "--sweep", "2026")
    assert line.startswith("2026: more than one sweep in sqlite://")
    assert line.endswith(" starts like this; give more of its id")


def test_jobs_that_a_sweep_skipped_are_among_its_runs_wherever_they_are(lab: Lab, tmp_path: Path) -> None:
    before = [lab.run(str(number), experiment="before") for number in range(3)]
    gone = lab.run("9")
    lab.client.delete_run(gone)
    own = [lab.run("7", tags={"sweep": "s"}), lab.run("8", tags={"sweep": "s"}, experiment="another")]
    skipped = {SKIPPED: f"{before[0]} {before[1]} {gone} {own[0]}", f"{SKIPPED}.1": f"{before[2]} {'0' * 32} cut0ff"}
    lab.sweep("s", 5, tags=skipped)
    found = lab.compare_as_json("--sweep", "last")
    assert ids(found) == {*before, *own}
    assert [len(row["runs"]) for row in found["rows"]] == [1] * 5


def test_what_was_deleted_is_not_compared(lab: Lab) -> None:
    kept, run = lab.run("1"), lab.run("2")
    lab.run("3", experiment="gone")
    lab.client.delete_run(run)
    lab.client.delete_experiment(store.experiment_id(lab.client, lab.uri, "gone"))
    assert ids(lab.compare_as_json()) == {kept}
    assert refused("compare", run)[0].startswith(f"{run}: no such run in sqlite://")
    assert refused("compare", "--experiment", "gone")[0].startswith("--experiment=gone: no such experiment (accepted: ")


def test_status_of_runs_that_train_or_failed_is_shown(lab: Lab) -> None:
    lab.run("1", 0, 0.2, status="RUNNING")
    lab.run("2", 0, 0.9, status="FAILED")
    lab.run("3", 0, 0.1)
    found = lab.compare_as_json()
    assert [row["status"] for row in found["rows"]] == ["FINISHED", "RUNNING", "FAILED"]
    assert [row["metrics"]["objective"] is None for row in found["rows"]] == [False, True, True]
    lines = command("compare", "--experiment", lab.experiment).output.splitlines()
    assert lines[0].split()[-3:] == ["status", "best", "run"]
    assert "RUNNING" in lines[2]


def test_an_attempt_that_failed_gives_way_to_the_run_that_came_to_its_end(lab: Lab) -> None:
    lab.run("1", 0, 0.2, status="FAILED")
    done = lab.run("1", 0, 0.6)
    found = lab.compare_as_json()
    assert ids(found) == {done}
    assert found["notes"] == ["1 attempt left out: not finished."]
    assert len(ids(lab.compare_as_json("--all"))) == 2


def test_a_sweep_that_runs_is_ranked_with_what_its_jobs_have_so_far(lab: Lab) -> None:
    tags = [{"sweep": "running", "sweep.job": str(number)} for number in range(5)]
    lab.foreign({}, {}, {**lab.own, "sweep": "running", "sweep.jobs": "7"}, "RUNNING")
    paused = lab.run("2", 0, 0.3, status="SCHEDULED", tags=tags[0])
    lab.run("3", 0, 0.41, status="RUNNING", tags=tags[1])
    lab.run("1", 0, 0.2, tags=tags[2])
    lab.run("1", 1, 0.9, status="RUNNING", tags=tags[3])
    lab.run("4", 0, 0.95, status="FAILED", tags=tags[4])
    lines = command("compare", "--sweep", "running").output.splitlines()
    assert [line.split()[:4] for line in lines[1:5]] == [
        ["1", "20.00%", "1", "30.0"],
        ["3", "41.00%", "so", "far"],
        ["2", "30.00%", "so", "far"],
        ["4", "0", "FAILED", lines[4].split()[-1]],
    ]
    assert ("1 FINISHED, 1 RUNNING" in lines[1], lines[3].split()[-2:]) == (True, ["PAUSED", paused[:8]])
    assert lines[-2:] == ["3 runs are not finished, and in no mean.", "2 of 7 jobs have not started."]
    rows = lab.compare_as_json("--sweep", "running")["rows"]
    assert [row["so_far"] for row in rows] == [{}, {"objective": [0.41]}, {"objective": [0.3]}, {}]
    assert [run["status"] for row in rows for run in row["runs"]][-2:] == ["PAUSED", "FAILED"]
    table = csv.DictReader(io.StringIO(command("compare", "--sweep", "running", "--format", "csv").output))
    assert [row["objective so far"] for row in table] == ["", "0.41", "0.3", ""]


# ---- what tells them apart


def test_what_runs_were_made_with_is_a_column_where_it_differs(lab: Lab) -> None:
    lab.run(seed=0)
    for tag in MADE:
        if tag != "packages":
            lab.run(seed=1, tags={tag: "1" * 30})
    found = values(lab.compare_as_json("--experiment", lab.experiment))
    assert set(found[0]) == set(MADE) - {"packages"}
    assert len(found) == len(MADE)
    lengths = {"git.commit": 10, "git.diff": 12, "data.fingerprint": 12}
    for tag in found[0]:
        usual = MADE[tag][: lengths.get(tag, 30)]
        assert sorted(str(row[tag]) for row in found) == sorted([usual] * len(found[1:]) + ["1" * lengths.get(tag, 30)])


def test_packages_that_differ_are_columns(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.run(seed=0), lab.run(seed=1, tags={"packages": "bbbb"})
    lab.run(seed=2)  # the same as the first
    lab.provenance(first, {"numpy": "2.0", "torch": "2.15.0", "timm": "1.0"}, tmp_path)
    lab.provenance(second, {"numpy": "2.1", "torch": "2.15.0"}, tmp_path)
    found = lab.compare_as_json()
    assert {tuple(row.items()) for row in values(found)} == {
        (("package numpy", "2.0"), ("package timm", "1.0")),
        (("package numpy", "2.1"), ("package timm", "none")),
    }
    assert sorted(len(row["runs"]) for row in found["rows"]) == [1, 2]


def test_many_packages_that_differ_are_counted_and_those_left_out_still_separate_rows(lab: Lab, tmp_path: Path) -> None:
    old = {f"p{number:02}": "1" for number in range(11)}
    for digest, packages in {
        "a": old,
        "b": {**dict.fromkeys(old, "2"), "p10": "1"},
        "c": dict.fromkeys(old, "2"),
    }.items():
        lab.provenance(lab.run(tags={"packages": digest}), packages, tmp_path)
    found = lab.compare_as_json()
    assert list(values(found)[0]) == [f"package p{number:02}" for number in range(8)] + ["packages"]
    assert sorted(str(row["packages"]) for row in values(found)) == ["a", "b", "c"]
    assert "3 more packages differ." in found["notes"]


@pytest.mark.parametrize("packages", [None, ["numpy"]])
def test_packages_that_cannot_be_read_differ_by_their_digest(lab: Lab, tmp_path: Path, packages: Any) -> None:
    first, second = lab.run(seed=0), lab.run(seed=1, tags={"packages": "bbbb"})
    lab.provenance(first, {"numpy": "2.0"}, tmp_path)
    if packages is not None:
        lab.provenance(second, packages, tmp_path)
    assert sorted(str(row["packages"]) for row in values(lab.compare_as_json())) == ["aaaa", "bbbb"]


def test_a_run_that_was_extended_has_its_new_number_of_epochs(lab: Lab) -> None:
    lab.run(seed=0)
    lab.run(seed=1, tags={"epochs": "5"})
    assert sorted(str(row["epochs"]) for row in values(lab.compare_as_json())) == ["2", "5"]


def test_runs_of_other_programs_are_compared_by_what_they_have(lab: Lab) -> None:
    made = [lab.foreign({"lr": "1"}, {"acc": 0.25}), lab.foreign({"lr": "2"}, {"acc": 0.5}), lab.foreign({}, {})]
    found = lab.compare_as_json("--metric", "acc")
    assert [row["values"]["lr"] for row in found["rows"]] == ["2", "1", None]
    assert ids(found) == set(made)
    assert ids(lab.compare_as_json()) == set(made)


def test_facts_that_other_programs_do_not_record_are_no_difference(lab: Lab) -> None:
    lab.run("1", params={"device.threads": "2"})
    lab.foreign({"lr": "1"}, {})
    assert list(values(lab.compare_as_json())[0]) == ["model.name", "epochs", "optimizer.lr", "lr"]
    lab.run("1", params={"device.threads": "4"}, tags={"torch": "2.14"})
    rows = values(lab.compare_as_json())
    assert {str(row["torch"]) for row in rows} == {"2.14", "2.15.0", "None"}
    assert {str(row["device.threads"]) for row in rows} == {"2", "4", "None"}


def test_runs_without_a_seed_are_not_duplicates(lab: Lab) -> None:
    for _ in range(2):
        lab.foreign({"lr": "1"}, {"acc": 0.25})
    found = lab.compare_as_json()
    assert (len(found["rows"]), found["notes"]) == (2, [])
    for seed in "12":
        lab.foreign({"lr": "3", "seed": seed}, {"acc": 0.25})
    assert sorted(len(row["runs"]) for row in lab.compare_as_json()["rows"]) == [1, 1, 2]


def test_credentials_of_other_programs_are_redacted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-of-mine")
    lab.foreign({"password": "open-sesame", "num_tokens": "64", "seed": "0"}, {})
    lab.foreign({"url": "http://me:hunter22@host/x", "note": "by s3cr3t-of-mine", "seed": "0"}, {})
    for form in ("table", "csv", "json", "md"):
        text = command("compare", "--experiment", lab.experiment, "--format", form).output
        assert "64" in text
        assert "***@host/x" in text
        assert "by ***" in text
        assert not [secret for secret in ("sesame", "hunter22", "s3cr3t") if secret in text]


def test_a_name_of_its_own_is_shown_and_overrides_are_none(lab: Lab) -> None:
    for name in ("lr=0.1 seed=0", "again: lr=0.1 seed=0", ""):
        assert _title(name, PLAIN) == ""
    assert _title("net on digits", {**PLAIN, "data.name": "digits"}) == ""  # as blitz calls a run without overrides
    assert _title("again: my baseline seed=3", PLAIN) == "my baseline"
    lab.run("1", name="my baseline")
    lab.run("2", name="lr=2 seed=0")
    assert {(row["name"], row["optimizer.lr"]) for row in values(lab.compare_as_json())} == {
        ("my baseline", "1"),
        ("", "2"),
    }


def test_precision_is_one_column(lab: Lab) -> None:
    lab.run("1")
    lab.run("1", params={"device.precision": "bf16"}, tags={"precision": "bf16"})
    assert sorted(map(str, values(lab.compare_as_json()))) == ["{'precision': 'bf16'}", "{'precision': 'fp32'}"]


def test_fingerprint_is_shown_where_the_options_of_the_data_do_not_imply_it(lab: Lab) -> None:
    digits, other = {"data.name": "digits"}, {"data.name": "digits", "data.limit": "100"}
    lab.run(params=digits)
    lab.run(params=other, tags={"data.fingerprint": "eeee"})
    assert set(values(lab.compare_as_json())[0]) == {"data.limit"}
    assert "data.fingerprint" in values(lab.compare_as_json("--all"))[0]
    lab.run(params=other, tags={"data.fingerprint": "dddd"})
    assert set(values(lab.compare_as_json())[0]) == {"data.limit", "data.fingerprint"}


def test_a_repetition_that_ended_early_is_no_further_seed(lab: Lab) -> None:
    whole = lab.run("1", 0, metrics={"test/accuracy": 0.5})
    lab.run("1", 1, tags={"reproduces": whole})
    lab.run("1", 0, metrics={"test/accuracy": 0.5}, tags={"reproduces": whole})
    found = lab.compare_as_json()
    assert {row["values"]["reproduces"]: len(row["runs"]) for row in found["rows"]} == {None: 1, whole[:8]: 1}
    assert found["notes"][-1] == "1 run left out: same config and seed as another."


def test_time_of_a_resumed_run_is_unknown(lab: Lab) -> None:
    lab.run("1")
    lab.run("2", tags={"resumed": "1"})
    assert {row["values"]["optimizer.lr"]: row["seconds"] for row in lab.compare_as_json()["rows"]} == {
        "1": 30.0,
        "2": None,
    }


def test_older_runs_that_are_left_out_are_noted(lab: Lab) -> None:
    for number in range(3):
        lab.run(str(number))
    assert (
        lab.compare_as_json("--limit", "2")["notes"][-1]
        == "Runs older than the newest 2 are left out; --limit N takes more."
    )
    assert not [note for note in lab.compare_as_json("--limit", "3")["notes"] if "older" in note]


def test_packages_that_can_change_a_number_come_first_and_torch_by_its_tag(lab: Lab, tmp_path: Path) -> None:
    old = {**{f"a{number}": "1" for number in range(9)}, "numpy": "2.0", "torch": "2.14"}
    lab.provenance(lab.run(), old, tmp_path)
    new = {**dict.fromkeys(old, "9"), "torch": "2.15"}
    lab.provenance(lab.run(tags={"packages": "b", "torch": "2.15"}), new, tmp_path)
    keys = list(values(lab.compare_as_json())[0])
    assert keys[:3] == ["torch", "package numpy", "package a0"]
    assert "package torch" not in keys
    assert "2 more packages differ." in lab.compare_as_json()["notes"]


def test_packages_of_many_kinds_differ_by_their_digest(lab: Lab) -> None:
    for number in range(11):
        lab.run(tags={"packages": f"kind{number}"})
    found = lab.compare_as_json()
    assert {row["packages"] for row in values(found)} == {f"kind{number}" for number in range(11)}
    assert "Packages differ in 11 ways; listed is their digest only." in found["notes"]


# ---- which metrics


def test_metrics_are_those_asked_for_and_the_first_sorts(lab: Lab) -> None:
    lab.run("1", 0, 0.5, metrics={"val/loss": 0.3})
    lab.run("2", 0, 0.6, metrics={"val/loss": 0.4})
    found = lab.compare_as_json("--metric", "val/loss", "--metric", "objective", "--metric", "val/loss")
    assert [list(row["metrics"]) for row in found["rows"]] == [["val/loss", "objective"]] * 2
    assert [row["values"]["optimizer.lr"] for row in found["rows"]] == ["1", "2"]


def test_a_metric_that_no_run_has_is_refused_with_those_that_are_there(lab: Lab) -> None:
    lab.run("1", 0, 0.5, metrics={"val/loss": 0.3, "system/cpu": 1.0})
    assert refused(
        "compare", "--experiment", lab.experiment, "--metric", "val/lss", "--metric", "objective", "--metric", "x"
    ) == [
        "--metric=val/lss: none of the runs has it; did you mean val/loss? (accepted: objective, val/loss)",
        "--metric=x: none of the runs has it (accepted: objective, val/loss)",
    ]


def test_a_metric_is_summarized_over_its_epochs(lab: Lab) -> None:
    for lr, accuracies in {"1": [0.5, 0.8, 0.8, 0.7], "2": [0.9, 0.6]}.items():
        run = lab.run(lr, 0, max(accuracies))
        lab.log(run, "val/accuracy", accuracies)
        lab.log(run, "val/loss", [4.0, 3.0, 2.0, 1.0][: len(accuracies)])
        lab.log(run, "train/loss", [0.4, 0.3, 0.2, 0.1][: len(accuracies)])
    wanted = ["val/loss:best", "val/accuracy:min", "train/loss:best", "train/loss:max", "val/loss"]
    found = lab.compare_as_json(*(word for name in wanted for word in ("--metric", name)))
    measured = [{name: found["mean"] for name, found in row["metrics"].items()} for row in found["rows"]]
    assert measured == [  # of two epochs with the same accuracy the one with the lower loss, as training has it
        dict(zip(wanted, [2.0, 0.5, 0.2, 0.4, 1.0], strict=True)),
        dict(zip(wanted, [4.0, 0.6, 0.4, 0.4, 3.0], strict=True)),
    ]
    output = command("compare", "--experiment", lab.experiment, "--metric", "val/accuracy:max").output
    assert output.splitlines()[0].split()[:2] == ["lr", "val/accuracy:max"]
    assert output.splitlines()[1].split()[:2] == ["2", "90.00%"]


def test_without_validation_the_best_epoch_is_the_last(lab: Lab) -> None:
    run = lab.run("1", 0, 0.5)
    lab.log(run, "train/loss", [0.4, 0.1, 0.2])
    lab.foreign({"lr": "2"}, {"train/loss": 7.0})  # of another program, whose best epoch nobody knows
    rows = lab.compare_as_json("--metric", "train/loss:best")["rows"]
    (best, nobodys) = (row["metrics"]["train/loss:best"] for row in rows)
    assert (best["values"], nobodys) == ([0.2], None)


def test_a_minimum_is_over_numbers_and_a_maximum_that_is_infinite_is_no_number(lab: Lab) -> None:
    lab.log(lab.run("1"), "train/loss", [math.nan, 0.4, math.inf])
    (row,) = lab.compare_as_json("--metric", "train/loss:min", "--metric", "train/loss:max")["rows"]
    assert (row["metrics"]["train/loss:min"]["mean"], row["metrics"]["train/loss:max"]) == (0.4, None)


def test_a_summary_that_there_is_not_is_refused(lab: Lab) -> None:
    lab.run("1", 0, 0.5, metrics={"val/loss": 0.3, "train/step_loss": 1.0})
    for name, problem in {
        "val/lss:min": "none of the runs has it; did you mean val/loss? (accepted: objective, train/step_loss, "
                       "val/loss)",
        "val/loss:mean": "accepted: val/loss, val/loss:min, val/loss:max, val/loss:best",
        "train/step_loss:best": "train/step_loss has no value for an epoch; accepted: train/step_loss, "
                                "train/step_loss:min or train/step_loss:max",
    }.items():  # fmt: skip
        assert refused("compare", "--experiment", lab.experiment, "--metric", name) == [f"--metric={name}: {problem}"]
    other = lab.foreign({}, {"acc": 0.5})
    (problem,) = refused("compare", other, "--metric", "acc:best")
    assert problem == "--metric=acc:best: the best epoch is that of the objective, which none of the runs has"


def test_infinity_as_a_store_keeps_it_is_no_result(lab: Lab) -> None:
    lab.run("1", 0, 0.5, metrics={"train/loss": float("inf")})
    lab.run("1", 1, 0.5, metrics={"train/loss": float("nan")})
    lab.run("1", 2, 0.5, metrics={"train/loss": 0.25})
    found = lab.compare_as_json()
    assert found["rows"][0]["metrics"]["train/loss"]["values"] == [0.25]
    assert found["notes"] == ["2 train/loss values left out: not finite."]


def test_all_shows_every_run_with_all_that_it_has(lab: Lab) -> None:
    made = [lab.run("1", seed, metrics={"val/loss": 0.5}) for seed in range(2)]
    found = lab.compare_as_json("--all")
    assert ids(found) == set(made)
    assert {"model.name", "epochs", "optimizer.lr", "seed", "git.commit", "torch"} <= set(values(found)[0])
    assert list(found["rows"][0]["metrics"]) == ["objective", "test/accuracy", "train/loss", "val/loss"]


# ---- where


@pytest.fixture
def four(lab: Lab) -> list[str]:
    """Runs that differ in much, the oldest first."""
    return [
        lab.run("0.1", 0, 0.5, tags={"team": "vision"}),
        lab.run("0.01", 1, 0.75, name="my baseline", params={"model.name": "mlp"}),
        lab.run("1e-3", 2, 0.9, metrics={"val/loss": 0.25}, tags={"epochs": "5"}),
        lab.run("0.01", 3, None, status="SCHEDULED", params={"eval_flip": "true"}),
    ]


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["optimizer.lr>0.01"], [0]),
        (["optimizer.lr<=1e-2", "objective>=75%"], [1, 2]),
        (["optimizer.lr = 1e-2"], [1, 3]),
        (["optimizer.lr!=0.010"], [0, 2]),
        (["model.name=mlp"], [1]),
        (["objective=0.5"], [0]),
        (["objective!=0.5"], [1, 2, 3]),  # what lacks it is unlike it, and not less
        (["objective<0.6"], [0]),
        (["val/loss<1"], [2]),
        (["epochs>=5"], [2]),
        (["status=paused"], [3]),
        (["status!=PAUSED", "seed>0"], [1, 2]),
        (["name=my baseline"], [1]),
        (["tags.team=vision"], [0]),
        (["team!=vision"], [1, 2, 3]),
        (["eval_flip==True"], [3]),
    ],
)
def test_where_keeps_the_runs_that_it_holds_for(
    lab: Lab, four: list[str], conditions: list[str], kept: list[int]
) -> None:
    arguments = [word for condition in conditions for word in ("--where", condition)]
    assert ids(lab.compare_as_json(*arguments, "--all")) == {four[number] for number in kept}


def test_where_finds_older_runs_and_jobs_of_a_sweep(lab: Lab) -> None:
    made = [lab.run(str(number), tags={"sweep": "of-five"}) for number in range(5)]
    lab.sweep("of-five", 5)
    assert ids(lab.compare_as_json("--where", "optimizer.lr<3", "--limit", "2")) == set(made[1:3])
    assert ids(lab.compare_as_json("--sweep", "of-five", "--where", "optimizer.lr>=3")) == set(made[3:])


def test_where_with_a_mistake_is_refused(lab: Lab, four: list[str]) -> None:
    of = f"experiment {lab.experiment}"
    for text, problem in {
        "optimizer.lr": "accepted: KEY=VALUE, or with != < <= > >=, in quotes: 'optimizer.lr>0.01'",
        "=3": "accepted: KEY=VALUE, or with != < <= > >=, in quotes: 'optimizer.lr>0.01'",
        "lr>0.01": "none of the runs has lr; did you mean optimizer.lr?",
        "optimzer.lr>0.01": "none of the runs has optimzer.lr; did you mean optimizer.lr?",
        "zzz`=1": "none of the runs has zzz` (accepted: a parameter, metric or tag, name, status)",
        "optimizer.lr>high": "> compares numbers; high is none",
        "objective>90": "objective is at most 1; accepted: 0.9, or 90%",
        "status=FINISHD": "accepted: status= or != FINISHED, RUNNING, PAUSED, FAILED, KILLED, ORPHANED; "
                          "did you mean FINISHED?",
        "status>FINISHED": "accepted: status= or != FINISHED, RUNNING, PAUSED, FAILED, KILLED, ORPHANED",
    }.items():  # fmt: skip
        assert refused("compare", "--experiment", lab.experiment, "--where", text) == [f"--where={text}: {problem}"]
    assert refused("compare", "--experiment", lab.experiment, "--where", "optimizer.lr>1", "--where", "seed=0") == [
        f"compare: no runs in {lab.uri}, {of}, where optimizer.lr>1 and seed=0"
    ]
    assert refused("compare", four[0], "--where", "seed=0") == [
        "--where=seed=0: accepted with --sweep, with --experiment, or alone"
    ]


# ---- as files


def test_formats_hold_the_same(lab: Lab) -> None:
    lab.run("1", 0, 0.5)
    lab.run("2", 0, 0.25)
    rows = list(
        csv.DictReader(io.StringIO(command("compare", "--experiment", lab.experiment, "--format", "csv").output))
    )
    assert [(row["optimizer.lr"], row["objective"]) for row in rows] == [("1", "0.5"), ("2", "0.25")]
    assert "| 1 | **50.00%** |" in command("compare", "--experiment", lab.experiment, "--format", "md").output
    assert "50.00%" in command("compare", "--experiment", lab.experiment).output


def test_the_output_is_the_same_from_another_folder(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("1", tags={"sweep": "moved"})
    lab.sweep("moved", 1)
    here = command("compare", "--sweep", "last")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert command("compare", "--sweep", "last", "--store", lab.uri) == here
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.uri)
    assert command("compare", "--sweep", "last") == here
    assert list(Path().iterdir()) == []


def test_a_comparison_is_drawn_into_a_file(lab: Lab, tmp_path: Path) -> None:
    lab.run("1", 0, 0.5)
    lab.run("2", 0, 0.25)
    for suffix, begins in {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}.items():
        file = tmp_path / f"a.{suffix}"
        ended = command("compare", "--experiment", lab.experiment, "--plot", str(file))
        assert (ended.code, ended.told) == (0, [])
        assert "50.00%" in ended.output
        assert file.read_bytes().startswith(begins)


def test_what_is_no_number_is_not_drawn(lab: Lab, tmp_path: Path) -> None:
    lab.run("1", 0, 0.5)
    lab.run("2", 0, math.inf)
    lab.run("3", 0, 0.25)
    file = tmp_path / "a.svg"
    ended = command("compare", "--experiment", lab.experiment, "--plot", str(file))
    assert (ended.code, ended.told) == (0, [])
    texts = re.findall("<!-- (.+?) -->", file.read_text())  # matplotlib's, before the letters that it draws
    assert "n = 2 runs; 1 without a result; 1 seed each" in texts
    assert "3 runs of 3 combinations; best with 50.00 %: a run" in texts
    assert not [text for text in texts if re.search("inf|nan|e.?308", text)]


def test_a_file_that_cannot_be_drawn_into_is_refused(lab: Lab, workshop: Path) -> None:
    lab.run()
    (workshop / "folder.png").mkdir()
    for file, line in {
        "a.gif": "--plot=a.gif: accepted: a file .png, .svg, .pdf",
        "none/a.png": "--plot=none/a.png: no such folder as none",
        "folder.png": "--plot=folder.png: Is a directory",
    }.items():
        assert refused("compare", "--experiment", lab.experiment, "--plot", file) == [line]


def test_what_is_no_share_of_images_is_not_drawn(lab: Lab, workshop: Path) -> None:
    run = lab.run(metrics={"train/loss": 0.1})
    assert refused("compare", run, "--metric", "train/loss", "--plot", "loss.png") == [
        "--plot=loss.png: drawn are accuracies; name one first: --metric objective"
    ]
    assert not (workshop / "loss.png").exists()


# ---- mistakes


def test_mistakes_are_reported_in_a_line_each(here: Path) -> None:
    lab = Lab("blitz")
    made = lab.run(tags={"sweep": "2026-01-01_a1"})
    parent = lab.sweep("2026-01-01_a1", 1)
    where = lab.uri
    for arguments, line in {
        "xyz": f"xyz: no such run in {where} (accepted: a run id, the start of one, last, or best)",
        parent: f"{parent}: a sweep, and no run that was trained; blitz compare --sweep 2026-01-01_a1 lists its runs",
        "--sweep 2026-01-01_a2": f"--sweep=2026-01-01_a2: no such sweep in {where}; did you mean 2026-01-01_a1? "
                                 "(the newest: 2026-01-01_a1)",
        "--sweep x'y": f"--sweep=x'y: no such sweep in {where} (the newest: 2026-01-01_a1)",
        "--experiment blizt": "--experiment=blizt: no such experiment; did you mean blitz? (accepted: Default, blitz)",
        "--experiment Default": f"compare: no runs in {where}, experiment Default",
        f"{made} --sweep last": "compare: accepted: runs, or --sweep, or --experiment",
        "--experiment blitz --sweep last": "compare: accepted: runs, or --sweep, or --experiment",
        "--sweep last --limit 2": "--limit=2: accepted with --experiment, or alone",
        f"{made} --limit 2": "--limit=2: accepted with --experiment, or alone",
        "--limit 0": "compare: Invalid value for '--limit': 0 is not in the range 1<=x<=1000000.",
        "--format xml": "compare: Invalid value for '--format': 'xml' is not one of 'table', 'csv', 'json', 'md'.",
    }.items():  # fmt: skip
        assert refused("compare", *arguments.split()) == [line], arguments


def test_store_without_runs_or_no_store_at_all(here: Path) -> None:
    where = f"sqlite:///{here}/mlflow.db"
    assert refused("compare") == [f"compare: no runs in {where}"]
    assert refused("compare", "--sweep", "last") == [f"--sweep=last: no such sweep in {where}"]
    (here / "mlflow.db").unlink()
    assert refused("compare") == [f"{where}: there is no such store; name one with --store URI or MLFLOW_TRACKING_URI"]
    assert not (here / "mlflow.db").exists()


def test_a_sweep_of_which_no_job_has_begun_has_nothing_to_compare(lab: Lab) -> None:
    lab.sweep("begun", 3)
    assert refused("compare", "--sweep", "begun") == [f"compare: no runs in {lab.uri}, sweep begun"]


# ---- what has finished


def test_finished_runs_are_found_by_config_the_sweeps_own_first_and_then_the_newest(lab: Lab) -> None:
    def run(config: str, status: str = "FINISHED", experiment: str | None = None, **more: str) -> str:
        tags = {"config_hash": config, "group_hash": config[0], **more}
        return lab.run(status=status, experiment=experiment, tags=tags)

    own = run("a1", sweep="mine")
    older = run("a2")
    newer = run("a1"), run("a2", experiment="another")
    run("a2", status="FAILED")
    run("a2", reproduces="0")
    run("b1", status="KILLED", sweep="mine")
    found = run("c1")
    run("d1")
    wanted = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}

    def by_sweep(sweep: str | None) -> dict[str, list[str]]:
        found = queries.finished_runs(lab.client, wanted, sweep)
        return {key: [run.info.run_id for run in runs] for key, runs in found.items()}

    assert by_sweep("mine") == {"a1": [own, newer[0]], "a2": [newer[1], older], "c1": [found]}
    assert by_sweep(None) == {"a1": [newer[0], own], "a2": [newer[1], older], "c1": [found]}


def test_ids_of_more_runs_than_a_tag_holds_are_spread_over_several() -> None:
    run_ids = [f"{number:032x}" for number in range(500)]
    tags = skipped_tags(run_ids)
    assert list(tags) == [SKIPPED, f"{SKIPPED}.1", f"{SKIPPED}.2"]
    assert " ".join(tags.values()).split() == run_ids
    assert max(map(len, tags.values())) <= TAG_LENGTH
    assert skipped_tags([]) == {}


# ---- through a tracking server


@pytest.mark.slow
def test_a_server_is_asked_as_a_file_is(tmp_path: Path, server: Server) -> None:
    lab = Lab("blitz", server.uri)
    before = lab.run("0.3", 0, 0.7)
    made = [lab.run(lr, seed, float(lr), tags={"sweep": "s"}) for lr in ("0.1", "0.2") for seed in range(2)]
    lab.provenance(made[0], {"numpy": "2.0"}, tmp_path)
    lab.sweep("s", 5, tags={SKIPPED: before})
    code, output, errors = finished(
        tmp_path, "compare", "--sweep", "s", "--store", server.uri, "--format", "json", "--plot", "a.png",
        "--html", "a.html",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert ids(json.loads(output)) == {before, *made}
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert f'id="ui" value="{server.uri}"' in (tmp_path / "a.html").read_text()
    for arguments in (["last", before[:9]], ["--experiment", "blitz"], ["--limit", "2"]):
        through_server = finished(tmp_path, "compare", *arguments, "--store", server.uri)
        through_file = finished(tmp_path, "compare", *arguments, "--store", f"sqlite:///{server.folder}/mlflow.db")
        assert through_server[0] == 0
        assert through_server == through_file, arguments
    answers = []
    for asked in (lab.client, client(f"sqlite:///{server.folder}/mlflow.db")):
        runs = newest_where(asked, queries.experiment_ids(asked), 9, Where(["optimizer.lr<0.3", "objective>10%"]))
        parent = queries.find_sweep(asked, "s")
        assert parent is not None
        measured = summaries.values(asked, runs, ["objective:max"])
        answers.append(([run.info.run_id for run in runs], measured, line_of(asked, parent, "blitz")))
    assert answers[0] == answers[1]
    assert answers[0][0] == made[:1:-1]
    files = show.of_store(lab.client, lab.client.get_run(made[0])).files
    assert files == [("provenance.json", (tmp_path / "provenance.json").stat().st_size)]
    assert refused("compare", "--sweep", "t", "--store", server.uri) == [
        f"--sweep=t: no such sweep in {server.uri} (the newest: s)"
    ]


# ---- the page


def test_html_of_a_sweep_has_its_runs_and_what_its_search_decided(lab: Lab, tmp_path: Path) -> None:
    sweep = "2026-11-30_halved"
    parent = lab.sweep(sweep, 2)
    jobs = [lab.run(lr, tags={SWEEP: sweep, SWEEP_JOB: str(n)}, name=f"lr={lr}") for n, lr in enumerate(("0.1", "0.2"))]
    file = tmp_path / decisions.FILE
    for damage in ("", "{\n"):
        lines = [
            json.dumps(asdict(Decision(1, n, "go on", {"objective": 0.25, "rung": 0.5}, f"number {n}")))
            for n in range(2)
        ]
        file.write_text("\n".join(['{"search": {"name": "halving"}}', *lines, damage]))
        lab.client.log_artifact(parent, str(file))
        if damage:
            (problem,) = refused("compare", "--sweep", sweep, "--html", str(tmp_path / "no.html"))
            assert "decisions.jsonl: line 4 is no decision" in problem
            assert not (tmp_path / "no.html").exists()
        else:
            ended = command("compare", "--sweep", sweep, "--html", str(tmp_path / "page.html"))
            assert (ended.code, ended.told) == (0, [])
    page = (tmp_path / "page.html").read_text()
    assert f"<h1>Sweep {sweep}</h1>" in page
    assert all(page.count(f'data-run="/#/runs/{job}"') == 2 for job in jobs)  # in the table of runs, and of decisions
    assert "objective: 0.25, rung: 0.5</td>" in page
    assert "job 1 (lr=0.2)" in page


def test_html_of_runs_has_the_table_that_is_printed(lab: Lab, tmp_path: Path) -> None:
    lab.run("0.1", metrics={"test/accuracy": 0.4})
    lab.run("0.2", status="RUNNING")
    options = ["--experiment", lab.experiment, "--metric", "test/accuracy"]
    ended = command("compare", *options, "--html", str(tmp_path / "page.htm"))
    assert (ended.code, ended.told) == (0, [])
    assert ended.output == command("compare", *options).output
    page = (tmp_path / "page.htm").read_text()
    assert "<h1>Comparison by test/accuracy</h1>" in page
    assert ">40.00%</td>" in page
    assert ">RUNNING</td>" in page

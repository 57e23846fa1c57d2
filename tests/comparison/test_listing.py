"""`blitz ls`: which runs and sweeps it lists, in which order, and how."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab
from support.shell import blitz as command
from support.shell import refused
from support.terminal import terminal

from blitz.comparison import listing
from blitz.comparison.listing import ago
from blitz.run_folder.run_info import RunInfo


def listed(*arguments: str) -> list[dict[str, Any]]:
    ended = command("ls", *arguments, "--format", "json")
    assert (ended.code, ended.told) == (0, []), ended
    found: list[dict[str, Any]] = json.loads(ended.output)
    return found


def test_runs_and_sweeps_are_lines_the_newest_first(lab: Lab) -> None:
    first = lab.run(name="first", objective=0.5)
    parent = lab.foreign({}, {}, {**lab.own, "sweep": "s", "sweep.jobs": "4"}, "RUNNING", name="lr=1,2,3,4")
    jobs = {number: {"sweep": "s", "sweep.job": str(number)} for number in range(3)}
    lab.run("1", objective=0.6, tags=jobs[0])
    lab.run("2", status="FAILED", tags=jobs[1])
    lab.run("2", objective=0.7, tags=jobs[1])  # again
    running = lab.run("3", objective=0.8, status="RUNNING", tags=jobs[2])
    last = lab.run(name="last", objective=None, status="SCHEDULED")
    ended = command("ls", "--experiment", lab.experiment)
    assert (ended.code, ended.told) == (0, [])
    assert [re.sub(r"2023-\d\d-\d\d", "2023", line).split() for line in ended.output.splitlines()] == [
        ["id", "started", "name", "status", "objective", "time"],
        [last[:8], "2023", "last", "PAUSED", "30.0", "s"],
        [parent[:8], "2023", "sweep", "lr=1,2,3,4", "RUNNING", "2/4,", "1", "running", "70.00%"],
        [first[:8], "2023", "first", "FINISHED", "50.00%", "30.0", "s"],
    ]
    found = listed("--experiment", lab.experiment)
    assert [line["kind"] for line in found] == ["run", "sweep", "run"]
    assert found[1] == {
        "kind": "sweep", "id": parent, "name": "lr=1,2,3,4", "status": "RUNNING", "started": found[1]["started"],
        "seconds": None, "objective": 0.7, "experiment": lab.experiment, "sweep": "s", "num_jobs": 4,
        "jobs": {"FINISHED": 2, "RUNNING": 1},
    }  # fmt: skip
    assert len(listed("--experiment", lab.experiment, "--all")) == 7
    assert [line["id"] for line in listed("--experiment", lab.experiment, "--where", "status=RUNNING")] == [running]
    assert [line["id"] for line in listed("--experiment", lab.experiment, "--limit", "1")] == [last]


def test_a_sweep_that_ended_has_the_objective_that_it_reported(lab: Lab) -> None:
    lab.sweep("done", 2)
    for number in range(2):
        lab.run(str(number), objective=0.5, tags={"sweep": "done", "sweep.job": str(number)})
    (line,) = listed("--experiment", lab.experiment)
    assert (line["objective"], line["jobs"], line["num_jobs"]) == (0.99, {"FINISHED": 2}, 2)


def test_a_run_whose_process_is_gone_is_orphaned_and_stays_as_it_is(lab: Lab, tmp_path: Path) -> None:
    tags = {**lab.own, "record": "r", "folder": str(tmp_path)}
    run = lab.run(status="RUNNING", tags=tags)
    RunInfo("r", lab.uri, lab.experiment, "a run", 1, {}, tags, {}).save(tmp_path)
    before = (tmp_path / "mlflow.json").read_bytes()
    assert [line["status"] for line in listed("--experiment", lab.experiment)] == ["ORPHANED"]
    assert [line["id"] for line in listed("--experiment", lab.experiment, "--where", "status=orphaned")] == [run]
    assert listed("--experiment", lab.experiment, "--where", "status=running") == []
    assert lab.client.get_run(run).info.status == "RUNNING"
    assert (tmp_path / "mlflow.json").read_bytes() == before


def test_a_list_fits_a_terminal(lab: Lab) -> None:
    lab.run(name="a name " * 30)
    lab.foreign({}, {}, {**lab.own, "sweep": "wide", "sweep.jobs": "9"}, "RUNNING", name="lr=1,2,3 " * 10)
    for number, status in enumerate(["FINISHED", "RUNNING", "RUNNING", "FAILED", "KILLED"]):
        lab.run(str(number), status=status, tags={"sweep": "wide", "sweep.job": str(number)})
    with terminal(80) as found:
        listing.print_lines(listing.newest(experiment=lab.experiment, uri=lab.uri))
    assert found.wider_than(80) == []
    text = " ".join(" ".join(found.lines).split())
    assert re.search("RUNNING 1/9, 50.00% 2 running, 1 failed, 1 killed", text)
    with terminal(80) as found:
        listing.print_lines(listing.newest(experiment=lab.experiment, uri=lab.uri, limit=1))
    assert found.lines[-2] == "Older ones are left out; --limit N lists more."


def test_nothing_to_list_is_said_and_is_no_mistake(here: Path) -> None:
    where = f"sqlite:///{here}/mlflow.db"
    assert command("ls") == (0, f"No runs in {where}.\n", [])
    assert command("ls", "--where", "lr>1") == (0, f"No runs in {where}, where lr>1.\n", [])
    assert command("ls", "--format", "json") == (0, "[]\n", [])
    assert refused("ls", "--experiment", "blizt") == ["--experiment=blizt: no such experiment (accepted: Default)"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (3599, "59 min ago"), (3600, "1 h ago"),
     (86_399, "23 h ago"), (86_400, "1 d ago"), (7 * 86_400 - 1, "6 d ago")],
)  # fmt: skip
def test_when_a_run_started_is_relative_and_then_a_date(seconds: int, text: str) -> None:
    now = 1_679_832_000_000  # 12:00 on 2023-03-26 in UTC
    assert ago(now - 1000 * seconds, now) == text
    assert re.fullmatch(r"2023-03-0\d", ago(now - 1000 * 20 * 86_400, now))  # the date here

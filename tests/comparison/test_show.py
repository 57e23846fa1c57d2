"""`blitz show`: a run's record as text and as JSON, from its store and from its folder, and a sweep's."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.lab import Lab
from support.shell import blitz as command
from support.shell import refused
from support.terminal import terminal

import blitz
from blitz.comparison import show
from blitz.comparison.show import sparkline
from blitz.run_folder.files import write_config
from blitz.run_folder.run_info import RunInfo

NOTE = "net on digits.\n\nAgain:\n\n```sh\nblitz data=digits\n```"


@pytest.fixture
def run(lab: Lab, tmp_path: Path) -> str:
    """Two of its epochs have the same accuracy, and one of its losses is not finite."""
    params = {"optimizer.momentum": "0.9", "model.hidden": "[256, 128]", "eval_flip": "true"}
    notable = "model.name model.hidden optimizer.lr epochs"
    tags = {"record": "r", "notable": notable, "mlflow.note.content": NOTE, "team": "vision", "epochs": "4"}
    made = lab.run("0.1", 0, 0.8, name="my run", params=params, tags=tags, metrics={"system/cpu": 1.0})
    lab.log(made, "val/accuracy", [0.5, 0.8, 0.8, 0.7])
    lab.log(made, "val/loss", [4.0, 3.0, 2.0, 2.5])
    lab.log(made, "train/loss", [math.inf, 2.0, 1.0, 0.5])
    (tmp_path / "run.log").write_text("x" * 1234)
    lab.client.log_artifact(made, str(tmp_path / "run.log"), "logs")
    return made


def shown(*arguments: str) -> str:
    ended = command("show", *arguments)
    assert (ended.code, ended.told) == (0, []), ended
    return ended.output


def as_json(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(*arguments, "--format", "json"))
    return found


def test_a_run_is_shown_with_note_config_curves_and_files(run: str, lab: Lab) -> None:
    first, *parts = shown(run[:10]).split("\n\n")
    assert first.splitlines()[0] == f"run      {run} (my run), FINISHED"
    assert f"30.0 s, experiment {lab.experiment}" in first
    assert "tags     team=vision" in first.splitlines()
    assert first.splitlines()[-1] == "result   objective 80.00%"
    text = "\n\n".join(parts)
    assert text.startswith("note\n  net on digits.\n\n  Again:\n")
    config = text.partition("config\n")[2].partition("\n\n")[0]
    assert yaml.safe_load(config) == {
        "model": {"name": "net", "hidden": [256, 128]}, "optimizer": {"lr": 0.1}, "epochs": 4
    }  # fmt: skip
    assert [line.split() for line in text.partition("metric")[2].partition("\n\n")[0].splitlines()] == [
        ["curve", "first", "last", "best", "epoch", "3"],
        ["train/loss", "×█▃▁", "not", "finite", "0.5", "0.5", "1"],
        ["val/accuracy", "▁██▆", "50.00%", "70.00%", "80.00%", "80.00%"],
        ["val/loss", "█▅▁▃", "4", "2.5", "2", "2"],
    ]
    assert text.endswith("files\n  logs/run.log   1.23 kB\n")
    everything = shown(run, "--all")
    assert "eval_flip: true" in everything
    found = as_json(run)
    assert found["metrics"]["train/loss"] == [[1, None], [2, 2.0], [3, 1.0], [4, 0.5]]
    assert (found["note"], found["files"]) == (NOTE, [{"path": "logs/run.log", "bytes": 1234}])
    assert "system/cpu" not in found["metrics"]
    assert as_json(run, "--all")["metrics"]["system/cpu"] == [[1, 1.0]]


def test_a_run_fits_a_terminal(run: str, lab: Lab) -> None:
    with terminal(80) as found:
        show.print_text(show.by_id(run, lab.uri))
    assert found.wider_than(80) == []


def test_a_run_that_is_in_no_store_is_shown_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    settings = blitz.compose(["data=digits", "tracking=none"])
    write_config(folder, settings.as_dict())
    tags = {"record": "r", "notable": "data.name", "mlflow.note.content": NOTE}
    RunInfo("r", None, "blitz", "mine", 1_700_000_000_000, {"data.name": "digits", "seed": "0"}, tags, {}).save(folder)
    rows = [{"step": step, "time": step, "train/loss": 1 / step, "objective": step / 4} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    text = shown("runs/mine")
    assert text.splitlines()[0] == "run      runs/mine (mine), ORPHANED"
    assert "\nconfig\n  data: {name: digits}\n" in text
    assert "train/loss  █▁         1   0.5   0.5      0.5" in text
    found = as_json("runs/mine", "--all")
    assert (found["objective"], found["config"]) == (0.5, settings.as_dict())
    assert [file["path"] for file in found["files"]] == ["config.yaml", "metrics.jsonl", "mlflow.json"]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_a_sweep_is_shown_with_its_table(lab: Lab) -> None:
    parent = lab.foreign(
        {"epochs": "2"}, {}, {**lab.own, "record": "s", "sweep": "2026-03-03_c3", "sweep.jobs": "3"}, "KILLED"
    )
    for number, status in enumerate(["FINISHED", "KILLED"]):
        lab.run(str(number), 0, 0.5, status=status, tags={"sweep": "2026-03-03_c3", "sweep.job": str(number)})
    for named in ("2026-03-03_c3", parent[:9]):
        text = shown(named)
        assert text.splitlines()[0] == "sweep    2026-03-03_c3 (a run), KILLED 1/3, 1 killed"
        assert "         1 of 3 jobs have not started" in text.splitlines()
        assert "50.00% so far" in text
    assert [row["status"] for row in as_json("2026-03-03_c3")["rows"]] == ["FINISHED", "KILLED"]


def test_a_run_of_another_program_is_shown_with_its_parameters(lab: Lab) -> None:
    run = lab.foreign({"lr": "1", "lr.decay": "none"}, {"acc": 0.25})
    assert as_json(run)["config"] == {"lr": "1", "lr.decay": "none"}
    assert "config\n  lr: '1'\n  lr.decay: none\n" in shown(run)


def test_files_that_cannot_be_listed_are_noted(lab: Lab) -> None:
    lab.client.create_experiment("elsewhere", "nowhere://place")
    run = lab.run(experiment="elsewhere")
    assert "\n         its files cannot be listed: MlflowException: " in shown(run)
    assert as_json(run)["files"] == []


def test_a_run_that_there_is_not_is_refused(lab: Lab) -> None:
    assert refused("show", "xyz")[0].startswith("xyz: no such run in sqlite://")
    assert refused("show", "none/of/these")[0].startswith("none/of/these: no folder of a run")


@pytest.mark.parametrize(
    ("values", "text"),
    [([1.0], "▄"), ([1.0, 1.0], "▄▄"), ([0.0, 7.0], "▁█"), ([0.0, math.nan, 7.0], "▁×█"), ([math.inf], "×"),
     (list(range(8)), "▁▂▃▄▅▆▇█"), ([1.7e308, 1.7e308, 0.0], "██▁"), (list(range(48)), None)],
)  # fmt: skip
def test_a_curve_is_drawn_in_blocks(values: Sequence[float], text: str | None) -> None:
    drawn = sparkline(values)
    assert drawn == text or (text is None and len(drawn) == show.LONGEST_CURVE and list(drawn) == sorted(drawn))

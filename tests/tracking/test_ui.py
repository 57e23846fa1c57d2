"""The view of runs that the MLflow UI opens with; test_browser looks at it in a browser."""

from __future__ import annotations

import json
from pathlib import Path

from support.recorded import client

from blitz.tracking.ui import differing, save_views


def test_parameters_that_differ_come_first_and_the_others_not_at_all() -> None:
    runs = [
        {"seed": "0", "epochs": "2", "optimizer.lr": "0.1"},
        {"seed": "1", "epochs": "2", "optimizer.lr": "0.1", "mix.alpha": "1"},
        {"seed": "2", "epochs": "2", "optimizer.lr": "0.2"},
    ]
    assert differing(runs) == ["seed", "mix.alpha", "optimizer.lr"]
    assert differing(runs[:1]) == []


def test_every_experiment_with_runs_gets_a_view_and_the_newest_is_told_first(here: Path) -> None:
    found = client()
    ids = {name: found.create_experiment(name) for name in ("old", "new", "empty")}
    for start, (name, rates) in enumerate({"old": ["0.1"], "new": ["0.1", "0.2"]}.items()):
        for rate in rates:
            run = found.create_run(ids[name], start_time=1000 * (start + 1))
            found.log_param(run.info.run_id, "optimizer.lr", rate)
            found.log_param(run.info.run_id, "epochs", 3)
    links = save_views(found, "http://127.0.0.1:5000")
    query = "workflowType=machine_learning&viewStateShareKey=blitz"
    assert links == [(name, f"http://127.0.0.1:5000/#/experiments/{ids[name]}/runs?{query}") for name in ("new", "old")]
    view = json.loads(found.get_experiment(ids["new"]).tags["mlflow.sharedViewState.blitz"])
    state = json.loads(view["state"])
    columns = state["selectedColumns"]
    assert columns[:3] == ["metrics.`objective`", "params.`optimizer.lr`", "params.`model.name`"]
    assert "params.`epochs`" not in columns
    sections = [section["name"] for section in state["compareRunSections"]]
    assert sections[:4] == ["Model metrics", "val", "train", "test"]
    assert "mlflow.sharedViewState.blitz" not in found.get_experiment(ids["empty"]).tags


def test_what_a_sweeps_own_run_lacks_makes_no_difference(here: Path) -> None:
    found = client()
    experiment = found.create_experiment("sweep")
    parent = found.create_run(experiment, tags={"sweep.jobs": "2"}).info.run_id
    for rate in ("0.1", "0.2"):
        run = found.create_run(experiment, tags={"mlflow.parentRunId": parent})
        found.log_param(run.info.run_id, "optimizer.lr", rate)
        found.log_param(run.info.run_id, "epochs", 3)
    save_views(found, "http://127.0.0.1:5000")
    state = json.loads(json.loads(found.get_experiment(experiment).tags["mlflow.sharedViewState.blitz"])["state"])
    assert [name for name in state["selectedColumns"] if name.startswith("params.")] == [
        "params.`optimizer.lr`", "params.`model.name`",
    ]  # fmt: skip

"""Runs as processes of their own: ended from outside, started together, watched in a browser's place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from blitz.tracking import store

BLITZ = [sys.executable, "-m", "blitz"]
QUICK = ["data=digits", "batch_size=32", "device.threads=1", "tracking.figures=false"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONUNBUFFERED"] = "1"
    return subprocess.Popen(
        [*BLITZ, *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the process's output up to the line that holds `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    assert process.stderr is not None
    raise AssertionError(f"{text!r} never came: {process.stderr.read()}")


def statuses(folder: Path) -> list[str]:
    client = store.connect(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [run.info.status for run in runs]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_as_killed_with_its_record_closed(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    process = start(tmp_path, *QUICK, "epochs=10000")
    wait_for(process, "epoch 2/10000")
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert statuses(tmp_path) == ["KILLED"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "checkpoints" / "last.pt").exists()
    assert "stopped; the record so far is in" in (folder / "run.log").read_text()


def test_a_diverging_run_exits_with_1_and_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, *QUICK, "optimizer.lr=1e30", "tracking=none")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    line = r"blitz: the run failed: NonFiniteLoss: the loss of step \d+ \(epoch 1\) is not finite;[^\n]*\n"
    assert re.fullmatch(line, errors)


@pytest.mark.parametrize(
    "launcher", [[], pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], marks=pytest.mark.slow)]
)
def test_a_sweep_goes_on_after_a_job_that_failed_and_exits_with_1(tmp_path: Path, launcher: list[str]) -> None:
    sweep = start(tmp_path, "-m", *QUICK, "epochs=1", "data.limit=100", "optimizer.lr=1e30,0.01", *launcher)
    output, errors = sweep.communicate(timeout=300)
    assert sweep.returncode == 1
    assert output.count("test     accuracy") == 1
    assert errors.count("is not finite") == 1
    assert "Traceback" not in errors
    assert sorted(statuses(tmp_path)) == ["FAILED", "FINISHED"]


@pytest.mark.slow
def test_processes_that_start_together_on_a_fresh_store_are_all_recorded(tmp_path: Path) -> None:
    processes = [start(tmp_path, *QUICK, f"seed={seed}", "epochs=1", "data.limit=100") for seed in range(6)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert statuses(tmp_path) == ["FINISHED"] * 6
    assert len(list((tmp_path / "runs").iterdir())) == 6


@pytest.mark.slow
def test_the_ui_answers_and_takes_runs_as_a_server_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    ui = start(tmp_path, "ui")
    try:
        link = wait_for(ui, "http://").split()[-4].rstrip()
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", link)
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"MLflow" in page.read()
        run = start(tmp_path, *QUICK, "epochs=1", "data.limit=100", f"tracking.uri={url}")
        output, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
        assert f"in {url}" in output
    finally:
        ui.send_signal(signal.SIGINT)
        _, errors = ui.communicate(timeout=60)
    assert ui.returncode == 0, errors
    assert "Traceback" not in errors
    assert statuses(tmp_path) == ["FINISHED"]

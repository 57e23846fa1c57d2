"""`blitz sync`: nothing twice, nothing lost, into stores that have nothing, a part, or all of a run."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.processes import Server
from support.recorded import artifacts, assert_the_store_has_all_of, client, runs

import blitz
from blitz.run_folder.run_info import RunInfo
from blitz.tracking import store
from blitz.tracking.sending import sole_sender
from blitz.tracking.sync import sync

FILES = {"config.yaml", "overrides.yaml", "provenance.json", "git.diff", "run.log", "checkpoints/best.pt"}


@pytest.fixture
def apart(here: Path) -> Path:
    """The folder of a run that no store knows."""
    overrides = ["data=digits", "data.limit=100", "batch_size=25", "epochs=2", "device.threads=1"]
    overrides += ["tracking=none", "tracking.figures=false", "tracking.step_loss=1"]
    return blitz.run(blitz.compose(overrides), overrides).folder


STORE = "sqlite:///mlflow.db"


def test_a_run_that_no_store_knows(apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync([str(apart)], STORE) == 0
    run = assert_the_store_has_all_of(apart)
    assert artifacts(run.info.run_id) == FILES
    assert run.info.status == "FINISHED"
    about = RunInfo.load(apart)
    assert (run.info.start_time, run.info.end_time) == (about.started_at, about.ended_at)
    assert run.data.params == about.params
    told = capsys.readouterr().out.splitlines()
    assert told[-2].startswith(f"{apart}: sent the run itself, ")
    assert told[-2].endswith(f"; run {run.info.run_id} in sqlite:///{Path('mlflow.db').absolute()}")
    assert told[-1] == f"1 run in {apart}: 1 sent"


@pytest.mark.slow
def test_sync_to_a_server_prints_no_line_of_mlflow(
    apart: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync([str(apart)], server.uri) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told[-2:]] == [str(apart), f"1 run in {apart}"]
    assert not [line for line in told if "View" in line]


def test_again_sends_nothing_and_after_losing_its_notes_nothing_twice(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync([str(apart)], STORE) == 0
    assert sync([str(apart)], STORE) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"1 run in {apart}: 1 complete already"
    (apart / "sent.json").unlink()
    assert sync([str(apart)], STORE) == 0
    assert_the_store_has_all_of(apart)  # one run, each point once


def test_a_run_that_exists_half(apart: Path) -> None:
    """Its creation, a few parameters and a few metrics arrived; that they did never came back."""
    about = RunInfo.load(apart)
    found = client()
    experiment = store.experiment_id(found, store.resolve(None), about.experiment)
    half = found.create_run(experiment, tags={"record": about.record}).info.run_id
    found.log_param(half, "seed", about.params["seed"])
    first = json.loads((apart / "metrics.jsonl").read_text().splitlines()[0])
    name = next(key for key in first if key not in ("step", "time"))
    found.log_metric(half, name, first[name], first["time"], first["step"])
    assert sync([str(apart)], STORE) == 0
    run = assert_the_store_has_all_of(apart)
    assert run.info.run_id == half
    assert run.data.params == about.params
    assert run.data.tags.items() >= about.tags.items()


def test_what_is_in_runs_is_sent_without_naming_it(apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync([], None) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 recorded with tracking=none")
    assert runs() == []
    assert sync([], STORE) == 0
    assert_the_store_has_all_of(apart)


def test_nothing_to_send(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync([], None) == 0
    assert capsys.readouterr().out == f"0 runs in {here / 'runs'}: nothing to send\n"


def test_another_store_gets_all_of_it(apart: Path, empty_store: Path) -> None:
    assert sync([str(apart)], STORE) == 0
    shutil.copy(empty_store, "other.db")
    assert sync([str(apart)], "sqlite:///other.db") == 0
    assert_the_store_has_all_of(apart, "sqlite:///other.db")
    assert_the_store_has_all_of(apart)


def test_a_store_that_fails_costs_exit_code_1_and_the_rest_goes_on(
    apart: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(empty_store, "full.db")
    with closing(sqlite3.connect("full.db")) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'takes no run'); END")
    assert sync([str(apart)], "sqlite:///full.db") == 1
    output = capsys.readouterr()
    assert f"{apart}: not sent: " in output.out
    assert "Traceback" not in output.out + output.err
    Path("broken.db").write_bytes(b"SQLite format 3\0 and nothing else of a database")
    with pytest.raises(blitz.BadInput, match=r"broken\.db cannot be read \("):
        sync([str(apart)], "sqlite:///broken.db")
    assert sync([str(apart)], "http://127.0.0.1:9") == 1
    output = capsys.readouterr()
    assert f"{apart}: not sent: http://127.0.0.1:9 does not answer" in output.out
    assert "no tracking store answers there" in output.err


def test_a_run_that_another_process_sends(apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sole_sender(apart):
        assert sync([str(apart)], STORE) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [f"{apart}: another process is sending it", f"1 run in {apart}: 1 sent by others"]
    assert runs() == []


def test_bad_input(apart: Path) -> None:
    with pytest.raises(blitz.BadInput, match=r"nowhere: not the folder of a run; there is no mlflow\.json in it"):
        sync(["nowhere"], None)
    (apart / "mlflow.json").write_text("{}")
    with pytest.raises(blitz.BadInput, match=r"not the folder of a run; its mlflow\.json cannot be read"):
        sync([str(apart)], None)


def test_an_address_whose_credentials_are_not_kept(
    apart: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((apart / "mlflow.json").read_text())
    (apart / "mlflow.json").write_text(json.dumps({**about, "store": "http://***@127.0.0.1:9"}))
    assert sync([str(apart)], None) == 1
    assert "whose credentials are not kept; give the address again" in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    assert sync([str(apart)], None) == 1  # known again, and not there


def test_a_deleted_run_is_told(apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync([str(apart)], STORE) == 0
    (run,) = runs()
    client().delete_run(run.info.run_id)
    (apart / "sent.json").unlink()
    assert sync([str(apart)], STORE) == 1
    assert "must be in the 'active' state" in capsys.readouterr().out


@pytest.mark.slow
def test_a_store_whose_maker_was_killed_half_way_is_made_anew(apart: Path) -> None:
    Path("fresh.db").unlink(missing_ok=True)
    Path(".fresh.db.unfinished.1").write_bytes(b"SQLite format 3\0 and half a table")
    assert sync([str(apart)], "sqlite:///fresh.db") == 0
    assert_the_store_has_all_of(apart, "sqlite:///fresh.db")
    assert list(Path().glob(".fresh.db*")) == []


def test_a_store_that_was_emptied_is_filled_again(apart: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, "first.db")
    assert sync([str(apart)], "sqlite:///first.db") == 0
    shutil.copy(empty_store, "second.db")
    sent = json.loads((apart / "sent.json").read_text())
    second = store.resolve("sqlite:///second.db")
    (apart / "sent.json").write_text(json.dumps({**sent, "store": second}))  # what it tells of was there once
    assert sync([str(apart)], second) == 0
    assert_the_store_has_all_of(apart, second)


def test_one_folder_that_cannot_be_read_does_not_stop_the_others(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = apart.with_name("0000")
    broken.mkdir()
    (broken / "mlflow.json").touch()
    assert sync([], STORE) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 sent, 1 not sent")
    assert_the_store_has_all_of(apart)


def test_an_end_that_only_the_store_was_told_of_is_kept(apart: Path) -> None:
    assert sync([str(apart)], STORE) == 0
    (run,) = runs()
    client().set_terminated(run.info.run_id, "FAILED", 1_800_000_000_000)
    about = json.loads((apart / "mlflow.json").read_text())
    ended = {"status": "RUNNING", "ended_at": None}
    (apart / "mlflow.json").write_text(json.dumps({**about, **ended}))
    assert sync([str(apart)], STORE) == 0
    (run,) = runs()
    assert (run.info.status, run.info.end_time) == ("FAILED", 1_800_000_000_000)


def test_where_only_the_artifacts_cannot_be_stored_the_rest_is_right(
    apart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mlartifacts").touch()  # where a folder should be
    assert sync([str(apart)], STORE) == 1
    assert f"{apart}: not sent: " in capsys.readouterr().out
    run = assert_the_store_has_all_of(apart)
    assert run.info.status == "FINISHED"
    Path("mlartifacts").unlink()
    assert sync([str(apart)], STORE) == 0
    assert artifacts(run.info.run_id) == FILES

"""Runs as processes of their own: ended from outside, started together, watched in a browser's place."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.processes import (
    BLITZ,
    PATIENCE,
    QUICK,
    finished,
    in_a_terminal,
    kill_with_its_children,
    start,
    together,
    wait_for,
    wait_for_checkpoints,
)
from support.recorded import Note, assert_the_store_has_all_of, lines, runs
from support.shell import blitz as command

from blitz.tracking.health import PROBE
from blitz.tracking.orphaned import WHY
from blitz.tracking.sending import SENT
from blitz.training import checkpoint


def statuses(folder: Path) -> list[str]:
    return [run.info.status for run in runs(f"sqlite:///{folder}/mlflow.db")]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_run_as_killed(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    process = start(tmp_path, *QUICK, "epochs=10000")
    wait_for(process, "epoch 2/10000")
    process.send_signal(sent)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert statuses(tmp_path) == ["KILLED"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "checkpoints" / "last.pt").exists()
    assert "stopped; 'blitz resume " in (folder / "run.log").read_text()


@pytest.mark.slow
def test_terminal_that_is_closed_ends_a_run_and_saves_a_checkpoint(tmp_path: Path) -> None:
    with in_a_terminal(tmp_path, *QUICK, "epochs=10000") as process:
        wait_for_checkpoints(tmp_path, 1)
    assert process.wait(timeout=PATIENCE) == 143
    assert statuses(tmp_path) == ["KILLED"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert "the terminal was closed; stopping after this step" in (folder / "run.log").read_text()
    assert "stopped; 'blitz resume " in (folder / "run.log").read_text()


@pytest.mark.slow
def test_broken_pipe_ends_a_command_silently(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does, and before there is a word
    with open(writing, "w") as output:
        ended = subprocess.run(
            [*BLITZ, "options"], cwd=tmp_path, stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.slow
def test_ctrl_c_twice_ends_a_run_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, *QUICK, "epochs=10000", "data.limit=1000")
    wait_for(process, "epoch 2/10000")
    psutil.Process(process.pid).suspend()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # both come before the next step ends
    psutil.Process(process.pid).resume()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143  # Python hears of SIGINT first, which asks; the second one stops
    assert "Traceback" not in errors
    assert statuses(tmp_path) == ["KILLED"]


@pytest.mark.slow
def test_kill_9_of_training_alone_is_recorded_by_its_writer(tmp_path: Path) -> None:
    process = start(tmp_path, *QUICK, "epochs=10000", "tracking.step_loss=1")
    wait_for(process, "epoch 2/10000")
    writers = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=PATIENCE)
    gone, alive = psutil.wait_procs(writers, timeout=PATIENCE)
    assert len(gone) == 1
    assert alive == []
    (folder,) = (tmp_path / "runs").iterdir()
    run = assert_the_store_has_all_of(folder, f"sqlite:///{tmp_path}/mlflow.db")
    assert run.info.status == "KILLED"
    assert run.data.tags["ended"] == WHY
    assert checkpoint.load(folder / "checkpoints" / "last.pt")["epoch"] >= 1


@pytest.mark.slow
def test_copy_of_a_run_that_is_being_trained_is_not_resumed(here: Path) -> None:
    process = start(here, *QUICK, "epochs=100000", "tracking.step_loss=1")
    wait_for(process, "epoch 1/")
    (folder,) = (here / "runs").iterdir()
    while not (folder / SENT).exists():
        wait_for(process, "epoch ")
    own = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    for each in own:  # it writes no file while all are copied
        each.suspend()
    copy = shutil.copytree(folder, here / "copies" / folder.name)
    for each in own:
        each.resume()
    resumed = command("resume", str(copy))
    assert (resumed.code, resumed.output) == (2, "")
    assert resumed.told == [
        f"blitz: {copy}: run {runs()[0].info.run_id} is being trained in {platform.node()}:{folder}"
    ]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert assert_the_store_has_all_of(folder).info.status == "KILLED"


@pytest.mark.slow
def test_orphaned_run_is_marked_as_killed_by_the_next_command(here: Path) -> None:
    process = start(here, *QUICK, "epochs=100000", "tracking.step_loss=1")
    wait_for(process, "epoch 1/")  # all metrics are in the journal
    while not (started := runs()) or not started[0].data.metrics:
        wait_for(process, "epoch ")
    kill_with_its_children(process)
    (folder,) = (here / "runs").iterdir()
    ended = command(*QUICK, "epochs=1", "data.limit=100", "runs_dir=others")
    assert ended.code == 0, ended
    assert f"({started[0].info.run_name}) is marked as KILLED: {WHY}" in ended.output
    assert command("sync").code == 0
    marked = [run for run in runs() if run.data.tags["folder"] == str(folder)]
    assert [run.info.status for run in marked] == ["KILLED"]
    assert marked[0].data.tags["ended"] == WHY
    assert marked[0].data.metrics.keys() >= {"train/loss", "train/step_loss", "val/accuracy"}


@pytest.mark.slow
def test_full_disk_ends_a_run_with_one_line_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        process = start(tmp_path, *QUICK, "epochs=10000", f"runs_dir={small}/runs")
        wait_for(process, "epoch 2/10000")
        with contextlib.suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert [line for line in output.splitlines() if not line.startswith(("epoch ", "waiting for MLflow "))] == []
        (folder,) = (small / "runs").iterdir()
        reported = errors.splitlines()
        assert len(reported) == 1, errors
        assert re.search(rf"{folder}/\S+: No space left on device; checkpoints/last.pt holds epoch \d+", reported[0])
        assert "Traceback" not in errors
        assert checkpoint.load(folder / "checkpoints" / "last.pt")["epoch"] >= 2
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.pt", "last.pt"}
        assert lines(folder)
        assert statuses(tmp_path) == ["FAILED"]
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.slow
def test_full_disk_at_the_start_is_reported_and_leaves_no_file(tmp_path: Path) -> None:
    limit = (2_000, resource.RLIM_INFINITY)
    process = subprocess.run(
        [*BLITZ, "data=synthetic", "tracking=none"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert process.returncode == 2
    assert (
        process.stderr == "blitz: runs_dir=runs: cannot be written to (File too large); name another with runs_dir=\n"
    )
    assert list((tmp_path / "runs").iterdir()) == []


SECRETS = {"password": "planted-hunter-2", "token": "planted-tango-7", "url": "planted-uniform-9"}


@pytest.mark.slow
def test_credentials_are_neither_written_nor_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"http://somebody:{SECRETS['url']}@127.0.0.1:9"
    planted = {
        "MLFLOW_TRACKING_USERNAME": "somebody", "MLFLOW_TRACKING_PASSWORD": SECRETS["password"],
        "SOME_API_TOKEN": SECRETS["token"],
    }  # fmt: skip
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    asked = [*QUICK, "epochs=1", "data.limit=60", "tracking.offline=allow", f"tracking.uri={uri}"]
    asked += [f"tags.sent_with={SECRETS['token']}", f"notes=the password is {SECRETS['password']}"]
    code, output, errors = finished(tmp_path, *asked)
    assert code == 0, errors
    assert "MLflow failed (" in output
    printed = [output, errors]
    printed += map(str, command(*QUICK, "epochs=1", f"tracking.uri={uri}"))
    printed += map(str, command(*QUICK, f"tracking.uri={uri}&{SECRETS['token']}", "epochs=x"))
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        printed += map(str, command("sync"))
    ended = command("sync", "--store", "sqlite:///mlflow.db")
    assert ended.code == 0, ended
    printed += map(str, ended)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "run.log", "config.yaml", "mlflow.json", "sent.json"} <= {path.name for path in files}
    for secret in SECRETS.values():
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert [text for text in printed if secret in text] == []


@pytest.mark.slow
def test_divergence_exits_with_1_and_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, *QUICK, "optimizer.lr=1e30", "tracking=none")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    line = r"blitz: the run failed: NonFiniteLoss: the loss of step \d+ \(epoch 1\) is not finite;[^\n]*\n"
    assert re.fullmatch(line, errors)


CONNECT = """
import sys
from blitz.tracking import store
store.prepare()
print("ready", flush=True)
for uri in sys.stdin:
    print(store.connect(uri.strip()).search_experiments()[0].name, flush=True)
"""


@pytest.mark.slow
def test_store_is_created_once_by_eight_processes_that_open_it_together(tmp_path: Path, record_property: Note) -> None:
    """None imports mlflow while another one has opened the store already: they open it within milliseconds."""
    rounds = 3
    record_property("tries", rounds)
    with together(CONNECT, 8) as open_at_once:
        for number in range(rounds):
            assert len(open_at_once(f"sqlite:///{tmp_path}/{number}.db", "Default")) == 8


@pytest.mark.slow
def test_store_that_is_created_by_runs_that_start_together_has_all_of_them(tmp_path: Path) -> None:
    short = [*QUICK, "epochs=1", "data.limit=60"]
    processes = [start(tmp_path, *short, f"seed={seed}") for seed in range(4)]
    for process in processes:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert "MLflow failed" not in output
        assert "lacks" not in output
    assert statuses(tmp_path) == ["FINISHED"] * 4
    assert len(list((tmp_path / "runs").iterdir())) == 4


@pytest.mark.slow
def test_ui_serves_pages_and_the_tracking_api_until_ctrl_c(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    ui = start(tmp_path, "ui")
    try:
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", wait_for(ui, "all experiments: "))
        with urllib.request.urlopen(url, timeout=PATIENCE) as page:
            assert b"MLflow" in page.read()
        # The first question to a store opens it, which may take longer on a busy machine than blitz waits.
        urllib.request.urlopen(url + PROBE, timeout=PATIENCE).close()
        for server in psutil.Process(ui.pid).children(recursive=True):  # every user can read arguments
            assert "mlflow.db" not in " ".join(server.cmdline())
        run = start(tmp_path, *QUICK, "epochs=1", "data.limit=100", f"tracking.uri={url}")
        output, errors = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, errors
        assert f"in {url}" in output
    finally:
        ui.send_signal(signal.SIGINT)
        _, errors = ui.communicate(timeout=PATIENCE)
    assert ui.returncode == 0, errors
    assert "Traceback" not in errors
    assert statuses(tmp_path) == ["FINISHED"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.slow
def test_full_disk_behind_stdout_is_reported_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*BLITZ, "options", "model", "net"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, "blitz: options failed: the output: No space left on device\n")


@pytest.mark.slow
def test_closed_stdout_is_no_error() -> None:
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *BLITZ, "options", "model", "net"],
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")

"""Jobs on a cluster of Ray, one of whose two machines has not the sweep's disk."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from support.processes import Server, finished, held, start, wait_for
from support.ray_nodes import two_machines
from support.recorded import assert_the_store_has_all_of, runs
from support.shell import blitz as command
from support.shell import refused
from sweeps.test_search import HALVING, PARALLEL, SHORT, by_job, decided, the_sweep

import blitz
from blitz.run_folder.journal import is_result
from blitz.run_folder.run_info import RunInfo, runs_in
from blitz.sweeps import cluster, folder
from blitz.sweeps.cluster import Home
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import INTERRUPT, PAUSE_ALL, STOP, JobOptions, Outcome
from blitz.sweeps.plan import Plan
from blitz.sweeps.run_job import train

RATES = "optimizer.lr=0.0001,0.05,0.1,0.2"
LONG = "epochs=200"


# Without Ray: what a job gets, and what it leaves


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    found = tmp_path / "home" / "runs" / "sweeps" / "s"
    found.mkdir(parents=True)
    (found / "sweep.json").write_text("{}")
    JobOptions(runs={"1": "runs/paused"}).save(found)
    return found


def a_run(runs_dir: Path, name: str, journal: str, **files: str) -> Path:
    run = runs_dir / name
    (run / "checkpoints").mkdir(parents=True)
    for path, text in {"metrics.jsonl": journal, "checkpoints/last.pt": "state", **files}.items():
        (run / path).write_text(text)
    return run


def test_a_job_gets_the_run_that_it_continues_and_leaves_it(sweep: Path, tmp_path: Path) -> None:
    run = a_run(sweep.parents[1], "paused", "one\n", **{".training.lock": "", "sent.json": "{}"})
    os.utime(run / "sent.json", ns=(7, 7))
    home, there = Home(str(sweep)), tmp_path / "there" / "runs"
    needed = home.begin(1, "a token")
    assert "paused/.training.lock" not in needed
    cluster._write(there, needed)
    copied = there / "paused"
    assert (copied / "metrics.jsonl").read_text() == "one\n"
    assert (copied / "sent.json").stat().st_mtime_ns == 7  # or MLflow would get each file again
    assert JobOptions.load(there / "sweeps" / "s").runs == {"1": "runs/paused"}
    assert home.begin(0, "another").keys() == {"sweeps/s/sweep.json", "sweeps/s/jobs.json"}

    (copied / "metrics.jsonl").write_text("one\ntwo\n")
    (copied / "checkpoints" / "last.pt").unlink()  # it has finished
    folder.write_outcome(there / "sweeps" / "s", 1, Outcome("FINISHED", folder="runs/paused"))
    files = cluster._read(there, [*cluster._files_of(there, "runs/paused"), there / "sweeps" / "s" / "1.json"])
    home.end(1, "a token", files)
    assert (run / "metrics.jsonl").read_text() == "one\ntwo\n"
    assert not (run / "checkpoints" / "last.pt").exists()
    assert folder.read_outcomes(sweep)[1].status == "FINISHED"
    assert folder.times_begun(sweep) == {0: 1, 1: 1}


def test_a_run_that_got_further_before_its_process_was_killed_is_not_replaced(sweep: Path, tmp_path: Path) -> None:
    a_run(sweep.parents[1], "paused", "one\n")
    further = a_run(tmp_path / "there", "paused", "one\ntwo\n")
    (further / "checkpoints" / "last.pt").write_text("a later state")
    cluster._write(tmp_path / "there", Home(str(sweep)).begin(1, "a token"))
    assert (further / "metrics.jsonl").read_text() == "one\ntwo\n"
    assert (further / "checkpoints" / "last.pt").read_text() == "a later state"
    assert (tmp_path / "there" / "sweeps" / "s" / "sweep.json").exists()


def test_a_process_that_has_lost_its_job_to_another_is_to_end(sweep: Path) -> None:
    home = Home(str(sweep))
    home.begin(1, "first")
    assert home.messages(1, "first") == []
    (sweep / PAUSE_ALL).touch()
    assert home.messages(1, "first") == [PAUSE_ALL]
    home.begin(1, "second")
    assert home.messages(1, "first") == [STOP, INTERRUPT]
    home.end(1, "first", {"sweeps/s/1.json": cluster.File(b"{}", 0)})
    assert not (sweep / "1.json").exists()


def test_a_failure_elsewhere_stops_the_others_where_that_is_asked_for(sweep: Path, tmp_path: Path) -> None:
    JobOptions("stop").save(sweep)
    home, there = Home(str(sweep)), tmp_path / "there" / "runs"
    cluster._write(there, home.begin(1, "a token"))
    folder.write_outcome(there / "sweeps" / "s", 1, Outcome("FAILED", "why"))
    home.end(1, "a token", cluster._read(there, [there / "sweeps" / "s" / "1.json"]))
    assert (sweep / STOP).exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "hydra.launcher.ray.init.address='127.0.0.1:{port}'",
            "hydra.launcher.ray.init.address=127.0.0.1:{port}: accepted: auto, local, or HOST:PORT of a cluster; no "
            "answer there ([Errno 111] Connection refused)",
        ),
        (
            "hydra.launcher.ray.init.address='ray://127.0.0.1:{port}'",
            "hydra.launcher.ray.init.address=ray://127.0.0.1:{port}: accepted: auto, local, or HOST:PORT of a cluster "
            "that this machine is part of",
        ),
        ("+hydra.launcher.ray.remote.num_cpus=0", "hydra.launcher.ray.remote.num_cpus=0: accepted: integer >= 1"),
        ("+hydra.launcher.ray.remote.num_cpus=two", "hydra.launcher.ray.remote.num_cpus=two: accepted: integer >= 1"),
    ],
)
def test_no_cluster_starts_nothing(here: Path, option: str, message: str) -> None:
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        asked = ["-m", *SHORT, "seed=0,1", "tracking=none", "hydra/launcher=ray", option.format(port=port)]
        assert refused(*asked) == [message.format(port=port)]
    assert not (here / "runs").exists()


@pytest.mark.parametrize("option", [[], ["hydra.launcher.ray.init.address=auto"]], ids=["by default", "auto"])
def test_a_cluster_that_crashed_is_not_waited_for(
    here: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(here))
    (here / "ray").mkdir()
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        (here / "ray" / "ray_current_cluster").write_text(address)
        (line,) = refused("-m", *SHORT, "seed=0,1", "tracking=none", "hydra/launcher=ray", *option)
    assert line == (
        "hydra.launcher.ray.init.address=auto: accepted: auto, local, or HOST:PORT of a cluster; no answer of "
        f"{address}; 'ray stop' clears what is left of a cluster ([Errno 111] Connection refused)"
    )
    assert not (here / "runs").exists()


def test_a_store_that_is_a_file_is_refused_where_the_sweep_has_another(sweep: Path) -> None:
    Plan("s", [], {1: Combination((), ())}, {1: ""}).save(sweep)
    JobOptions().save(sweep)
    outcome = train(blitz.compose(["tracking.uri=sqlite:///other.db"]).as_dict(), [], sweep, 1)
    assert outcome.status == "FAILED"
    assert outcome.why.startswith("tracking.uri=sqlite:////")
    assert outcome.why.endswith("server or a database that all of them reach, or tracking=none")


# With it


def result(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "provenance.json").read_text())["result"]
    return {"weights": found["weights"], **{name: value for name, value in found["metrics"].items() if is_result(name)}}


class Machines(NamedTuple):
    """Two nodes of a cluster, by the folders where `ray start` was called on them."""

    home: Path  # and where sweeps are started
    there: Path
    options: list[str]  # of a sweep

    def of(self, test: str) -> tuple[list[str], Path, Path]:
        """The options of a test's sweeps, and what they leave on either machine."""
        return [*self.options, f"runs_dir={test}/runs"], self.home / test, self.there / test


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    (folder / "home").mkdir()
    with two_machines(folder / "home", folder / "there") as options:
        yield Machines(folder / "home", folder / "there", options)


@pytest.mark.slow
def test_a_search_on_two_machines_without_a_shared_disk(machines: Machines, tmp_path: Path, server: Server) -> None:
    """The decisions and the bits of a search on one; jobs that are promoted may change the machine."""
    ray, home, there = machines.of("search")
    asked = ["-m", *SHORT, RATES, "epochs=3", *HALVING, "search.rungs=[1,2]"]
    with chdir(tmp_path):
        assert command(*asked, "tracking=none").code == 0
    code, _, errors = finished(machines.home, *asked, *ray, f"tracking.uri={server.uri}")
    assert code == 0, errors
    assert decided(the_sweep(home)) == decided(the_sweep(tmp_path))
    expected, trained = by_job(tmp_path), by_job(home)
    assert len(runs(server.uri)) == len(trained) == 4
    for number, (run, about) in trained.items():
        assert about.status == expected[number][1].status
        assert assert_the_store_has_all_of(run, server.uri).info.status == about.status
        if about.status == "FINISHED":
            assert result(run) == result(expected[number][0])
            assert (run / "checkpoints" / "best.pt").exists()
    assert {folder.name for folder, _ in runs_in(there / "runs")} < {folder.name for folder, _ in trained.values()}
    assert not (machines.there / "mlflow.db").exists()

    again = [*ray, f"tracking.uri={server.uri}", "sweep.skip_finished=true"]
    code, output, errors = finished(machines.home, *asked, *again)
    assert (code, output.count("skipped  job")) == (0, 1), errors


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token(machines: Machines) -> None:
    asked = ["-m", *SHORT, "seed=0,1", *machines.options, "runs_dir=refused"]
    code, _, errors = finished(machines.home, *asked, RAY_AUTH_MODE="disabled")
    assert code == 2
    message = errors.splitlines()[-1]  # below Ray's warnings
    assert message.startswith("blitz: hydra.launcher.ray.init={'address': '")
    assert "RAY_AUTH_MODE is currently 'disabled' (not 'token')" in message
    assert not (machines.home / "refused").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        ["optimizer.lr=0.0001,0.1", "seed=0,1", "search=race", "search.max_seeds=3"],
        ["optimizer.lr=tag(log,interval(1e-4,0.1))", "search=tpe", "search.startup=2", "sweep.samples=4"],
    ],
    ids=["race", "tpe"],
)
def test_other_searches_decide_as_on_one_machine(
    machines: Machines, tmp_path: Path, asked: list[str], request: pytest.FixtureRequest
) -> None:
    ray, home, _ = machines.of(request.node.callspec.id)
    asked = ["-m", *SHORT, *asked, "epochs=1", "tracking=none"]
    assert finished(tmp_path, *asked, *PARALLEL)[0] == 0
    code, _, errors = finished(machines.home, *asked, *ray)
    assert code == 0, errors
    assert decided(the_sweep(home)) == decided(the_sweep(tmp_path)) != []


@pytest.mark.slow
def test_kill_of_a_job_elsewhere(machines: Machines) -> None:
    ray, home, there = machines.of("kill")
    sweep = start(machines.home, "-m", *SHORT, "optimizer.lr=0.0001,0.05,0.1", LONG, *ray, "tracking=none")
    with held(sweep, there, 1) as found:
        ((run, trainer),) = found.items()
        number = int(RunInfo.load(run).tags["sweep.job"])
        trainer.kill()
    _, errors = sweep.communicate()
    assert sweep.returncode == 0, errors
    assert {about.status for _, about in by_job(home).values()} == {"FINISHED"}
    assert folder.times_begun(the_sweep(home)) == {n: 1 + (n == number) for n in range(3)}


@pytest.mark.slow
def test_a_sweep_that_was_killed_or_interrupted_is_resumed(machines: Machines) -> None:
    ray, home, there = machines.of("resume")
    asked = ["-m", *SHORT, "optimizer.lr=0.0001,0.05,0.1", LONG, *ray, "tracking=none"]
    sweep = start(machines.home, *asked)
    with held(sweep, there, 1) as found:
        sweep.kill()
        sweep.communicate()
    psutil.wait_procs(found.values())  # Ray ends the jobs of a sweep that is gone
    done = {folder.name for folder, about in runs_in(home / "runs") if about.status == "FINISHED"}

    sweep = start(machines.home, *asked, "sweep.resume=last")
    wait_for(sweep, "epoch ")
    sweep.send_signal(signal.SIGINT)
    output, errors = sweep.communicate()
    assert sweep.returncode == 130, errors
    assert "resume   blitz -m sweep.resume=" in output

    code, _, errors = finished(machines.home, *asked, "sweep.resume=last")
    assert code == 0, errors
    ended = {n: (folder.name, about.status) for n, (folder, about) in by_job(home).items()}
    assert [status for _, status in ended.values()] == ["FINISHED"] * 3
    assert done <= {name for name, _ in ended.values()}

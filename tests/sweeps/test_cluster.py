"""Jobs on a cluster of Ray, one of whose two machines has not the sweep's disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from support.processes import Server, finished, held, start, until
from support.ray_nodes import two_machines
from support.recorded import assert_the_store_has_all_of, runs
from sweeps.test_search import HALVING, SHORT, bits, by_job, decided, jobs_in, the_sweep

from blitz.run_folder.run_info import RunInfo, runs_in
from blitz.sweeps import cluster, folder
from blitz.sweeps.cluster import Home
from blitz.sweeps.folder import INTERRUPT, PAUSE_ALL, STOP, JobOptions, Outcome

RATES = "optimizer.lr=0.0001,0.05,0.1,0.2"
LONG = "epochs=400"


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
    folder.write_outcome(there / "sweeps" / "s", 1, Outcome("FINISHED", folder="runs/paused"))
    files = cluster._read(there, [*cluster._files_of(there, "runs/paused"), there / "sweeps" / "s" / "1.json"])
    home.end(1, "a token", files)
    assert (run / "metrics.jsonl").read_text() == "one\ntwo\n"
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


# With it


@pytest.mark.slow
def test_a_search_on_two_machines_without_a_shared_disk(here: Path, tmp_path: Path, server: Server) -> None:
    """The decisions and the bits of a search on one; jobs that are promoted may change the machine."""
    home, there, alone = tmp_path / "home", tmp_path / "there", tmp_path / "alone"
    home.mkdir()
    alone.mkdir()
    asked = ["-m", *SHORT, RATES, "epochs=3", *HALVING, "search.rungs=[1,2]"]
    assert finished(alone, *asked, "tracking=none")[0] == 0
    with two_machines(home, there) as ray:
        code, output, errors = finished(home, *asked, *ray, f"tracking.uri={server.uri}")
        assert code == 0, errors
        assert decided(the_sweep(home)) == decided(the_sweep(alone))
        expected, trained = by_job(alone), by_job(home)
        assert {n: about.status for n, (_, about) in trained.items()} == {
            n: about.status for n, (_, about) in expected.items()
        }
        for number, (run, about) in trained.items():
            stored = assert_the_store_has_all_of(run, server.uri)
            assert stored.info.status == about.status
            if about.status == "FINISHED":
                assert bits(run)["weights"] == bits(expected[number][0])["weights"]
                assert (run / "checkpoints" / "best.pt").exists()
        assert len(runs(server.uri)) == len(trained) == 4
        assert {folder.name for folder, _ in runs_in(there / "runs")} < {folder.name for folder, _ in trained.values()}
        assert not (there / "mlflow.db").exists()

        code, output, errors = finished(home, *asked, *ray, f"tracking.uri={server.uri}", "sweep.skip_finished=true")
        assert (code, output.count("skipped  job")) == (0, 1), errors

        code, output, errors = finished(
            home, "-m", *SHORT, "seed=0,1,2", "epochs=1", *ray, "runs_dir=others", "sweep.on_failure=stop"
        )  # whose store is a file
        assert code == 1
        assert "each machine of the cluster has such a file of its own; accepted: an MLflow server" in errors


@pytest.mark.slow
def test_kill_of_a_job_on_another_machine(tmp_path: Path) -> None:
    home, there = tmp_path / "home", tmp_path / "there"
    home.mkdir()
    with two_machines(home, there) as ray:
        sweep = start(home, "-m", *SHORT, "optimizer.lr=0.0001,0.05,0.1", LONG, *ray, "tracking=none")
        with held(sweep, there, 1) as found:
            ((run, trainer),) = found.items()
            number = int(RunInfo.load(run).tags["sweep.job"])
            trainer.kill()
        _, errors = sweep.communicate()
        assert sweep.returncode == 0, errors
        assert {about.status for _, about in by_job(home).values()} == {"FINISHED"}
        assert folder.times_begun(the_sweep(home)) == {n: 1 + (n == number) for n in range(3)}
        again = by_job(home)[number][0].name == run.name  # on the machine where its checkpoint is
        assert len(jobs_in(there / "runs") if again else runs_in(there / "runs")) <= 3


@pytest.mark.slow
def test_a_sweep_that_was_killed_or_interrupted_is_resumed(tmp_path: Path) -> None:
    home, there = tmp_path / "home", tmp_path / "there"
    home.mkdir()
    with two_machines(home, there) as ray:
        asked = ["-m", *SHORT, "optimizer.lr=0.0001,0.05,0.1", LONG, *ray, "tracking=none"]
        sweep = start(home, *asked)
        with held(sweep, there, 1) as found:
            sweep.kill()
            sweep.communicate()
        (trainer,) = found.values()
        psutil.wait_procs([trainer])  # Ray ends the jobs of a sweep that is gone
        before = {folder.name for folder, about in runs_in(home / "runs") if about.status == "FINISHED"}

        sweep = start(home, *asked, "sweep.resume=last")
        until(lambda: any(path.parents[1].name not in before for path in home.glob("runs/*/checkpoints/last.pt")))
        sweep.send_signal(signal.SIGINT)
        output, errors = sweep.communicate()
        assert sweep.returncode == 130, errors
        assert "resume   blitz -m sweep.resume=" in output

        code, _, errors = finished(home, *asked, "sweep.resume=last")
        assert code == 0, errors
        done = {n: about.status for n, (_, about) in by_job(home).items()}
        assert done == dict.fromkeys(range(3), "FINISHED")
        assert before <= {folder.name for folder, _ in by_job(home).values()}

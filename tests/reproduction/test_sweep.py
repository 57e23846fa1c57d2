"""`blitz reproduce --sweep`: jobs of a sweep again, and its decisions, from the store alone or the folder alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow.entities import Run
from support.processes import QUICK
from support.recorded import artifacts, client, runs, sweeps
from support.shell import blitz as command
from support.shell import refused

from blitz.run_folder.decisions import FILE
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import ABOUT

SHORT = [*QUICK, "data.limit=100", "tracking.system_metrics=null", "report_every=1"]
RATES = "optimizer.lr=0.0001,0.05,0.1"
HALVING = [*SHORT, RATES, "epochs=3", "search=halving", "search.rungs=[1]"]


def the_sweep(here: Path) -> Path:
    (folder,) = here.glob("runs/sweeps/*")
    return folder


def by_job(sweep: str) -> dict[int, Run]:
    return {int(run.data.tags["sweep.job"]): run for run in runs() if run.data.tags.get("sweep") == sweep}


def decided(sweep: Path) -> list[int]:
    """The jobs, the best one first."""
    return [json.loads(line)["job"] for line in (sweep / FILE).read_text().splitlines() if "job" in json.loads(line)]


def checked(sweep: str, *arguments: str) -> list[str]:
    """What is printed of decisions that follow."""
    ended = command("reproduce", "--sweep", sweep, *arguments)
    assert (ended.code, ended.told) == (0, []), ended
    return ended.output.splitlines()


def differing(sweep: str) -> list[str]:
    """What is printed of those that do not."""
    ended = command("reproduce", "--sweep", sweep, "--jobs", "0")
    assert (ended.code, ended.told) == (1, []), ended
    return [line.removeprefix("differs  ") for line in ended.output.splitlines()[1:]]


@pytest.mark.slow
def test_a_sweep_reproduces_and_what_is_altered_in_its_records_is_found(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("-m", *HALVING).code == 0
    folder = the_sweep(here)
    sweep, files = folder.name, {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (best,) = [number for number, run in by_job(sweep).items() if run.info.status == "FINISHED"]
    line = "3 decisions follow from the records"

    # Intact: by its id, the start of one, and its folder
    printed = checked("last")
    rate = by_job(sweep)[best].data.params["optimizer.lr"]
    assert printed[0] == f"sweep    {sweep}, search=halving: 1 of 3 finished"
    assert printed[1] == f"drawn    job {best} (lr={rate} seed=0)"
    assert printed[-2:] == ["verdict  identical: the same bits", f"1 of 1 identical; {line}"]
    assert runs()[0].data.tags["reproduces"] == by_job(sweep)[best].info.run_id
    assert checked(sweep[:12], "--jobs", "0")[1:] == checked(str(folder), "--jobs", "0")[1:] == [line]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert refused("reproduce", "--sweep", "last", "--jobs", "2") == [
        f"--jobs=2: accepted: 0 to 1, the finished jobs of sweep {sweep}"
    ]

    # Resumed with another share, where a job fails: both searches, each by its own options
    second = decided(folder)[1]
    run = Path(by_job(sweep)[second].data.tags["folder"])
    (run / "checkpoints" / "last.pt").write_bytes(b"")
    assert command("-m", "sweep.resume=last", "search.keep=0.7").code == 1
    six = "6 decisions follow from the records"

    # The store alone
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(here / "runs", elsewhere / "moved")
    assert checked("last", "--jobs", "0") == [f"sweep    {sweep}, search=halving: 1 of 3 finished", six]

    # The folder alone, where the store has been altered
    paused = by_job(sweep)[second]
    rungs, job = json.loads(paused.data.tags["sweep.rungs"]), paused.data.tags["sweep.job"]
    client().set_tag(paused.info.run_id, "sweep.rungs", json.dumps({"1.0": rungs["1.0"] + 0.001}))
    problems = differing("last")
    was, now = rungs["1.0"], rungs["1.0"] + 0.001
    assert problems[0].startswith(f"round 1, job {job}: objective recorded {was}, follows {now}; mean recorded {was}, ")
    assert problems[-2] == f"job {job}: its objective after 1 epoch: {was} in its metrics, {now} by its rungs"
    assert problems[-1].endswith(" of 6 decisions do not follow from the records; 1 contradiction between records")
    (moved,) = (elsewhere / "moved" / "sweeps").iterdir()
    assert checked(str(moved), "--jobs", "0")[1:] == [six]
    client().set_tag(paused.info.run_id, "sweep.rungs", json.dumps(rungs))
    assert checked("last", "--jobs", "0")[1:] == [six]

    # The metric in its folder, a line of its decisions, and files that are damaged or gone
    for about in (elsewhere / "moved").glob(f"*/{ABOUT}"):
        if json.loads(about.read_text())["tags"].get("sweep.job") == job:
            journal = about.with_name(JOURNAL)
            journal.write_text(journal.read_text().replace(f'"objective": {was}', '"objective": 0.9'))
    assert differing(str(moved))[0] == f"job {job}: its objective after 1 epoch: 0.9 in its metrics, {was} by its rungs"
    (parent,) = sweeps()
    text = (moved / FILE).read_text()
    for altered, expected in (
        (text.replace('"decision": "pause"', '"decision": "go on"', 1), "decision recorded go on, follows pause"),
        (text + "nonsense\n", f"{sweep}/{FILE}: line 9 is no decision: Invalid JSON"),
        ("", f"sweep {sweep}: its record has no {FILE}, and 3 decisions follow from its jobs' records"),
    ):
        (moved / FILE).write_text(altered)
        client().log_artifact(parent.info.run_id, str(moved / FILE))
        if "recorded" in expected:
            assert expected in differing("last")[0]
        else:
            (problem,) = refused("reproduce", "--sweep", "last")
            assert problem.startswith(expected)
    monkeypatch.chdir(elsewhere)
    assert len(refused("reproduce", "--sweep", "last")) == 1


@pytest.mark.slow
def test_sweeps_of_other_kinds_reproduce(here: Path) -> None:
    # A grid that has been recorded nowhere but in its folder
    assert command("-m", *SHORT, "optimizer.lr=0.1,0.05", "epochs=1", "tracking=none").code == 0
    nothing = "no decision of search=grid is recorded"
    folder = the_sweep(here)
    assert checked("last", "--jobs", "0")[1:] == checked(str(folder), "--jobs", "0")[1:] == [nothing]
    assert refused("reproduce", "--sweep", "last") == [
        f"--jobs=1: the runs of sweep {folder.name} are recorded with tracking=none, and so in no store; --jobs 0 "
        "checks the decisions alone"
    ]
    shutil.rmtree(here / "runs")

    # Halving, with a job that had finished before
    assert command(*SHORT, "epochs=3", "optimizer.lr=0.0001").code == 0
    assert command("-m", *HALVING, "sweep.skip_finished=true").code == 0
    folder = the_sweep(here)
    for where in ("last", str(folder)):
        printed = checked(where, "--jobs", "0")
        assert printed[0].endswith("2 of 3 finished")
        assert printed[1:] == ["2 decisions follow from the records"]
    shutil.rmtree(here / "runs")

    # A race
    asked = [*SHORT, "epochs=1", "seed=0,1,2", "search=race", "search.max_seeds=4"]
    assert command("-m", *asked, "optimizer.lr=0.05,0.1").code == 0
    (made, *_) = [run for run in sweeps() if run.data.tags["sweep"] == the_sweep(here).name]
    assert FILE in artifacts(made.info.run_id)
    assert checked("last", "--jobs", "0")[-1].endswith(" decisions follow from the records")
    altered = by_job(the_sweep(here).name)[0]
    client().log_metric(altered.info.run_id, "objective", 0.99, step=1)
    assert differing("last")[-1].endswith(" decisions do not follow from the records")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "reproduce: Missing argument 'RUN', or --sweep ID."),
        (["last", "--jobs", "1"], "--jobs=1: needs --sweep ID"),
        (["last", "--sweep", "last"], "last: accepted: RUN or --sweep, not both"),
        (["--sweep", "last", "--check"], "--check: accepted with RUN; with --sweep, --jobs 0 trains nothing"),
        (["--sweep", "last", "--jobs", "-1"], "reproduce: Invalid value for '--jobs': -1 is not in the range x>=0."),
        (["--sweep", "runs/sweeps/nope"], "runs/sweeps/nope: not the folder of a run; there is no mlflow.json in it"),
    ],
)
def test_what_makes_no_sense_is_refused(here: Path, arguments: list[str], problem: str) -> None:
    assert refused("reproduce", *arguments) == [problem]


def test_a_sweep_that_is_not_there(here: Path) -> None:
    (problem,) = refused("reproduce", "--sweep", "last")
    assert problem.startswith("--sweep=last: no such sweep in sqlite:///")


@pytest.mark.slow
def test_proposals_follow_from_what_earlier_ones_have_shown(here: Path) -> None:
    asked = ["optimizer.lr=tag(log,interval(0.001,0.1))", "seed=0,1", "epochs=1", "sweep.samples=4"]
    assert command("-m", *SHORT, *asked, "search=tpe", "search.startup=2", "search.batch=1", "tracking=none").code == 0
    folder = the_sweep(here)
    assert checked(str(folder), "--jobs", "0")[-1] == "4 decisions follow from the records"
    lines = (folder / FILE).read_text().splitlines()
    proposed = json.loads(lines[-1])["numbers"]["optimizer.lr"]
    (folder / FILE).write_text("\n".join([*lines[:-1], lines[-1].replace(f'"{proposed}"', '"0.5"'), ""]))
    (difference, _) = differing(str(folder))
    assert difference == f"round 4, job 6: optimizer.lr recorded 0.5, follows {proposed}"

"""`search=…`: rounds of jobs that are paused, promoted and continued, with the bits of runs that never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.processes import QUICK, finished
from support.recorded import artifacts, journal, runs, sweeps
from support.shell import blitz as command
from support.shell import refused

from blitz.run_folder.journal import is_result
from blitz.run_folder.run_info import RunInfo, runs_in
from blitz.training import checkpoint

SHORT = [*QUICK, "data.limit=100", "tracking.system_metrics=null", "report_every=1"]
RATES = "optimizer.lr=0.0001,0.05,0.1"
HALVING = ["search=halving", "search.factor=3"]
PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def the_sweep(here: Path) -> Path:
    (folder,) = here.glob("runs/sweeps/*")
    return folder


def decided(sweep: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (sweep / "decisions.jsonl").read_text().splitlines()]
    return [line for line in lines if "decision" in line]


def by_job(here: Path) -> dict[int, tuple[Path, RunInfo]]:
    """Each job's run, of which there is one."""
    return jobs_in(here / "runs")


def jobs_in(runs_dir: Path) -> dict[int, tuple[Path, RunInfo]]:
    found = [(int(about.tags["sweep.job"]), folder, about) for folder, about in runs_in(runs_dir)]
    assert len({number for number, _, _ in found}) == len(found)
    return {number: (folder, about) for number, folder, about in found}


def bits(folder: Path) -> dict[str, object]:
    """All that a run found, to the last bit."""
    last = checkpoint.load(folder / "checkpoints" / "last.pt")
    measured = {
        name: [(step, value.hex()) for step, value in points]
        for name, points in journal(folder).items()
        if is_result(name)
    }
    result = json.loads((folder / "provenance.json").read_text())["result"]
    final = {name: value for name, value in result["metrics"].items() if is_result(name)}
    about = RunInfo.load(folder)
    kept = {key: last[key] for key in ("model", "average", "optimizer", "selection", "windows", "epoch", "step")}
    return {
        "last": checkpoint.fingerprint(kept),
        "weights": result["weights"],
        "metrics": (measured, final),
        "identity": (about.tags["config_hash"], about.params),
        "config": [line for line in (folder / "config.yaml").read_text().splitlines() if "runs_dir" not in line],
    }


def test_halving_pauses_jobs_and_promotes_the_best(here: Path) -> None:
    ended = command("-m", *SHORT, RATES, "epochs=3", *HALVING, "search.rungs=[1]")
    assert (ended.code, ended.told) == (0, [])
    states = {number: about.status for number, (_, about) in by_job(here).items()}
    assert sorted(states.values()) == ["FINISHED", "SCHEDULED", "SCHEDULED"]
    (parent,) = sweeps()
    assert "decisions.jsonl" in artifacts(parent.info.run_id)
    assert [line["decision"] for line in decided(the_sweep(here))] == ["go on", "pause", "pause"]
    for run in runs():
        paused = run.info.status == "SCHEDULED"
        assert ("test/accuracy" in run.data.metrics) == (not paused)  # nobody has read the test images
        assert max(point["step"] for point in epochs_of(run.data.tags["folder"])) == (1 if paused else 3)
        rungs = json.loads(run.data.tags["sweep.rungs"])
        assert list(rungs) == ["1.0"]
        if paused:
            assert run.data.tags["paused"] == f"after 1 of 3 epochs, with an objective of {rungs['1.0']:.2%}"
            assert "It is paused after 1 of 3 epochs" in run.data.tags["mlflow.note.content"]
            assert run.data.metrics["objective"] == rungs["1.0"]
            assert not artifacts(run.info.run_id, "checkpoints")
        else:
            assert "paused" not in run.data.tags
            assert float(run.data.tags["seconds"]) > 0
    assert "decided  after round 1: 1 go on, 2 pause" in ended.output.splitlines()
    assert len([line for line in ended.output.splitlines() if " PAUSED " in line]) == 2  # in the table
    hint = f"paused   2 jobs; 'blitz -m sweep.resume={the_sweep(here).name} search.keep=SHARE'"
    assert ended.output.splitlines()[-1].startswith(hint)


def epochs_of(folder: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


TRICKY = [
    "ema=0.9", "optimizer.momentum=0.9", "schedule=cosine", "mix=mixup", "augment=flip_crop", "clip_norm=1.0",
    "tracking.step_loss=2", "eval_every=2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("rungs", "keep", "more"),
    [
        ([1, 2], 0.7, []),
        pytest.param([0.3, 1.5], 0.7, TRICKY, marks=pytest.mark.slow),
        pytest.param([0.5], 0.4, ["data.validation=0"], marks=pytest.mark.slow),
    ],
)
def test_a_promoted_job_has_the_bits_of_a_run_that_never_stopped(
    here: Path, rungs: list[float], keep: float, more: list[str]
) -> None:
    asked = [*SHORT, *more, "epochs=3", "tracking=none", "checkpoint.keep=all"]
    assert command("-m", *asked, RATES, *HALVING, f"search.rungs={rungs}", f"search.keep={keep}").code == 0
    ((folder, about),) = [run for run in by_job(here).values() if run[1].status == "FINISHED"]
    assert list(about.rungs) == rungs
    rate = about.params["optimizer.lr"]
    assert command(*asked, f"optimizer.lr={rate}", "runs_dir=alone").code == 0
    ((alone, _),) = runs_in(here / "alone")
    assert bits(folder) == bits(alone)


def test_a_job_that_is_paused_within_an_epoch_is_ranked_by_what_it_can_then(here: Path) -> None:
    asked = [*SHORT, "epochs=2", "tracking=none"]
    assert command("-m", *asked, RATES, *HALVING, "search.rungs=[0.5]").code == 0
    for _, about in by_job(here).values():
        (objective,) = about.rungs.values()
        assert 0 < objective <= 1
    paused = [folder for folder, about in by_job(here).values() if about.status == "SCHEDULED"]
    assert [epochs_of(str(folder)) for folder in paused] == [[], []]  # what was measured for the search alone


@pytest.mark.slow
def test_more_jobs_go_on_when_a_sweep_is_resumed_with_more_to_keep(here: Path) -> None:
    assert command("-m", *SHORT, RATES, "epochs=3", *HALVING, "search.rungs=[1]").code == 0
    before = {number: about.record for number, (_, about) in by_job(here).items()}
    assert command("-m", "sweep.resume=last").code == 0  # there is nothing left to do
    assert len(decided(the_sweep(here))) == 3
    ended = command("-m", "sweep.resume=last", "search.keep=0.7")
    assert ended.code == 0, ended
    states = {number: about.status for number, (_, about) in by_job(here).items()}
    assert sorted(states.values()) == ["FINISHED", "FINISHED", "SCHEDULED"]
    assert {number: about.record for number, (_, about) in by_job(here).items()} == before
    lines = [json.loads(line) for line in (the_sweep(here) / "decisions.jsonl").read_text().splitlines()]
    assert [line["search"]["keep"] for line in lines if "search" in line] == [None, 0.7]
    assert json.loads((the_sweep(here) / "sweep.json").read_text())["search"]["keep"] == 0.7


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (["search.rungs=[3]"], "search.rungs=[3.0]: accepted: below epochs=3, after which a job has finished"),
        (["search.factor=1"], "search.factor=1: accepted: number > 1"),
        (["search.keep=0"], "search.keep=0: accepted: number > 0 and <= 1 or null"),
        (["search.rung=[1]"], "search.rung: no such option of halving; did you mean search.rungs?"),
        (["search=halving,grid"], "search=halving,grid: accepted: one value, which is about the whole sweep"),
        (["search.startup=3"], "search.startup: no such option of halving"),
        (["epochs=3,4"], "search.rungs=null: jobs of 3 to 4 epochs have no rungs in common"),
        (
            ["schedule=step", "schedule.every=${search.factor}"],
            "schedule.every=${search.factor}: accepted: a value that does not depend on the sweep, which a job knows "
            "nothing of",
        ),
    ],
)  # fmt: skip
def test_a_search_that_makes_no_sense_starts_nothing(here: Path, asked: list[str], problem: str) -> None:
    base = [*SHORT, "optimizer.lr=0.1,0.2"]
    base += [] if any(text.startswith("epochs=") for text in asked) else ["epochs=3"]
    base += [] if any(text.startswith("search=") for text in asked) else ["search=halving"]
    assert refused("-m", *base, *asked) == [problem]
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (["search=halving"], "search=halving: needs -m, for a sweep"),
        (["-m", "seed=0,1", "search.factor=3"], "search.factor: no such option of grid"),
        (
            ["-m", "seed=0,1", "search=halvin"],
            "search=halvin: no such search; did you mean halving? (accepted: grid, halving, race, tpe)",
        ),
    ],
)
def test_a_search_that_is_not_there(here: Path, asked: list[str], problem: str) -> None:
    assert refused(*asked, *SHORT) == [problem]


@pytest.mark.slow
def test_a_resumed_sweep_keeps_its_search(here: Path) -> None:
    assert command("-m", *SHORT, "seed=0,1", "epochs=1").code == 0
    sweep = the_sweep(here).name
    for asked in ("search=halving", "search.rungs=[1]"):
        (line,) = refused("-m", "sweep.resume=last", asked)
        assert line.startswith(f"{asked}: cannot be changed on resume of sweep {sweep} (allowed: search.keep")


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "seeds"), [(PARALLEL, "seed=0,1"), (["hydra/launcher=submitit_local"], "seed=0")])
def test_parallel_jobs_lead_to_the_same_decisions(here: Path, tmp_path: Path, launcher: list[str], seeds: str) -> None:
    asked = [*SHORT, "optimizer.lr=0.0001,0.05,0.1,0.2", seeds, "epochs=3", *HALVING, "tracking=none"]
    assert command("-m", *asked).code == 0
    expected = decided(the_sweep(here))
    elsewhere = tmp_path / "parallel"
    elsewhere.mkdir()
    code, _, errors = finished(elsewhere, "-m", *asked, *launcher)
    assert code == 0, errors
    assert decided(the_sweep(elsewhere)) == expected
    assert {number: about.status for number, (_, about) in by_job(elsewhere).items()} == {
        number: about.status for number, (_, about) in by_job(here).items()
    }


@pytest.mark.slow
def test_a_race_gives_more_seeds_to_rows_that_are_not_told_apart(here: Path) -> None:
    asked = [*SHORT, "epochs=1", "seed=0,1,2", "search=race", "search.max_seeds=5", "tracking=none", "sweep.budget=1h"]
    ended = command("-m", *asked, RATES)
    assert ended.code == 0, ended
    seeds: dict[str, list[int]] = {}
    for _, (_, about) in sorted(by_job(here).items()):
        assert about.status == "FINISHED"
        seeds.setdefault(about.params["optimizer.lr"], []).append(int(about.params["seed"]))
    assert all(found in ([0, 1, 2], [0, 1, 2, 3, 4]) for found in seeds.values())
    lines = decided(the_sweep(here))
    for line in lines:
        rate = by_job(here)[line["job"]][1].params["optimizer.lr"]
        if line["decision"] == "drop":
            assert len(seeds[rate]) == line["numbers"]["seeds"]
        elif line["decision"] == "more seeds":
            assert len(seeds[rate]) > line["numbers"]["seeds"]
    plan = json.loads((the_sweep(here) / "sweep.json").read_text())
    assert (plan["listed"], len(plan["jobs"])) == (9, len(by_job(here)))
    design = f"{len(by_job(here))} runs were trained; a full design of the same power"
    (conclusion,) = [line for line in ended.output.splitlines() if design in line]
    assert "Welch" not in ended.output  # the race has looked at the same runs before
    again = command("-m", "sweep.resume=last", "tracking=none")
    assert (again.code, decided(the_sweep(here))) == (0, lines)
    assert again.output.count("skipped") == len(by_job(here))
    assert conclusion in again.output


@pytest.mark.parametrize("seed", [[], ["seed=0"]])
def test_a_race_needs_seeds(here: Path, seed: list[str]) -> None:
    (line,) = refused("-m", *SHORT, RATES, *seed, "search=race")
    assert line == "search=race: no row has more than one seed; accepted: several, such as seed=0,1,2"


LR = "optimizer.lr=tag(log,interval(1e-3,1))"
TPE = ["search=tpe", "search.startup=2"]


@pytest.mark.slow
def test_tpe_trains_what_it_proposes_and_counts_what_has_finished(here: Path) -> None:
    asked = ["-m", *SHORT, "model=mlp,net", LR, "epochs=1", *TPE]
    ended = command(*asked, "sweep.samples=2", "seed=0,1")
    assert (ended.code, ended.told) == (0, [])
    lines = decided(the_sweep(here))
    assert [(line["round"], line["job"], line["decision"]) for line in lines] == [(1, 0, "propose"), (2, 2, "propose")]
    for line in lines:
        for seed in (0, 1):
            about = by_job(here)[line["job"] + seed][1]
            found = {"optimizer.lr": about.params["optimizer.lr"], "model": about.params["model.name"]}
            assert (about.status, about.params["seed"], found) == ("FINISHED", str(seed), line["numbers"])
    (parent,) = sweeps()
    assert parent.data.tags["sweep.jobs"] == "4"
    assert not {"optimizer.lr", "model.name", "seed"} & parent.data.params.keys()  # which differ from job to job
    assert "decided" not in ended.output
    assert command("-m", "sweep.resume=last").output.count("skipped") == 4
    assert decided(the_sweep(here)) == lines
    ended = command(*asked, "sweep.samples=3", "sweep.skip_finished=true")
    assert ended.output.count("skipped  job") == 2  # those of seed 0, in two rounds
    assert len(runs()) == 5
    newest = max(here.glob("runs/sweeps/*"), key=lambda folder: RunInfo.load(folder).started_at)
    assert [line["numbers"] for line in decided(newest)][:2] == [line["numbers"] for line in lines]


def test_tpe_lists_its_first_round(here: Path) -> None:
    ended = command("-m", *SHORT, LR, "seed=0,1", "epochs=1", *TPE, "sweep.samples=5", "sweep.dry_run=true")
    listed, time, _ = ended.output.splitlines()[-3:]
    assert listed == "2 jobs; 8 more will be proposed by what these show; sweep.dry_run=true: none was started"
    assert " for 10 epochs" in time
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (["optimizer.lr=0.1,0.2", "sweep.samples=2"], "search=tpe: nothing to search; give an interval, such as "),
        ([LR], "search=tpe: needs sweep.samples=N, the number of proposals"),
        ([LR, "sweep.samples=2", "sweep.points=points.csv"], "sweep.points=points.csv: accepted with a search that "),
        ([LR, "sweep.samples=2", "search.prune=true", "search.rungs=[2]"], "search.rungs=[2.0]: accepted: below epoch"),
        ([LR, "sweep.samples=2", "optimizer.lr=1"], "optimizer.lr: is swept, and given as well; leave one of them out"),
        ([LR, "sweep.samples=2", "seed=interval(0,9)"], "seed=interval(0,9): accepted: a list; each proposal is "),
        ([LR, "sweep.samples=60000", "seed=0,1"], "sweep.samples=60000: 120,000 jobs; accepted: at most 100,000"),
        ([LR, "sweep.samples=2", "epochs=interval(0.5,9)"], "epochs=interval(0.5,9): accepted: integer >= 1; int("),
        ([LR, "sweep.samples=2", "model=mlp,nett"], "model=nett: no such model; did you mean net?"),  # found before it
    ],
)  # fmt: skip
def test_tpe_that_makes_no_sense_starts_nothing(here: Path, asked: list[str], problem: str) -> None:
    (line,) = refused("-m", *SHORT, "search=tpe", *asked, *([] if "epochs=" in asked[-1] else ["epochs=2"]))
    assert line.startswith(problem)
    assert not (here / "runs").exists()

"""A run's id to a new run and a verdict: from the store alone, and never as code."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from support.interrupted import TINY, stopped
from support.pictures import make_images
from support.processes import finished
from support.recorded import artifacts, client, runs
from support.shell import blitz as command
from support.shell import refused

import blitz
from blitz.reproduction.verdict import DIFFERENT, EQUAL, IDENTICAL
from blitz.runner import run as runner
from blitz.runner.find import find_run
from blitz.training import checkpoint

LIVELY = [*TINY, "optimizer.lr=0.01"]


def trained(*overrides: str) -> Run:
    """A run of which nothing is left but what the store has."""
    asked = [*LIVELY, *overrides]
    if "data=folder" in asked:
        asked = [text for text in asked if not text.startswith(("data=synthetic", "data.train", "data.test"))]
    result = blitz.run(blitz.compose(asked), asked)
    assert result.run_id is not None
    shutil.rmtree(result.folder)
    return client().get_run(result.run_id)


def latest() -> Run:
    return runs()[0]


@pytest.fixture(scope="module")
def store_with_a_run(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        trained()
    return folder


@pytest.fixture
def recorded(store_with_a_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(store_with_a_run)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return store_with_a_run


@pytest.fixture
def original(here: Path) -> Run:
    return trained()


RECIPES = [
    ["ema=0.9", "clip_norm=0.5", "schedule=cosine", "augment=flip_crop", "mix=cutmix"],
    ["device.precision=bf16", "device.threads=2", "device.channels_last=true", "optimizer=adamw", "eval_every=2",
     "data.validation=0.3"],
    ["model=mlp", "loss=mse", "early_stopping=1", "epochs=9", "seed=3", "optimizer.lr=0.5"],
]  # fmt: skip


@pytest.mark.parametrize(
    "recipe", [*RECIPES[:1], *(pytest.param(recipe, marks=pytest.mark.slow) for recipe in RECIPES[1:])], ids=" ".join
)
def test_a_run_comes_out_identical_from_the_store_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, recipe: list[str]
) -> None:
    original = trained(*recipe)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    ended = command("reproduce", original.info.run_id[:10], "--store", f"sqlite:///{here}/mlflow.db")
    assert ended.code == 0, ended.told
    assert "verdict  identical: the same bits" in ended.output
    monkeypatch.chdir(here)
    again, before = latest(), client().get_run(original.info.run_id)
    assert again.info.run_id != original.info.run_id
    assert again.info.experiment_id == original.info.experiment_id
    assert again.data.tags["reproduces"] == original.info.run_id
    assert again.data.tags["verdict"] == IDENTICAL
    assert before.data.tags["reproduced_by"] == again.info.run_id
    for key in ("weights.initial", "weights.best", "weights.last", "config_hash", "group_hash"):
        assert again.data.tags[key] == original.data.tags[key]
    assert {"reproduction.md", "reproduction.json"} <= artifacts(again.info.run_id)
    assert again.data.params == original.data.params
    assert again.info.run_name == f"again: {original.info.run_name}"


def test_threads_that_were_chosen_for_the_run_are_set_again(original: Run) -> None:
    """Here the batches are too small for more than one thread."""
    change(original, "config.yaml", "threads: 1", "threads: auto")
    change(original, "provenance.json", 'fp32",\n    "threads": 1', 'fp32",\n    "threads": 3')
    assert command("reproduce", "last", "--check").code == 0
    assert torch.get_num_threads() == 3


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_and_extended_reproduces(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped([*LIVELY, "checkpoint_every=5"], 12, monkeypatch)
    runner.resume(folder)
    runner.resume(folder, ["epochs=4"])
    ended = command("reproduce", "last")
    assert ended.code == 0
    assert "verdict  identical: the same bits" in ended.output
    assert latest().data.params["epochs"] == "4"


def test_a_run_that_was_stopped_is_compared_as_far_as_it_came(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped([*LIVELY, "epochs=9"], 28, monkeypatch)
    ended = command("reproduce", "last")
    assert ended.code == 0
    assert "metrics, 3 epochs; weights: initial" in ended.output
    assert "verdict  identical" in ended.output
    assert (
        latest().data.metrics["train/loss"] == client().get_metric_history(latest().info.run_id, "train/loss")[2].value
    )


def test_a_prefix_has_the_course_of_the_whole(here: Path) -> None:
    original = trained("schedule=one_cycle", "epochs=4", "eval_every=2")
    ended = command("reproduce", original.info.run_id, "--epochs", "1")
    assert ended.code == 0
    assert "metrics, 1 epoch; weights: initial\nverdict  identical" in ended.output
    assert len(client().get_metric_history(latest().info.run_id, "train/loss")) == 1


@pytest.mark.slow
def test_a_prefix_reproduces_as_far_as_it_went(original: Run) -> None:
    assert command("reproduce", original.info.run_id, "--epochs", "2").code == 0
    ended = command("reproduce", "last")
    assert ended.code == 0
    assert "metrics, 2 epochs; weights: initial\nverdict  identical" in ended.output


def test_difference_is_reported_with_its_possible_causes(here: Path) -> None:
    original = trained("epochs=1")
    far = float(original.data.metrics["test/accuracy"] < 0.5)
    client().log_metric(original.info.run_id, "test/accuracy", far, step=1)
    ended = command("reproduce", original.info.run_id, "optimizer.lr=0.011")
    assert ended.code == 1
    assert "verdict  different\n" in ended.output
    assert "first difference: train/step_loss of step 3 (epoch 1): recorded " in ended.output
    assert "95 % of two accuracies over 20 images (Agresti-Coull)" in ended.output
    assert "possible causes: optimizer.lr=0.011" in ended.output
    assert latest().data.tags["verdict"] == DIFFERENT
    found = json.loads(Path(client().download_artifacts(latest().info.run_id, "reproduction.json", ".")).read_text())
    assert found["verdict"]["word"] == DIFFERENT
    assert found["verdict"]["first"][0] == "train/step_loss"
    assert found["overrides"] == ["optimizer.lr=0.011"]


@pytest.mark.slow
def test_difference_is_noise_where_seeds_differ_by_more(here: Path) -> None:
    original = trained("epochs=1")
    for seed, accuracy in (("1", 0.0), ("2", 1.0)):
        tags = {"group_hash": original.data.tags["group_hash"]}
        other = client().create_run(original.info.experiment_id, tags=tags).info.run_id
        client().log_param(other, "seed", seed)
        client().log_metric(other, "test/accuracy", accuracy)
        client().set_terminated(other)
    client().log_metric(original.info.run_id, "train/loss", 9.0, step=1)
    ended = command("reproduce", original.info.run_id, "device.threads=2")
    assert ended.code == 0
    assert "verdict  equal within noise\n" in ended.output
    assert "over 3 seeds" in ended.output
    assert "device.threads (recorded 1, now 2)" in ended.output
    assert latest().data.tags["verdict"] == EQUAL


def test_a_run_of_a_device_that_is_not_here_is_trained_on_the_best_there_is(original: Run) -> None:
    change(
        original, "config.yaml", "device:\n  name: auto\n  precision: fp32", "device:\n  name: cuda\n  precision: tf32"
    )
    change(
        original, "provenance.json", '"name": "cpu",\n    "hardware": "cpu"', '"name": "cuda:0",\n    "hardware": "GPU"'
    )
    ended = command("reproduce", "last")
    assert ended.code == 0
    assert (
        "the run computed on cuda:0 in tf32, this computes on cpu in fp32; metrics may differ slightly" in ended.output
    )
    assert [line.split() for line in ended.output.splitlines() if line.startswith("device.name")] == [
        ["device.name", "cuda:0", "cpu"]
    ]


def test_a_second_reproduction_is_linked_as_well(original: Run) -> None:
    ids = []
    for _ in range(2):
        assert command("reproduce", original.info.run_id, "--epochs", "1").code == 0
        ids.append(latest().info.run_id)
    assert client().get_run(original.info.run_id).data.tags["reproduced_by"] == ", ".join(ids)


def test_a_reproduction_that_ended_meanwhile_stays_linked(original: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    repeat = runner.new_run

    def overtaken(*arguments: Any, **options: Any) -> object:
        client().set_tag(original.info.run_id, "reproduced_by", "other")
        return repeat(*arguments, **options)

    monkeypatch.setattr(runner, "new_run", overtaken)
    assert command("reproduce", original.info.run_id, "--epochs", "1").code == 0
    assert client().get_run(original.info.run_id).data.tags["reproduced_by"] == f"other, {latest().info.run_id}"


def test_check_prints_what_differs_and_trains_nothing(original: Run) -> None:
    ended = command("reproduce", "last", "--check")
    assert (ended.code, ended.told) == (0, [])
    assert "nothing differs in code, packages, machine, device and data" in ended.output
    change(original, "provenance.json", '"torch": "', '"torch": "1.0+')
    change(original, "provenance.json", '"commit": "', '"commit": "0000')
    ended = command("reproduce", "last", "--check")
    assert ended.code == 1
    assert "packages.torch" in ended.output
    assert re.search(r"git -C \S+ worktree add \S+/blitz-0000\w{8} 0000", ended.output)
    assert len(runs()) == 1


@pytest.mark.slow
def test_paths_come_from_here(here: Path, images: Path) -> None:
    original = trained("data=folder", f"data.root={images}", "data.image_size=16", "runs_dir=first", "notes=mine")
    assert refused("reproduce", "last") == [
        "data.root: data=folder needs one, and none of this run is known on this host; give data.root=DIR, or set "
        "BLITZ_DATA (accepted: a folder that holds train/CLASS/IMAGE and test/CLASS/IMAGE)"
    ]
    images.rename(here / "moved")
    ended = command("reproduce", "last", f"data.root={here}/moved")
    assert "verdict  identical" in ended.output, ended.told
    config = (next((here / "runs").iterdir()) / "config.yaml").read_text()
    assert str(images) not in config
    assert "notes: null" in config
    assert not list((here / "first").iterdir())
    (here / "moved/test/dark/0.png").unlink()
    assert (
        f"data.fingerprint  {original.data.tags['data.fingerprint'][:12]}"
        in command("reproduce", original.info.run_id, f"data.root={here}/moved", "--check").output
    )


def test_images_are_where_the_folder_of_a_run_of_this_host_says(here: Path, images: Path) -> None:
    asked = ["data=folder", f"data.root={images}", "epochs=1", "tracking.figures=false", "device.threads=1"]
    result = blitz.run(blitz.compose(asked), asked)
    ended = command("reproduce", "last", "--check")
    assert (ended.code, ended.told) == (0, [])
    about = result.folder / "mlflow.json"
    about.write_text(about.read_text().replace(f'"host": "{platform.node()}"', '"host": "another"'))
    (problem,) = refused("reproduce", str(result.run_id), "--check")
    assert problem.startswith("data.root: data=folder needs one, and none of this run is known on this host; ")


@pytest.fixture
def images(here: Path) -> Path:
    return make_images(here / "images", train=40, test=10, size=(20, 20))


@pytest.mark.slow
def test_weights_that_a_run_began_with_come_from_here_or_from_the_store(here: Path) -> None:
    first = trained("epochs=1")
    second = trained("epochs=1", "model.weights=last")
    assert second.data.params["model.weights"] == first.info.run_id  # "last" is another one tomorrow
    assert "verdict  identical" in command("reproduce", second.info.run_id).output
    best = client().download_artifacts(first.info.run_id, "checkpoints/best.pt", str(here))
    third = trained("epochs=1", f"model.weights={best}")
    assert refused("reproduce", third.info.run_id) == [
        "model.weights: a path is never taken from a run's record; give model.weights=PATH"
    ]
    shutil.move(best, here / "mine.pt")
    assert "verdict  identical" in command("reproduce", third.info.run_id, f"model.weights={here}/mine.pt").output


# What a record must not do


def change(run: Run, artifact: str, old: str, new: str) -> str:
    """The text as it was before."""
    path = Path(client().download_artifacts(run.info.run_id, artifact, str(Path.cwd())))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    client().log_artifact(run.info.run_id, str(path))
    return text


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["train", "check"])
@pytest.mark.parametrize(
    ("artifact", "old", "new", "message"),
    [
        ("config.yaml", "\nseed: 0", "\nseed: 0\n_target_: os.system", "_target_=os.system: names code"),
        ("config.yaml", "lr: 0.01", "lr: 0.01\n  _target_: os.system", "optimizer._target_=os.system: names code"),
        ("config.yaml", "\nseed: 0", "\nseed: ${oc.env:HOME}", "seed=${oc.env:HOME}: an interpolation"),
        ("provenance.json", '"commit": "', '"commit": "HEAD; touch made #', "not the provenance of a run"),
        ("provenance.json", '"train": 72', '"train": 0', "not the provenance of a run"),
        ("config.yaml", "lr: 0.01", "lrr: 0.01", "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?"),
        ("config.yaml", "name: sgd", "name: sgdd", "optimizer=sgdd: no such optimizer; did you mean sgd?"),
        ("config.yaml", "\nseed: 0", "\nsed: 0", "sed: no such key of a config; did you mean seed?"),
        ("config.yaml", "\nseed: 0", "\nseed: !!python/object/apply:os.mkdir [made]", "cannot be read: "),
        ("provenance.json", 'fp32",\n    "threads": 1', 'fp32",\n    "threads": "all"', "not the provenance of a run"),
        ("provenance.json", "{", "", "not the provenance of a run"),
    ],
)  # fmt: skip
def test_a_planted_record_is_refused(
    recorded: Path, artifact: str, old: str, new: str, message: str, arguments: list[str]
) -> None:
    text = change(latest(), artifact, old, new)
    try:
        assert any(message in line for line in refused("reproduce", "last", *arguments))
        assert len(runs()) == 1
        assert not Path("made").exists()
    finally:
        client().log_text(latest().info.run_id, text, artifact)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer=adam"], "optimizer=adam: a choice stays as it was recorded; change values, such as optimizer."),
        (["optimizer.name=adam"], "optimizer.name=adam: a choice stays as it was recorded"),
        (["optimizer={lr: 1}"], "optimizer={lr: 1}: a choice stays as it was recorded"),
        (["optimizer.lr=0.1,0.2"], "optimizer.lr=0.1,0.2: accepted: KEY=VALUE for a value of the recorded config"),
        (["~seed"], "~seed: accepted: KEY=VALUE"),
        (["+optimizer.lr=1"], "+optimizer.lr=1: accepted: KEY=VALUE"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: accepted: KEY=VALUE"),
        (["seed=${oc.env:HOME}"], "seed=${oc.env:HOME}: an interpolation"),
        (["optimizer.lrr=1"], "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?"),
        (["tracking.uri=x"], "tracking.uri=x: the new run is recorded beside the one that it repeats; --store names"),
        (["seed.x=1"], "seed.x: no such key of a config"),
        (["--epochs", "4"], "--epochs=4: accepted: at most 3, the epochs that the run recorded"),
        (["--epochs", "0"], "reproduce: Invalid value for '--epochs'"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_and_nothing_is_trained(recorded: Path, arguments: list[str], message: str) -> None:
    assert any(line.startswith(message) for line in refused("reproduce", "last", *arguments))
    assert len(runs()) == 1


def test_words_of_a_record_are_never_resolved(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", "resolved")
    trained("name=a\\${oc.env:SOMETHING}", "notes=b\\${oc.env:SOMETHING}", "tags.c=d\\${oc.env:SOMETHING}", "epochs=1")
    assert command("reproduce", "last").code == 0
    assert latest().info.run_name == "again: a${oc.env:SOMETHING}"
    assert all("resolved" not in path.read_text() for path in here.glob("runs/*/*.yaml"))


def test_nothing_of_a_record_reaches_the_terminal_but_text(original: Run) -> None:
    change(original, "provenance.json", '"packages": {', '"packages": {"evil\\u001b[31m": "1",')
    client().set_tag(original.info.run_id, "mlflow.runName", "red\x1b[31m")
    ended = command("reproduce", "last", "--check")
    assert ended.code == 1
    assert "evil" in ended.output
    assert "\x1b" not in ended.output


def test_a_run_that_is_none_of_blitz_or_has_not_ended_or_never_began_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused("reproduce", "last") == [
        f"last: no such run in sqlite:///{here}/mlflow.db (accepted: a run id, the start of one, last, or best)"
    ]
    foreign = client().create_run("0").info.run_id
    client().log_text(foreign, "model: resnet\nlr: 0.1\n", "config.yaml")
    where = f"another program logged {foreign} to sqlite:///{here}/mlflow.db"
    for verb in ("reproduce", "resume", "evaluate", "predict"):
        image = ["a.png"] * (verb == "predict")
        assert refused(verb, foreign[:9], *image) == [f"{foreign[:9]}: not a run of blitz; {where}"]
    stopped(LIVELY, 3, monkeypatch)
    run_id = latest().info.run_id
    assert refused("reproduce", "last") == [
        f"{run_id}: this run ended before its first epoch; there is nothing to compare"
    ]
    monkeypatch.chdir(here.parent)
    assert "there is no such store; name one with --store URI" in refused("reproduce", "last")[0]


def test_verdict_that_the_store_cannot_take_is_printed_all_the_same(
    original: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blitz.tracking import sending

    def gone(*_: Any) -> None:
        raise ConnectionError("it went away")

    with monkeypatch.context() as patch:
        patch.setattr(sending, "amend", gone)
        ended = command("reproduce", "last", "--epochs", "1")
    assert ended.code == 0
    assert "MLflow failed (ConnectionError: it went away)" in ended.output
    assert "verdict  identical" in ended.output


@pytest.mark.slow
def test_the_weights_of_both_can_be_loaded(original: Run) -> None:
    command("reproduce", "last")
    states = [blitz.load_model(run.info.run_id).model.state_dict() for run in (original, latest())]
    assert checkpoint.fingerprint(states[0]) == checkpoint.fingerprint(states[1])
    with find_run("last") as found:
        assert found.in_folder.folder.exists()


@pytest.mark.slow
def test_each_job_of_a_parallel_sweep_reproduces_alone(here: Path) -> None:
    asked = ["data=digits", "data.limit=200", "epochs=1", "batch_size=64", "tracking.figures=false"]
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    ended = command("-m", *asked, *parallel, "model=net,mlp")
    assert ended.code == 0, ended.told
    jobs = runs()
    assert len(jobs) == 2
    for job in jobs:
        ended = command("reproduce", job.info.run_id)
        assert ended.code == 0, ended.told
        assert "verdict  identical: the same bits" in ended.output


@pytest.mark.slow
def test_the_commands_that_check_prints_bring_the_recorded_code_back(
    tmp_path: Path, empty_store: Path, plain_git: None
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", Path(__file__).parents[2], clone], check=True)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {"PYTHONPATH": str(clone), "MLFLOW_TRACKING_URI": uri}
    errors_py, new = clone / "blitz" / "errors.py", clone / "blitz" / "new.py"
    errors_py.write_text(errors_py.read_text() + "\n# an experiment\n")
    new.write_text("ONE = 1\n")
    asked = ["data=digits", "data.limit=100", "epochs=1", "batch_size=32", "tracking.figures=false"]
    assert finished(clone, *asked, **environment)[0] == 0
    for arguments in (["add", "-A"], ["commit", "-qm", "the experiment, committed"]):
        subprocess.run(["git", *arguments], cwd=clone, check=True)
    code, output, errors = finished(clone, "reproduce", "last", "--check", **environment)
    assert (code, errors) == (1, "")
    assert "code.commit" in output
    commands = [line.strip() for line in output.partition("the recorded code:\n")[2].splitlines()]
    assert [line.split()[0] for line in commands] == ["git", "cd", f"MLFLOW_TRACKING_URI={uri}", "git"]
    assert not (clone / "git.diff").exists()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    (restored,) = tmp_path.glob("blitz-*")
    assert (restored / "blitz" / "errors.py").read_text() == errors_py.read_text()
    assert (restored / "blitz" / "new.py").read_text() == "ONE = 1\n"
    code, output, errors = finished(restored, "reproduce", "last", **{**environment, "PYTHONPATH": str(restored)})
    assert (code, errors) == (0, "")
    assert "verdict  identical" in output
    assert "code." not in output.partition("what differs")[2].partition("data  ")[0]


@pytest.mark.slow
def test_a_run_from_before_there_was_an_objective_reproduces(here: Path, original: Run) -> None:
    with sqlite3.connect(here / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE key = 'objective'")
    assert "verdict  identical" in command("reproduce", "last", "--epochs", "1").output
    assert "objective" in latest().data.metrics

"""Whole runs, read back from where they are recorded."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shlex
import sqlite3
import threading
import time
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
import torch
from mlflow.entities import Run
from omegaconf import OmegaConf
from support.processes import PATIENCE
from support.recorded import artifacts, assert_the_store_has_all_of, client, journal, runs

import blitz
from blitz.config.settings import Settings, check
from blitz.errors import RunFailed
from blitz.parts.models.airbench import whitening
from blitz.run_folder.run_info import RunInfo
from blitz.runner import description
from blitz.runner.build import build
from blitz.runner.result import Result
from blitz.terminal.progress import Display
from blitz.tracking import model, queries, store
from blitz.tracking.sync import sync
from blitz.tracking.writer import Writer
from blitz.training import checkpoint
from blitz.training.batches import stream
from blitz.training.loop import NonFiniteLoss

SMALL = ["data=digits", "data.limit=300", "batch_size=32", "epochs=2", "optimizer.lr=0.05", "device.threads=1"]


def run(*overrides: str) -> Result:
    """A short run; figures take longer than the training and are drawn where a test asks for them."""
    asked = [*SMALL, "tracking.figures=false", *overrides]
    return blitz.run(blitz.compose(asked), asked)


def searched(query: str) -> list[Run]:
    found = client()
    return list(found.search_runs(queries.experiment_ids(found), query))


def test_a_run_is_recorded_in_its_folder_and_in_mlflow(here: Path) -> None:
    asked = [*SMALL, "tags.author=me", "notes=a first try", "tracking.step_loss=1"]
    result = blitz.run(blitz.compose(asked), asked)
    assert result.run_id is not None
    recorded = client().get_run(result.run_id)
    assert recorded.info.status == "FINISHED"
    assert recorded.info.run_name == "data=digits limit=300 batch_size=32 epochs=2 lr=0.05 threads=1"
    assert recorded.data.params["optimizer.lr"] == "0.05"
    assert recorded.data.params["data.limit"] == "300"
    assert recorded.data.params["device.threads"] == "1"
    assert recorded.data.params["optimizer.momentum"] == "0.9"  # also what is at its default
    assert [found.info.run_id for found in searched("params.`optimizer.nesterov` = 'false'")] == [result.run_id]
    assert searched("params.`optimizer.nesterov` = 'true'") == []
    tags = recorded.data.tags
    assert "optimizer.momentum" not in tags["notable"].split()
    assert {"data.limit", "optimizer.lr", "model.name"} <= set(tags["notable"].split())
    assert tags["author"] == "me"
    assert tags["mlflow.note.content"].startswith("a first try\n\nnet (61,706 parameters) on digits")
    assert f"**{result.test.accuracy:.2%} test accuracy**" in tags["mlflow.note.content"]
    assert {"git.commit", "git.dirty", "config_hash", "group_hash", "host"} <= tags.keys()
    assert recorded.inputs is not None
    (dataset,) = recorded.inputs.dataset_inputs
    provenance = json.loads((result.folder / "provenance.json").read_text())
    assert dataset.dataset.name == "digits"
    assert provenance["data"]["fingerprint"].startswith(dataset.dataset.digest)

    measured = journal(result.folder)
    assert len(measured["train/step_loss"]) == 2 * 10  # 300 images in batches of 32
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/accuracy", "train/lr", "time/epoch"} <= {
        *measured
    }
    assert_the_store_has_all_of(result.folder)
    assert artifacts(result.run_id) == {
        "config.yaml", "overrides.yaml", "provenance.json", "git.diff", "run.log", "checkpoints/best.pt",
        "figures/curves.png", "figures/confusion.png", "figures/per_class_accuracy.png", "figures/worst_mistakes.png",
    }  # fmt: skip
    assert "test     accuracy" in (result.folder / "run.log").read_text()


def test_the_record_says_what_came_out_to_the_last_bit(here: Path) -> None:
    result = run()
    provenance = json.loads((result.folder / "provenance.json").read_text())
    metrics = {name: float.fromhex(text) for name, text in provenance["result"]["metrics"].items()}
    assert metrics["test/accuracy"] == result.test.accuracy
    assert metrics.items() >= {name: value for name, value in result.history[-1].items() if name != "epoch"}.items()
    best = checkpoint.load(result.folder / "checkpoints/best.pt")
    last = checkpoint.load(result.folder / "checkpoints/last.pt")
    expected = {
        "best": checkpoint.fingerprint(best["model"]),
        "last": checkpoint.fingerprint({"model": last["model"], "average": last["average"]}),
    }
    torch.manual_seed(stream(0, "initialisation"))
    expected["initial"] = checkpoint.fingerprint(blitz.MODELS.build({"name": "net"}, 10, (1, 32, 32)).state_dict())
    assert provenance["result"]["weights"] == expected
    (recorded,) = runs()
    assert {name: recorded.data.tags[f"weights.{name}"] for name in expected} == expected
    assert provenance["device"]["precision"] == "fp32"
    assert provenance["device"]["deterministic"] is True


def test_system_metrics_are_recorded_and_can_be_left_out(here: Path) -> None:
    assert any(name.startswith("system/") for name in journal(run().folder))
    (recorded,) = runs()
    assert recorded.data.metrics["system/process_memory_megabytes"] > 50
    assert not any(name.startswith("system/") for name in journal(run("tracking.system_metrics=null").folder))


@pytest.mark.slow
def test_the_model_in_mlflow_has_the_runs_test_accuracy(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    result = run("tracking.log_model=true")
    job = build(blitz.compose(SMALL))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.resolve(None))  # MLflow's own setting would outlive this test
    loaded = mlflow.pyfunc.load_model(f"runs:/{result.run_id}/model")
    images = job.splits.test.images.numpy()
    assert images.dtype.name == "uint8"
    predicted = torch.from_numpy(loaded.predict(images)).argmax(1)
    assert float((predicted == job.splits.test.labels).double().mean()) == result.test.accuracy


def test_a_model_that_cannot_be_exported_costs_a_warning(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise model.CannotExport("this model cannot be exported for MLflow (why)")

    monkeypatch.setattr(model, "save", refuse)
    assert run("tracking.log_model=true").run_id is not None
    assert "tracking.log_model=true: this model cannot be exported for MLflow (why)" in capsys.readouterr().out


def test_the_recorded_config_is_the_checked_one(here: Path) -> None:
    asked = [*SMALL, "tracking=none", "tracking.figures=false"]
    result = blitz.run(blitz.compose(asked), asked)
    loaded = OmegaConf.to_container(OmegaConf.load(result.folder / "config.yaml"))
    assert isinstance(loaded, dict)
    assert check({str(key): value for key, value in loaded.items()}) == blitz.compose(asked)
    assert OmegaConf.load(result.folder / "overrides.yaml") == asked


def test_without_tracking_the_folder_alone_is_written(here: Path) -> None:
    (here / "mlflow.db").unlink()
    result = run("tracking=none")
    assert result.run_id is None
    assert {path.name for path in here.iterdir()} == {"runs"}
    assert journal(result.folder)["test/accuracy"][0][1] == result.test.accuracy


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(here: Path) -> None:
    overrides = ["tracking=none", "augment=flip_crop", "mix=mixup", "ema=0.9", "tracking.step_loss=1"]
    first, second, other = run(*overrides), run(*overrides), run(*overrides, "seed=1")

    def bits(result: Result) -> tuple[Any, ...]:
        metrics = {
            name: points for name, points in journal(result.folder).items() if not name.startswith(("time/", "system/"))
        }
        weights = checkpoint.load(result.folder / "checkpoints/best.pt")["model"]
        return metrics, [tensor.numpy().tobytes() for tensor in weights.values()]

    assert bits(first) == bits(second)
    assert bits(first) != bits(other)


def test_best_weights_are_those_of_the_best_validation_accuracy(here: Path) -> None:
    result = run("tracking=none", "epochs=5", "optimizer.lr=0.3")
    accuracies = [epoch["val/accuracy"] for epoch in result.history]
    assert result.objective == max(accuracies) == accuracies[result.best_epoch - 1]
    assert [epoch["objective"] for epoch in result.history] == list(accumulate(accuracies, max))
    assert [value for _, value in journal(result.folder)["objective"]] == list(accumulate(accuracies, max))
    assert checkpoint.load(result.folder / "checkpoints/best.pt")["epoch"] == result.best_epoch
    assert checkpoint.load(result.folder / "checkpoints/last.pt")["epoch"] == 5


def test_without_validation_the_last_epoch_counts(here: Path) -> None:
    result = run("tracking=none", "data.validation=0")
    assert result.best_epoch == 2
    assert result.objective == result.history[-1]["train/accuracy"]
    assert [epoch["objective"] for epoch in result.history] == [epoch["train/accuracy"] for epoch in result.history]
    assert "val/accuracy" not in result.history[-1]


def test_early_stopping_ends_a_run_that_gets_no_better(here: Path) -> None:
    result = run("tracking=none", "epochs=30", "early_stopping=2", "optimizer.lr=1e-9")
    assert len(result.history) < 30
    assert len(result.history) == result.best_epoch + 2


def test_evaluating_more_rarely_still_evaluates_the_last_epoch(here: Path) -> None:
    result = run("tracking=none", "epochs=3", "eval_every=2")
    assert ["val/accuracy" in epoch for epoch in result.history] == [False, True, True]
    assert ["objective" in epoch for epoch in result.history] == [False, True, True]


@pytest.mark.parametrize(
    ("keep", "left"),
    [("all", {"best.pt", "last.pt"}), ("best", {"best.pt"}), ("last", {"last.pt"}), ("none", set())],
)
def test_checkpoints_that_stay(here: Path, keep: str, left: set[str]) -> None:
    result = run("tracking=none", f"checkpoint.keep={keep}", "epochs=1")
    assert {path.name for path in (result.folder / "checkpoints").iterdir()} == left


def test_a_model_is_loaded_back_by_id_prefix_last_and_folder(here: Path) -> None:
    result = run()
    assert result.run_id is not None
    dataset = blitz.DATASETS.build(blitz.compose(["data=digits"]).data)
    sources: list[str | Path] = [result.run_id, result.run_id[:8], "last", result.folder]
    for source in sources:
        classifier = blitz.load_model(source)
        assert classifier.classes == tuple("0123456789")
        with torch.no_grad():
            right = (classifier(dataset.test.images).argmax(1) == dataset.test.labels).double().mean()
        # The run tested at most 300 images, data.limit; this is all 355.
        assert abs(float(right) - result.test.accuracy) < 0.1
    other = "ffff" if result.run_id[0] != "f" else "eeee"
    with pytest.raises(blitz.BadInput, match=f"{other}: no such run"):
        blitz.load_model(other)


def test_training_starts_from_the_weights_of_a_run_or_a_file(here: Path) -> None:
    result = run()
    assert result.run_id is not None
    untrained = ["optimizer.lr=1e-12", "epochs=1", "tracking=none"]
    for weights in (result.run_id[:10], str(result.folder / "checkpoints/best.pt")):
        assert run(*untrained, f"model.weights={weights}").test.accuracy == result.test.accuracy
    assert run(*untrained).test.accuracy < result.test.accuracy


def test_hashes_hold_what_the_starting_weights_are_and_not_where(here: Path) -> None:
    run()
    source = Path("runs").glob("*/checkpoints/best.pt")
    weights = [here / "a.pt", here / "b.pt"]
    state = checkpoint.load(next(source))["model"]
    for path in weights:
        torch.save(state, path)
    hashes = [description.hashes(build(started(path))) for path in weights]
    assert hashes[0] == hashes[1] == description.hashes(build(started("last")))
    next(iter(state.values())).add_(1)
    torch.save(state, weights[0])
    changed = description.hashes(build(started(weights[0])))
    assert not set(changed.values()) & set(hashes[0].values())


def started(weights: Path | str) -> Settings:
    return blitz.compose([*SMALL, f"model.weights={weights}"])


def test_a_run_from_python_has_a_command_that_trains_the_same(here: Path) -> None:
    settings = blitz.compose([*SMALL, "tracking=none", "tracking.figures=false"])
    folder = blitz.run(settings).folder
    note = RunInfo.load(folder).tags["mlflow.note.content"]
    (command,) = re.findall(r"^blitz (.*)$", note, re.MULTILINE)
    repeated = blitz.compose(shlex.split(command))
    assert repeated == settings
    assert OmegaConf.load(folder / "overrides.yaml") == []


def test_a_diverging_run_is_recorded_as_failed(here: Path) -> None:
    with pytest.raises(NonFiniteLoss, match=r"the loss of step \d+ \(epoch 1\) is not finite"):
        run("optimizer.lr=1e30")
    (recorded,) = runs()
    assert recorded.info.status == "FAILED"
    assert recorded.data.tags["error"].startswith("NonFiniteLoss: the loss of step")
    assert recorded.data.tags["traceback"].startswith("Traceback (most recent call last):")
    (folder,) = (here / "runs").iterdir()
    assert "Traceback" in (folder / "run.log").read_text()
    steps = [step for step, _ in journal(folder)["train/step_loss"]]
    assert steps[-1] == int(re.findall(r"step (\d+)", recorded.data.tags["error"])[0]) - 1  # the last one before it


def test_no_credential_of_an_error_is_recorded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ValueError("http://me:planted-login@host refused planted-token-7")

    monkeypatch.setenv("SOME_API_TOKEN", "planted-token-7")
    monkeypatch.setattr(blitz.MODELS.builder("net"), "forward", failing)
    with pytest.raises(ValueError, match="refused"):
        run()
    (recorded,) = runs()
    assert recorded.data.tags["error"] == "ValueError: http://***@host refused ***"
    assert "ValueError: http://***@host refused ***" in recorded.data.tags["traceback"]
    files = [path for path in here.rglob("*") if path.is_file() and path.name != "git.diff"]  # which may hold this test
    assert len(files) > 10
    assert [path for path in files if b"planted" in path.read_bytes()] == []


def test_ctrl_c_is_recorded_as_killed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Display, "epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    (recorded,) = runs()
    assert recorded.info.status == "KILLED"
    assert "val/accuracy" in recorded.data.metrics


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("adaptive_pool_backward does not have a deterministic implementation, but you set …. You can"),
            "device.deterministic=true: adaptive_pool_backward does not have a deterministic implementation, "
            "but you set …; set device.deterministic=false",
        ),
    ],
)
def test_an_error_while_computing_names_the_remedy(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(blitz.MODELS.builder("net"), "forward", failing)
    with pytest.raises(blitz.BadInput) as caught:
        run("tracking=none")
    assert str(caught.value) == expected


def test_what_the_writer_says_during_a_run_is_not_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, end = [], Writer.end

    def noting(writer: Writer, about: RunInfo) -> str:
        until = time.monotonic() + PATIENCE
        while writer.run_id is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        kept.append(writer._answers.qsize())
        return end(writer, about)

    monkeypatch.setattr(Writer, "end", noting)
    results = [run("epochs=1"), run("epochs=1")]  # by one process, one after the other
    assert kept == [0, 0]
    assert [client().get_run(str(result.run_id)).info.status for result in results] == ["FINISHED"] * 2


@pytest.mark.parametrize(
    ("evaluating", "override", "expected"),
    [
        (False, "batch_size=32", "batch_size=32: out of memory on cpu; set micro_batch_size=16"),
        (False, "micro_batch_size=6", "batch_size=32: out of memory on cpu; set micro_batch_size=3"),
        (False, "micro_batch_size=1", "model=net: out of memory on cpu with a single image; choose a smaller model"),
        (True, "micro_batch_size=1", "eval_batch_size=500: out of memory on cpu; set eval_batch_size=250"),
        (True, "ema=0.9", "eval_batch_size=500: out of memory on cpu; set eval_batch_size=250"),
        (True, "eval_batch_size=1", "model=net: out of memory on cpu with a single image; choose a smaller model"),
    ],
)
def test_too_little_memory_names_the_size_that_can_be_halved(
    here: Path, monkeypatch: pytest.MonkeyPatch, evaluating: bool, override: str, expected: str
) -> None:
    net: Any = blitz.MODELS.builder("net")
    forward = net.forward

    def failing(self: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        if self.training != evaluating:
            torch.empty(2**58)
        return forward(self, images)

    monkeypatch.setattr(net, "forward", failing)
    with pytest.raises(blitz.BadInput) as caught:
        run("tracking=none", override)
    assert str(caught.value) == expected


def test_a_last_batch_of_one_image_that_batch_normalisation_cannot_take_names_the_remedy(here: Path) -> None:
    overrides = ["model=torchvision", "model.arch=resnet18", "data.limit=33", "data.validation=0", "tracking=none"]
    with pytest.raises(blitz.BadInput, match="batch_size=32: leaves a batch of one image"):
        run(*overrides)


@pytest.mark.parametrize("number", [1, 5, 9], ids="sync {}".format)
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError], ids=["signal", "full disk"])
def test_a_run_that_cannot_begin_leaves_no_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException], number: int
) -> None:
    """Each file is synced, and then its folder: config, overrides, provenance, diff and, ninth, `mlflow.json`."""
    left, fsync = number, os.fsync

    def fail(descriptor: int) -> None:
        nonlocal left
        left -= f"{here}/runs/" in os.readlink(f"/proc/self/fd/{descriptor}")
        if not left:
            raise fault(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises((KeyboardInterrupt, blitz.BadInput)) as raised:
            run("tracking=none")
    if fault is OSError:
        words = "runs_dir=runs: cannot be written to (No space left on device); name another with runs_dir="
        assert str(raised.value) == words
    assert list(Path("runs").iterdir()) == []


def test_a_disk_that_becomes_full_costs_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the second checkpoint on nothing can be written: neither the result, nor how the run ended."""
    saved, fsync = 0, os.fsync

    def fail(descriptor: int) -> None:
        nonlocal saved
        saved += "last.pt" in os.readlink(f"/proc/self/fd/{descriptor}")
        if saved == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    words = r"last\.pt: No space left on device; checkpoints/last\.pt holds epoch 1, the record is whole until then"
    with pytest.raises(RunFailed, match=words):
        run("tracking=none", "epochs=3")
    told = capsys.readouterr()
    assert "No space left" not in told.out + told.err


def test_a_store_that_answers_again_at_the_end_lacks_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its artifacts cannot be stored until an epoch is over; what is logged then is in no log that was sent before."""
    (here / "mlartifacts").touch()  # where a folder should be
    failed = threading.Event()

    def watch(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("MLflow failed ("):
            (here / "mlartifacts").unlink()
            failed.set()
        if record.getMessage().startswith("epoch 1/"):
            assert failed.wait(PATIENCE)
        return True

    logger = logging.getLogger("blitz")
    logger.addFilter(watch)
    try:
        result = run()
    finally:
        logger.removeFilter(watch)
    output = capsys.readouterr().out
    assert "MLflow answers again and has everything so far" in output
    assert "lacks" not in output
    local = client().download_artifacts(str(result.run_id), "run.log", str(here))
    assert Path(local).read_bytes() == (result.folder / "run.log").read_bytes()
    assert sync([str(result.folder)], None) == 0
    assert capsys.readouterr().out == f"1 run in {result.folder}: 1 complete already\n"


def test_a_store_that_fails_costs_a_warning_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'takes no run'); END")
    result = run()
    assert result.run_id is None
    assert journal(result.folder)["test/accuracy"]
    output = capsys.readouterr().out
    assert output.count("MLflow failed (") == 1
    assert re.search(r"mlflow   \S+ lacks the run itself, \d+ metrics and \d+ files; 'blitz sync runs/", output)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size=301", "batch_size=301: accepted: at most 300, the number of training images"),
        ("runs_dir=mlflow.db", "runs_dir=mlflow.db: is a file; name a folder"),
        ("runs_dir=link", "runs_dir=link: is a file; name a folder"),
        ("runs_dir=mlflow.db/deeper", "runs_dir=mlflow.db/deeper: no folder can be made there (Not a directory)"),
        ("tracking.uri=sqlite:///nowhere/mlflow.db", "there is no folder"),
        ("device=cuda", "device=cuda: this machine (or this build of PyTorch) has no CUDA device"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_folder_is_made(here: Path, override: str, message: str) -> None:
    if override == "device=cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    (here / "link").symlink_to("nowhere")
    with pytest.raises(blitz.BadInput) as caught:
        run(override)
    assert message in str(caught.value)
    assert {path.name for path in here.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "link"}


def test_a_loss_that_takes_no_soft_labels_refuses_a_mix(here: Path) -> None:
    with pytest.raises(blitz.BadInput, match="mix=mixup: loss=multi_margin takes no soft labels; use mix=none"):
        run("mix=mixup", "loss=multi_margin")


def test_a_gradient_norm_is_recorded_where_it_is_clipped(here: Path) -> None:
    result = run("tracking=none", "clip_norm=0.5", "epochs=1", "tracking.step_loss=3")
    norms = journal(result.folder)["train/grad_norm"]
    assert [step for step, _ in norms] == [3, 6, 9, 10]
    assert all(norm > 0 for _, norm in norms)


def test_learning_rates_of_steps_show_a_warm_up_within_an_epoch(here: Path) -> None:
    asked = ["tracking=none", "epochs=1", "tracking.step_loss=3"]
    found = journal(run(*asked, "schedule=cosine", "schedule.warmup=0.5").folder)
    steps, rates = zip(*found["train/step_lr"], strict=True)
    assert steps == tuple(step for step, _ in found["train/step_loss"]) == (3, 6, 9, 10)
    assert rates == pytest.approx([0.03, 0.05, 0.05 * 0.3455, 0.05 * 0.0955], rel=1e-3)
    assert found["train/lr"] == [(1, rates[-1])]
    assert "train/step_lr" not in journal(run(*asked).folder)  # which is constant


def test_a_result_shows_its_main_figures(here: Path) -> None:
    folder = "a <b> & c"
    result = run("tracking=none", f"runs_dir='{folder}'")
    rows = [
        ("test accuracy", f"{result.test.accuracy:.2%}"), ("top-5", f"{result.test.top5:.2%}"),
        ("loss", f"{result.test.loss:.4f}"),
        ("validation accuracy", f"{result.objective:.2%} (epoch {result.best_epoch} of 2)"),
        ("time", f"{result.seconds:.1f} s"), ("folder", str(result.folder)),
    ]  # fmt: skip
    assert repr(result) == f"Result({', '.join(' '.join(row) for row in rows)})"
    shown = fromstring(result._repr_html_())
    assert [tuple(cell.text for cell in row) for row in shown] == rows


@pytest.mark.slow
def test_debug_overfit_brings_one_batch_to_zero_loss(here: Path) -> None:
    result = blitz.run(
        blitz.compose(["data=digits", "debug=overfit", "optimizer.lr=0.01", "device.threads=1", "tracking=none"])
    )
    assert result.history[-1]["train/loss"] < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 300])  # of the three steps that the run has, and of more than these
def test_debug_profile_writes_a_table_and_a_trace(here: Path, capsys: pytest.CaptureFixture[str], steps: int) -> None:
    settings = blitz.compose(
        ["data=digits", "debug=profile", "data.limit=100", "device.threads=1", "tracking=none", f"profile={steps}"]
    )
    result = blitz.run(settings)
    assert "Self CPU" in capsys.readouterr().out
    assert json.loads((result.folder / "trace.json").read_text())["traceEvents"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["early_stopping=3"],
        ["micro_batch_size=7", "loss.class_weights=[1,2,3,4,5,6,7,8,9,10]"],
        ["eval_flip=true"],
        ["eval_shift=2"],
        ["ema=0.9"],
        ["device.precision=bf16"],
        ["device.channels_last=true"],
    ],
)
def test_options_of_training_run_to_the_end(here: Path, overrides: list[str]) -> None:
    result = run("tracking=none", "epochs=3", *overrides)
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own parts
def test_a_compiled_model_learns_and_its_weights_fit_the_plain_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch takes code from its cache that was compiled for other vectors than ATEN_CPU_CAPABILITY allows.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(here / "compiled"))
    result = run("tracking=none", "device.compile=true", "epochs=3", "model=mlp")
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]
    plain = blitz.load_model(result.folder)
    images = blitz.DATASETS.build(blitz.compose(["data=digits"]).data).test.images
    assert plain(images).isfinite().all()


def test_a_model_may_start_from_training_images(here: Path) -> None:
    asked = ["data=synthetic", "data.image_size=16", "model=airbench", "model.widths=[8]", "tracking=none"]
    setup = build(blitz.compose(asked))
    model: Any = setup.learner.model
    shown = setup.classifier.normalise(setup.splits.train.images)
    assert torch.equal(model.filters, whitening(shown, 2, 12))
    other = build(blitz.compose([*asked, "seed=1"])).learner.model
    assert torch.equal(model.filters, other.get_buffer("filters"))
    torch.save({name: torch.zeros_like(value) for name, value in model.state_dict().items()}, "zeros.pt")
    started = build(blitz.compose([*asked, "model.weights=zeros.pt"])).learner.model
    assert not any(value.any() for value in started.state_dict().values())

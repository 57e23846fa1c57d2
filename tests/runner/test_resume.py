"""`blitz resume`: the same bits as a run that never stopped, and nothing twice in the record."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from support.interrupted import TINY, stopped
from support.recorded import assert_the_store_has_all_of, client, journal, runs

import blitz
from blitz.config.settings import menus
from blitz.errors import BadInput, RunFailed
from blitz.evaluation.evaluate import evaluate
from blitz.reproduction.original import Original
from blitz.reproduction.reproduce import check_provenance
from blitz.run_folder.journal import is_result
from blitz.run_folder.run_info import RunInfo
from blitz.runner import find, start
from blitz.runner import run as runner
from blitz.runner.find import BEST, LAST, find_run
from blitz.runner.record import Record
from blitz.tracking.sending import Sent
from blitz.training import checkpoint
from blitz.training.loop import Learner, fit

UNTRACKED = [*TINY, "tracking=none"]
LEFT_OUT = {"timm": "downloads", "torchvision": "minutes on a CPU"}


def run(overrides: list[str]) -> Path:
    return blitz.run(blitz.compose(overrides), overrides).folder


def results(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Every metric but times and the machine's state, in hexadecimal: (step, value) as they were measured."""
    measured = journal(folder).items()
    return {name: [(step, value.hex()) for step, value in points] for name, points in measured if is_result(name)}


def bits(folder: Path) -> dict[str, Any]:
    """Everything that a run comes out with."""
    last, best = (checkpoint.load(folder / name) for name in (LAST, BEST))
    for place in ("record", "journal"):
        del last[place]
    weights = json.loads((folder / "provenance.json").read_text())["result"]["weights"]
    return {
        "last": checkpoint.fingerprint(last),
        "best": checkpoint.fingerprint(best),
        "weights": weights,
        "metrics": results(folder),
    }


def choices() -> list[list[str]]:
    """Each choice of each group that training depends on, and the options that keep a state of their own."""
    found = [["ema=0.9"], ["device.precision=bf16"], ["device.channels_last=true"], ["micro_batch_size=4"]]
    found += [["clip_norm=0.1"], ["eval_every=2"], ["eval_flip=true"], ["data.validation=0"], ["early_stopping=1"]]
    found += [["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"]]
    for group in ("optimizer", "schedule", "loss", "augment", "mix"):
        found += [[f"{group}={name}"] for name in menus()[group].names()]
    return found


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(choice, marks=pytest.mark.slow) if choice[0].startswith(("loss=", "schedule=")) else choice
        for choice in choices()
    ],
    ids=" ".join,
)
def test_resume_gives_the_bits_of_a_run_that_never_stopped(
    choice: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*UNTRACKED, "optimizer.lr=0.01", "report_every=2", *choice]
    whole = run([*overrides, "runs_dir=whole"])
    folder = stopped([*overrides, "checkpoint_every=5", "runs_dir=cut"], 12, monkeypatch)
    assert checkpoint.load(folder / LAST)["epoch_step"] > 0  # it has to go on within an epoch
    assert runner.resume(folder).folder == folder
    assert bits(folder) == bits(whole)


def test_mlflow_has_each_point_once_and_the_run_is_the_same(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run([*TINY, "tracking=none", "tracking.step_loss=1", "runs_dir=whole", "clip_norm=0.5"])
    folder = stopped([*TINY, "tracking.step_loss=1", "clip_norm=0.5", "checkpoint_every=5"], 12, monkeypatch)
    (before,) = runs()
    assert before.info.status == "KILLED"
    result = runner.resume(before.info.run_id[:12])
    assert result.run_id == before.info.run_id
    after = assert_the_store_has_all_of(folder)
    assert results(folder) == results(whole)
    assert after.info.status == "FINISHED"
    assert after.info.start_time == before.info.start_time
    assert after.data.params == before.data.params
    assert after.data.tags["resumed"] == "1"
    assert after.data.tags["weights.last"] == bits(whole)["weights"]["last"]


def test_resume_of_a_failed_run_removes_its_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(record: Record, *_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Record, "log_test", full)
        with pytest.raises(RunFailed, match=r"checkpoints/last\.pt holds epoch 3"):
            run(TINY)
    (failed,) = runs()
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"] == "OSError: [Errno 28] No space left on device"
    result = runner.resume("last")  # there is nothing left to train, but the test
    (mended,) = runs()
    assert mended.info.status == "FINISHED"
    assert mended.data.metrics["test/accuracy"] == result.test.accuracy
    assert not {"error", "traceback", "ended"} & mended.data.tags.keys()


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run([*UNTRACKED, "runs_dir=whole"])
    folder = stopped([*UNTRACKED, "runs_dir=cut"], 5, monkeypatch)
    assert not (folder / LAST).exists()
    runner.resume(folder)
    assert bits(folder) == bits(whole)


def test_it_can_be_stopped_again_and_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind points that an earlier try had measured and the next checkpoint comes before."""
    overrides = [*UNTRACKED, "tracking.step_loss=1", "report_every=1", "optimizer.lr=0.01"]
    whole = run([*overrides, "runs_dir=whole"])
    folder = stopped([*overrides, "checkpoint_every=7", "runs_dir=cut"], 14, monkeypatch)
    for step in (9, 10, 15, 16, 21):

        def cut_short(learner: Learner, *arguments: Any, until: int = step, **options: Any) -> Iterator[Any]:
            for report in fit(learner, *arguments, **options):
                if learner.step >= until:
                    raise KeyboardInterrupt
                yield report

        with monkeypatch.context() as patch:
            patch.setattr(runner, "fit", cut_short)
            with pytest.raises(KeyboardInterrupt):
                runner.resume(folder, ["checkpoint_every=4"])
    assert len(results(folder)["train/step_loss"]) < len(results(whole)["train/step_loss"])
    runner.resume(folder)
    assert bits(folder) == bits(whole)
    assert len(json.loads((folder / "provenance.json").read_text())["resumed"]) == 6


def test_a_run_that_comes_out_otherwise_says_so_and_keeps_both_values(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped([*UNTRACKED, "tracking.step_loss=1", "report_every=1"], 12, monkeypatch)
    path = folder / "metrics.jsonl"
    rows = path.read_text().splitlines()
    last = json.loads(rows[-1])
    assert last["step"] == 11
    path.write_text("\n".join([*rows[:-1], json.dumps({**last, "train/step_loss": 1.5})]) + "\n")
    runner.resume(folder)
    assert "train/step_loss at step 11 was 1.5 and is 2." in capsys.readouterr().out
    assert [step for step, _ in journal(folder)["train/step_loss"]].count(11) == 2


def test_a_line_that_was_cut_off_is_measured_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run([*UNTRACKED, "runs_dir=whole"])
    folder = stopped([*UNTRACKED, "runs_dir=cut", "report_every=1"], 12, monkeypatch)
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    runner.resume(folder)
    assert results(folder) == results(whole)


# How long a run is


def test_more_epochs_make_the_run_that_had_as_many_from_the_start(here: Path) -> None:
    short = run([*TINY, "optimizer.lr=0.01", "runs_dir=short"])
    whole = run([*TINY, "optimizer.lr=0.01", "epochs=5", "runs_dir=whole", "tracking=none"])
    (finished,) = runs()
    runner.resume(short, ["epochs=5"])
    assert bits(short)["weights"] == bits(whole)["weights"]
    extended = client().get_run(finished.info.run_id)
    assert extended.data.params["epochs"] == "3"  # a parameter cannot change
    assert extended.data.tags["epochs"] == "5"
    settings = blitz.compose([*TINY, "optimizer.lr=0.01", "epochs=5"])
    assert extended.data.tags["config_hash"] == settings.config_hash(extended.data.tags["data.fingerprint"])
    assert "epochs: 5" in (short / "config.yaml").read_text()
    assert "epochs=5" in extended.data.tags["mlflow.note.content"]
    trained = {name: points for name, points in results(short).items() if not name.startswith("test/")}
    assert trained == {name: points for name, points in results(whole).items() if not name.startswith("test/")}


def test_resume_of_an_extension_that_was_killed_before_it_started(here: Path) -> None:
    folder = run([*UNTRACKED, "optimizer.lr=0.01", "runs_dir=short"])
    whole = run([*UNTRACKED, "optimizer.lr=0.01", "epochs=5", "runs_dir=whole"])
    change_config("epochs: 3", "epochs: 5")(folder)  # the first thing that an extension writes
    runner.resume(folder)
    assert bits(folder)["weights"] == bits(whole)["weights"]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "trapezoid"])
def test_more_epochs_are_refused_where_they_would_change_what_was_trained(here: Path, schedule: str) -> None:
    folder = run([*UNTRACKED, f"schedule={schedule}"])
    before = contents(folder)
    with pytest.raises(BadInput, match=f"epochs=5: schedule={schedule} spreads over all epochs: in a run of 5, step"):
        runner.resume(folder, ["epochs=5"])
    assert contents(folder) == before


def test_more_epochs_are_allowed_before_the_schedule_comes_to_its_end(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*UNTRACKED, "schedule=trapezoid", "schedule.decay=1", "optimizer.lr=0.01"]
    whole = run([*overrides, "epochs=4", "runs_dir=whole"])
    folder = stopped([*overrides, "runs_dir=cut"], 12, monkeypatch)
    runner.resume(folder, ["epochs=4"])
    assert bits(folder)["weights"] == bits(whole)["weights"]


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# What cannot go on


AGAIN = r"; remove it to begin again from the first step, with the same result$"
ANY_BETTER = "the best one so far; remove it to continue, in case that a later epoch is better$"


def truncate(folder: Path) -> None:
    path = folder / LAST
    path.write_bytes(path.read_bytes()[:-1000])


def truncate_best(folder: Path) -> None:
    path = folder / BEST
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / LAST).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / LAST).write_bytes(data)


def rewrite(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        checkpoint.save({**checkpoint.load(folder / LAST), **changes}, folder / LAST)

    return change


class Planted:
    def __reduce__(self) -> Any:
        return Path.mkdir, (Path("made"),)


def plant_code(folder: Path) -> None:
    torch.save({"format": checkpoint.FORMAT, "model": Planted()}, folder / LAST)


def another_model(folder: Path) -> None:
    other = run([*UNTRACKED, "runs_dir=others", "model=mlp", "epochs=1"])
    rewrite(model=checkpoint.load(other / LAST)["model"])(folder)


def another_run(folder: Path) -> None:
    other = run([*UNTRACKED, "runs_dir=others", "seed=7", "epochs=1"])
    shutil.copy(other / LAST, folder / LAST)


def another_optimizer(folder: Path) -> None:
    state = checkpoint.load(folder / LAST)
    state["optimizer"]["param_groups"][0]["params"].append(99)
    checkpoint.save(state, folder / LAST)


def another_best(folder: Path) -> None:
    state = checkpoint.load(folder / BEST)
    state["model"]["fc3.bias"] += 1
    checkpoint.save(state, folder / BEST)


def change_config(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "config.yaml").read_text()
        assert old in text
        (folder / "config.yaml").write_text(text.replace(old, new))

    return change


def cut_config(before: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        kept, found, _ = (folder / "config.yaml").read_text().partition(before)
        assert found
        (folder / "config.yaml").write_text(kept)

    return cut


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (truncate, r"last\.pt: is not a file that torch\.save wrote, or only a part of one" + AGAIN),
        (flip_a_bit, r"last\.pt: damaged: these are not the bits that were saved" + AGAIN),
        (rewrite(format=99), r"last\.pt: written by a newer blitz \(format 99; .* up to 3\); update blitz$"),
        (rewrite(format=2), r"last\.pt: written by an older blitz \(format 2\), which cannot be resumed" + AGAIN),
        (plant_code, r"last\.pt: holds code \(\S+\), which is never run" + AGAIN),
        (another_model, r"last\.pt: holds another model: conv1\.weight is missing, .* and \d+ more" + AGAIN),
        (another_run, r"last\.pt: the checkpoint of another run" + AGAIN),
        (another_optimizer, r"last\.pt: holds another optimizer: .*doesn't match.*" + AGAIN),
        (lambda folder: shutil.copy(folder / BEST, folder / LAST), r"last\.pt: holds no average, no .*" + AGAIN),
        (rewrite(average={}), r"last\.pt: holds averaged weights" + AGAIN),
        (another_best, r"best\.pt: not the weights of epoch 1, " + ANY_BETTER),
        (truncate_best, r"best\.pt: is not a file .*; it held the weights of epoch 1, " + ANY_BETTER),
        (change_config("size: 90", "size: 91"), r"data=synthetic: not the images that the run started with"),
        (change_config("seed: 0", "seed: ${oc.env:HOME}"), r"seed=\$\{oc\.env:HOME\}: an interpolation"),
        (change_config("seed: 0", "_target_: os.system"), r"_target_=os\.system: names code"),
        (change_config("lr: 0.001", "lrr: 0.001"), r"config\.yaml: optimizer\.lrr: no such option of sgd; did you"),
        (cut_config(": 3\n"), r"config\.yaml: cannot be read: its last line has no end, so it is only a part of what"),
        (cut_config("epochs:"), r"config\.yaml: not the config of a run, or only a part of one: it holds no notes$"),
        (cut_config("mix:"), r"config\.yaml: not the .*: it holds no mix, no data, no device, no notes$"),
        (cut_config("model:"), r"config\.yaml: not the config of a run, or only a part of one: it holds no model, no "),
        (change_config("model:", "model: ]"), r"config\.yaml: cannot be read: "),
    ],
)  # fmt: skip
def test_resume_refuses_a_damaged_run_in_one_message_and_leaves_it_as_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Path], None], message: str
) -> None:
    folder = stopped([*UNTRACKED, "runs_dir=cut", "checkpoint_every=5"], 12, monkeypatch)
    break_it(folder)
    before = contents(folder)
    with pytest.raises(BadInput, match=message):
        runner.resume(folder)
    assert contents(folder) == before
    assert not Path("made").exists()


def test_resume_without_the_best_weights_continues_to_a_better_epoch(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*UNTRACKED, "checkpoint_every=5", "optimizer.lr=0.01"]
    whole = run([*overrides, "runs_dir=whole"])
    folder = stopped([*overrides, "runs_dir=cut"], 12, monkeypatch)
    (folder / BEST).unlink()
    runner.resume(folder)
    words = f"{BEST} is gone, and with it the weights of epoch 1, the best one so far; the run can be tested only if"
    assert words in capsys.readouterr().out
    assert bits(folder) == bits(whole)


def test_resume_without_the_best_weights_tests_no_others_and_can_begin_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*UNTRACKED, "checkpoint_every=5", "optimizer.lr=1e-20"]  # no epoch is better than the first
    whole = run([*overrides, "runs_dir=whole"])
    folder = stopped([*overrides, "runs_dir=cut"], 12, monkeypatch)
    (folder / BEST).unlink()
    with pytest.raises(RunFailed, match=r"best\.pt: the weights of epoch 1 are gone, and no later epoch was better: "):
        runner.resume(folder)
    assert "test/accuracy" not in results(folder)
    with pytest.raises(
        BadInput, match=r"are gone, and no epoch is left to train; remove checkpoints/last\.pt to begin"
    ):
        runner.resume(folder)
    (folder / LAST).unlink()
    runner.resume(folder)
    assert bits(folder) == bits(whole)


def test_a_finished_run_is_extended_without_the_best_weights(here: Path) -> None:
    folder = run([*UNTRACKED, "optimizer.lr=0.01", "checkpoint.keep=last", "runs_dir=short"])
    whole = run([*UNTRACKED, "optimizer.lr=0.01", "epochs=5", "runs_dir=whole"])
    runner.resume(folder, ["epochs=5"])
    weights = [json.loads((at / "provenance.json").read_text())["result"]["weights"] for at in (folder, whole)]
    assert weights[0] == weights[1]
    (folder / LAST).write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"last\.pt: .*; the run has finished, and cannot be extended; blitz reproduce"):
        runner.resume(folder, ["epochs=6"])


def test_resume_refuses_a_journal_that_lost_its_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped([*UNTRACKED, "runs_dir=cut"], 12, monkeypatch)
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:300])
    before = contents(folder)
    with pytest.raises(
        BadInput, match=r"metrics\.jsonl: 300 bytes, where \d+ had been written when .* what was measured"
    ):
        runner.resume(folder)
    position = checkpoint.load(folder / LAST)["journal"]
    path.write_bytes(before["metrics.jsonl"] + b"\0" * (position - 300))  # as long as it was
    with pytest.raises(BadInput, match=rf"metrics\.jsonl: no line ends at byte {position:,}, where .* lost"):
        runner.resume(folder)
    path.unlink()
    with pytest.raises(BadInput, match=r"metrics\.jsonl: 0 bytes"):
        runner.resume(folder)
    path.write_bytes(before["metrics.jsonl"])
    assert contents(folder) == before


def test_a_damaged_line_of_the_journal_does_not_end_a_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped([*UNTRACKED, "runs_dir=cut"], 20, monkeypatch)
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    (damaged,) = [number for number, line in enumerate(lines) if b'"train/loss"' in line and b'"step": 1,' in line]
    lines[damaged] = lines[damaged].replace(b'"step": 1,', b'"step" 1,,')
    path.write_bytes(b"".join(lines))
    assert [row["epoch"] for row in runner.resume(folder).history] == [2, 3]
    byte = sum(len(line) for line in lines[:damaged])
    words = f"lines that cannot be read, and what was measured there is lost: 1, the first at byte {byte}"
    assert words in capsys.readouterr().out
    assert words in (folder / "run.log").read_text()


def test_a_run_that_was_recorded_elsewhere_is_not_split(here: Path) -> None:
    folder = run(TINY)
    with pytest.raises(
        BadInput, match=r"--store=sqlite:///.*/other\.db: the run was recorded in sqlite:///.*/mlflow\.db$"
    ):
        runner.resume(folder, ["epochs=4"], "sqlite:///other.db")
    assert runner.resume(folder, ["epochs=4"], "sqlite:///mlflow.db").run_id == runs()[0].info.run_id
    apart = run(UNTRACKED)
    with pytest.raises(BadInput, match="the run was recorded in no store"):
        runner.resume(apart, ["epochs=4"], "sqlite:///mlflow.db")


def test_resume_without_a_checkpoint_starts_again_and_warns(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run([*UNTRACKED, "runs_dir=whole"])
    folder = stopped([*UNTRACKED, "runs_dir=cut"], 12, monkeypatch)
    shutil.rmtree(folder / "checkpoints")
    runner.resume(folder)
    assert "checkpoints/last.pt was never saved, or is gone: the run starts again" in capsys.readouterr().out
    assert bits(folder) == bits(whole)


@pytest.mark.slow
def test_the_model_of_an_extended_run_is_the_last_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    folder = run([*TINY, "tracking.log_model=true", "optimizer.lr=0.01", "epochs=1"])
    result = runner.resume(folder, ["epochs=4"])
    assert result.best_epoch > 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    loaded = mlflow.pyfunc.load_model(f"runs:/{result.run_id}/model")
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    expected = blitz.load_model(folder)(images).detach()
    assert torch.allclose(torch.from_numpy(loaded.predict(images.numpy())), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"the run has finished; epochs=N with more than 3 extends it"),
        (["epochs=2"], r"epochs=2: accepted: at least 3, which have started already"),
        (["epochs=many"], r"epochs=many: accepted: integer >= 1"),
        (["seed=1"], r"seed=1: cannot be changed on resume \(allowed: epochs, "),
        (["optimizer=adam"], r"optimizer=adam: cannot be changed on resume"),
        (["epohcs=9"], r"epohcs=9: cannot be changed on resume .*; did you mean epochs\?$"),
        (["epochs"], r"epochs: cannot be read as KEY=VALUE"),
        (["epochs=4,5"], r"epochs=4,5: accepted: KEY=VALUE"),
    ],
)
def test_resume_refuses_what_a_finished_run_cannot_do(here: Path, overrides: list[str], message: str) -> None:
    folder = run(UNTRACKED)
    before = contents(folder)
    with pytest.raises(BadInput, match=message):
        runner.resume(folder, overrides)
    assert contents(folder) == before


def test_an_epoch_that_was_validated_as_the_last_one_stays_the_last(here: Path) -> None:
    folder = run([*UNTRACKED, "eval_every=2"])
    before = contents(folder)
    with pytest.raises(BadInput, match=r"epochs=5: epoch 3 was validated because it was the last, which a run"):
        runner.resume(folder, ["epochs=5"])
    assert contents(folder) == before


def test_an_epoch_that_was_not_validated_does_not_become_the_last(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped([*UNTRACKED, "eval_every=5", "epochs=10"], 26, monkeypatch)
    assert checkpoint.load(folder / LAST)["epoch"] == 3
    with pytest.raises(BadInput, match="epochs=3: accepted: at least 4, which have started already"):
        runner.resume(folder, ["epochs=3"])
    assert runner.resume(folder, ["epochs=4"]).best_epoch == 4


def test_a_run_that_stopped_early_is_not_extended(here: Path) -> None:
    folder = run([*UNTRACKED, "early_stopping=1", "epochs=30", "optimizer.lr=1.0"])
    with pytest.raises(BadInput, match=r"the run stopped early, after 1 evaluations without a better"):
        runner.resume(folder, ["epochs=40"])


def test_a_run_that_kept_no_checkpoint_is_not_extended(here: Path) -> None:
    folder = run([*UNTRACKED, "checkpoint.keep=best"])
    with pytest.raises(BadInput, match=r"has finished and kept no checkpoints/last\.pt \(checkpoint\.keep=best\)"):
        runner.resume(folder, ["epochs=4"])


def test_a_stopped_run_keeps_what_it_needs_whatever_is_to_stay_in_the_end(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped([*UNTRACKED, "checkpoint.keep=none"], 12, monkeypatch)
    assert (folder / LAST).exists()
    runner.resume(folder)
    assert list((folder / "checkpoints").iterdir()) == []


def folder_of(wanted: str, uri: str | None = None) -> Path:
    """The folder of the run that RUN names."""
    with find_run(wanted, uri) as found:
        assert found.in_folder.info.record  # it is a run's
        return found.in_folder.folder


def test_find_refuses_a_folder_without_a_run_and_a_run_without_its_folder(here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(BadInput, match=r"empty: not the folder of a run; there is no mlflow\.json in it"):
        folder_of("empty")
    with pytest.raises(BadInput, match=r"runs/none: no folder of a run \(accepted: a run id, the start of one"):
        folder_of("runs/none")
    folder = run([*TINY, "epochs=1"])
    shutil.move(folder, here / "elsewhere")
    (recorded,) = runs()
    with pytest.raises(BadInput, match=rf"{recorded.info.run_id}: the folder of this run .* blitz resume DIR"):
        folder_of("last")
    assert runner.resume("elsewhere", ["epochs=2"]).run_id == recorded.info.run_id
    assert folder_of("last") == here / "elsewhere"


def test_find_last_may_be_a_run_that_is_in_no_store(here: Path) -> None:
    with pytest.raises(BadInput, match="last: no such run in"):
        folder_of("last")
    killed = run([*UNTRACKED, "epochs=1"])  # as is one whose writer was killed with it
    assert folder_of("last").absolute() == killed.absolute()
    recorded = run([*TINY, "epochs=1"])
    assert folder_of("last") == recorded.absolute()
    newest = run([*UNTRACKED, "epochs=1", "seed=1"])
    newest = newest.rename(newest.with_name("0"))  # when it was begun counts, not what its folder is called
    assert folder_of("last").absolute() == newest.absolute()
    (newest / "mlflow.json").write_text("{")  # damaged
    assert folder_of("last") == recorded.absolute()
    (newest / "mlflow.json").write_text(
        json.dumps({**json.loads((killed / "mlflow.json").read_text()), "started_at": 2**42})
    )
    assert folder_of("last").absolute() == newest.absolute()
    assert folder_of("last", f"sqlite:///{here}/mlflow.db") == recorded.absolute()  # asked of this store alone
    about = json.loads((newest / "mlflow.json").read_text())
    (newest / "mlflow.json").write_text(json.dumps({**about, "tags": {**about["tags"], "host": "another"}}))
    assert folder_of("last") == recorded.absolute()


def test_find_last_is_the_same_run_for_every_verb(here: Path) -> None:
    recorded = run([*TINY, "epochs=1"])
    run([*UNTRACKED, "epochs=1"])
    assert find.id_in_store(str(recorded)) == runs()[0].info.run_id
    for verb in (find.id_in_store, Original.find):
        with pytest.raises(BadInput, match="recorded with tracking=none; put it into a store: blitz sync --store URI"):
            verb("last", None)
    assert evaluate("last").run == str(folder_of("last"))


def test_resume_last_reads_mlflow_json_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run([*TINY, "epochs=1"])
    read: list[Path] = []
    real = RunInfo.load

    def load(path: Path) -> RunInfo:
        read.append(path)
        return real(path)

    monkeypatch.setattr(RunInfo, "load", load)
    runner.resume("last", ["epochs=2"])
    assert read == [folder.absolute()]


def test_resume_keeps_the_code_of_each_resumption(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run([*TINY, "epochs=1"])
    facts, _ = start.surroundings()
    code = {**facts["code"], "dirty": True, "diff_sha256": "c0ffee"}
    with monkeypatch.context() as patch:
        patch.setattr(start, "surroundings", lambda: ({**facts, "code": code}, "+ another line\n"))
        runner.resume(folder, ["epochs=2"])
    assert (folder / "git.resumed-1.diff").read_text() == "+ another line\n"
    (resumed,) = json.loads((folder / "provenance.json").read_text())["resumed"]
    assert (resumed["diff"], resumed["step"]) == ("git.resumed-1.diff", 8)
    run_id = runs()[0].info.run_id
    assert "git.resumed-1.diff" in [file.path for file in client().list_artifacts(run_id)]
    capsys.readouterr()
    assert check_provenance(run_id) == 1
    printed = capsys.readouterr().out
    assert "code.diff_sha256 (from step 8 on)" in printed
    assert "nothing differs" not in printed
    assert "from step 8 on:" in printed


def test_a_last_partial_window_is_recorded(here: Path) -> None:
    folder = run([*UNTRACKED, "tracking.step_loss=5", "epochs=1"])
    assert [step for step, _ in journal(folder)["train/step_loss"]] == [5, 8]
    runner.resume(folder, ["epochs=3"])
    assert [step for step, _ in journal(folder)["train/step_loss"]] == [5, 8, 10, 15, 20, 24]


def test_of_copies_of_a_run_the_one_that_was_resumed_is_its_record(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(TINY, 12, monkeypatch)
    copy = shutil.copytree(folder, here / "copies" / folder.name)
    run_id = runner.resume(copy).run_id
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=f"{folder}: run {run_id} was resumed in .*{copy}, a copy of this folder"):
        runner.resume(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert_the_store_has_all_of(copy)
    assert runner.resume(copy, ["epochs=4"]).run_id == run_id


def test_a_batch_system_may_resume_a_run_at_once_on_another_host_that_shares_the_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(TINY, 12, monkeypatch)
    about = RunInfo.load(folder).resume({"host": "elsewhere"})  # which went down a moment ago
    about.save(folder)
    sent = Sent.load(folder, about.record, str(about.store))
    run_id = str(sent.run_id)
    sent.origin, sent.status = f"elsewhere:{folder.absolute()}", "RUNNING"
    sent.save(folder)
    for tag, value in {"host": "elsewhere", "heartbeat": datetime.now(UTC).isoformat()}.items():
        client().set_tag(run_id, tag, value)
    client().update_run(run_id, "RUNNING")
    assert runner.resume(folder).run_id == run_id
    assert assert_the_store_has_all_of(folder).data.tags["host"] == platform.node()


def test_only_one_process_trains_a_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(UNTRACKED, 12, monkeypatch)
    from blitz.run_folder.files import sole_trainer

    with sole_trainer(folder), pytest.raises(BadInput, match="another process is training it"):
        runner.resume(folder)

"""`blitz evaluate`: runs of seconds, read back from a real store, whose test must come out the same to the last bit."""

from __future__ import annotations

import functools
import getpass
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from support.processes import finished
from support.recorded import client
from support.shell import blitz as command
from support.shell import refused
from torch.nn.modules.module import register_module_forward_pre_hook

import blitz
from blitz.evaluation.evaluate import METRICS, evaluate
from blitz.parts.datasets import DATASETS, split
from blitz.runner.result import Result
from blitz.training import checkpoint

SMALL = ["data=digits", "data.limit=300", "batch_size=32", "epochs=3", "optimizer.lr=0.1", "device.threads=1"]
UNRECORDED = ["tracking.figures=false", "tracking.system_metrics=null"]
ACCEPTED = "accepted: data.OPTION=VALUE, eval_batch_size=N (and --data NAME); all else stays as recorded"
FOLDER = "accepted: a folder that holds train/CLASS/IMAGE and test/CLASS/IMAGE"
NO_ROOT = (
    "data.root: data=folder needs one, and none of this run is known on this host; give data.root=DIR, or set "
    f"BLITZ_DATA ({FOLDER})"
)


def run(*overrides: str) -> Result:
    asked = [*SMALL, *UNRECORDED, *overrides]
    return blitz.run(blitz.compose(asked), asked)


class Recorded(NamedTuple):
    run_id: str
    uri: str
    result: Result


@pytest.fixture
def digits(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A run that all tests share, in a store elsewhere; made inside a test, since it changes process-wide state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _digits(workshop)


@functools.cache
def _digits(folder: Path) -> Recorded:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    result = run(f"tracking.uri={uri}", f"runs_dir={folder / 'runs'}")
    assert result.run_id is not None
    return Recorded(result.run_id, uri, result)


@pytest.fixture
def copied(digits: Recorded, tmp_path: Path) -> Path:
    """The run's folder, to be tampered with."""
    return Path(shutil.copytree(digits.result.folder, tmp_path / "copied"))


def rewrite(path: Path, *replacements: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in replacements:
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    path.write_text(text)


def write_images(root: Path, mode: str = "L") -> None:
    """Two classes that a net can tell apart, and sometimes mistakes."""
    random = np.random.default_rng(0)
    for part, number in (("train", 40), ("test", 20)):
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            for index in range(number):
                pixels = random.normal(110 + 30 * label, 60, (32, 32)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).convert(mode).save(root / part / name / f"{index}.png")


# The same bits


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        ["ema=0.9", "eval_flip=true", "eval_shift=1", "eval_batch_size=7"],
        ["device.precision=bf16", "loss.label_smoothing=0.1"],
        ["model=resnet20", "data.limit=64", "epochs=1", "device.channels_last=true"],
        ["loss.class_weights=[1,2,3,4,5,6,7,8,9,10]", "data.mean=[0.2]", "data.split_seed=3", "data.validation=0.3"],
        ["loss=focal", "data.image_size=null", "model=mlp", "device.threads=2", "early_stopping=1"],
    ],
    ids=lambda recipe: " ".join(recipe) or "plain",
)
def test_the_store_alone_gives_the_bits_that_the_run_recorded(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, recipe: list[str]
) -> None:
    result = run(*recipe)
    assert result.run_id is not None
    recorded = client().get_run(result.run_id).data.metrics
    num_threads = torch.get_num_threads()
    shutil.rmtree(result.folder)
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    uri = f"sqlite:///{here / 'mlflow.db'}"

    report = evaluate(result.run_id[:12], uri=uri)
    assert report.run == result.run_id
    assert report.metrics == {name: recorded[f"test/{name}"] for name in METRICS}
    assert report.as_recorded is True
    assert torch.get_num_threads() == num_threads
    assert torch.equal(report.found.confusion, result.test.confusion)

    validation = evaluate("last", part="validation", uri=uri)
    best = result.history[result.best_epoch - 1]
    assert validation.metrics == {name: best[f"val/{name}"] for name in METRICS}
    assert (validation.as_recorded, validation.recorded) == (None, None)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_a_process_in_another_folder_prints_json_and_nothing_else(digits: Recorded, tmp_path: Path) -> None:
    code, output, errors = finished(
        tmp_path, "evaluate", digits.run_id, "--format", "json", "--store", digits.uri,
        BLITZ_CACHE=os.environ["BLITZ_CACHE"],
    )  # fmt: skip
    assert (code, errors) == (0, "")
    printed = json.loads(output)
    test = digits.result.test
    assert {name: printed[name] for name in (*METRICS, "as_recorded", "images", "split")} == {
        "accuracy": test.accuracy, "top5": test.top5, "loss": test.loss,
        "as_recorded": True, "images": 300, "split": "test",
    }  # fmt: skip
    assert printed["confusion"] == test.confusion.tolist()
    assert [(row["class"], row["correct"], row["images"]) for row in printed["classes"]] == [
        (str(label), counts[label], sum(counts)) for label, counts in enumerate(test.confusion.tolist())
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_train_split_is_the_runs_own(digits: Recorded) -> None:
    report = evaluate(digits.run_id, part="train", uri=digits.uri)
    settings = blitz.compose(SMALL)
    own = split(DATASETS.build(settings.data), **DATASETS.shared(settings.data)).train
    with torch.no_grad():
        predicted = blitz.load_model(digits.run_id, uri=digits.uri)(own.images).argmax(1)
    assert torch.equal(report.found.predicted, predicted)
    assert report.found.accuracy == float((predicted == own.labels).double().mean())


def test_the_whole_of_train_can_be_asked_for_also_where_the_run_needed_validation(copied: Path) -> None:
    rewrite(copied / "config.yaml", ("early_stopping: null", "early_stopping: 3"))
    report = evaluate(str(copied), ["data.validation=0", "data.limit=null"], part="train")
    assert len(report.found.predicted) == 1442


def test_a_folder_is_as_good_as_the_store(digits: Recorded) -> None:
    report = evaluate(str(digits.result.folder), uri="sqlite:///not-there.db")
    assert report.as_recorded is True
    assert report.run == str(digits.result.folder)


# What is printed


def test_tables_show_metrics_classes_and_confusion(digits: Recorded) -> None:
    ended = command("evaluate", digits.run_id, "--store", digits.uri)
    assert (ended.code, ended.told) == (0, [])
    test = digits.result.test
    lines = [line.rstrip() for line in ended.output.splitlines()]
    assert lines[:5] == [
        f"run      {digits.run_id}",
        "data     digits: 300 images, test",
        f"result   accuracy {test.accuracy:.2%}   top-5 {test.top5:.2%}   loss {test.loss:.4f}",
        "         as recorded, bit for bit",
        "",
    ]
    assert lines[5].split() == ["class", "most", "often", "confused", "with", "images", "correct", "accuracy"]
    counts = test.confusion.tolist()
    for label, line in enumerate(lines[6:16]):
        wrong = [count if other != label else 0 for other, count in enumerate(counts[label])]
        taken_for = [str(wrong.index(max(wrong))), f"({max(wrong)})"] if any(wrong) else []
        figures = [str(sum(counts[label])), str(counts[label][label]), f"{test.per_class[label]:.2%}"]
        assert line.split() == [str(label), *taken_for, *figures]
    assert lines[17].split() == ["class", "\\", "predicted", *map(str, range(10))]
    assert [line.replace(".", "0").split() for line in lines[18:]] == [
        [str(label), *map(str, row)] for label, row in enumerate(counts)
    ]


def test_many_classes_are_shown_by_their_most_frequent_confusions(here: Path) -> None:
    sizes = ["data.num_classes=25", "data.train_size=100", "data.test_size=75"]
    result = run("data=synthetic", "data.limit=null", *sizes, "tracking=none", "epochs=1", "eval_batch_size=10")
    lines = [line.split("  ") for line in command("evaluate", str(result.folder)).output.splitlines()]
    (start,) = [index for index, line in enumerate(lines) if "times" in [word.strip() for word in line]]
    rows = [[word.strip() for word in line if word] for line in lines[start + 1 :]]
    wrong = result.test.confusion.clone().fill_diagonal_(0)
    assert [int(times) for _, _, times, _ in rows] == wrong.flatten().sort(descending=True).values[:10].tolist()
    for name, other, times, share in rows:
        assert int(times) == wrong[int(name.split()[1]), int(other.split()[1])]
        assert share == f"{int(times) / 3:.2%}"


def test_long_names_are_numbered_in_the_matrix(digits: Recorded) -> None:
    ended = command("evaluate", digits.run_id, "--data", "synthetic", "data.channels=1", "--store", digits.uri)
    head, *rows = ended.output.splitlines()[-11:]
    assert head.split() == ["class", "\\", "predicted", *map(str, range(10))]
    assert [row.split()[:3] for row in rows] == [[str(label), "pattern", str(label)] for label in range(10)]


# Other data


def test_another_data_set_of_the_same_shape_and_number_of_classes(digits: Recorded) -> None:
    options = ["data.channels=1", "data.test_size=200"]
    ended = command(
        "evaluate", digits.run_id, *options, "--data", "synthetic", "--format", "json", "--store", digits.uri
    )
    assert ended.told == [
        "the classes of data=synthetic have other names than the model's (pattern 0, there 0); they are matched by "
        "their order"
    ]
    printed = json.loads(ended.output)
    other = DATASETS.build(blitz.compose(["data=synthetic", *options]).data)
    with torch.no_grad():
        right = blitz.load_model(digits.run_id, uri=digits.uri)(other.test.images).argmax(1) == other.test.labels
    assert (printed["data"], printed["images"], printed["accuracy"]) == ("synthetic", 200, float(right.double().mean()))
    assert (printed["as_recorded"], printed["recorded"]) == (None, None)
    assert printed["fingerprint"] == other.fingerprint != printed["recorded_fingerprint"]


def test_difference_from_the_record_is_printed(digits: Recorded) -> None:
    ended = command("evaluate", digits.run_id, "data.limit=100", "--store", digits.uri)
    report = evaluate(digits.run_id, ["data.limit=100"], uri=digits.uri)
    test = digits.result.test
    assert report.as_recorded is False
    assert ended.output.splitlines()[1:5] == [
        "data     digits: 100 images, test",
        f"result   accuracy {report.found.accuracy:.2%}   top-5 {report.found.top5:.2%}   loss {report.found.loss:.4f}",
        f"recorded accuracy {test.accuracy:.2%}   top-5 {test.top5:.2%}   loss {test.loss:.4f}   on 300 images",
        f"differs  accuracy {100 * (report.found.accuracy - test.accuracy):+.2g} points   "
        f"top-5 {100 * (report.found.top5 - test.top5):+.2g} points   loss {report.found.loss - test.loss:+.2g}",
    ]


@pytest.mark.slow
def test_images_of_ones_own_are_found_where_they_were_or_are_said_to_be(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(here / "images")
    asked = ["data=folder", f"data.root={here / 'images'}", "data.limit=null", "epochs=2"]
    result = run(*asked)
    assert result.run_id is not None
    assert DATASETS.build(blitz.compose(asked[:2]).data).train.images.shape[1] == 1
    assert evaluate("last").as_recorded is True  # on the host where it was trained
    (here / "images").rename(here / "moved")
    assert refused("evaluate", "last") == [NO_ROOT]
    assert evaluate("last", ["data.root=moved"]).as_recorded is True
    monkeypatch.setenv("BLITZ_DATA", "moved")
    assert evaluate("last").as_recorded is True
    monkeypatch.delenv("BLITZ_DATA")

    shutil.copy(here / "moved/test/dark/0.png", here / "moved/test/light/0.png")
    ended = command("evaluate", "last", "data.root=moved")
    before = client().get_run(result.run_id).data.tags["data.fingerprint"]
    now = DATASETS.build(blitz.compose(["data=folder", "data.root=moved"]).data).fingerprint
    assert ended.told == [
        "decoding 120 images of moved once into the cache",
        "data=folder: not the images, labels and class names of the run "
        f"(fingerprint {now[:12]}…, recorded {before[:12]}…)",
    ]
    assert "\nrecorded accuracy" in ended.output
    assert "as recorded" not in ended.output


def test_another_split_of_the_validation_images_is_warned_about(digits: Recorded) -> None:
    ended = command("evaluate", digits.run_id, "data.split_seed=1", "--split", "validation", "--store", digits.uri)
    assert ended.told == [
        "data.split_seed=1: another split than the run's; the model was trained on some of these images"
    ]
    assert ended.code == 0


# Records that are not whole, or of another machine


def test_a_run_that_tested_nothing_has_nothing_to_compare(copied: Path) -> None:
    facts: dict[str, Any] = json.loads((copied / "provenance.json").read_text())
    del facts["result"]
    (copied / "provenance.json").write_text(json.dumps(facts))
    assert evaluate(str(copied)).as_recorded is None
    output = command("evaluate", str(copied)).output
    assert "         no test is recorded: the run ended before its test\n" in output


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that the test wants to miss")
def test_where_the_runs_device_is_missing_another_one_computes(copied: Path, digits: Recorded) -> None:
    rewrite(
        copied / "config.yaml", ("  name: auto", "  name: cuda\n  index: 1"), ("precision: fp32", "precision: tf32")
    )
    rewrite(copied / "provenance.json", ('"name": "cpu"', '"name": "cuda:1"'))
    ended = command("evaluate", str(copied), "--format", "json")
    assert ended.told == [
        "the run computed on cuda:1 in tf32, this computes on cpu in fp32; metrics may differ slightly "
        "(device=cuda: this machine (or this build of PyTorch) has no CUDA device; use device=cpu)"
    ]
    assert json.loads(ended.output)["accuracy"] == digits.result.test.accuracy


@pytest.mark.parametrize(
    ("file", "replacement", "message"),
    [
        ("config.yaml", ("  name: net", "  name: net\n  _target_: os.system"),
         "model._target_=os.system: names code; a recorded config is data and is never run"),
        ("config.yaml", ("  name: net", "  name: nett"), "config.yaml: model=nett: no such model; did you mean net?"),
        ("provenance.json", ('"threads": 1,\n    "deterministic"', '"deterministic"'), "not the provenance of a run"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(copied: Path, file: str, replacement: tuple[str, str], message: str) -> None:
    rewrite(copied / file, replacement)
    (problem,) = refused("evaluate", str(copied))
    assert message in problem


def test_weights_of_another_model_are_refused(copied: Path) -> None:
    best = copied / "checkpoints/best.pt"
    state = checkpoint.load(best)
    checkpoint.save({**state, "about": {**state["about"], "model": {"name": "mlp"}}}, best)
    (problem,) = refused("evaluate", str(copied))
    assert problem.startswith(f"{best}: holds other weights than model=mlp has: ")
    checkpoint.save({"model": state["model"]}, best)
    assert refused("evaluate", str(copied)) == [
        f"{best}: holds no model of a run (accepted: checkpoints/best.pt of one)"
    ]


def test_weights_that_are_damaged_or_gone_can_be_trained_again(copied: Path) -> None:
    best = copied / "checkpoints/best.pt"
    best.write_bytes(best.read_bytes()[:-1000])
    remedy = f"'blitz reproduce {copied}' trains it again"
    (problem,) = refused("evaluate", str(copied))
    assert problem == f"{best}: is not a file that torch.save wrote, or only a part of one; {remedy}"
    best.unlink()
    (problem,) = refused("evaluate", str(copied))
    assert problem.startswith(f"{copied}: this folder holds no checkpoints/best.pt (")
    assert problem.endswith(f"; {remedy}")


class Trap:
    """What a pickle does where it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


def test_code_in_the_weights_is_never_run(here: Path) -> None:
    result = run("epochs=1")
    assert result.run_id is not None
    torch.save({"about": Trap(), "model": {}}, here / "best.pt")
    client().log_artifact(result.run_id, str(here / "best.pt"), "checkpoints")
    remedy = f"'blitz reproduce {result.run_id}' trains it again"
    problems = [f"{result.run_id}/checkpoints/best.pt: holds code (posix.mkdir), which is never run; {remedy}"]
    assert refused("evaluate", "last") == problems
    assert refused("predict", "last", str(here / "best.pt")) == problems
    assert not (here / "sprung").exists()


def test_a_run_that_kept_no_weights_is_refused(here: Path) -> None:
    result = run("epochs=1", "checkpoint.keep=none")
    (problem,) = refused("evaluate", "last")
    message = f"{result.run_id}: this run has no checkpoints/best.pt in sqlite:///{here / 'mlflow.db'} ("
    assert problem.startswith(message)
    assert problem.endswith(f"see checkpoint.keep); 'blitz reproduce {result.run_id}' trains it again")


# Mistakes


@pytest.mark.parametrize("on_gpu", [True, False])
def test_out_of_memory_names_the_batch_size(digits: Recorded, tmp_path: Path, on_gpu: bool) -> None:
    def fail(module: torch.nn.Module, inputs: Any) -> None:
        if on_gpu:
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.empty(2**58)

    Image.new("L", (32, 32)).save("image.png")
    with register_module_forward_pre_hook(fail):
        assert refused("evaluate", digits.run_id, "--store", digits.uri) == [
            "eval_batch_size=500: out of memory on cpu; set eval_batch_size=250"
        ]
        assert refused("evaluate", digits.run_id, "eval_batch_size=1", "--store", digits.uri) == [
            "model=net: out of memory on cpu with a single image; choose a smaller model"
        ]
        assert refused("predict", digits.run_id, "image.png", "--store", digits.uri) == [
            "eval_batch_size=500: out of memory on cpu; name at most 250 images"
        ]


def test_eval_batch_size_can_be_changed(digits: Recorded) -> None:
    report = evaluate(digits.run_id, ["eval_batch_size=7"], uri=digits.uri)
    assert report.found.accuracy == pytest.approx(digits.result.test.accuracy, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (["optimizer.lr=1", "+data.limit=3", "data=mnist", "data.std=[1]"],
         [f"optimizer.lr=1: {ACCEPTED}", f"+data.limit=3: {ACCEPTED}", f"data=mnist: {ACCEPTED}",
          "data.std=[1]: a model keeps the mean and std that it was trained with"]),
        (["data.limit=0", "data.lmit=1"],
         ["data.limit=0: accepted: integer >= 1 or number > 0 and < 1 or null",
          "data.lmit: no such option of digits; did you mean data.limit?"]),
        (["data.limit=[1"], ["data.limit=[1: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)"]),
        (["data.name=mnist"],
         ["data.name=mnist: a choice stays as it was recorded; change values, such as data.OPTION"]),
        (["--data", "synthetic"],
         ["data=synthetic: 10 classes of images of 3 x 32 x 32; this model takes 10 classes of images of 1 x 32 x 32"]),
        (["--data", "synthetic", "data.channels=1", "data.num_classes=9"],
         ["data=synthetic: 9 classes of images of 1 x 32 x 32; this model takes 10 classes of images of 1 x 32 x 32"]),
        (["data.image_size=8"],
         ["data=digits: 10 classes of images of 1 x 8 x 8; this model takes 10 classes of images of 1 x 32 x 32; "
          "set data.image_size=32"]),
        (["--data", "folder"],
         [NO_ROOT]),
        (["data.validation=0", "--split", "validation"],
         ["--split=validation: none is held out with data.validation=0 (accepted: test or train)"]),
        (["--split", "tset"],
         ["evaluate: Invalid value for '--split': 'tset' is not one of 'test', 'validation', 'train'."]),
    ],
)  # fmt: skip
def test_mistakes_are_refused(digits: Recorded, arguments: list[str], problems: list[str]) -> None:
    assert refused("evaluate", digits.run_id, *arguments, "--store", digits.uri) == problems


def test_a_data_set_that_is_not_on_the_menu_is_refused(digits: Recorded) -> None:
    (problem,) = refused("evaluate", digits.run_id, "--data", "digit", "--store", digits.uri)
    assert problem.startswith("data=digit: no such data; did you mean digits? (accepted: cifar10, ")


def test_the_last_run_of_a_user_without_a_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    result = run("epochs=1")
    assert evaluate("last").run == result.run_id


def test_a_run_that_is_not_there_is_refused(digits: Recorded, tmp_path: Path) -> None:
    missing = "(accepted: a run id, the start of one, last, or best)"
    for wanted in ("nope", "0" * 32):
        assert refused("evaluate", wanted, "--store", digits.uri) == [
            f"{wanted}: no such run in {digits.uri} {missing}"
        ]
    assert refused("evaluate", "runs/nope") == [
        "runs/nope: no folder of a run (accepted: a run id, the start of one, last, best, or such a folder)"
    ]
    (tmp_path / "empty").mkdir()
    assert refused("evaluate", "empty") == ["empty: this folder holds no config.yaml"]
    assert refused("evaluate", "last") == [
        f"sqlite:///{tmp_path / 'mlflow.db'}: there is no such store; name one with --store URI or MLFLOW_TRACKING_URI"
    ]

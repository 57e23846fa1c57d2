"""The best model as MLflow serves it, read back by MLflow itself."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import shutil
import sys
import tempfile
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from support.processes import Server
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import blitz
from blitz.parts.datasets import DATASETS, Split, split
from blitz.parts.models import MODELS
from blitz.tracking import model, store
from blitz.training.classifier import Classifier

DIGITS = (1, 32, 32)
SMALL = ["data=digits", "data.limit=300", "batch_size=32", "epochs=8", "optimizer.lr=0.05", "device.threads=1"]
# Made small where they can be: what is exported is the architecture, not its size.
MENU: dict[str, dict[str, Any]] = {
    "wide_resnet": {"depth": 10, "widen": 1},
    "vit": {"depth": 2, "width": 24},
    "torchvision": {"arch": "mobilenet_v3_small"},
    "timm": {"arch": "convnext_atto"},
}
QUICK = {"mlp", "resnet20", "wide_resnet", "vit"}


@dataclass(frozen=True)
class Saved:
    """A run's model, written once for all tests."""

    folder: Path
    classifier: Classifier
    test: Split
    accuracy: float  # the run's, on the test images


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture
def saved(workshop: Path) -> Saved:
    """Made inside a test, not before it: a run changes process-wide state, which is put back after each test."""
    return _saved(workshop)


@functools.cache
def _saved(folder: Path) -> Saved:
    asked = [*SMALL, "tracking=none", "tracking.figures=false", f"runs_dir={folder / 'runs'}"]
    settings = blitz.compose(asked)
    result = blitz.run(settings, asked)
    classifier = blitz.load_model(result.folder)
    test = split(DATASETS.build(settings.data), **DATASETS.shared(settings.data)).test
    model.save(classifier, test.images[:4], folder / "model")
    return Saved(folder / "model", classifier, test, result.test.accuracy)


@pytest.fixture(scope="session")
def empty_store(workshop: Path) -> Path:
    """A store without runs; making one takes seconds, copying it does not."""
    store.connect(f"sqlite:///{workshop / 'mlflow.db'}")
    return workshop / "mlflow.db"


@pytest.fixture
def client(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of a store without runs, which is MLflow's default store as well."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return store.connect(uri)


def breaking(client: MlflowClient, *names: str) -> MlflowClient:
    """The same client, whose methods of these names find no server."""

    class Breaking:
        def __getattr__(self, name: str) -> Any:
            if name in names:
                raise OSError("the server is gone")
            return getattr(client, name)

    return cast(MlflowClient, Breaking())


def new_run(client: MlflowClient) -> str:
    experiment = store.experiment_id(client, str(client.tracking_uri), "blitz")
    run_id: str = client.create_run(experiment).info.run_id
    return run_id


def logged(client: MlflowClient) -> list[str]:
    """The ids of all logged models."""
    found = client.search_logged_models([experiment.experiment_id for experiment in client.search_experiments()])
    return [each.model_id for each in found]


def linked(client: MlflowClient, run_id: str) -> list[str]:
    outputs = client.get_run(run_id).outputs
    return [output.model_id for output in outputs.model_outputs] if outputs else []


def load(where: str | Path, scratch: Path) -> Any:
    """A model of the store, whose files MLflow would otherwise leave in the system's temporary folder."""
    return mlflow.pyfunc.load_model(str(where), dst_path=tempfile.mkdtemp(dir=scratch))


def predict(where: str | Path, images: Tensor) -> np.ndarray:
    predicted: np.ndarray = mlflow.pyfunc.load_model(str(where)).predict(images.numpy())
    return predicted


def classify(classifier: Classifier, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return classifier(images).numpy()


def random_images(num_images: int, shape: tuple[int, int, int] = DIGITS) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, *shape), dtype=torch.uint8, generator=generator)


def untrained(name: str) -> Classifier:
    torch.manual_seed(0)
    built = MODELS.build({"name": name, **MENU.get(name, {})}, 10, DIGITS)
    return Classifier(built, [0.3], [0.2], list("0123456789")).eval()


class Linear(nn.Module):
    """What the odd models below do to each image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class AsksForLength(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.reshape(len(x), -1))


class AsksForPixels(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Noisy(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


class Talkative(Linear):
    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("a model's own warning", stacklevel=1)
        print("torch prints here as well", file=sys.stderr)
        logging.getLogger("mlflow").warning("MLflow's own warning")
        logging.getLogger("torch.export").error("torch's own error")
        return super().forward(x)


def odd(module: nn.Module) -> Classifier:
    return Classifier(module, [0.3], [0.2], list("0123456789"))


@pytest.mark.slow
def test_mlflow_gets_the_runs_test_accuracy_from_raw_images(saved: Saved) -> None:
    loaded = mlflow.pyfunc.load_model(str(saved.folder))
    images, labels = saved.test.images.numpy(), saved.test.labels.numpy()
    assert images.dtype == np.uint8
    right = int((loaded.predict(images).argmax(1) == labels).sum())
    assert 0.5 < saved.accuracy < 1  # more than guessing, so that the same number is the same model
    assert right / len(labels) == saved.accuracy
    for size in (1, 2, 3, 300):  # 2 is what the graph was traced with
        logits = loaded.predict(images[:size])
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, classify(saved.classifier, saved.test.images[:size]))


def test_the_model_tells_what_it_takes_gives_and_needs(saved: Saved) -> None:
    loaded = mlflow.pyfunc.load_model(str(saved.folder))
    example = loaded.input_example
    assert isinstance(example, np.ndarray)
    assert example.dtype == np.uint8
    np.testing.assert_array_equal(example, saved.test.images[:2].numpy())
    assert loaded.predict(example).shape == (2, 10)
    assert loaded.metadata.metadata == {"classes": list("0123456789")}
    signature = loaded.metadata.signature.to_dict()
    assert json.loads(signature["inputs"])[0]["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 1, 32, 32]}
    assert json.loads(signature["outputs"])[0]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 10]}
    for wrong in (example.astype(np.float32) / 255, example[:, :, :28, :28], example[0]):
        with pytest.raises(mlflow.MlflowException, match="Failed to enforce schema"):
            loaded.predict(wrong)


def test_requirements_are_pinned_and_nothing_is_left_to_inference(saved: Saved) -> None:
    lines = (saved.folder / "requirements.txt").read_text().split()
    versions = {name: importlib.metadata.version(name) for name in ("mlflow", "numpy", "torch")}
    # `+cpu` and the like are builds of the same version, which no package index has.
    assert sorted(lines) == [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def test_it_is_loaded_without_a_pickle(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert predict(saved.folder, saved.test.images[:3]).shape == (3, 10)


def test_it_is_loaded_on_a_machine_with_a_gpu(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert predict(saved.folder, saved.test.images[:3]).shape == (3, 10)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS.names() if name != "net"],
)
def test_every_model_of_the_menu_takes_any_number_of_images(name: str, tmp_path: Path) -> None:
    classifier, images = untrained(name), random_images(3)
    model.save(classifier, images, tmp_path / "model")
    for size in (1, 3):
        expected = classify(classifier, images[:size])
        np.testing.assert_allclose(predict(tmp_path / "model", images[:size]), expected, atol=1e-5)


@pytest.mark.slow
def test_images_in_colour_and_a_model_of_the_torchvision_zoo(tmp_path: Path) -> None:
    built = MODELS.build({"name": "torchvision", "arch": "mobilenet_v3_small"}, 7, (3, 48, 40))
    classifier = Classifier(built, [0.5, 0.4, 0.3], [0.2, 0.3, 0.1], list("abcdefg")).eval()
    images = random_images(5, (3, 48, 40))
    model.save(classifier, images, tmp_path / "model")
    np.testing.assert_allclose(predict(tmp_path / "model", images), classify(classifier, images), atol=1e-5)


def test_a_model_that_asks_for_the_number_of_images_takes_any_number(tmp_path: Path) -> None:
    classifier, images = odd(AsksForLength()), random_images(5)
    model.save(classifier, images, tmp_path / "model")
    np.testing.assert_array_equal(predict(tmp_path / "model", images), classify(classifier, images))


def test_a_single_image_is_example_enough(tmp_path: Path) -> None:
    classifier, images = odd(Linear()), random_images(5)
    model.save(classifier, images[:1], tmp_path / "model")
    np.testing.assert_array_equal(predict(tmp_path / "model", images), classify(classifier, images))


@pytest.mark.slow
def test_saving_replaces_what_was_there_and_leaves_the_classifier_as_it_was(tmp_path: Path) -> None:
    average = AveragedModel(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten()))
    classifier = Classifier(average.to(memory_format=torch.channels_last), [0.3], [0.2], list("0123456789")).train()
    average.module.compile()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    images = random_images(3)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    model.save(classifier, images, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "old").exists()
    assert classifier.training
    assert average.module.training
    after = classifier.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert predict(tmp_path / "model", images).shape == (3, 3 * 30 * 30)


@pytest.mark.parametrize(
    ("module", "reason"), [(AsksForPixels(), "Data-dependent branching"), (Noisy(), "its graph gives other logits")]
)
def test_a_model_that_no_graph_can_be_made_of_is_told_in_one_line(
    module: nn.Module, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(model.CannotExport) as caught:
        model.save(odd(module), random_images(2), tmp_path / "model")
    assert str(caught.value).startswith(f"this model cannot be exported for MLflow ({reason}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_written_is_told_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(model.CannotExport, match="No such file or directory"):
        model.save(odd(Linear()), random_images(2), tmp_path / "nowhere" / "model")


def test_nothing_is_printed_and_no_tracking_state_is_touched(
    client: MlflowClient, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = mlflow.get_tracking_uri()
    run_id = new_run(client)
    capfd.readouterr()
    model.save(odd(Talkative()), random_images(2), tmp_path / "model")
    assert logged(client) == []
    model.upload(client, run_id, tmp_path / "model")
    assert capfd.readouterr() == ("", "")
    assert mlflow.get_tracking_uri() == uri
    assert mlflow.active_run() is None
    assert mlflow.get_active_model_id() is None
    assert client.get_run(run_id).info.status == "RUNNING"


def test_an_uploaded_model_is_the_runs_and_loads_by_both_uris(
    saved: Saved, client: MlflowClient, tmp_path: Path
) -> None:
    run_id = new_run(client)
    before = sorted(path.name for path in saved.folder.rglob("*"))
    model_id = model.upload(client, run_id, saved.folder)
    assert sorted(path.name for path in saved.folder.rglob("*")) == before
    filed = client.get_logged_model(model_id)
    assert (filed.name, filed.source_run_id, filed.status) == ("model", run_id, "READY")
    assert linked(client, run_id) == [model_id]
    expected = classify(saved.classifier, saved.test.images[:7])
    for uri in (f"models:/{model_id}", f"runs:/{run_id}/model"):
        loaded = load(uri, tmp_path)
        np.testing.assert_array_equal(loaded.predict(saved.test.images[:7].numpy()), expected)
        assert (loaded.metadata.run_id, loaded.model_id) == (run_id, model_id)


@pytest.mark.parametrize(
    "step",
    [
        "log_model_artifacts",
        *(
            pytest.param(step, marks=pytest.mark.slow)
            for step in ("log_outputs", "log_model_artifact", "finalize_logged_model")
        ),
    ],
)
def test_an_upload_that_broke_off_is_finished_and_not_begun_again(
    step: str, saved: Saved, client: MlflowClient, tmp_path: Path
) -> None:
    other = model.upload(client, new_run(client), saved.folder)
    run_id = new_run(client)

    with pytest.raises(OSError, match="the server is gone"):
        model.upload(breaking(client, step), run_id, saved.folder)
    (begun,) = set(logged(client)) - {other}
    assert client.get_logged_model(begun).status == "PENDING"
    assert model.upload(client, run_id, saved.folder) == begun
    assert client.get_logged_model(begun).status == "READY"
    assert load(f"models:/{begun}", tmp_path).predict(saved.test.images[:3].numpy()).shape == (3, 10)

    done = breaking(client, "create_logged_model", "log_outputs", "finalize_logged_model")
    assert model.upload(done, run_id, saved.folder) == begun
    assert sorted(logged(client)) == sorted([begun, other])
    assert linked(client, run_id) == [begun]


def invoke(address: str, body: str) -> np.ndarray:
    request = urllib.request.Request(f"{address}/invocations", body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return np.array(json.load(answer)["predictions"], dtype=np.float32)


@pytest.mark.slow
def test_the_scoring_server_takes_raw_images_and_needs_no_blitz(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "blitz.py").write_text("raise ImportError('blitz is not installed here')")
    command = ("models", "serve", "--model-uri", str(saved.folder), "--env-manager", "local")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts `uvicorn` by its name
    server = Server(tmp_path / "server", *command, probe="/ping", PYTHONPATH=str(tmp_path / "without"), PATH=path)
    server.start()
    try:
        for size in (1, 5):  # another process has other threads, which round differently
            images = saved.test.images[:size]
            predicted = invoke(server.uri, json.dumps({"inputs": images.tolist()}))
            np.testing.assert_allclose(predicted, classify(saved.classifier, images), atol=1e-5)
        example = invoke(server.uri, (saved.folder / "serving_input_example.json").read_text())
        np.testing.assert_allclose(example, classify(saved.classifier, saved.test.images[:2]), atol=1e-5)
        for pixel in (256, -1):
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                invoke(server.uri, json.dumps({"inputs": np.full((1, *DIGITS), pixel).tolist()}))
            assert "out of bounds for uint8" in refused.value.read().decode()
    finally:
        server.stop()


@pytest.mark.slow
def test_an_upload_through_a_tracking_server(
    saved: Saved, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    client = store.connect(server.uri)
    run_id = new_run(client)
    capfd.readouterr()
    with pytest.raises(OSError, match="the server is gone"):
        model.upload(breaking(client, "finalize_logged_model"), run_id, saved.folder)
    model_id = model.upload(client, run_id, saved.folder)
    assert model.upload(client, run_id, saved.folder) == model_id
    assert capfd.readouterr() == ("", "")
    assert logged(client) == linked(client, run_id) == [model_id]
    assert client.get_logged_model(model_id).status == "READY"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    expected = classify(saved.classifier, saved.test.images[:7])
    for uri in (f"models:/{model_id}", f"runs:/{run_id}/model"):
        predicted = load(uri, tmp_path).predict(saved.test.images[:7].numpy())
        np.testing.assert_array_equal(predicted, expected)

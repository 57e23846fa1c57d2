"""The best model as MLflow serves it: written into the run's folder first, then filed in a tracking store.

The format is the graph of torch.export (`pt2`): it holds the normalisation, takes raw uint8 images, is loaded without
blitz and the model's source, and without a pickle: also where MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false forbids them.
"""

from __future__ import annotations

import copy
import importlib.metadata
import io
import shutil
import tempfile
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from blitz.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from torch import Tensor, nn

    from blitz.training.classifier import Classifier

NAME = "model"  # of the folder in a run's folder, and of the model in MLflow
EXAMPLES = 2  # images in the input example; with a single one torch.export would fix the number of images at one
PACKAGES = ("mlflow", "numpy", "torch")  # all that a graph needs: the zoos' models consist of torch's own operations
TOLERANCE = 1e-3  # of the largest logit: a graph computes what its model does, but may do so in another order


class CannotExport(Exception):
    """The model could not be written; the message is one line for the user, and no reason to end a run."""


def save(classifier: Classifier, example: Tensor, folder: Path) -> None:
    """Write a complete MLflow model as `folder`, in place of one that is there; knows of no tracking store.

    Of `example`, uint8 images (B, C, H, W), the first two become the input example. Wherever the model is loaded it
    computes on the CPU, in float32. Raises CannotExport for a model that no graph for any number of images can be made
    of, and for whatever else goes wrong, a full disk included.
    """
    try:
        store.prepare()
        with (
            tempfile.TemporaryDirectory(prefix=".model-", suffix=".unfinished", dir=folder.parent) as scratch,
            # MLflow and torch warn about inner workings, and torch prints failed graphs. What really fails is raised.
            warnings.catch_warnings(action="ignore"),
            redirect_stderr(io.StringIO()),
        ):
            whole = Path(scratch) / NAME
            _export(classifier, example, whole)
            shutil.rmtree(folder, ignore_errors=True)
            whole.rename(folder)
    except Exception as error:
        lines = str(error).strip().splitlines()  # torch explains itself over pages
        reason = lines[0][:200] if lines else type(error).__name__
        raise CannotExport(f"this model cannot be exported for MLflow ({reason})") from error


def upload(client: MlflowClient, run_id: str, folder: Path) -> str:
    """File what `save` wrote as the run's logged model; returns its id.

    May be called again, after a failure or for another model of the same run, whose place it then takes.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}' AND name = '{NAME}'")
    model = next(iter(found), None) or client.create_logged_model(experiment, name=NAME, source_run_id=run_id)
    model_id: str = model.model_id
    outputs = run.outputs.model_outputs if run.outputs else []
    if model_id not in [output.model_id for output in outputs]:  # MLflow refuses the same link twice
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    client.log_model_artifacts(model_id, str(folder))
    _log_origin(client, model, folder)
    if model.status != LoggedModelStatus.READY:
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return model_id


def _export(classifier: Classifier, example: Tensor, folder: Path) -> None:
    """The model as `folder`, tried out; raises whatever torch.export, MLflow or the trial raise."""
    import torch

    model = copy.deepcopy(classifier).cpu().eval()
    images = example[:EXAMPLES].cpu()
    if len(images) < EXAMPLES:
        images = images.expand(EXAMPLES, -1, -1, -1).contiguous()
    try:
        _write(model, model, images, folder)
    except Exception:
        # A model that asks for len(images), or makes an int of it, is silently tied to the number of images in the
        # example. Dynamo reads the model's Python instead of running it and keeps the number open; it takes seconds.
        shutil.rmtree(folder, ignore_errors=True)
        batch = {0: torch.export.Dim.DYNAMIC}
        graph = torch.export.export(model, (images,), dynamic_shapes=(batch,), strict=True)
        _write(graph.module(), model, images, folder)


def _write(module: nn.Module, model: Classifier, images: Tensor, folder: Path) -> None:
    """Write `module`, and raise ValueError where its predictions through MLflow are not those of `model`."""
    import mlflow.pyfunc
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    about = Model()
    mlflow.pytorch.save_model(
        module,
        str(folder),
        mlflow_model=about,
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype("uint8"), (-1, *images.shape[1:]))]),
            Schema([TensorSpec(np.dtype("float32"), (-1, len(model.classes)))]),
        ),
        input_example=images.numpy(),
        pip_requirements=[f"{name}=={_version(name)}" for name in PACKAGES],  # else MLflow runs the model for it: 12 s
        serialization_format="pt2",
        metadata={"classes": list(model.classes)},
    )
    # A graph cannot leave the device that it was exported for, and MLflow's default on a machine with a GPU is the GPU.
    about.flavors["python_function"]["config"]["device"] = "cpu"
    about.save(str(folder / "MLmodel"))

    loaded = mlflow.pyfunc.load_model(str(folder))
    for batch in (images[:1], torch.cat([images, images[:1]])):  # other numbers of images than the example's
        with torch.no_grad():
            expected = model(batch)
        predicted = torch.from_numpy(loaded.predict(batch.numpy()))
        if not torch.allclose(predicted, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())):
            raise ValueError("its graph gives other logits than the model")


def _version(package: str) -> str:
    """As a package index has it: `+cu132` and the like are builds of the same version."""
    return importlib.metadata.version(package).split("+")[0]


def _log_origin(client: MlflowClient, model: LoggedModel, folder: Path) -> None:
    """Write into the copy in MLflow which run and which logged model it is, as MLflow's own `log_model` does."""
    from mlflow.models import Model

    about = Model.load(str(folder / "MLmodel"))
    about.run_id, about.model_id, about.model_uuid = model.source_run_id, model.model_id, model.model_id
    about.artifact_path = model.artifact_location
    with tempfile.TemporaryDirectory(prefix="blitz-") as scratch:
        about.save(str(Path(scratch) / "MLmodel"))
        client.log_model_artifact(model.model_id, str(Path(scratch) / "MLmodel"))

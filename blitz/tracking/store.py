"""Open a tracking store, and create it under a lock where it is not there."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from blitz.errors import BadInput
from blitz.redaction import HIDDEN, redact
from blitz.run_folder.run_info import RunInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient


def resolve(uri: str | None) -> str:
    """The store to use: the one asked for, else `MLFLOW_TRACKING_URI`, else `mlflow.db` in the current folder."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = sqlite_path(uri)
    return f"sqlite:///{path}" if path else uri


def recorded_in(about: RunInfo) -> str:
    """Where a run was to be recorded. Its record holds no credentials: an address with some comes from here.

    Raises BadInput where it does not.
    """
    assert about.store is not None
    if HIDDEN not in about.store:
        return about.store
    ours = resolve(None)
    if redact(ours) != about.store:
        raise BadInput(
            f"was recorded in {about.store}, whose credentials are not kept; "
            "give the address again: --store URI, or MLFLOW_TRACKING_URI"
        )
    return ours


def prepare() -> None:
    """Import mlflow, which takes seconds, without telemetry unless it was asked for and without lines of its own."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    import mlflow.tracking  # noqa: F401


def connect(uri: str) -> MlflowClient:
    """A client of the store; an embedded one is created, by one process at a time, if it is not there."""
    prepare()
    from mlflow import MlflowClient

    path = sqlite_path(uri)
    with _creating(path):
        if path is not None and not path.exists():
            _create(path)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)  # MlflowClient itself is lazy: this creates the tables
        return client


def _create(path: Path) -> None:
    """Make the tables beside, then move them into place: a store whose maker was killed half-way is broken for good."""
    from mlflow import MlflowClient

    prefix = f".{path.name}.unfinished"
    for leftover in path.parent.glob(f"{prefix}*"):  # of a process that was killed: we hold the lock
        leftover.unlink()
    unfinished = path.with_name(f"{prefix}.{os.getpid()}")
    MlflowClient(f"sqlite:///{unfinished}").search_experiments(max_results=1)
    unfinished.replace(path)


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment's id; it is made if it is not there."""
    path = sqlite_path(uri)
    with _creating(path):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(client.create_experiment(name, str(path.parent / "mlartifacts") if path else None))


def _creating(path: Path | None) -> AbstractContextManager[object]:
    """Several processes that open a fresh sqlite store together can leave it broken for good: one at a time."""
    return FileLock(f"{path}.lock") if path is not None else nullcontext()


def sqlite_path(uri: str) -> Path | None:
    """The file of an embedded store; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None

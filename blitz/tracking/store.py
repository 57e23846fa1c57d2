"""Open a tracking store: create it under a lock, check a server's health in seconds, find runs in it."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from blitz.errors import BadInput
from blitz.tracking.credentials import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HEALTH_TIMEOUT = 5.0  # seconds that an unreachable server may cost
LAST = "last"


def resolve(uri: str | None) -> str:
    """The store to use: the one asked for, else `MLFLOW_TRACKING_URI`, else `mlflow.db` in the current folder."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = _sqlite_path(uri)
    return f"sqlite:///{path}" if path else uri


def check(uri: str) -> None:
    """Raises BadInput, within seconds and without importing mlflow, for a store that cannot be written to."""
    if uri.startswith(("http://", "https://")):
        request = urllib.request.Request(uri.rstrip("/") + "/health")
        try:
            with urllib.request.urlopen(request, timeout=HEALTH_TIMEOUT):
                return
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise BadInput(
                f"tracking.uri={redact(uri)}: no tracking server answers there ({redact(str(reason))}); "
                "start it, name another, or use tracking=none"
            ) from None
    path = _sqlite_path(uri)
    if path is None:
        return
    if not path.parent.is_dir():
        raise BadInput(f"tracking.uri={uri}: there is no folder {path.parent}; make it, or name another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"tracking.uri={uri}: {path} is not writable; name another file with tracking.uri=")


def connect(uri: str) -> MlflowClient:
    """A client of the store; an embedded one is created, by one process at a time, if it is not there."""
    _quiet()
    from mlflow import MlflowClient

    with _creating(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)  # MlflowClient itself is lazy: this creates the tables
        return client


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment's id; it is made if it is not there."""
    with _creating(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        path = _sqlite_path(uri)
        return str(client.create_experiment(name, str(path.parent / "mlartifacts") if path else None))


def find(client: MlflowClient, wanted: str) -> Run:
    """The run with this id, a unique prefix of one, or `last`: the newest that this user started on this host.

    Raises BadInput where there is none or more than one.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if wanted == LAST:
        mine = f"tags.user = '{getpass.getuser()}' and tags.host = '{platform.node()}'"
        runs = list(client.search_runs(experiments, mine, max_results=1))
    elif len(wanted) == 32:
        runs = list(client.search_runs(experiments, f"attributes.run_id = '{wanted}'"))
    else:
        runs = list(client.search_runs(experiments, f"attributes.run_id LIKE '{wanted}%'", max_results=3))
    where = redact(str(client.tracking_uri))
    if not runs:
        raise BadInput(f"{wanted}: no such run in {where} (accepted: a run id, the start of one, or {LAST})")
    if len(runs) > 1:
        raise BadInput(f"{wanted}: more than one run in {where} starts like this; give more of its id")
    return runs[0]


def fetch(client: MlflowClient, run: Run, artifact: str, folder: Path) -> Path:
    """Copy an artifact of a run into `folder`. Raises BadInput where the run has none of this name."""
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run.info.run_id, artifact, str(folder)))
    except (MlflowException, OSError):
        raise BadInput(f"{run.info.run_id}: this run has no {artifact} in {redact(str(client.tracking_uri))}") from None


@contextmanager
def _creating(uri: str) -> Iterator[None]:
    """Several processes that open a fresh sqlite store together can leave it broken for good: one at a time."""
    path = _sqlite_path(uri)
    if path is None:
        yield
        return
    with FileLock(f"{path}.lock"):
        yield


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def _quiet() -> None:
    """Before mlflow is imported: no telemetry unless it was asked for, no lines about tables that it creates."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

"""Open a tracking store, and create it under a lock where it is not there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from blitz.errors import BadInput
from blitz.redaction import HIDDEN, redact
from blitz.run_folder.run_info import RunInfo
from blitz.tracking.databases import SCHEMA

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAKERS_LOCK = 0x626C69747A  # "blitz", among the advisory locks of a database


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
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # for which it asks a server once more
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    import mlflow.tracking  # noqa: F401


def connect(uri: str) -> MlflowClient:
    """A client of the store; its tables are created, by one process at a time, if they are not there."""
    prepare()
    from mlflow import MlflowClient

    path = sqlite_path(uri)
    with _creating(uri):
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
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    with _creating(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, str(path.parent / "mlartifacts") if path else None))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(name)  # which another process has made meanwhile
        assert experiment is not None
        return str(experiment.experiment_id)


def _creating(uri: str) -> AbstractContextManager[object]:
    """Of several processes that open a fresh store together, which would fail or break it for good: one at a time."""
    if (path := sqlite_path(uri)) is not None:
        return FileLock(f"{path}.lock")
    return _sole_maker(uri) if uri.startswith("postgresql") else nullcontext()


@contextmanager
def _sole_maker(uri: str) -> Iterator[None]:
    """Others wait while this process fills a PostgreSQL database; nobody does once its tables are there."""
    import sqlalchemy

    with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect() as connection:
        if not sqlalchemy.inspect(connection).has_table(SCHEMA):  # which appears together with all tables
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({MAKERS_LOCK})"))
        yield


def sqlite_path(uri: str) -> Path | None:
    """The file of an embedded store; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None

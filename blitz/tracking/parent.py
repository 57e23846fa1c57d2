"""The MLflow run that a sweep's runs are the children of."""

from __future__ import annotations

import getpass
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blitz.tracking import store
from blitz.tracking.credentials import redact
from blitz.tracking.sending import brief


@dataclass
class Parent:
    """A run that holds no metrics of its own."""

    run_id: str | None  # None where there is no store, or none that answers
    status: str = "FAILED"  # how it is to end


@contextmanager
def parent_run(uri: str | None, experiment: str, name: str, command: str, tags: dict[str, str]) -> Iterator[Parent]:
    """Open the parent of a sweep, and close it as its `status` says, or as KILLED.

    The store is made first where there is none: jobs that start together must not make it together. Where it fails,
    the sweep goes on without a parent, which is told.
    """
    parent = Parent(None)
    client = None
    if uri is not None:
        try:
            client = store.connect(uri)
            shown = {"mlflow.user": getpass.getuser(), "mlflow.source.type": "LOCAL", "mlflow.source.name": command}
            all_tags = {**shown, **tags, "sweep.host": platform.node()}
            found = client.create_run(store.experiment_id(client, uri, experiment), None, all_tags, redact(name))
            parent.run_id = str(found.info.run_id)
        except Exception as error:
            print(f"blitz: MLflow failed ({brief(error)}); the sweep goes on without a parent run", file=sys.stderr)
    try:
        yield parent
    except KeyboardInterrupt:
        parent.status = "KILLED"
        raise
    finally:
        if client is not None and parent.run_id is not None:
            try:
                client.set_terminated(parent.run_id, parent.status)
            except Exception as error:
                print(f"blitz: MLflow failed ({brief(error)}); run {parent.run_id} is left open", file=sys.stderr)

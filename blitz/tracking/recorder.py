"""One run's record: a journal on disk first, then one writer thread that sends batches to MLflow."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blitz.tracking import store
from blitz.tracking.credentials import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

logger = logging.getLogger("blitz")

JOURNAL = "metrics.jsonl"
BATCH = 1000  # metrics that MLflow takes at once
SEND_EVERY = 5.0  # seconds that a metric waits at most for its batch to fill
PARAMS_AT_ONCE = 100
DIGEST_LENGTH = 36  # characters of a data set's digest that MLflow takes
PARAM_LENGTH = 6000  # characters; MLflow cuts longer ones without a word


@dataclass(frozen=True)
class About:
    """What a run is, as MLflow files it."""

    experiment: str
    name: str
    params: Mapping[str, Any]  # nested; flattened with dots
    tags: Mapping[str, str]
    dataset_name: str
    dataset_source: str
    dataset_digest: str
    notes: str | None = None


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    step: int
    milliseconds: int


class Artifact(NamedTuple):
    """A file of the run's folder and the folder in MLflow that it is copied to."""

    path: Path
    folder: str | None


class Ended(NamedTuple):
    """The last word: FINISHED, FAILED or KILLED."""

    status: str


@dataclass
class Recorder:
    """Records into `folder` and, where `uri` is given, into an MLflow store.

    MLflow is first touched at `start`, in the writer thread. When it fails, that is told once; training goes on and the
    journal holds everything.
    """

    folder: Path
    uri: str | None
    about: About
    run_id: str | None = None  # once the store has answered
    failure: str | None = None  # why MLflow lacks something
    _queue: queue.SimpleQueue[Point | Artifact | Ended] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        # Line buffered: what was measured is with the operating system before the next step begins.
        self._journal = (self.folder / JOURNAL).open("a", buffering=1, encoding="utf-8")

    def start(self) -> None:
        """Begin to send; called after the first training step, because importing mlflow takes seconds."""
        if self.uri is not None and self._thread is None:
            self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
            self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of one step; costs a line in a file."""
        now = time.time_ns() // 1_000_000
        self._journal.write(json.dumps({"step": step, "time": now, **metrics}) + "\n")
        for name, value in metrics.items():
            self._queue.put(Point(name, value, step, now))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self._queue.put(Artifact(path, folder))

    def end(self, status: str) -> None:
        """Close the record and wait until MLflow has it, or has failed."""
        self._journal.close()
        self._queue.put(Ended(status))
        self.start()
        if self._thread is not None:
            self._thread.join()

    def _write(self) -> None:
        try:
            client = self._open()
            while not self._send(client):
                pass
        except Exception as error:
            # Whatever the tracking side raises: it must not end the training.
            self.failure = f"{type(error).__name__}: {redact(str(error)).splitlines()[0] if str(error) else ''}"
            logger.warning("MLflow failed (%s); the record in %s is complete", self.failure, self.folder)

    def _open(self) -> MlflowClient:
        assert self.uri is not None
        client = store.connect(self.uri)
        from mlflow.entities import Dataset, DatasetInput, Param

        about = self.about
        experiment = store.experiment_id(client, self.uri, about.experiment)
        tags = {**about.tags, **({"mlflow.note.content": about.notes} if about.notes else {})}
        run_id = client.create_run(experiment, run_name=about.name, tags=tags).info.run_id
        params = [Param(key, _param(value)) for key, value in flat(about.params).items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            client.log_batch(run_id, params=params[first : first + PARAMS_AT_ONCE])
        source = json.dumps({"uri": about.dataset_source})
        dataset = Dataset(about.dataset_name, about.dataset_digest[:DIGEST_LENGTH], "local", source)
        client.log_inputs(run_id, datasets=[DatasetInput(dataset)])
        self.run_id = run_id
        return client

    def _send(self, client: MlflowClient) -> bool:
        """Send what is there, a batch at most; True once the run has ended."""
        from mlflow.entities import Metric

        assert self.run_id is not None
        metrics: list[Metric] = []
        deadline = time.monotonic() + SEND_EVERY
        other: Artifact | Ended | None = None
        while len(metrics) < BATCH and other is None:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(item, Point):
                metrics.append(Metric(item.name, item.value, item.milliseconds, item.step))
            else:
                other = item
        if metrics:
            client.log_batch(self.run_id, metrics=metrics)
        if isinstance(other, Artifact):
            client.log_artifact(self.run_id, str(other.path), other.folder)
        if isinstance(other, Ended):
            client.set_terminated(self.run_id, other.status)
        return isinstance(other, Ended)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= PARAM_LENGTH else text[: PARAM_LENGTH - 20] + " … (see config.yaml)"

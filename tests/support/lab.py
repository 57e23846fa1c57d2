"""A store that fills without training, and what `blitz compare` says of it."""

from __future__ import annotations

import getpass
import itertools
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from support.recorded import client
from support.shell import blitz as command

from blitz.tracking import store
from blitz.tracking.queries import OF_A_SWEEP

MADE = {
    "git.commit": "0123456789abcdef", "git.diff": "none", "packages": "aaaa", "python": "3.11.7", "torch": "2.15.0",
    "device": "cpu", "precision": "fp32", "device.cpu": "AMD EPYC", "device.gpu": "none", "data.fingerprint": "ffff",
}  # fmt: skip
PLAIN = {"model.name": "net", "epochs": "2"}
MINUTES = itertools.count(28_000_000)  # since 1970: each run begins later than the one before


class Lab:
    """A store that fills without training, each test's runs in an experiment of its own."""

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        self.client: MlflowClient = client(uri)
        self.uri = store.resolve(uri)
        self.experiment = experiment
        self.own = {"user": getpass.getuser(), "host": platform.node()}

    def compare_as_json(self, *arguments: str) -> dict[str, Any]:
        """What `blitz compare ARGUMENTS… --format json` tells; of this experiment if nothing else is named."""
        if not set(arguments) & {"--sweep", "--experiment"}:
            arguments = ("--experiment", self.experiment, *arguments)
        return compare_as_json(*arguments)

    def run(
        self,
        lr: str = "0.1",
        seed: int = 0,
        objective: float | None = 0.5,
        *,
        status: str = "FINISHED",
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        name: str = "a run",
    ) -> str:
        """As blitz records one; returns its id."""
        params = {**PLAIN, "optimizer.lr": lr, "seed": str(seed), **(params or {})}
        measured = {} if objective is None else {"objective": objective, **(metrics or {})}
        return self.foreign(params, measured, {**MADE, **self.own, **(tags or {})}, status, experiment, name)

    def sweep(self, name: str, jobs: int, *, tags: Mapping[str, str] | None = None) -> str:
        """The run that stands for one."""
        return self.foreign({}, {"objective": 0.99}, {**self.own, "sweep": name, OF_A_SWEEP: str(jobs), **(tags or {})})

    def foreign(
        self,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        status: str = "FINISHED",
        experiment: str | None = None,
        name: str = "a run",
    ) -> str:
        """As anybody records one."""
        number, now = store.experiment_id(self.client, self.uri, experiment or self.experiment), 60_000 * next(MINUTES)
        run_id = str(self.client.create_run(number, now, dict(tags or {}), name).info.run_id)
        values = [Metric(key, value, now, 1) for key, value in metrics.items()]
        if metrics or params:
            self.client.log_batch(run_id, values, [Param(key, value) for key, value in params.items()])
        if status != "RUNNING":
            self.client.set_terminated(run_id, status, now + 30_000)
        return run_id

    def log(self, run_id: str, name: str, values: Sequence[float]) -> None:
        """A metric of the epochs 1, 2, …"""
        points = [Metric(name, value, step, step) for step, value in enumerate(values, start=1)]
        self.client.log_batch(run_id, points)

    def provenance(self, run_id: str, packages: Any, folder: Path) -> None:
        (folder / "provenance.json").write_text(json.dumps({"packages": packages}))
        self.client.log_artifact(run_id, str(folder / "provenance.json"))


def compare_as_json(*arguments: str) -> dict[str, Any]:
    """What `blitz compare ARGUMENTS… --format json` tells."""
    ended = command("compare", *arguments, "--format", "json")
    assert (ended.code, ended.told) == (0, []), ended
    found: dict[str, Any] = json.loads(ended.output)
    return found

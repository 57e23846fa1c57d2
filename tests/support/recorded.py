"""What runs left behind, read back from their folders and their stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from blitz.run_folder.run_info import RunInfo
from blitz.tracking import queries, store

Note = Callable[[str, object], None]  # pytest's record_property: experiments/faults reads how many `tries` a test made


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def journal(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric -> (step, value) pairs, in the order they were measured."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in lines(folder):
        for name in entry.keys() - {"step", "time"}:
            found.setdefault(name, []).append((int(entry["step"]), entry[name]))
    return found


def client(uri: str | None = None) -> MlflowClient:
    return store.connect(store.resolve(uri))


def runs(uri: str | None = None) -> list[Run]:
    """Those that were trained, the newest first."""
    return [run for run in _all(uri) if queries.OF_A_SWEEP not in run.data.tags]


def sweeps(uri: str | None = None) -> list[Run]:
    """Those that stand for a sweep, the newest first."""
    return [run for run in _all(uri) if queries.OF_A_SWEEP in run.data.tags]


def _all(uri: str | None) -> list[Run]:
    found = client(uri)
    return list(found.search_runs(queries.experiment_ids(found)))


def artifacts(run_id: str, folder: str | None = None, uri: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in client(uri).list_artifacts(run_id, folder):
        found |= artifacts(run_id, item.path, uri) if item.is_dir else {item.path}
    return found


def assert_the_store_has_all_of(folder: Path, uri: str | None = None) -> Run:
    """The store holds the run once, with each point of the folder's journal once and no other."""
    (run,) = [run for run in runs(uri) if run.data.tags["record"] == RunInfo.load(folder).record]
    measured: dict[str, list[tuple[int, int, float]]] = {}
    for entry in lines(folder):
        for name in entry.keys() - {"step", "time"}:
            measured.setdefault(name, []).append((int(entry["time"]), int(entry["step"]), entry[name]))
    assert set(run.data.metrics) == set(measured)
    for name, points in measured.items():
        history = client(uri).get_metric_history(run.info.run_id, name)
        assert sorted((point.timestamp, point.step, point.value) for point in history) == sorted(points), name
    return run

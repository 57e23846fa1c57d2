"""The one lookup of RUN: an id, a prefix of one, `last`, `best` or a folder → a run's record, its folder, its files."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os.path import expanduser  # leaves a home folder that nobody has as it is; pathlib raises RuntimeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.run_folder.candidates import BEST as BEST
from blitz.run_folder.run_info import ABOUT, SWEEP, RunInfo, runs_in
from blitz.tracking import health, queries, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LAST = "checkpoints/last.pt"
SWEEPS = "runs/sweeps"
KEPT = "a run that was stopped may have none, a sweep keeps those of its best jobs, and see checkpoint.keep"


@dataclass
class StoredRun:
    """A run as a store has it."""

    client: MlflowClient
    run: Run
    scratch: Path  # for files that are fetched

    @property
    def name(self) -> str:
        """Its whole id."""
        return str(self.run.info.run_id)

    @property
    def stored(self) -> StoredRun:
        return self

    @cached_property
    def in_folder(self) -> FolderRun:
        """The run where its checkpoints are. Raises BadInput where that is not on this machine."""
        tags = self.run.data.tags
        folder = Path(tags.get("folder", ""))
        if (folder / ABOUT).exists():
            found = FolderRun(folder, None, self.scratch)
            if found.info.record == tags.get("record"):
                return found
        raise BadInput(
            f"{self.name}: the folder of this run with its checkpoints, {folder} on {tags.get('host')}, is not here; "
            "name a copy of it: blitz resume DIR"
        )

    def file(self, name: str) -> Path:
        """A file of its record, such as config.yaml, until the lookup ends. Raises BadInput where it has none."""
        folder = (self.scratch / name).parent  # a message has the name as it is in the record
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return queries.fetch(self.client, self.run, name, folder)
        except BadInput as problem:
            if name != BEST:
                raise
            raise BadInput(f"{problem} ({KEPT}); 'blitz reproduce {self.name}' trains it again") from None


@dataclass
class FolderRun:
    """A run as its folder has it."""

    folder: Path
    uri: str | None  # the store that was asked for
    scratch: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    @cached_property
    def info(self) -> RunInfo:
        """Raises BadInput for a folder that is no run's."""
        return RunInfo.load(self.folder)

    @property
    def in_folder(self) -> FolderRun:
        return self

    @cached_property
    def stored(self) -> StoredRun:
        """The same run in its store. Raises BadInput where it is in none."""
        where = self.uri or (store.recorded_in(self.info) if self.info.store else None)
        if where is None:
            raise BadInput(f"{self.name}: recorded with tracking=none; put it into a store: blitz sync --store URI DIR")
        client = health.connect(where)
        query = f"tags.record = '{self.info.record}'"
        found = list(client.search_runs(queries.experiment_ids(client), query, max_results=1))
        if not found:
            raise BadInput(f"{self.name}: not in {redact(where)}; 'blitz sync {self.name}' sends it")
        return StoredRun(client, found[0], self.scratch)

    def file(self, name: str) -> Path:
        """A file of its record, such as config.yaml. Raises BadInput where there is none of this name."""
        path = self.folder / name
        if not path.exists():
            is_a_run = name == BEST and (self.folder / ABOUT).exists()
            remedy = f" ({KEPT}); 'blitz reproduce {self.name}' trains it again" if is_a_run else ""
            raise BadInput(f"{self.name}: this folder holds no {name}{remedy}")
        return path


FoundRun = StoredRun | FolderRun


@contextmanager
def find_run(wanted: str | Path, uri: str | None = None) -> Iterator[FoundRun]:
    """The run with this id, a unique prefix of one, in this folder, the `last` one that was started here, or the
    `best` one of the last sweep.

    `uri` is the store, by default the one that a run would use. Raises BadInput where there is no such run.
    """
    with tempfile.TemporaryDirectory(prefix="blitz-") as scratch:
        found = _find(str(wanted), uri, Path(scratch))
        if isinstance(found, StoredRun) and "record" not in found.run.data.tags:
            where = redact(found.client.tracking_uri)
            raise BadInput(f"{wanted}: not a run of blitz; another program logged {found.name} to {where}")
        try:
            yield found
        except BadInput as error:  # with the names of its files, not of copies that are gone
            raise BadInput(*(problem.replace(scratch, found.name) for problem in error.problems)) from None


def _find(wanted: str, uri: str | None, scratch: Path) -> FoundRun:
    if is_path(wanted):
        folder = Path(expanduser(wanted))
        if not folder.is_dir():
            raise BadInput(
                f"{wanted}: no folder of a run (accepted: a run id, the start of one, last, best, or such a folder)"
            )
        return FolderRun(folder, uri, scratch)
    if wanted == queries.BEST_OF_SWEEP:
        wanted = _best_of_last_sweep(uri, scratch)
    newest = _newest_here(uri, scratch) if wanted == queries.LAST else None
    try:
        client = health.connect(uri)
        found = StoredRun(client, queries.find(client, wanted), scratch)
    except BadInput:
        if newest is None:
            raise
        return newest
    if newest is not None:
        if newest.info.record == found.run.data.tags.get("record"):
            found.in_folder = newest
        elif newest.info.started_at > found.run.info.start_time:  # its store may not have it yet, or never
            return newest
    return found


def for_this_host(config: Mapping[str, Any], found: FoundRun) -> dict[str, Any]:
    """A recorded config without its places, but for the images of a run of this host, where they are there still.

    Where they are, its own folder says: anybody may write into a store.
    """
    from blitz.config.recorded import read_config, without_places  # whose libraries other lookups do without

    kept = without_places(config)
    try:
        own = read_config(found.in_folder.folder / "config.yaml")["data"]
        is_of_this_host = found.in_folder.info.host == platform.node()
    except BadInput:
        return kept
    data = kept["data"]
    if is_of_this_host and isinstance(own, dict) and isinstance(data, dict) and own.get("name") == data.get("name"):
        root = own.get("root")
        if isinstance(root, str) and Path(expanduser(root)).exists():
            data["root"] = root
    return kept


def id_in_store(wanted: str, uri: str | None = None) -> str:
    """What a store finds the run by, another program's too: an id as it was given, of all others the whole id."""
    if wanted not in (queries.LAST, queries.BEST_OF_SWEEP) and not is_path(wanted):
        return wanted
    with tempfile.TemporaryDirectory(prefix="blitz-") as scratch:
        return _find(wanted, uri, Path(scratch)).stored.name


@contextmanager
def weights_file(source: str, uri: str | None = None) -> Iterator[Path]:
    """The weights that a path or RUN stands for; a file that was fetched is gone afterwards."""
    path = Path(expanduser(source))
    if is_path(source) and not path.is_dir():
        yield path
        return
    with find_run(source, uri) as found:
        yield found.file(BEST)


def fix_weights(settings: Settings) -> Settings:
    """The same with the whole id of a run whose weights it starts from: `last` is another one tomorrow."""
    weights = settings.model["weights"]
    if weights is None or is_path(weights):
        return settings
    with find_run(weights, settings.tracking.uri) as found:
        return settings.model_copy(update={"model": {**settings.model, "weights": found.name}})


def is_path(text: str) -> bool:
    """Whether it names a file or folder and no run: what looks like a path, so that a mistyped one is called that."""
    path = Path(expanduser(text))
    return path.exists() or bool(path.suffix) or len(path.parts) > 1


def _best_of_last_sweep(uri: str | None, scratch: Path) -> str:
    """The id of its run. Raises BadInput where there is none."""
    sweep, newest = None, _newest_here(uri, scratch, SWEEPS)
    try:
        sweep = queries.find_sweep(health.connect(uri), queries.LAST)
    except BadInput:
        if newest is None:
            raise
    tags = sweep.data.tags if sweep is not None else {}
    if newest is not None and (sweep is None or newest.info.started_at >= sweep.info.start_time):
        tags = newest.info.tags  # its store may not have all of it yet
    if not tags:
        raise BadInput(f"{queries.BEST_OF_SWEEP}: no sweep was started here (accepted: {queries.RUN})")
    if not tags.get(queries.BEST_JOB):
        why = "it has not ended, no job of it has finished, or its runs are in no store"
        raise BadInput(f"{queries.BEST_OF_SWEEP}: the last sweep, {tags[SWEEP]}, names no best run: {why}")
    return tags[queries.BEST_JOB]


def _newest_here(uri: str | None, scratch: Path, place: str = "runs") -> FolderRun | None:
    """The newest run in `place` that was started on this host, in the store `uri` where that is given."""
    where = redact(store.resolve(uri)) if uri is not None else None
    newest: FolderRun | None = None
    for folder, info in runs_in(Path(place).absolute()):
        if info.host == platform.node() and where in (None, info.store):
            newest = FolderRun(folder, uri, scratch)
            newest.info = info
    return newest

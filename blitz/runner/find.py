"""The one lookup of RUN: an id, the start of one, `last` or a folder."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.run_folder.run_info import ABOUT, RunInfo, newest
from blitz.tracking import health, queries, store

BEST, LAST = "checkpoints/best.pt", "checkpoints/last.pt"


class FoundRun(NamedTuple):
    """A run whose record can be read."""

    name: str  # its whole id, or the folder as it was named
    file: Callable[[str], Path]  # a file of the record, such as config.yaml; raises BadInput where there is none


@contextmanager
def record_of(run: str, uri: str | None = None) -> Iterator[FoundRun]:
    """The record of a run, in its folder or in the store by its id; what was fetched is gone afterwards."""
    if is_path(run):
        if not Path(run).is_dir():
            raise BadInput(f"{run}: no folder of a run (accepted: a run id, the start of one, last, or such a folder)")
        yield FoundRun(run, lambda name: _in_folder(run, name))
        return
    client = health.connect(uri)
    found = queries.find(client, run)
    run_id = str(found.info.run_id)
    shown: dict[str, str] = {}  # path of a fetched file -> what it is to the reader

    with tempfile.TemporaryDirectory(prefix="blitz-") as folder:

        def fetched(name: str) -> Path:
            try:
                path = queries.fetch(client, found, name, Path(folder))
            except BadInput as problem:
                if name != BEST:
                    raise
                kept = "a run that was stopped has none, a sweep keeps those of its best jobs, and see checkpoint.keep"
                raise BadInput(f"{problem} ({kept}); 'blitz reproduce {run_id}' trains it again") from None
            shown[str(path)] = f"{run_id}/{name}"
            return path

        try:
            yield FoundRun(run_id, fetched)
        except BadInput as error:
            problems = error.problems
            for path, name in shown.items():
                problems = tuple(problem.replace(path, name) for problem in problems)
            raise BadInput(*problems) from None


@contextmanager
def weights_file(source: str, uri: str | None = None) -> Iterator[Path]:
    """The weights that a path, a run's folder or a run id stands for; a file that was fetched is gone afterwards."""
    if is_path(source) and not (path := Path(source).expanduser()).is_dir():
        yield path
        return
    with record_of(source, uri) as record:
        yield record.file(BEST)


def _in_folder(folder: str, name: str) -> Path:
    path = Path(folder) / name
    if not path.exists():
        raise BadInput(f"{folder}: this folder holds no {name}")
    return path


def pinned(settings: Settings) -> Settings:
    """The same with the whole id of a run whose weights it starts from: `last` is another one tomorrow."""
    weights = settings.model["weights"]
    if weights is None or is_path(weights):
        return settings
    client = health.connect(settings.tracking.uri)
    return settings.model_copy(
        update={"model": {**settings.model, "weights": queries.find(client, weights).info.run_id}}
    )


def folder_of(wanted: str, uri: str | None = None) -> Path:
    """The folder of a run: a path to it, or where the run of this id (or prefix, or `last`) says.

    `last` may be one that its store has not heard of: it was killed together with the process that tells the store.

    Raises BadInput where that is not here.
    """
    if Path(wanted).is_dir():
        RunInfo.load(Path(wanted))
        return Path(wanted)
    if is_path(wanted):
        raise BadInput(f"{wanted}: no folder of a run (accepted: a run id, the start of one, last, or such a folder)")
    newest = _newest_here(uri) if wanted == queries.LAST else None
    try:
        run = queries.find(health.connect(uri), wanted)
    except BadInput:
        if newest is None:
            raise
        return newest
    if newest is not None and RunInfo.load(newest).started_at > run.info.start_time:
        return newest
    tags = run.data.tags
    folder = Path(tags.get("folder", ""))
    if not (folder / ABOUT).exists() or RunInfo.load(folder).record != tags.get("record"):
        raise BadInput(
            f"{wanted}: the folder of run {run.info.run_id} with its checkpoints, {folder} on {tags.get('host')}, is "
            "not here; name a copy of it: blitz resume DIR"
        )
    return folder


def _newest_here(uri: str | None) -> Path | None:
    """The folder in ./runs of the newest run that was started on this host, in the store `uri` where that is given."""

    def is_mine(about: RunInfo) -> bool:
        return about.host == platform.node() and (uri is None or about.store == redact(store.resolve(uri)))

    return newest((path.parent for path in Path("runs").glob(f"*/{ABOUT}")), is_mine)


def is_path(weights: str) -> bool:
    """Whether it names a file and no run: what looks like a path, so that a mistyped one is not told to be no run."""
    path = Path(weights).expanduser()
    return path.exists() or bool(path.suffix) or len(path.parts) > 1

"""Jobs on a Ray cluster: Ray carries what a job needs to machines without the sweep's disk, and its run back.

There, a job has folders of the same names, relative to where `ray start` was called, or absolute. Other launchers'
jobs share the sweep's disk.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from blitz.errors import BadInput, in_one_line
from blitz.run_folder.files import replacing
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import ABOUT, FAILED, FINISHED
from blitz.runner.find import LAST
from blitz.sweeps.folder import (
    INTERRUPT,
    OPTIONS,
    PAUSE_ALL,
    PLAN,
    STOP,
    UNFINISHED,
    JobOptions,
    begin,
    newest_run,
    read_outcomes,
)
from blitz.terminal.repeating import repeating

LOOK_EVERY = 1.0  # seconds between two looks for a message to a job
CONNECT_SECONDS = 10.0
ENDED = (*UNFINISHED, FINISHED, FAILED)
MESSAGES = (STOP, INTERRUPT, PAUSE_ALL)


class File(NamedTuple):
    """With its time of change: MLflow gets what has changed since."""

    content: bytes
    nanoseconds: int


Files = Mapping[str, File]  # by the path in `runs_dir`
_homes: dict[Path, Any] = {}  # actors end with the last handle to them


def is_ray(launcher: DictConfig) -> bool:
    return str(launcher._target_).endswith(".RayLauncher")


def connect(launcher: DictConfig) -> None:
    """Connect to the cluster that the launcher's options name, or start one. Raises BadInput where that fails."""
    import ray

    cores_of(launcher)  # refuses what is no number of them
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # jobs print similar lines, which all count
    if ray.is_initialized():
        return
    options: Any = OmegaConf.to_container(launcher.ray.init, resolve=True)
    _refuse_silent(str(options.get("address") or os.environ.get("RAY_ADDRESS") or "auto"))
    try:
        ray.init(**{"logging_level": logging.WARNING, **options})
    except Exception as error:  # of every kind: no cluster on this machine, no token for it, an unknown option
        cause = str(error.__cause__ or "").splitlines()[-1:]  # below Ray's own traceback
        why = cause[0] if cause else in_one_line(error)
        raise BadInput(f"hydra.launcher.ray.init={options}: {why[:300]}") from None


def _refuse_silent(address: str) -> None:
    """Raises BadInput where nobody listens at an address: Ray would wait for minutes."""
    given, remedy = address, ""
    if address == "auto":  # what `ray start` noted on this machine; nothing takes the note away after a crash
        noted = Path(os.environ.get("RAY_TMPDIR") or gettempdir(), "ray", "ray_current_cluster")
        address = noted.read_text().strip() if noted.exists() else ""
        remedy = f" of {address}; 'ray stop' clears what is left of a cluster"
    host, _, port = address.rpartition(":")
    if not host:  # local
        return
    problem = f"hydra.launcher.ray.init.address={given}: accepted: auto, local, or HOST:PORT of a cluster"
    if not port.isdigit() or "/" in host:
        raise BadInput(f"{problem} that this machine is part of")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BadInput(f"{problem}; no answer{remedy or ' there'} ({error})") from None


def disconnect() -> None:
    """End all jobs that are left. The next ones connect again."""
    import ray

    _homes.clear()
    ray.shutdown()


def places(launcher: DictConfig) -> int:
    """How many jobs the cluster runs at once."""
    import ray

    connect(launcher)
    found = ray.cluster_resources()
    wanted = {"CPU": cores_of(launcher), "GPU": launcher.ray.remote.get("num_gpus", 0)}
    return max(1, min(int(found.get(what, 0) // number) for what, number in wanted.items() if number))


def cores_of(launcher: DictConfig) -> int:
    """How many processor cores each job has: as many as it asks the cluster for. Raises BadInput."""
    cores = launcher.ray.remote.get("num_cpus", 1)
    if not isinstance(cores, int) or isinstance(cores, bool) or cores < 1:
        raise BadInput(f"hydra.launcher.ray.remote.num_cpus={cores}: accepted: integer >= 1")
    return cores


class Home:
    """A sweep's folder, as its jobs on other machines reach it: an actor of Ray, which ends with the sweep."""

    def __init__(self, sweep: str) -> None:
        self._sweep = Path(sweep)
        self._tokens: dict[int, str] = {}  # of the process that trains each job

    def is_reached(self) -> bool:
        return self._sweep.is_dir()

    def begin(self, number: int, token: str) -> Files:
        """What a job needs. A process that had it before is gone, as far as Ray knows; if it is not, it is to end."""
        self._tokens[number] = token
        run = JobOptions.load(self._sweep).runs.get(str(number))
        paths = [self._sweep / name for name in (PLAN, OPTIONS, *MESSAGES, f"{number}.begun")]
        files = _read(self._runs_dir, [*paths, *_files_of(self._runs_dir, run)])
        begin(self._sweep, number)
        return files

    def messages(self, number: int, token: str) -> list[str]:
        if self._tokens[number] != token:
            return [STOP, INTERRUPT]
        return [name for name in MESSAGES if (self._sweep / name).exists()]

    def end(self, number: int, token: str, files: Files) -> None:
        """What a job has left."""
        if self._tokens[number] == token:
            _write(self._runs_dir, files)
            outcome = read_outcomes(self._sweep).get(number)
            if outcome is not None and outcome.status == FAILED and JobOptions.load(self._sweep).on_failure == "stop":
                (self._sweep / STOP).touch()

    @property
    def _runs_dir(self) -> Path:
        return self._sweep.parent.parent


def open_home(folder: Path, launcher: DictConfig) -> None:
    """Have the sweep's folder within reach of its jobs. Raises BadInput where they could not reach it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    connect(launcher)
    if folder in _homes:
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    make = ray.remote(Home).options(name=_name(folder), num_cpus=0, scheduling_strategy=here)
    _homes[folder] = make.remote(str(folder.absolute()))
    if not ray.get(_homes[folder].is_reached.remote()):
        address = launcher.ray.init.get("address")
        raise BadInput(f"hydra.launcher.ray.init.address={address}: accepted: a cluster that this machine is part of")


@contextmanager
def place_of(hydra: Any) -> Iterator[Path]:
    """The folder in which a job finds its sweep: the sweep's own, or where there is none, a copy of what it needs."""
    sweep, number = Path(hydra.sweep.dir), int(hydra.job.name)
    if not is_ray(hydra.launcher):
        yield sweep
    elif (Path(hydra.runtime.cwd) / sweep / ABOUT).exists():  # which is never copied
        with chdir(hydra.runtime.cwd):
            yield sweep
    else:
        with _copied(sweep, number):
            yield sweep


@contextmanager
def _copied(sweep: Path, number: int) -> Iterator[None]:
    import ray

    home, token, runs_dir = ray.get_actor(_name(sweep)), uuid.uuid4().hex, sweep.parent.parent
    needed: Any = ray.get(home.begin.remote(number, token))
    for message in MESSAGES:  # from before the sweep was resumed
        (sweep / message).unlink(missing_ok=True)
    _write(runs_dir, needed)
    before = newest_run(sweep, number, ENDED)

    def pass_messages_on() -> None:
        messages = [STOP, INTERRUPT]
        with suppress(ray.exceptions.RayError):  # the sweep is gone
            messages = ray.get(home.messages.remote(number, token))
        for message in messages:
            (sweep / message).touch()

    try:
        with repeating(pass_messages_on, LOOK_EVERY):
            yield
    finally:
        run = newest_run(sweep, number, ENDED)
        paths = _files_of(runs_dir, run[0].name) if run is not None and run != before else []
        left = _read(runs_dir, [*paths, sweep / f"{number}.json"])
        ray.get(home.end.remote(number, token, left))


def is_copy(sweep: Path) -> bool:
    """Whether this is not the sweep's own folder."""
    return not (sweep / ABOUT).exists()


def _name(sweep: Path) -> str:
    return f"blitz sweep {sweep.name}"


def _files_of(runs_dir: Path, run: str | None) -> list[Path]:
    """All that a run's folder holds, but locks and what was not written to its end."""
    paths = (runs_dir / Path(run).name).rglob("*") if run is not None else []
    files = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    return sorted(files, key=lambda path: path.match(LAST))  # which is worth nothing without the rest


def _read(runs_dir: Path, paths: list[Path]) -> Files:
    found = [path for path in paths if path.exists()]
    return {str(path.relative_to(runs_dir)): File(path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def _write(runs_dir: Path, files: Files) -> None:
    """A run that is here and got further, before its process was killed, stays as it is."""
    journals = [name for name in files if Path(name).name == JOURNAL]
    kept = [Path(name).parent for name in journals if _size(runs_dir / name) > len(files[name].content)]
    for name, file in files.items():
        path = runs_dir / name
        if not any(folder in Path(name).parents for folder in kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as written:
                written.write(file.content)
            os.utime(path, ns=(file.nanoseconds, file.nanoseconds))
    for run in {Path(name).parent for name in journals} - {*kept}:
        for path in _files_of(runs_dir, run.name):
            if str(path.relative_to(runs_dir)) not in files:  # the checkpoint of a run that has finished since
                path.unlink()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

"""A run's folder: unique, with what was asked for written before anything is trained."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from yaml import YAMLError

from blitz.errors import BadInput
from blitz.redaction import Redacting

logger = logging.getLogger("blitz")

LOCK = ".training.lock"
MARKING_SECONDS = 60.0  # that a file may take to be written on a busy disk
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without letters and digits that look alike


def new_folder(runs_dir: str) -> Path:
    """A folder that no other run has, such as `2026-11-22_18-04-59_k3f9`. Raises BadInput where none can be made."""
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    while True:
        folder = Path(runs_dir) / f"{started}_{''.join(secrets.choice(ALPHABET) for _ in range(4))}"
        try:
            Path(runs_dir).mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if Path(runs_dir).is_dir():
                continue
            raise BadInput(f"runs_dir={runs_dir}: is a file; name a folder") from None
        except OSError as error:
            raise BadInput(
                f"runs_dir={runs_dir}: no folder can be made there ({error.strerror}); name another with runs_dir="
            ) from None
        (folder / "checkpoints").mkdir()
        (folder / "figures").mkdir()
        return folder


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold the lock that says that a process trains this run, or leads this sweep.

    The operating system releases it when the process ends, however that happens: it is the sign of life for all who ask
    on this machine. Raises BadInput where another process has it.
    """
    busy = BadInput(f"{folder}: another process is training it")
    if is_locked(folder):
        raise busy
    with ExitStack() as stack:
        try:
            # Somebody who marks it as orphaned may have it for as long as a file is written.
            is_ours = stack.enter_context(try_lock(folder / LOCK, MARKING_SECONDS))
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written to ({error.strerror})") from None
        if not is_ours:
            raise busy
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine trains this run, or leads this sweep."""
    with no_trainer(folder) as is_free:
        return not is_free


@contextmanager
def no_trainer(folder: Path) -> Iterator[bool]:
    """Whether no process trains this run, in which case none begins to during the block.

    The lock is shared with all others who ask, and needs no right to write. Raises OSError.
    """
    try:
        file = (folder / LOCK).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def try_lock(path: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Whether this process has the lock file `path` to itself for the block; waits up to so many seconds for it.

    It goes with the process, however that ends. Raises OSError.
    """
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def write_opening(
    folder: Path, config: Mapping[str, Any], overrides: Sequence[str], provenance: Mapping[str, Any], diff: str
) -> None:
    """Write what was asked for and what it runs on."""
    write_config(folder, config)
    write_whole(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
    write_whole(folder / "provenance.json", json.dumps(provenance, indent=2) + "\n")
    write_whole(folder / "git.diff", diff)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def read_overrides(folder: Path) -> list[str]:
    """What was typed; nothing where that cannot be read."""
    try:
        found = OmegaConf.to_container(OmegaConf.load(folder / "overrides.yaml"))
    except (OSError, ValueError, YAMLError):
        return []
    return [str(override) for override in found] if isinstance(found, list) else []


def add_result(folder: Path, provenance: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Put what came out into `provenance.json`; a disk that is full by then is told, and the file stays as it was."""
    try:
        write_whole(folder / "provenance.json", json.dumps({**provenance, "result": result}, indent=2) + "\n")
    except OSError as error:
        logger.warning("%s: %s", error.filename, error.strerror)


def write_whole(path: Path, text: str, synced: bool = True) -> None:
    """Write so that `path` holds the old or the new text whole, also after a power cut. Raises OSError.

    What may be lost, or emptied, in a power cut, does without `synced`, which waits for the disk.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:  # line ends are part of a diff
            file.write(text)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


class _LogFile(logging.Handler):
    """Lines of `run.log`, with the time of day and without credentials; unbuffered, so that a kill loses none."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(Redacting("%(asctime)s  %(message)s"))
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.write(f"{self.format(record)}\n".encode(errors="replace"))
        except OSError as error:  # the disk is full: the journal will say so too, and end the run
            if not self._told:
                print(f"blitz: {self._path}: {error.strerror}; the log goes on without it", file=sys.stderr)
            self._told = True

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def log_file(folder: Path, logger: logging.Logger) -> Iterator[None]:
    """Everything that the logger is told also goes to the folder's `run.log`."""
    handler = _LogFile(folder / "run.log")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()

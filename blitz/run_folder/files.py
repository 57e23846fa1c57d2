"""A run's folder: made, locked while it is trained, and written so that a crash leaves whole files."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from blitz.errors import BadInput, RunFailed
from blitz.redaction import Redacting
from blitz.run_folder.yaml_files import UNREADABLE, refuse_bomb

logger = logging.getLogger("blitz")

LOCK = ".training.lock"
MARKING_SECONDS = 60.0  # that a file may take to be written on a busy disk
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without letters and digits that look alike


def new_folder(runs_dir: str) -> Path:
    """A folder that no other run has, such as `2026-11-22_18-04-59_k3f9`. Raises BadInput where none can be made."""
    while True:
        letters = "".join(secrets.choice(ALPHABET) for _ in range(4))
        folder = Path(runs_dir) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{letters}"
        try:
            Path(runs_dir).mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            (folder / "checkpoints").mkdir()
            (folder / "figures").mkdir()
        except FileExistsError:
            if Path(runs_dir).is_dir():  # another run has this name
                continue
            raise BadInput(f"runs_dir={runs_dir}: is a file; name a folder") from None
        except BaseException as error:  # a signal, say
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise BadInput(
                    f"runs_dir={runs_dir}: no folder can be made there ({error.strerror}); name another with runs_dir="
                ) from None
            raise
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
        for path in folder.rglob(".*.unfinished"):  # of processes that were killed while they wrote
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
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
    with ExitStack() as stack:
        is_free = True
        try:
            fcntl.flock(stack.enter_context((folder / LOCK).open("rb")), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        except (FileNotFoundError, NotADirectoryError):  # nobody ever trained here
            pass
        yield is_free


@contextmanager
def try_lock(path: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Whether this process has the lock file `path` to itself for the block; waits up to so many seconds for it.

    It goes with the process, however that ends. Raises OSError.
    """
    with ExitStack() as stack:
        is_ours = False
        with suppress(Timeout):
            stack.enter_context(FileLock(path, timeout=seconds))
            is_ours = True
        yield is_ours


def write_opening(folder: Path, overrides: Sequence[str], provenance: Mapping[str, Any], diff: str) -> None:
    """Write what was asked for and what it runs on."""
    from omegaconf import OmegaConf

    write_whole(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
    write_provenance(folder, provenance)
    write_whole(folder / "git.diff", diff)


def write_provenance(folder: Path, provenance: Mapping[str, Any]) -> None:
    write_whole(folder / "provenance.json", json.dumps(provenance, indent=2) + "\n")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    from omegaconf import OmegaConf

    write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def read_overrides(folder: Path) -> list[str]:
    """The overrides as they were typed; none where the file cannot be read."""
    from omegaconf import OmegaConf

    try:
        refuse_bomb(folder / "overrides.yaml")
        found = OmegaConf.to_container(OmegaConf.load(folder / "overrides.yaml"))
    except UNREADABLE:
        return []
    return [str(override) for override in found] if isinstance(found, list) else []


def add_result(folder: Path, provenance: Mapping[str, Any], result: Mapping[str, Any], level: int) -> None:
    """Add the result to `provenance.json`. Where the disk is full by then, the log says so and the file stays."""
    try:
        write_provenance(folder, {**provenance, "result": result})
    except OSError as error:
        logger.log(level, "%s: %s", error.filename, error.strerror)


def level_of_trouble() -> int:
    """Of what the log says of a full disk: where a run ends because of it, once is enough."""
    return logging.DEBUG if isinstance(sys.exception(), RunFailed) else logging.WARNING


@contextmanager
def replacing(path: Path, synced: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` as a whole when the block ends without an error.

    A reader, a crash or a power cut finds the old file or the new one. Two processes that write the same path hold a
    lock. `synced` waits for the disk; without it a power cut may take the file. Raises OSError with the path.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        unfinished.replace(path)
        if synced:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_whole(path: Path, text: str, synced: bool = True) -> None:
    """Replace `path` with a text, as `replacing` does."""
    with replacing(path, synced) as file:
        file.write(text.encode())


def _sync_folder(folder: Path) -> None:
    """A new name in a folder is on the disk only when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems don't offer it
            raise
    finally:
        os.close(descriptor)


class _LogFile(logging.FileHandler):
    trouble: OSError | None = None

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if isinstance(error, OSError):  # the disk is full: the journal will fail as well, and end the run
            self.trouble = error
        else:
            super().handleError(record)


@contextmanager
def log_file(folder: Path, logger: logging.Logger) -> Iterator[None]:
    """Write what is logged to the folder's `run.log` as well, without credentials. A kill loses no line."""
    handler = _LogFile(folder / "run.log", encoding="utf-8", errors="replace")
    handler.setFormatter(Redacting("%(asctime)s  %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        with suppress(OSError):  # of a full disk, which is reported
            handler.close()
        if handler.trouble is not None and level_of_trouble() == logging.WARNING:
            print(f"blitz: {folder / 'run.log'}: {handler.trouble.strerror}; it is not complete", file=sys.stderr)

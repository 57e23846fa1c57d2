"""Where decoded datasets and downloads are kept: the folder, its locks, and the error when it cannot be written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from blitz.errors import BadInput

LOG = logging.getLogger("blitz")


def home() -> Path:
    """`$BLITZ_CACHE`, else `$XDG_CACHE_HOME/blitz`, else `~/.cache/blitz`."""
    chosen = os.environ.get("BLITZ_CACHE")
    folder = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "blitz"
    return folder.expanduser().absolute()


@contextmanager
def writing() -> Iterator[None]:
    """Raise an OSError of this block as a BadInput about BLITZ_CACHE."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"BLITZ_CACHE={home()}: cannot be written ({error.strerror or error}); "
            "set BLITZ_CACHE to a folder with room that you may write to"
        ) from None


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock beside `path`. It goes with the process, so a kill leaves nothing behind to clear away."""
    lock = FileLock(f"{path}.lock")
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            LOG.info("waiting for another process: %s", what)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()

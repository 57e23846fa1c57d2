"""One run's record: the journal on disk first, then what a writer process sends to an MLflow store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from blitz.run_folder.journal import JOURNAL, Journal
from blitz.run_folder.run_info import RunInfo
from blitz.tracking.sending import Delivery
from blitz.tracking.writer import Writer

logger = logging.getLogger("blitz")


class Recorder:
    """Records into `folder` and, where `uri` is given, into that MLflow store; `resumed_at` is for the `Journal`.

    Nothing in it waits for MLflow before `end`. Raises OSError where the folder cannot be written to.
    """

    def __init__(self, folder: Path, uri: str | None, about: RunInfo, resumed_at: int | None = None) -> None:
        self.folder = folder
        self.about = about
        self.journal = Journal(folder / JOURNAL, resumed_at)
        try:
            about.save(folder)  # last: with it, the run has begun
        except BaseException:
            with suppress(OSError):  # of a full disk
                self.journal.close()
            raise
        self._writer: Writer | None = None
        if uri is not None:
            Delivery(folder, uri, about).forget_lost()
            try:
                self._writer = Writer.take(folder, uri, about)
            except OSError as error:  # no process can be had
                logger.warning("MLflow gets nothing of this run (%s); 'blitz sync %s' sends it later", error, folder)

    @property
    def run_id(self) -> str | None:
        """Known once the store has answered."""
        return self._writer.run_id if self._writer is not None else None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of one step; costs a line in a file."""
        self.journal.write([(step, metrics)])

    def flush(self) -> None:
        """What was recorded so far survives a power cut from here on, and is sent at once."""
        self.journal.sync()
        if self._writer is not None:
            self._writer.flush()

    def end(self, status: str, tags: Mapping[str, str], level: int = logging.WARNING) -> str:
        """Close the record and wait until MLflow has it, or has failed. Returns what it lacks, in words.

        `level`: of what the log says of a full disk.
        """
        self.about = self.about.ended(status, tags)
        try:
            self.journal.close()
            self.about.save(self.folder)
        except OSError as error:
            logger.log(level, "the end of the run could not be written down: %s", error)
        if self._writer is None:
            return "" if self.about.store is None else "the run itself"
        return self._writer.end(self.about)

"""Bring a store up to what a run's folder says: the one way into MLflow, during training and afterwards.

Every step may be repeated: MLflow drops a point whose name, step, value and time it has, a parameter that is set to
what it is, and a data set that is there; a file is written over. So whatever breaks off can simply begin again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blitz.redaction import redact
from blitz.run_folder import journal
from blitz.run_folder.candidates import BEST, is_candidate
from blitz.run_folder.files import try_lock, write_whole
from blitz.run_folder.journal import JOURNAL, OBJECTIVE, SYSTEM
from blitz.run_folder.run_info import ENDINGS, NAME_LENGTH, RUNNING, SWEEP, RunInfo, shortened
from blitz.tracking import model, queries, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("blitz")

BATCH = 1000  # metrics that MLflow takes at once
AT_ONCE = 100  # parameters, or tags
UPLOADS = 8  # files on their way at once: a distant server takes seconds to answer, whatever it is sent
OPENING = ("config.yaml", "sweep.json", "overrides.yaml", "provenance.json", "git.diff", "git.resumed-*.diff")
MODEL = f"{model.NAME}/MLmodel"  # is written anew with each model, and stands for the whole of it
OF_A_SWEEP = ("results.*", "decisions.jsonl")
FILES = (*OPENING, *OF_A_SWEEP, "reproduction.*", "run.log", "trace.json", "figures/*.png", BEST, MODEL)
# How long a step may take, in seconds. Opening a store waits for its lock, behind processes that import mlflow.
OPEN_SECONDS, STEP_SECONDS, BYTES_PER_SECOND = 180.0, 60.0, 500_000
FIRST_EPOCH_SECONDS = 60.0  # that a run's other metrics wait for its first objective
SENT = "sent.json"


class Busy(Exception):
    """Another process is sending this run."""


class RecordedElsewhere(Exception):
    """The run was resumed in a copy of its folder, and is recorded from there."""


@contextmanager
def sole_sender(folder: Path, seconds: float = 0) -> Iterator[None]:
    """Raises Busy where another process stays this run's sender for longer than that."""
    with try_lock(folder / ".sending.lock", seconds) as is_ours:
        if not is_ours:
            raise Busy(str(folder))
        yield


class Delivery:
    """One run's way into one store.

    `announce` is called before each step with the seconds that it may take.
    """

    def __init__(
        self, folder: Path, uri: str, about: RunInfo, announce: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.folder = folder
        self.uri = uri
        self.about = about  # replaced when more is known
        self.sent = Sent.load(folder, about.record, redact(uri))
        self._announce = announce

    def send(self) -> None:
        """Send what the store lacks. Raises whatever the store's side raises; what arrived until then counts."""
        self._announce(OPEN_SECONDS)
        known = self.recorded()
        if known is None:
            self.sent = Sent(self.about.record, redact(self.uri))  # nothing of it is there, or is there any more
            known = self._found_or_created()
        self.refuse_copy(known)
        client, run_id = self.client, str(known.info.run_id)
        self._announce(STEP_SECONDS)
        if self.about.status == RUNNING and known.info.status != RUNNING:  # a run that had ended was resumed
            client.update_run(run_id, RUNNING)
            self.sent.status = RUNNING
        for tag in ENDINGS:
            if tag in known.data.tags and tag not in self.about.tags:
                client.delete_tag(run_id, tag)
        self._send_parts(run_id)
        self._send_metrics(run_id)
        if self.about.status != self.sent.status:
            self._announce(STEP_SECONDS)
            client.set_terminated(run_id, self.about.status, self.about.ended_at)
            self.sent.status = self.about.status
            self.sent.save(self.folder)
        self._send_files(run_id)  # last: where only the artifacts' store fails, the rest is right

    def refuse_copy(self, known: Run) -> None:
        """Raises RecordedElsewhere where another folder has become the run's own in this store."""
        theirs = _origin(known.data.tags)
        if self.sent.origin and theirs not in (self.sent.origin, _origin(self.about.tags)):
            raise RecordedElsewhere(f"run {known.info.run_id} was resumed in {theirs}, a copy of this folder")

    def forget_lost(self) -> None:
        """Before a resumed run writes again: count no more as sent than the journal has."""
        size = (self.folder / JOURNAL).stat().st_size
        if self.sent.journal > size:
            lost = self.sent.journal - size
            logger.warning(
                "%s has lost %d bytes that MLflow has: points may be there twice", self.folder / JOURNAL, lost
            )
            self.sent.journal = size
            self.sent.save(self.folder)

    def recorded(self) -> Run | None:
        """The run as the store has it; None where it does not, such as in a store that was emptied since."""
        from mlflow.exceptions import MlflowException

        if self.sent.run_id is None:
            return None
        try:
            return self.client.get_run(self.sent.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    @cached_property
    def client(self) -> MlflowClient:
        return store.connect(self.uri)

    @property
    def complete(self) -> bool:
        """Whether the store has the whole of a run that has ended."""
        return self.about.status != RUNNING and self.about.status == self.sent.status and not self.missing()

    def missing(self) -> str:
        """What the store lacks, such as `1,234 metrics and 6 files`; empty where it lacks nothing."""
        parts = []
        path = self.folder / JOURNAL
        points = sum(1 for _ in journal.every_point(path, self.sent.journal)) if path.exists() else 0
        changed = [name for name, _ in self._changed()]
        files = len(changed) - changed.count(MODEL)
        if self.sent.run_id is None:
            parts.append("the run itself")
        parts += [f"{points:,} metric{'s' * (points > 1)}"] if points else []
        parts += [f"{files} file{'s' * (files > 1)}"] if files else []
        parts += ["the model"] if MODEL in changed else []
        if not parts and self.about.status != self.sent.status:
            parts.append("its end")
        return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))

    def _found_or_created(self) -> Run:
        """An earlier try may have created the run without hearing so."""
        from mlflow.entities import ViewType

        about, client = self.about, self.client
        experiment = store.experiment_id(client, self.uri, about.experiment)
        found = client.search_runs([experiment], f"tags.record = '{about.record}'", ViewType.ALL, max_results=1)
        if found:
            run = found[0]
        else:
            tags = {**about.tags, "record": about.record}
            run = client.create_run(experiment, about.started_at, tags, shortened(about.name, NAME_LENGTH))
        self.sent.run_id = str(run.info.run_id)
        self.sent.save(self.folder)
        return run

    def _send_parts(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        about, client = self.about, self.client
        new: dict[str, list[Any]] = {"params": [], "tags": []}
        for part, values, entity in (("params", about.params, Param), ("tags", about.tags, RunTag)):
            if self._is_new(part, values):
                new[part] = [entity(key, value) for key, value in values.items()]
        for first in range(0, max(map(len, new.values())), AT_ONCE):
            params, tags = (new[part][first : first + AT_ONCE] for part in ("params", "tags"))
            client.log_batch(run_id, params=params, tags=tags)
        if new["params"] or new["tags"]:
            self.sent.origin = _origin(about.tags)
            self._were_sent(params=about.params, tags=about.tags)
        if about.dataset and self._is_new("dataset", about.dataset):
            profile, source = {"num_rows": int(about.dataset["rows"])}, {"uri": about.dataset["source"]}
            dataset = Dataset(
                about.dataset["name"], about.dataset["digest"], "local", json.dumps(source), profile=json.dumps(profile)
            )
            client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
            self._were_sent(dataset=about.dataset)
        sweep = about.tags.get(SWEEP)
        if sweep is not None and queries.OF_A_SWEEP not in about.tags and self._is_new("sweep", {"sweep": sweep}):
            # Filed under the sweep's own run, once the store has that.
            experiment = store.experiment_id(client, self.uri, about.experiment)
            for parent in client.search_runs([experiment], f"tags.record = '{sweep}'", max_results=1):
                client.set_tag(run_id, "mlflow.parentRunId", parent.info.run_id)
                self._were_sent(sweep={"sweep": sweep})

    def _is_new(self, part: str, values: dict[str, str]) -> bool:
        return self.sent.parts.get(part) != digest(values)

    def _were_sent(self, **parts: dict[str, str]) -> None:
        self.sent.parts |= {part: digest(values) for part, values in parts.items()}
        self.sent.save(self.folder)

    def _send_metrics(self, run_id: str) -> None:
        path = self.folder / JOURNAL
        end = path.stat().st_size if path.exists() else 0  # now: a run may write as fast as a server reads
        if self.sent.journal > end:  # it has lost its end
            self.sent.journal = 0
        if end and not self.sent.journal and not self._objective_is_first(run_id, path):
            return
        while self.sent.journal < end:
            points, behind = journal.read(path, self.sent.journal, BATCH)
            if behind == self.sent.journal:  # a line that is still being written
                return
            self._log(run_id, path, points)
            self.sent.journal = behind
            self.sent.save(self.folder)

    def _objective_is_first(self, run_id: str, path: Path) -> bool:
        """Send the first objective ahead of all other metrics: MLflow's compare page opens on what arrived first.

        False where it is yet to be measured, and the others wait for it.
        """
        objective = journal.first(path, OBJECTIVE)
        if objective is not None:
            self._log(run_id, path, [objective])
            return True
        return self.about.status != RUNNING or time.time() - self.about.started_at / 1000 >= FIRST_EPOCH_SECONDS

    def _log(self, run_id: str, path: Path, points: Sequence[journal.Point]) -> None:
        from mlflow.entities import Metric

        self._announce(STEP_SECONDS)
        journal.sync(path)  # or a power cut would leave a store with points that the journal lost
        in_order = sorted(points, key=lambda point: point.name.startswith(SYSTEM))  # last
        metrics = [Metric(point.name, point.value, point.milliseconds, point.step) for point in in_order]
        self.client.log_batch(run_id, metrics=metrics)

    def _send_files(self, run_id: str) -> None:
        """Several at once; where one fails, the others are sent all the same. Raises the first failure."""
        changed = dict(self._changed())
        seconds = STEP_SECONDS + sum(map(self._size, changed)) / BYTES_PER_SECOND
        failures: list[BaseException] = []
        with ThreadPoolExecutor(UPLOADS) as pool:
            sending = {pool.submit(self._send_file, run_id, name): name for name in changed}
            self._announce(seconds)
            for file in as_completed(sending):
                self._announce(seconds)
                if (error := file.exception()) is not None:
                    failures.append(error)
                    continue
                name = sending[file]
                self.sent.files[name] = changed[name]
                self.sent.save(self.folder)
        if failures:
            raise failures[0]

    def _send_file(self, run_id: str, name: str) -> None:
        path, folder = self.folder / name, Path(name).parent
        if name == MODEL:
            model.upload(self.client, run_id, path.parent)
        else:
            self.client.log_artifact(run_id, str(path), None if folder == Path() else folder.as_posix())

    def _size(self, name: str) -> int:
        path = self.folder / name
        return sum(part.stat().st_size for part in (path.parent.rglob("*") if name == MODEL else [path]))

    def _changed(self) -> Iterator[tuple[str, list[int]]]:
        """Files that the store lacks, with size and time of change: until a run has ended, only those it began with."""
        for pattern in OPENING if self.about.status == RUNNING else FILES:
            if pattern == BEST and is_candidate(self.folder):
                continue
            for path in sorted(self.folder.glob(pattern)):
                name, stat = path.relative_to(self.folder).as_posix(), path.stat()
                state = [stat.st_size, stat.st_mtime_ns]
                if self.sent.files.get(name) != state:
                    yield name, state


def amend(folder: Path, uri: str, tags: dict[str, str]) -> None:
    """Add tags to a run that has ended; they go with the files that are new. Raises what the store's side does."""
    with sole_sender(folder, STEP_SECONDS):
        about = RunInfo.load(folder)
        about = replace(about, tags={**about.tags, **tags})
        about.save(folder)
        Delivery(folder, uri, about).send()


def brief(error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return redact(f"{type(error).__name__}: {first_line}"[:300])


@dataclass
class Sent:
    """How much of a run a store has. Losing it costs a repetition, which MLflow drops."""

    record: str = ""
    store: str = ""
    run_id: str | None = None
    journal: int = 0  # bytes of the journal
    parts: dict[str, str] = field(default_factory=dict)  # params, tags, dataset, sweep -> digest of what was sent
    files: dict[str, list[int]] = field(default_factory=dict)  # name -> size and time of change
    status: str = RUNNING
    origin: str = ""  # host and folder that the store was given as the run's own

    @classmethod
    def load(cls, folder: Path, record: str, store: str) -> Sent:
        """What this store has of this run: nothing, where the file is about another one."""
        try:
            found = cls(**json.loads((folder / SENT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(record, store)
        return found if (found.record, found.store) == (record, store) else cls(record, store)

    def save(self, folder: Path) -> None:
        try:
            write_whole(folder / SENT, json.dumps(asdict(self)) + "\n", synced=False)
        except OSError as error:  # a full disk, say: what was sent is sent all the same
            logger.debug("%s: %s", folder / SENT, error)


def _origin(tags: Mapping[str, str]) -> str:
    return f"{tags.get('host')}:{tags.get('folder')}"


def digest(part: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]

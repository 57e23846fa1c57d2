"""What a run is, as MLflow files it: `mlflow.json` in the run's folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from blitz.errors import BadInput
from blitz.run_folder.files import write_whole

ABOUT = "mlflow.json"
PARAM_LENGTH = 6000  # characters; MLflow cuts longer ones without a word
TAG_LENGTH = 8000  # likewise
NAME_LENGTH = 250  # of a run, that MLflow's column in a PostgreSQL database takes
DIGEST_LENGTH = 12  # characters of a data set's fingerprint, of which MLflow takes 36 and its UI shows fewer
RUNNING, FINISHED, KILLED, FAILED = "RUNNING", "FINISHED", "KILLED", "FAILED"  # as MLflow has them
PAUSED = "SCHEDULED"  # a job that a search may yet continue: of MLflow's, the one for what is neither running nor over
# Names of tags:
SWEEP, SWEEP_JOB = "sweep", "sweep.job"  # the sweep that a run is a job of, and which one
REPRODUCES = "reproduces"  # the id of the run that this one repeats
RESUMED = "resumed"  # how many times
NOTABLE = "notable"  # the parameters that say what a run is; the others are there to be searched
SECONDS = "seconds"  # wall time of a run that was paused and continued, without the pauses
PAUSE_NOTE = "paused"  # where it was paused, and why
RUNGS = "sweep.rungs"  # at which epochs a search has paused it -> its objective there
ENDINGS = ("ended", "error", "traceback", SECONDS, PAUSE_NOTE)  # tags about how a run ended


@dataclass(frozen=True)
class RunInfo:
    """Everything about a run that goes to MLflow, but its metrics and files."""

    record: str  # unique: finds the MLflow run again where its id never came back
    store: str | None  # where it is recorded, without credentials; None for a run that is kept in its folder alone
    experiment: str
    name: str
    started_at: int  # milliseconds since 1970
    params: dict[str, str]
    tags: dict[str, str]
    dataset: dict[str, str]  # name, source, digest, rows
    status: str = RUNNING
    ended_at: int | None = None

    @classmethod
    def load(cls, folder: Path) -> RunInfo:
        """Raises BadInput for a folder that holds no run's record."""
        try:
            found = _schema().validate_python(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
            _ = found.rungs, found.seconds  # which are texts there
            return found
        except (FileNotFoundError, NotADirectoryError):
            reason = f"there is no {ABOUT} in it"
        except OSError as error:
            reason = f"its {ABOUT} cannot be read: {error.strerror}"
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"its {ABOUT} cannot be read: {where}{': ' * bool(where)}{first['msg']}"
        except (ValueError, TypeError, RecursionError) as error:
            reason = f"its {ABOUT} cannot be read: {error}"
        raise BadInput(f"{folder}: not the folder of a run; {reason}")

    def save(self, folder: Path) -> None:
        write_whole(folder / ABOUT, json.dumps(asdict(self), indent=1) + "\n")

    @property
    def host(self) -> str | None:
        return self.tags.get("host")

    @property
    def seconds(self) -> float | None:
        return seconds_of(self.tags, self.started_at, self.ended_at)

    @property
    def rungs(self) -> dict[float, float]:
        """Epochs at which a search has paused it -> its objective there."""
        return rungs_in(self.tags)

    def ended(self, status: str, tags: Mapping[str, str], milliseconds: int | None = None) -> RunInfo:
        """The same run after its end, now or at that time."""
        now = time.time_ns() // 1_000_000
        return replace(self, status=status, ended_at=milliseconds or now, tags={**self.tags, **tags})

    def resume(self, tags: Mapping[str, str]) -> RunInfo:
        """The same run, trained by this process from now on."""
        kept = {tag: text for tag, text in self.tags.items() if tag not in ENDINGS}
        return replace(self, status=RUNNING, ended_at=None, tags={**kept, **tags})


@cache
def _schema() -> TypeAdapter[RunInfo]:
    """What a record must hold; an older blitz may have written more."""
    return TypeAdapter(RunInfo)


def runs_in(folder: Path) -> list[tuple[Path, RunInfo]]:
    """The runs of a folder, in the order they were begun; a record that is damaged or being written is passed over."""
    found: list[tuple[Path, RunInfo]] = []
    for path in folder.glob(f"*/{ABOUT}"):
        with contextlib.suppress(BadInput):
            found.append((path.parent, RunInfo.load(path.parent)))
    return sorted(found, key=lambda run: run[1].started_at)


def status_word(status: str) -> str:
    """A status as it is shown."""
    return "PAUSED" if status == PAUSED else status


def rungs_in(tags: Mapping[str, str]) -> dict[float, float]:
    """As `RunInfo.rungs`."""
    found = dict(json.loads(tags.get(RUNGS, "{}")))
    return {float(epochs): float(objective) for epochs, objective in found.items()}


def seconds_of(tags: Mapping[str, str], started_at: int, ended_at: int | None) -> float | None:
    """The wall time of a run, from its times in milliseconds; None before its end, and for one that was killed and
    resumed, of which it would be mostly a pause.
    """
    if ended_at is None:
        return None
    if RESUMED in tags:
        return float(tags[SECONDS]) if SECONDS in tags else None
    return (ended_at - started_at) / 1000


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as MLflow's parameters, which are texts that are not too long for it."""
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return {key: shortened(word, PARAM_LENGTH, " … (see config.yaml)") for key, word in words.items()}


def shortened(text: str, longest: int, mark: str = " …") -> str:
    return text if len(text) <= longest else text[: longest - len(mark)] + mark

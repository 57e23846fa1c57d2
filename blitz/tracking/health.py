"""Whether a tracking store is there and takes runs: known within seconds, without importing mlflow."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from blitz.errors import BadInput, did_you_mean, in_one_line
from blitz.redaction import redact
from blitz.tracking import databases, store
from blitz.tracking.databases import ACCEPTED, NAME_ANOTHER, OtherSchema
from blitz.tracking.databases import Empty as Empty
from blitz.tracking.databases import Unreachable as Unreachable
from blitz.tracking.sending import brief

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECONDS = 4.5  # that a store which does not answer may cost
OPEN_SECONDS = 60.0  # that MLflow may take to import and to open one that only it knows
LATER = (  # what only training can do
    "name another, or use tracking.offline=allow to train all the same and send the record later, with blitz sync"
)
PROBE = "/api/2.0/mlflow/experiments/search?max_results=1"
BY_NAME = "/api/2.0/mlflow/experiments/get-by-name?experiment_name="
OTHER_STORES = ("databricks", "databricks-uc", "uc")  # which mlflow knows and this file does not
# Ways to log in, likewise: with one of them, a refusal here means nothing.
OTHER_LOGINS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")
LONGEST_EXPERIMENT = 256  # characters that a database's column takes


def check(uri: str, experiment: str | None = None, reading: bool = False) -> None:
    """Raises BadInput for a store that cannot be written to, and its subclass Unreachable for an outage.

    With `experiment`, also where no run can be recorded in the experiment of this name. `reading`: nothing is to be
    written: raises Empty for a store that is yet to be made, and leaves an older MLflow's tables as they are.
    """
    if experiment is not None and not 0 < len(experiment) <= LONGEST_EXPERIMENT:
        raise BadInput(f"tracking.experiment={experiment!r}: accepted: a name of 1 to {LONGEST_EXPERIMENT} characters")
    where = f"tracking.uri={redact(uri)}"
    try:
        try:
            stage = _stage(uri, experiment)
        except Empty:
            if reading:
                raise
            stage = None
        except OtherSchema:
            if reading:
                raise
            with suppress(Exception):
                store.connect(uri)  # MLflow brings some old tables up to date by itself
            stage = _stage(uri, experiment)
    except Unreachable as outage:
        remedy = f"start it, {LATER}" if experiment is not None else f"start it, or {NAME_ANOTHER}"
        raise Unreachable(f"{where}: no tracking store answers there ({outage}); {remedy}") from None
    except BadInput as problem:
        raise type(problem)(f"{where}: {problem}") from None
    if experiment is not None and stage == "deleted":
        raise BadInput(
            f"tracking.experiment={experiment}: this experiment was deleted, and takes no runs; name another, or "
            "restore it: mlflow experiments restore"
        )


def connect(uri: str | None) -> MlflowClient:
    """A client of a store that is there already, by default the one that a run would use.

    Raises BadInput, and its subclass Empty where no run has been recorded yet.
    """
    where = store.resolve(uri)
    path = store.sqlite_path(where)
    if path is not None and not path.exists():
        raise Empty(f"{where}: there is no such store; name one with --store URI or MLFLOW_TRACKING_URI")
    check(where, reading=True)
    return open_store(where)


def open_store(uri: str) -> MlflowClient:
    """A client of a store that was checked. Raises BadInput, whatever MLflow raises."""
    try:
        return store.connect(uri)
    except Exception as error:
        raise BadInput(f"tracking.uri={redact(uri)}: MLflow cannot open this store ({brief(error)})") from error


def _stage(uri: str, experiment: str | None) -> str | None:
    """The lifecycle stage of the experiment, None for one that is not there. Raises BadInput and Unreachable."""
    if (path := store.sqlite_path(uri)) is not None:
        return databases.stage_in_file(path, experiment)
    scheme = uri.partition(":")[0] if ":" in uri or uri in OTHER_STORES else "file"
    if scheme in ("http", "https"):
        import requests  # noqa: F401  # before the clock runs: on a busy machine it takes a second

        return _within(SECONDS, lambda: _ask(uri, experiment))
    if scheme == "file":
        name = uri.removeprefix("file://")
        raise BadInput(f"MLflow keeps no runs in folders any more; name a file: sqlite:///{name}.db")
    if scheme.partition("+")[0] in (*databases.PORTS, "sqlite"):
        url = databases.parse(uri)
        return _within(SECONDS, lambda: databases.stage(url, experiment, SECONDS))
    if scheme not in OTHER_STORES and not entry_points(group="mlflow.tracking_store", name=scheme):
        near = did_you_mean(scheme, ("sqlite", "http", "https", *databases.PORTS))
        raise BadInput(f"no store has the scheme {scheme}{near} ({ACCEPTED})")
    return _within(OPEN_SECONDS, lambda: _stage_by_mlflow(uri, experiment))


def _stage_by_mlflow(uri: str, experiment: str | None) -> str | None:
    """Raises BadInput, such as where a driver or a login is missing."""
    try:
        client = store.connect(uri)
        found = client.get_experiment_by_name(experiment) if experiment is not None else None
    except Exception as error:
        raise BadInput(f"MLflow cannot open this store ({brief(error)})") from None
    return found.lifecycle_stage if found is not None else None


def _within(seconds: float, question: Callable[[], str | None]) -> str | None:
    """The answer, or Unreachable after so many seconds: a host's name that is looked up has no limit of its own."""
    answer: Future[str | None] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise Unreachable(f"no answer within {seconds:g} s") from None


def _ask(server: str, experiment: str | None) -> str | None:
    """The experiment's stage, or what is wrong with the server: one cheap request that mlflow would make as well."""
    import requests

    try:
        parts = urlsplit(server)
        if parts.port == 0 or not parts.hostname:
            raise BadInput(f"{'invalid port 0' if parts.hostname else 'names no host'} ({ACCEPTED})")
    except ValueError as error:
        raise BadInput(f"invalid address: {in_one_line(error)} ({ACCEPTED})") from None
    environ = os.environ
    headers, login = {}, None
    if user := environ.get("MLFLOW_TRACKING_USERNAME"):
        login = (user, environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    certificate = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None
    insecure = environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    query = server.rstrip("/") + (PROBE if experiment is None else BY_NAME + quote(experiment, safe=""))
    try:
        answer = requests.get(query, timeout=SECONDS, headers=headers, auth=login, verify=certificate or not insecure)
    except ValueError as error:  # also of urllib3
        raise BadInput(f"invalid address: {redact(in_one_line(error))} ({ACCEPTED})") from None
    except requests.RequestException as error:
        raise Unreachable(_reason(error)) from None
    if answer.status_code in (401, 403):
        if any(map(environ.get, OTHER_LOGINS)) or Path("~/.mlflow/credentials").expanduser().exists():
            return None
        raise BadInput(
            f"the server refuses us ({answer.status_code} {answer.reason}); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    found = answer.json() if is_json else {}
    if answer.status_code == 404 and found.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return None  # the experiment is yet to be made
    if not answer.ok:
        raise Unreachable(f"it answers {answer.status_code} {answer.reason}")
    if not is_json:
        raise BadInput("what answers there is no MLflow tracking server")
    return found.get("experiment", {}).get("lifecycle_stage")


def _reason(error: Exception) -> str:
    """The last words, without what requests says of pools and retries before them."""
    words = str(error)
    system = re.search(r'\[Errno -?\d+\] ([^\])"]+)', words)
    return redact(system[1] if system else words.rpartition(": ")[2] or type(error).__name__)

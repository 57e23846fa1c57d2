"""Whether a tracking store is there: known within seconds, without importing mlflow."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECONDS = 4.5  # that a store which does not answer may cost
PROBE = "/api/2.0/mlflow/experiments/search?max_results=1"
SQLITE = b"SQLite format 3\0"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# Ways to log in which mlflow knows and this page does not: with one of them, a refusal here means nothing.
OTHER_LOGINS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")


class Unreachable(BadInput):
    """The store may be right, and does not answer now."""


def check(uri: str) -> None:
    """Raises BadInput for a store that cannot be written to, and its subclass Unreachable for an outage."""
    path = store.sqlite_path(uri)
    if path is not None:
        if not path.parent.is_dir():
            raise BadInput(f"tracking.uri={uri}: there is no folder {path.parent}; make it, or name another file")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise BadInput(f"tracking.uri={uri}: {path} is not writable; name another file with tracking.uri=")
        if path.exists() and not _looks_like_sqlite(path):
            raise BadInput(f"tracking.uri={uri}: {path} is no SQLite database; name another file with tracking.uri=")
        return
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        import requests  # noqa: F401  # before the clock runs: on a busy machine it takes a second

        problem = _within(SECONDS, lambda: _ask(uri))
    elif scheme in ("", "file"):
        raise BadInput(f"tracking.uri={uri}: MLflow keeps no runs in folders any more; name a file: sqlite:///{uri}.db")
    elif scheme in PORTS:
        problem = _within(SECONDS, lambda: _knock(uri, PORTS[scheme]))
    else:
        return
    if isinstance(problem, Unreachable):
        raise Unreachable(
            f"tracking.uri={redact(uri)}: no tracking store answers there ({problem}); start it, name another, or use "
            "tracking.offline=allow to train all the same and send the record later, with blitz sync"
        )
    if problem is not None:
        raise problem


def connect(uri: str | None) -> MlflowClient:
    """A client of a store that is there already, by default the one that a run would use. Raises BadInput."""
    where = store.resolve(uri)
    path = store.sqlite_path(where)
    if path is not None and not path.exists():
        raise BadInput(f"{where}: there is no such store; name one with --store URI or MLFLOW_TRACKING_URI")
    check(where)
    return store.connect(where)


def _looks_like_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE)) in (SQLITE, b"")  # a new one is empty until its first table


def _within(seconds: float, question: Callable[[], BadInput | None]) -> BadInput | None:
    """The answer, or Unreachable after so many seconds: looking up a host's name, say, has no limit of its own."""
    answers: list[BadInput | None] = []
    thread = threading.Thread(target=lambda: answers.append(question()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Unreachable(f"no answer within {seconds:g} s")


def _ask(server: str) -> BadInput | None:
    """What is wrong with a tracking server, from one cheap request that mlflow would make as well."""
    import requests

    environ = os.environ
    headers, login = {}, None
    if user := environ.get("MLFLOW_TRACKING_USERNAME"):
        login = (user, environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    elif token := environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    certificate = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None
    insecure = environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    try:
        answer = requests.get(
            server.rstrip("/") + PROBE, timeout=SECONDS, headers=headers, auth=login, verify=certificate or not insecure
        )
    except requests.RequestException as error:
        return Unreachable(_reason(error))
    if answer.status_code in (401, 403):
        if any(map(environ.get, OTHER_LOGINS)) or Path("~/.mlflow/credentials").expanduser().exists():
            return None
        return BadInput(
            f"tracking.uri={redact(server)}: the server refuses us ({answer.status_code} {answer.reason}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if not answer.ok:
        return Unreachable(f"it answers {answer.status_code} {answer.reason}")
    if not answer.headers.get("Content-Type", "").startswith("application/json"):
        return BadInput(f"tracking.uri={redact(server)}: what answers there is no MLflow tracking server")
    return None


def _reason(error: Exception) -> str:
    """The last words, without what requests tells of pools and retries before them."""
    words = str(error)
    system = re.search(r'\[Errno -?\d+\] ([^\])"]+)', words)
    return redact(system[1] if system else words.rpartition(": ")[2] or type(error).__name__)


def _knock(database: str, port: int) -> BadInput | None:
    parts = urlsplit(database)
    try:
        with socket.create_connection((parts.hostname, parts.port or port), timeout=SECONDS):
            return None
    except OSError as error:
        return Unreachable(error.strerror or str(error))

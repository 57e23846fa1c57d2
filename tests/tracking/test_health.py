"""Whether a store is there: what is told of servers that are not, refuse, hang or are something else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from blitz.errors import BadInput
from blitz.tracking import health
from blitz.tracking.health import Unreachable, check


@contextmanager
def answering(status: int, content_type: str = "application/json", login: str | None = None) -> Iterator[str]:
    """A server that answers like this; with `login`, only to that Authorization header, else 401."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = login is not None and self.headers["Authorization"] != login
            self.send_response(401 if refused else status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *unused: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4", "CLIENT_CERT_PATH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_server_that_answers() -> None:
    with answering(200) as host:
        check(f"http://{host}")
        check(f"http://{host}/")


def test_nothing_listens() -> None:
    with pytest.raises(Unreachable) as told:
        check("http://127.0.0.1:9")
    assert str(told.value) == (
        "tracking.uri=http://127.0.0.1:9: no tracking store answers there (Connection refused); start it, "
        "name another, or use tracking.offline=allow to train all the same and send the record later, with blitz sync"
    )


def test_a_server_that_hangs_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.SECONDS < 5
    monkeypatch.setattr(health, "SECONDS", 0.5)
    told = r"timed out|no answer within 0\.5 s"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,  # takes connections and never answers
        pytest.raises(Unreachable, match=told),
    ):
        check(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        release.wait(30)
        raise OSError("no such name")

    monkeypatch.setattr(health, "SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
        check("http://tracking.example")
    release.set()


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble(status: int) -> None:
    with answering(status) as host, pytest.raises(Unreachable, match=f"it answers {status}"):
        check(f"http://{host}")


def test_something_else_that_answers() -> None:
    with answering(200, "text/html") as host, pytest.raises(BadInput) as told:
        check(f"http://{host}")
    assert str(told.value) == f"tracking.uri=http://{host}: what answers there is no MLflow tracking server"
    assert not isinstance(told.value, Unreachable)


def test_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, login="Basic bWU6aHVudGVyMg==") as host:
        with pytest.raises(BadInput, match=r"the server refuses us \(401 Unauthorized\); set MLFLOW_TRACKING_USERNAME"):
            check(f"http://{host}")
        check(f"http://me:hunter2@{host}")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
        check(f"http://{host}")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    with answering(200, login="Bearer abc") as host:
        check(f"http://{host}")


def test_a_login_that_only_mlflow_knows_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "plugin")
    with answering(200, login="of a plugin") as host:
        check(f"http://{host}")


def test_no_credential_is_told() -> None:
    with pytest.raises(Unreachable) as told:
        check("http://me:hunter2@127.0.0.1:9")
    assert "hunter2" not in str(told.value)
    with pytest.raises(Unreachable) as told:
        check("postgresql+psycopg://me:hunter2@127.0.0.1:9/db")
    assert "hunter2" not in str(told.value)
    assert "Connection refused" in str(told.value)


def test_a_database_that_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check(f"postgresql://me@127.0.0.1:{listener.getsockname()[1]}/db")


def test_files(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(BadInput, match="there is no folder"):
        check(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    (tmp_path / "mlflow.db").touch()
    check(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(BadInput, match="is no SQLite database"):
        check(f"sqlite:///{tmp_path}/mlflow.db")
    for uri in ("./mlruns", f"file://{tmp_path}/mlruns"):
        with pytest.raises(BadInput, match="MLflow keeps no runs in folders any more"):
            check(uri)

"""Whether a store is there: what is told of servers that are not, refuse, hang or are something else."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.recorded import client
from support.shell import blitz, refused

from blitz.errors import BadInput
from blitz.tracking import databases, health, store
from blitz.tracking.health import Empty, Unreachable, check


@contextmanager
def answering(
    status: int, content_type: str = "application/json", login: str | None = None, body: dict[str, object] | None = None
) -> Iterator[str]:
    """A server that answers like this; with `login`, only to that Authorization header, else 401."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = login is not None and self.headers["Authorization"] != login
            self.send_response(401 if refused else status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(json.dumps(body or {}).encode())

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
        check("http://127.0.0.1:9", "an experiment")
    refused = "tracking.uri=http://127.0.0.1:9: no tracking store answers there (Connection refused); start it, "
    assert str(told.value) == (
        f"{refused}name another, or use tracking.offline=allow to train all the same and send the record later, with "
        "blitz sync"
    )
    with pytest.raises(Unreachable) as told:
        check("http://127.0.0.1:9")
    assert str(told.value) == f"{refused}or name another store with --store URI or MLFLOW_TRACKING_URI"


def test_a_server_that_hangs_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.SECONDS < 5
    monkeypatch.setattr(health, "SECONDS", 0.5)
    told = r"timed out|no answer within 0\.5 s"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,  # takes connections and never answers
        pytest.raises(Unreachable, match=told),
    ):
        check(f"http://127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("sqlite:mlflow.db", "invalid address"),
        ("sqlite://", "invalid address"),
        ("http://", "names no host"),
        ("http://127.0.0.1:99999", "invalid address: Port out of range 0-65535"),
        ("http://127.0.0.1:abc", "invalid address: Port could not be cast to integer value as 'abc'"),
        ("http://[::1", "invalid address: Invalid IPv6 URL"),
        (f"http://{'x' * 300}", "invalid address: Failed to parse: "),
        ("postgresql://127.0.0.1:abc/db", "invalid address"),
        ("postgresql://127.0.0.1:99999/db", "invalid port 99999"),
        ("postgresql+nothing://127.0.0.1/db", "no such driver as nothing (accepted: sqlite:///FILE"),
        ("postgres://127.0.0.1/db", "no store has the scheme postgres; did you mean postgresql?"),
        ("sqllite:///mlflow.db", "no store has the scheme sqllite; did you mean sqlite?"),
    ],
)
def test_address_that_is_malformed(uri: str, problem: str) -> None:
    with pytest.raises(BadInput) as raised:
        check(uri)
    assert str(raised.value).startswith(f"tracking.uri={uri}: {problem}")
    assert not isinstance(raised.value, Unreachable)


@pytest.mark.parametrize("verb", ["compare", "evaluate last", "predict last a.png", "reproduce ab", "ui", "sync"])
def test_store_that_is_away_is_no_reason_to_advise_what_a_verb_does_not_take(verb: str, here: Path) -> None:
    ended = blitz(*verb.split(), "--store", "http://127.0.0.1:9")
    if verb == "sync":  # has nothing to send
        assert (ended.code, ended.told) == (0, [])
    else:
        assert ended.code == 2
        assert [line.rpartition("; ")[2] for line in ended.told] == [
            "start it, or name another store with --store URI or MLFLOW_TRACKING_URI"
        ]


def test_driver_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyodbc.py").write_text("raise ImportError('libodbc.so.2: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyodbc", raising=False)
    words = re.escape("its Python driver cannot be imported (libodbc.so.2: cannot open shared object file)")
    with pytest.raises(BadInput, match=f"{words}$"):
        check("mssql://127.0.0.1/db")


def test_store_of_another_package_is_opened_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "others-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[mlflow.tracking_store]\nothers = a_missing_driver:Store\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"^tracking\.uri=others://host: MLflow cannot open this store \("):
        check("others://host", "an experiment")


VERBS = ["compare", "evaluate last", "predict last a.png", "resume ab", "reproduce ab", "ui", "sync"]


@pytest.mark.parametrize("verb", VERBS)
def test_address_that_is_malformed_costs_every_verb_one_line(verb: str, here: Path) -> None:
    (line,) = refused(*verb.split(), "--store", "http://127.0.0.1:99999")
    assert line.startswith("tracking.uri=http://127.0.0.1:99999: invalid address: Port out of range 0-65535")


@pytest.mark.parametrize(
    ("scheme", "package", "remedy"),
    [
        ("postgresql", "psycopg", "; pip install 'blitz[postgres]'"),
        ("mysql", "MySQLdb", ""),
        ("mssql", "pyodbc", ""),
    ],
)
def test_driver_that_is_missing(scheme: str, package: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python's own way to say that there is none
    words = re.escape(f"needs the Python package {package}, which is not installed{remedy}")
    with pytest.raises(BadInput, match=f"{words}$") as raised:
        check(f"{scheme}://me:hunter2@127.0.0.1/db")
    assert not isinstance(raised.value, Unreachable)
    assert "hunter2" not in str(raised.value)


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        release.wait(600)
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


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_experiment_without_a_usable_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"tracking\.experiment='x*': accepted: a name of 1 to 256 characters"):
        check(f"sqlite:///{tmp_path}/mlflow.db", name)


def test_experiment_that_was_deleted_or_is_yet_to_be_made(here: Path) -> None:
    uri = store.resolve(None)
    check(uri, "new")
    found = client()
    old = found.create_experiment("old")
    check(uri, "old")
    found.delete_experiment(old)
    with pytest.raises(BadInput, match=r"tracking\.experiment=old: this experiment was deleted, and takes no runs"):
        check(uri, "old")
    check(uri, "new")
    check(uri)


def test_experiment_that_was_deleted_on_a_server() -> None:
    with answering(200, body={"experiment": {"lifecycle_stage": "deleted"}}) as host:
        check(f"http://{host}")
        with pytest.raises(BadInput, match=r"tracking\.experiment=a b/c: this experiment was deleted"):
            check(f"http://{host}", "a b/c")
    with answering(404, body={"error_code": "RESOURCE_DOES_NOT_EXIST"}) as host:
        check(f"http://{host}", "new")


def test_tables_of_another_mlflow(here: Path) -> None:
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
        connection.commit()
    uri = store.resolve(None)
    for question in (lambda: check(uri), lambda: health.connect(uri)):
        with pytest.raises(BadInput, match=r"tracking\.uri=.*: its tables are those of another MLflow \(schema fedcba"):
            question()


def test_tables_of_the_mlflow_that_is_installed(here: Path) -> None:
    """Its own migrations, not a number that somebody must remember to change."""
    with closing(sqlite3.connect("mlflow.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (databases._schemas()[1],)


def test_database_that_others_write_into(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        check(store.resolve(None), "new")


@pytest.mark.parametrize("target", ["mlflow.db", "nowhere.db"])
def test_file_that_is_a_link_to_nothing_or_to_itself(tmp_path: Path, target: str) -> None:
    path = tmp_path / "mlflow.db"
    path.symlink_to(target)
    with pytest.raises(BadInput, match=f"{path} is a link to {target}, which leads nowhere; name another file$"):
        health.check(f"sqlite:///{path}")


def test_files(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(BadInput, match="there is no folder"):
        check(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    (tmp_path / "mlflow.db").touch()
    check(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(BadInput, match="is no SQLite database"):
        check(f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_bytes(databases.SQLITE + b" and nothing else of a database")
    with pytest.raises(BadInput, match="cannot be read"):
        check(f"sqlite:///{tmp_path}/mlflow.db")
    for uri in ("./mlruns", f"file://{tmp_path}/mlruns"):
        with pytest.raises(BadInput, match="MLflow keeps no runs in folders any more"):
            check(uri)


# Files that are no store: refused, and left as they are

READ = ["compare", "ui", "evaluate last", "predict last a.png", "reproduce ab"]
TRAIN = ["data=digits", "epochs=1", "batch_size=512", "data.limit=100"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of a file in the current folder that is yet to be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "other.db"


def using_other(verb: str) -> list[str]:
    """The command that uses other.db: `blitz VERB`, or training."""
    uri = "sqlite:///other.db"
    return [*TRAIN, f"tracking.uri={uri}"] if verb == "train" else [*verb.split(), "--store", uri]


def make_database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


MUSIC = ("CREATE TABLE albums (name)", "INSERT INTO albums VALUES ('Blue')")
MIGRATED = ("CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('0123456789ab')")
LIKE_OURS = (
    "CREATE TABLE runs (name)",
    "CREATE TABLE experiments (name, lifecycle_stage)",
    "INSERT INTO experiments VALUES ('Default', 'active')",
)


@pytest.mark.parametrize("verb", [*READ, "train"])
@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (MUSIC, "belongs to another program than MLflow"),
        (("PRAGMA journal_mode = WAL", *MUSIC), "belongs to another program than MLflow"),
        (MIGRATED, "belongs to another program than MLflow"),
        (LIKE_OURS, "belongs to another program than MLflow"),
        ((*MIGRATED, *LIKE_OURS), "its tables are those of another MLflow (schema 0123456789ab; "),
    ],
)
def test_database_of_another_program_is_refused(
    other: Path, statements: tuple[str, ...], words: str, verb: str
) -> None:
    make_database(other, *statements)
    before = contents(other.parent)
    (problem,) = refused(*using_other(verb))
    assert problem.startswith(f"tracking.uri=sqlite:///{other}: ")
    assert words in problem
    assert contents(other.parent) == before


@pytest.mark.parametrize("verb", ["compare", "ui", "train"])
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_damaged_store_is_refused(other: Path, empty_store: Path, share: float, cut: bool, verb: str) -> None:
    whole = empty_store.read_bytes()
    at = int(share * len(whole)) // 4096 * 4096
    other.write_bytes(whole[:at] if cut else whole[:at] + b"\xa5" * 8192 + whole[at + 8192 :])
    before = contents(other.parent)
    (problem,) = refused(*using_other(verb))
    assert problem.startswith(f"tracking.uri=sqlite:///{other}: {other} cannot be read (da")
    assert "; restore a copy of it, or name another file" in problem
    assert contents(other.parent) == before


@pytest.mark.parametrize("verb", READ)
@pytest.mark.parametrize("state", ["missing", "empty", "without tables"])
def test_commands_that_read_make_no_store(other: Path, state: str, verb: str) -> None:
    if state == "empty":
        other.touch()
    elif state == "without tables":
        make_database(other, "CREATE TABLE a (b)", "DROP TABLE a")
    before = contents(other.parent)
    (problem,) = refused(*using_other(verb))
    assert problem.endswith(" with --store URI or MLFLOW_TRACKING_URI")
    assert contents(other.parent) == before


def test_store_that_is_yet_to_be_made_is_no_mistake_of_a_sweep(other: Path) -> None:
    other.touch()
    with pytest.raises(Empty, match=f"no run is recorded in {other}"):
        health.connect("sqlite:///other.db")
    listing = ["-m", *TRAIN, "seed=0,1", "sweep.skip_finished=true", "sweep.dry_run=true"]
    assert "2 jobs" in blitz(*listing, "tracking.uri=sqlite:///other.db").output
    check("sqlite:///other.db", "new")


def test_commands_that_read_leave_the_tables_of_an_older_mlflow(here: Path) -> None:
    older = min(databases._schemas()[0] - {databases._schemas()[1]})
    make_database(here / "mlflow.db", f"UPDATE alembic_version SET version_num = '{older}'", "DROP TABLE webhooks")
    before = contents(here)
    (problem,) = refused("compare")
    assert f"its tables are those of another MLflow (schema {older}; " in problem
    assert contents(here) == before

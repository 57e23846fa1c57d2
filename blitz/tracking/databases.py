"""Whether a database takes MLflow's runs: asked by SQL, since importing mlflow takes seconds."""

from __future__ import annotations

import itertools
import os
import re
import socket
import sqlite3
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blitz.errors import BadInput, in_one_line
from blitz.redaction import redact

if TYPE_CHECKING:
    from sqlalchemy import URL

ACCEPTED = "accepted: sqlite:///FILE, http://HOST:PORT, https://…, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, …"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
NAME_ANOTHER = "name another store with --store URI or MLFLOW_TRACKING_URI"
SQLITE = b"SQLite format 3\0"
SCHEMA = "alembic_version"  # MLflow's table with the version of all others
FIRST_TABLES = {"experiments", "metrics", "params", "runs", "tags"}  # which it makes before that one
LOCKED_SECONDS = 4.5  # that others may write into a file meanwhile
LOOKS = 200  # of 10,000 of SQLite's instructions each, for damage: some 30 MB of a file, in less than a second
TABLES = {"alembic_version", "experiments", "runs"}  # of any MLflow
NEEDED = {*FIRST_TABLES, "latest_metrics"}  # of those that blitz reads
# What a database says when the same address may work at another time.
PASSING = re.compile(
    "refused|time(d )?out|unreachable|no such file|starting up|shutting down|recovery|too many|closed|reset by peer|"
    "terminating connection",
    re.IGNORECASE,
)


class Unreachable(BadInput):
    """The store may be right, and does not answer now."""


class OtherSchema(BadInput):
    """The tables are those of an older MLflow, which this one may bring up to date."""


class Empty(BadInput):
    """There are no tables yet: the first run makes them."""


def stage_in_file(path: Path, experiment: str | None) -> str | None:
    """The lifecycle stage of an experiment in an SQLite file, None where it is yet to be made.

    Raises BadInput, also for another program's file and a damaged one; Empty and OtherSchema.
    """
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}; make it, or name another file")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"{path} is not writable; name another file")
    empty = Empty(f"no run is recorded in {path}; {NAME_ANOTHER}")
    if path.is_symlink() and not path.exists():
        raise BadInput(f"{path} is a link to {os.readlink(path)}, which leads nowhere; name another file")
    if not path.exists() or not path.stat().st_size:  # a new one is empty until its first table
        raise empty
    with path.open("rb") as file:
        if file.read(len(SQLITE)) != SQLITE:
            raise BadInput(f"{path} is no SQLite database; name another file")
    try:
        with closing(sqlite3.connect(path, timeout=LOCKED_SECONDS)) as connection:
            tables = _tables(connection)
            if not tables:
                raise empty
            if not tables >= TABLES:
                raise BadInput(f"{path} belongs to another program than MLflow; name another file")
            _refuse_damaged(connection)
            stage = _stage(connection, experiment)  # whose schema is that of this MLflow, or else it raises
            if missing := sorted(NEEDED - _tables(connection)):
                raise sqlite3.DatabaseError(f"damaged: it lacks the tables {', '.join(missing)}")
            return stage
    except sqlite3.Error as error:
        if "locked" in str(error):  # many write into it: that it is there is enough
            return None
        raise BadInput(
            f"{path} cannot be read ({error}); restore a copy of it, or name another file, to which "
            "blitz sync DIR… sends the runs in these folders"
        ) from None


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _refuse_damaged(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError for a file whose pages were cut or overwritten, as far as a short look finds it."""
    looks = itertools.count(1)
    connection.set_progress_handler(lambda: next(looks) > LOOKS, 10_000)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        found = "ok"
    connection.set_progress_handler(None, 0)
    if found != "ok":
        raise sqlite3.DatabaseError(f"damaged: {' '.join(found.split())}")


def parse(uri: str) -> URL:
    """The address of a database on a server. Raises BadInput for one that is malformed."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
        is_known = url.get_backend_name() in PORTS
    except (ArgumentError, ValueError):
        is_known = False
    if not is_known:
        raise BadInput(f"invalid address ({ACCEPTED})")
    if url.port is not None and not 0 < url.port < 65536:
        raise BadInput(f"invalid port {url.port}")
    return url


def stage(url: URL, experiment: str | None, seconds: float) -> str | None:
    """As `stage_in_file`, on a server. Raises BadInput for a missing driver or a wrong login, Unreachable and Empty."""
    import sqlalchemy
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        how = "; pip install 'blitz[postgres]'" if package == "psycopg" else ""
        raise BadInput(f"needs the Python package {package}, which is not installed{how}") from None
    except ImportError as error:  # a driver that lacks a library of the system
        raise BadInput(f"its Python driver cannot be imported ({in_one_line(error)})") from None
    except NoSuchModuleError:
        raise BadInput(f"no such driver as {url.drivername.partition('+')[2]} ({ACCEPTED})") from None
    if url.host:
        try:
            socket.create_connection((url.host, url.port or PORTS[url.get_backend_name()]), timeout=seconds).close()
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from None
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        if "experiments" not in tables or (tables >= FIRST_TABLES and SCHEMA not in tables):
            # Or it is being filled, or who did was killed: the next run to open it makes the rest.
            raise Empty(f"no run is recorded in this database; {NAME_ANOTHER}")
        with closing(engine.raw_connection()) as connection:
            return _stage(connection, experiment)
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        words = redact(in_one_line(getattr(error, "orig", None) or error))[-300:]
        if PASSING.search(words):
            raise Unreachable(words) from None
        raise BadInput(f"the database refuses us ({words})") from None


def _stage(connection: Any, experiment: str | None) -> str | None:
    """Asks a DB-API connection. Raises OtherSchema, and BadInput for tables that this MLflow does not know."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT version_num FROM {SCHEMA}")
        (found,) = cursor.fetchone() or (None,)
        cursor.execute("SELECT name, lifecycle_stage FROM experiments")
        stages = dict(cursor.fetchall())
    known, expected = _schemas()
    if found != expected:
        raise (OtherSchema if found in known else BadInput)(
            f"its tables are those of another MLflow (schema {found}; MLflow {version('mlflow')} has {expected}); "
            "install the MLflow that made them, or make a backup and run mlflow db upgrade"
        )
    return stages.get(experiment)


def _schemas() -> tuple[set[str], str]:
    """All that the installed MLflow knows, and its own: the migration that no other one follows."""
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    files = Path(spec.submodule_search_locations[0]).glob("store/db_migrations/versions/*.py")
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)

    def ids(name: str) -> set[str]:
        return set(re.findall(r"\w{8,}", " ".join(re.findall(rf"^{name}\b[^=\n]*=(.*)", text, re.MULTILINE))))

    known = ids("revision")
    return known, ", ".join(known - ids("down_revision"))

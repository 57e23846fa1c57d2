"""A real PostgreSQL as the store: what is asked of it before training, and what its columns take.

Skipped, with the reason, where the server or its driver is not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.processes import together
from support.recorded import Note

import blitz
from blitz.errors import BadInput
from blitz.tracking import store
from blitz.tracking.health import Unreachable, check

pytestmark = pytest.mark.slow
BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
OWNER = "nobody" if os.geteuid() == 0 else None  # the server refuses to be run by root
ROUNDS = 10
QUICK = ["data=digits", "data.limit=100", "epochs=1", "device.threads=1", "tracking.figures=false"]


class Postgres:
    """A server of this test's own, which listens on a socket in its folder and nowhere else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "password").write_text("hunter2hunter2\n")
        if OWNER is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, OWNER)
        self._run(
            "initdb", "-D", "data", "-U", "me", "-A", "scram-sha-256", "--pwfile", "password", "--no-sync", "-E", "UTF8"
        )
        self.start()
        for database in ("full", "empty"):
            self.create(database)

    def create(self, database: str) -> None:
        self._run("createdb", "-h", str(self.folder), "-U", "me", database, PGPASSWORD="hunter2hunter2")

    def _run(self, program: str, *arguments: str, **environment: str) -> None:
        assert BIN is not None
        command = [str(BIN / program), *arguments]
        log = self.folder / f"{program}.log"
        with log.open("ab") as output:
            ended = subprocess.run(
                command, cwd=self.folder, user=OWNER, stdout=output, stderr=output, check=False,
                env={**os.environ, "LC_ALL": "C", **environment},
            )  # fmt: skip
        assert ended.returncode == 0, log.read_text()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c fsync=off -c max_connections=300 -k {self.folder}"
        self._run("pg_ctl", "-D", "data", "-l", "server.log", "-w", "-t", "300", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def uri(self, database: str = "full", password: str = "hunter2hunter2") -> str:
        return f"postgresql://me:{password}@/{database}?host={self.folder}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if BIN is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: nothing here was tested")
    if find_spec("psycopg") is None:
        pytest.skip("no psycopg (pip install 'blitz[postgres]'): nothing here was tested")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # a socket's path is short
        server = Postgres(Path(folder))
        yield server
        with suppress(AssertionError):  # a test stopped it
            server.stop()


def test_wrong_password_or_database_is_bad_input(postgres: Postgres) -> None:
    check(postgres.uri("empty"), "any")
    for uri, words in (
        (postgres.uri(password="wrong-password"), "password authentication failed"),
        (postgres.uri("nowhere"), 'database "nowhere" does not exist'),
    ):
        with pytest.raises(BadInput, match=f"the database refuses us .*{words}") as raised:
            check(uri)
        assert not isinstance(raised.value, Unreachable)
        assert "hunter2" not in str(raised.value)
        assert "wrong-password" not in str(raised.value)


def test_long_names_are_recorded_and_what_cannot_be_is_refused_before_training(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    label, experiment = "label " * 60, "e" * 256
    asked = [*QUICK, f"tracking.uri='{postgres.uri()}'", f"name='{label}'", f"tracking.experiment={experiment}"]
    found = blitz.run(blitz.compose(asked), asked)
    client = store.connect(postgres.uri())
    run = client.get_run(str(found.run_id))
    assert run.info.status == "FINISHED"
    assert label.startswith(str(run.info.run_name).removesuffix(" …"))
    client.delete_experiment(run.info.experiment_id)
    with pytest.raises(BadInput, match="this experiment was deleted"):
        blitz.run(blitz.compose(asked), asked)
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_tables_of_another_mlflow_are_bad_input(postgres: Postgres) -> None:
    import sqlalchemy

    store.connect(postgres.uri())  # which makes them
    engine = sqlalchemy.create_engine(postgres.uri())
    with engine.begin() as connection:
        ours = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'fedcba987654'"))
    try:
        with pytest.raises(BadInput, match=r"those of another MLflow \(schema fedcba987654"):
            check(postgres.uri())
    finally:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = :ours"), {"ours": ours})
        engine.dispose()


# Does what a run does before training and at its first sending, in one database after another.
OPENS = """
import sys
from blitz.tracking import health, store
health.SECONDS = 1200.0  # eight at once on busy cores: none may take the others' work for an outage
store.prepare()
print("ready", flush=True)
for uri in map(str.strip, sys.stdin):
    health.check(uri, "together")
    client = store.connect(uri)
    print("experiment", store.experiment_id(client, uri, "together"), flush=True)
"""


def test_empty_database_is_filled_once_by_eight_processes_that_open_it_together(
    postgres: Postgres, record_property: Note
) -> None:
    """None imports mlflow while another one has opened the database already: they open it within milliseconds."""
    record_property("tries", ROUNDS)
    with together(OPENS, 8) as open_at_once:
        for number in range(ROUNDS):
            postgres.create(f"together{number}")
            assert len(set(open_at_once(postgres.uri(f"together{number}"), "experiment"))) == 1


def test_database_whose_maker_was_killed_half_way_is_completed(postgres: Postgres) -> None:
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.initial_models import Base

    postgres.create("half")
    engine = sqlalchemy.create_engine(postgres.uri("half"))
    Base.metadata.create_all(engine)  # as MLflow begins
    engine.dispose()
    check(postgres.uri("half"), "any")
    assert store.connect(postgres.uri("half")).get_experiment("0").name == "Default"
    check(postgres.uri("half"), "any")


def test_server_that_is_down_is_an_outage(postgres: Postgres) -> None:
    postgres.stop()
    with pytest.raises(Unreachable, match="no tracking store answers there"):
        check(postgres.uri())
    postgres.start()
    check(postgres.uri())

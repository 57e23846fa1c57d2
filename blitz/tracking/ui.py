"""The MLflow UI on the store that runs are recorded in."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import TYPE_CHECKING

from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.tracking import health, store, views
from blitz.tracking.orphaned import mark_orphans

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST = "127.0.0.1"
PORTS = range(5000, 5010)
START_SECONDS = 180.0  # on a busy machine; on others it takes five
LINKS = 5  # experiments whose links are printed


def serve(uri: str | None, port: int | None) -> int:
    """Run the UI until Ctrl-C; prints its link once the page answers. Returns the exit code.

    A store on a server has a UI of its own: its link is printed. Raises BadInput for a store that is not there.
    """
    where = store.resolve(uri)
    health.check(where)
    client = health.open_store(where)  # creates or updates the tables under a lock, before the server's workers come
    mark_orphans(client)
    if where.startswith(("http://", "https://")):
        print(f"{redact(where)} has a UI of its own:")
        _print_links(client, redact(where).rstrip("/"))
        return 0
    chosen = port or _free_port()
    # One worker and no job runners, which are for evaluating language models: up in a third of the time.
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(chosen), "--workers", "1"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    environment["MLFLOW_BACKEND_STORE_URI"] = where  # with credentials, which every user sees in an argument
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the server and its workers together.
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            page = f"http://{HOST}:{chosen}"
            if not _answers(page + health.PROBE, server):  # which opens the store: runs, too, can be sent from now on
                log.seek(0)
                raise BadInput(f"the MLflow UI did not start on port {chosen}:\n{log.read()[-2000:]}")
            print(f"MLflow UI on {redact(where)}: {page}  (Ctrl-C ends it)")
            _print_links(client, page)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


def _print_links(client: MlflowClient, page: str) -> None:
    links = views.save(client, page)
    for name, link in links[:LINKS]:
        print(f"  {name}: {link}")
    if len(links) > LINKS:
        print(f"  and {len(links) - LINKS} older experiments")
    sys.stdout.flush()


def _free_port() -> int:
    """The first of a few that is free, or any: a browser keeps what was chosen in the UI by its port."""
    for port in (*PORTS, 0):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    raise BadInput("no port is free on this machine; end some servers")


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # neither it nor one of its workers is left
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

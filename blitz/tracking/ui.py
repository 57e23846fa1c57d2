"""The MLflow UI on the store that runs are recorded in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.error import URLError

from blitz.errors import BadInput
from blitz.tracking import store
from blitz.tracking.credentials import redact

HOST = "127.0.0.1"
START_SECONDS = 60.0


def serve(uri: str | None, port: int | None) -> int:
    """Run the UI until Ctrl-C; prints its link once the page answers. Returns the exit code.

    A store on a server has a UI of its own: its link is printed. Raises BadInput for a store that is not there.
    """
    where = store.resolve(uri)
    store.check(where)
    if where.startswith(("http://", "https://")):
        print(f"{redact(where)} has a UI of its own: open it in a browser")
        return 0
    store.connect(where)  # creates or updates the tables under a lock, before the server's workers come
    chosen = port or _free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", where, "--host", HOST, "--port"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true")}
    # A session of its own: Ctrl-C reaches this process alone, which then ends the server and its workers together.
    server = subprocess.Popen(
        [*command, str(chosen)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        if not _answers(f"http://{HOST}:{chosen}/health", server):
            assert server.stdout is not None
            server.kill()
            raise BadInput(f"the MLflow UI did not start on port {chosen}:\n{server.stdout.read()[-2000:]}")
        print(f"MLflow UI on {redact(where)}: http://{HOST}:{chosen}  (Ctrl-C ends it)", flush=True)
        assert server.stdout is not None
        for _ in server.stdout:  # a full pipe would stop the server
            pass
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(url: str, server: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False


def _end(server: subprocess.Popen[str]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    if server.stdout is not None:
        server.stdout.close()

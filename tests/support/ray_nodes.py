"""A cluster of Ray as users have it: `ray start` on each machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support.processes import PATIENCE, wait_for

RAY = """
import time
from ray._private import services
from ray.scripts.scripts import main

def get_node(*of):  # Ray gives a node up that has not registered after 30 s, for which a busy machine takes longer
    end = time.monotonic() + 600
    while True:
        try:
            return once(*of)
        except RuntimeError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)

once, services.get_node = services.get_node, get_node
main()
"""
START = [sys.executable, "-c", RAY, "start", "--block", "--num-cpus=1"]
START += ["--disable-usage-stats", "--object-store-memory=80000000"]


@contextmanager
def two_machines(here: Path, there: Path) -> Iterator[list[str]]:
    """Two nodes of one core, `there` without sight of the folder `here`; yields what a sweep is told of them."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no right to hide a folder from a process (unshare --mount)")
    there.mkdir()
    sessions = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # a short path, since it holds sockets
    with ExitStack() as ended:
        ended.callback(shutil.rmtree, sessions, ignore_errors=True)
        head = _start(
            ended, here, [*START, "--head", "--port=0", "--include-dashboard=false", f"--temp-dir={sessions}"]
        )
        found = re.search(r"--address='([^']+)'", wait_for(head, "ray start --address="))
        assert found is not None
        hide = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{here}" && exec "$@"', "sh"]
        node = _start(ended, there, [*hide, *START, f"--address={found[1]}"])
        wait_for(node, "Ray runtime started")
        yield ["hydra/launcher=ray", f"hydra.launcher.ray.init.address='{found[1]}'"]


def _start(ended: ExitStack, folder: Path, command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    )  # fmt: skip
    ended.callback(_kill, process)
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(psutil.NoSuchProcess):
        victims = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, timeout=PATIENCE)
    process.communicate(timeout=PATIENCE)

"""How the C library gives out memory: as blitz asks for it, and as the user says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blitz.allocator import SETTINGS, VARIABLE, has_glibc
from blitz.version import __version__

# A program of blitz's that prints what it is started as: in place of the command line.
STARTED = """
import os, sys
from blitz import allocator
allocator.keep_freed_memory()
print(os.getpid(), sys.orig_argv[1:], sys.argv, repr(os.environ.get(allocator.VARIABLE)))
"""


def started(tmp_path: Path, *options: str, **environment: str) -> str:
    """What it prints, but for its process, which is the one that was started."""
    program = tmp_path / "program.py"
    program.write_text(STARTED)
    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, *options, str(program), "a b", ""]
    with subprocess.Popen(command, env={**clean, **environment}, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    pid, _, rest = output.partition(" ")
    assert int(pid) == process.pid
    return rest.strip()


@pytest.mark.skipif(not has_glibc(), reason="another C library")
def test_a_program_starts_anew_once_as_the_same_process_with_the_same_arguments(tmp_path: Path) -> None:
    rest = started(tmp_path, "-X", "dev")
    program = str(tmp_path / "program.py")
    assert rest == f"{['-X', 'dev', program, 'a b', '']} {[program, 'a b', '']} {SETTINGS!r}"


@pytest.mark.skipif(not has_glibc(), reason="another C library")
@pytest.mark.parametrize("program", [[sys.executable, "-m", "blitz"], [str(Path(sys.executable).with_name("blitz"))]])
def test_the_command_line_starts_anew(program: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import os; print(os.environ.get({VARIABLE!r}), flush=True)")
    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment = {**clean, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*program, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None", SETTINGS, f"blitz {__version__}"]


@pytest.mark.parametrize("own", ["", "glibc.malloc.top_pad=4096"])
def test_a_variable_of_the_users_own_stays(own: str, tmp_path: Path) -> None:
    rest = started(tmp_path, **{VARIABLE: own})
    assert rest.endswith(f" {own!r}")


def test_a_debugger_keeps_its_process(tmp_path: Path) -> None:
    (tmp_path / "_pydevd_bundle.py").touch()
    (tmp_path / "sitecustomize.py").write_text("import _pydevd_bundle")
    rest = started(tmp_path, PYTHONPATH=str(tmp_path))
    assert rest.endswith(" None")


@pytest.mark.parametrize("library", ["musl 1.2", None, ValueError(), AttributeError()])
def test_other_systems_are_left_alone(library: str | Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(_: str) -> str | None:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(os, "confstr", confstr)
    assert not has_glibc()


# Fifty times, 64 MB are asked for and freed: how many pages the kernel had to give.
FREED = """
import resource
bytearray(64 * 10**6)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    bytearray(64 * 10**6)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not has_glibc(), reason="another C library")
def test_freed_memory_is_not_asked_for_again() -> None:
    def pages(settings: str) -> int:
        environment = {**os.environ, VARIABLE: settings}
        command = [sys.executable, "-c", FREED]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    # Kept, the pages are those of a few tensors, and mostly huge; not kept, those of fifty.
    assert 5 * pages(SETTINGS) < pages("")

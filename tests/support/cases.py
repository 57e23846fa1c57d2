"""Command lines with bad input, as rows of tables: each runs in a process and in folders of its own.

The processes are forked from one that has imported everything, so that a row costs a fraction of a second. That one is
not pytest's own, whose threads may hold locks, which a child would wait for.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import re
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Content = str | bytes | Callable[[Path], object]  # of a file, or what makes something else at a path
NOWHERE = "http://127.0.0.1:1"  # proxy, so that nothing is downloaded
SECONDS = 900  # that a command may take on a machine however busy: it hangs
LONGEST = 1200  # characters of a line, of which menus of names take the most
# Words of a library's developers, which are no message to a user.
JARGON = (
    "Traceback", "HYDRA_FULL_ERROR", "site-packages", "full_key", "object_type", "<class", "Config search path",
    "<unicode string>", "omegaconf", "OmegaConf", "hydra.errors", "Errno", "NoneType", "unexpected keyword",
    " object at 0x",
)  # fmt: skip
SMALL = "data=synthetic data.train_size=20 data.test_size=20 epochs=1 tracking.figures=false"


@dataclass(frozen=True)
class Case:
    """A command line, what lies around it, and how it must end."""

    name: str
    command: str
    words: tuple[str, ...]  # that stand in its message, or in its output where it succeeds
    files: Mapping[str, Content] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    code: int = 2
    lines: int = 1  # of the message
    makes: str | None = None  # pattern of the paths that it may make or change
    secrets: tuple[str, ...] = ()  # which stand nowhere that was printed or written
    jargon: tuple[str, ...] = ()  # that is the user's own
    printed: str = ""  # pattern of the output beside a mistake
    store: bool = False  # train into a store, which has each case start a process that imports mlflow

    def __str__(self) -> str:
        return self.name

    @property
    def arguments(self) -> list[str]:
        words = shlex.split(self.command)
        trains = not words or words[0][:1] in "-+~" or "=" in words[0]
        is_plain = not self.store and not any(word.startswith("tracking=") or word == "--" for word in words)
        return [*words, "tracking=none"] if trains and is_plain else words


def bad(name: str, command: str, *words: str, **more: Any) -> Case:
    """A mistake: exit code 2, a line with these words, and nothing is left."""
    return Case(name, command, words, **more)


def fine(name: str, command: str, *words: str, **more: Any) -> Case:
    """No mistake: exit code 0, and output with these words."""
    return Case(name, command, words, code=0, **more)


class Ended(NamedTuple):
    code: int
    output: str
    errors: str
    seconds: float


class Forks:
    """A process that forks one for each command."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for what all commands share, caches that hold nothing of any of them."""
        self._folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"MPLCONFIGDIR": str(folder / "matplotlib"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        code = f"import sys; sys.path[:] = {sys.path!r}; from support import cases; cases.serve()"
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment,
        )  # fmt: skip
        assert self._answer() == "ready"

    def close(self) -> None:
        self._process.communicate(timeout=SECONDS)
        self._log.close()

    def check(self, case: Case, root: Path, prepare: Callable[[Path], object] = lambda here: None) -> Ended:
        """Run a case in folders below `root`, on what `prepare` and then the case put there."""
        here = root / "here"
        for folder in (here, root / "home", root / "tmp"):
            folder.mkdir()
        prepare(here)
        for name, content in case.files.items():
            make(here / name, content)
        before = everything(root)
        ended = self.run(case, root)
        found = everything(root)
        new = {path: found[path] for path in found if before.get(path) != found[path]}
        gone = sorted(before.keys() - found.keys())
        told = ended.errors.splitlines()
        assert ended.code == case.code, ended
        text = ended.errors if case.code else ended.output + ended.errors
        assert [word for word in case.words if word not in text] == [], ended
        assert [word for word in JARGON if word in text and word not in case.jargon] == [], ended
        if case.code:
            assert re.fullmatch(case.printed, ended.output, re.DOTALL), ended
            assert [line for line in told if not line.startswith("blitz: ") or len(line) > LONGEST] == [], ended
            assert len(told) == case.lines, ended
        changed = sorted(path for path in new if not re.fullmatch(case.makes or "(?!)", path))
        assert (changed, gone) == ([], []), ended
        shown = [ended.output.encode(), ended.errors.encode(), *map(os.fsencode, new), *new.values()]
        assert [secret for secret in case.secrets if any(secret.encode() in text for text in shown)] == []
        return ended

    def run(self, case: Case, root: Path) -> Ended:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(root / "home"), "TMPDIR": str(root / "tmp"), "USER": "somebody",
            "BLITZ_CACHE": str(self._folder / "cache"), "MPLCONFIGDIR": str(self._folder / "matplotlib"),
            "TERM": "xterm", "LANG": "C.UTF-8",
            "no_proxy": "127.0.0.1,localhost", "https_proxy": NOWHERE, "http_proxy": NOWHERE,
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CEILING_DIRECTORIES": str(root), **case.environment,
        }  # fmt: skip
        output, errors = root.parent / f"{root.name}.out", root.parent / f"{root.name}.err"
        given = {
            "arguments": case.arguments,
            "folder": str(root / "here"),
            "environment": {key: value for key, value in environment.items() if value is not None},
            "streams": [os.devnull, str(output), str(errors)],
        }
        assert self._process.stdin is not None
        started = time.monotonic()
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        code = int(self._answer())
        return Ended(code, output.read_text(), errors.read_text(), time.monotonic() - started)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            self._log.seek(0)
            raise AssertionError(self._log.read())
        return line


def make(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def everything(folder: Path) -> dict[str, bytes]:
    """Each path below a folder, and what is there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            content = os.fsencode(os.readlink(path))
        else:
            content = path.read_bytes() if stat.S_ISREG(mode) else b""
        found[str(path.relative_to(folder))] = b"%o " % stat.S_IFMT(mode) + content
    return found


# ---- the process that forks


def serve() -> None:
    """Import everything; then for each line of JSON a command, in a process of its own, until the input ends."""
    _import_everything()
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        print(_ended(**json.loads(line)), flush=True)


def _import_everything() -> None:
    import blitz
    from blitz.config.compose import compose
    from blitz.tracking import store

    for module in pkgutil.walk_packages(blitz.__path__, "blitz."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "mlflow.store.tracking.sqlalchemy_store",
        "sklearn.datasets",
        "matplotlib.figure",
        "matplotlib.font_manager",
        "torch._dynamo",  # of the first optimizer
        "torchvision.models",
    ):
        importlib.import_module(name)
    compose([])  # reads the plugins of Hydra, and the schemas of all parts
    store.prepare()
    importlib.import_module("torch").set_num_threads(1)


def _ended(**given: Any) -> int:
    child = os.fork()
    if child == 0:
        _run(**given)
    deadline = time.monotonic() + SECONDS
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)  # between two looks, not for luck
    return os.waitstatus_to_exitcode(found[1])


def _run(arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[str]) -> None:
    """The command as its process runs it; does not return."""
    code = 99
    try:
        os.setsid()
        for number, path in enumerate(streams):
            opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
            os.dup2(opened, number)
            os.close(opened)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        sys.argv = ["blitz", *arguments]
        from blitz import cli

        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)

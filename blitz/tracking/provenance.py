"""What a rerun must match: the code, the packages, the hardware and the command line, as plain JSON values.

Nothing here raises: a value that cannot be found out is `None`, and `unknown` tells why under the value's dotted path.
Credentials are taken out of the command line; the diff is the user's code as it stands.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from blitz import __version__

T = TypeVar("T")
PACKAGE = Path(__file__).resolve().parents[1]
GIT_SECONDS = 10
SOURCES = frozenset({".py", ".yaml", ".yml", ".toml", ".md", ".txt", ".sh", ".cfg"})
LISTED = 100  # names of files that a diff left out; the rest is a number
HUGE = 50_000_000  # bytes of a tracked file from which on it is not compared at all
SECRET_FILE = re.compile(r"secret|credential|password|(?:^|[._-])(?:token|api_?key)s?(?:[._-]|$)", re.IGNORECASE)
# What changes numbers or speed from outside the config.
ENVIRONMENT = (
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "KMP_AFFINITY", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS", "OMP_PROC_BIND", "PYTHONHASHSEED", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NVFUSER_DISABLE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip


def collect(argv: Sequence[str]) -> dict[str, Any]:
    """Everything but the data, at the moment of the call: torch's flags and threads are read as they stand now."""
    import psutil

    unknown: dict[str, str] = {}
    names, unreadable = _packages()
    if unreadable:
        unknown["packages"] = f"no readable name and version in {', '.join(unreadable)}"
    return {
        "started_at": _iso(datetime.now(UTC)),
        "command": _command(argv),
        "host": platform.node(),
        "user": _ask(unknown, "user", getpass.getuser),
        "process": {
            "pid": os.getpid(),
            "started_at": _iso(datetime.fromtimestamp(psutil.Process().create_time(), UTC)),
        },
        "code": _code(unknown),
        "python": platform.python_version(),
        "packages": dict(names),
        "os": platform.platform(),
        "cpu": _cpu(unknown),
        "gpu": _gpu(unknown),
        "torch": _torch(),
        "environment": {name: redact(os.environ[name]) for name in ENVIRONMENT if name in os.environ},
        "unknown": unknown,
    }


def tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """What a person filters runs by; "unknown" for what could not be found out."""
    code, gpus = provenance["code"], provenance["gpu"]["names"]
    values = {
        "git.commit": code["commit"],
        "git.branch": code["branch"],
        "git.dirty": None if code["dirty"] is None else str(code["dirty"]).lower(),
        "host": provenance["host"],
        "user": provenance["user"],
        "device.cpu": provenance["cpu"]["model"],
        "device.gpu": ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)) or "none",
        "python": provenance["python"],
        "torch": provenance["torch"]["version"],
    }
    return {name: value or "unknown" for name, value in values.items()}


def _ask(unknown: dict[str, str], key: str, question: Callable[[], T]) -> T | None:
    """The answer, or `None` with the reason noted: no missing fact is worth a run."""
    try:
        return question()
    except Exception as error:
        own_words = isinstance(error, GitError | LookupError) and error.args
        unknown[key] = str(error.args[0]) if own_words else f"{type(error).__name__}: {error}"
        return None


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


# ---- credentials

_NAME = r"(?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|private)[_-]?key|credential|authorization)"
_LOGIN = re.compile(r"(?<=://)(?:[^\s/:@\"']*:[^\s@\"']*@|[^\s/?#@]+@)(?:[^\s/?#@]*@)*")
_VALUE = re.compile(
    rf"(?P<query>[?&;](?:[\w.-]*{_NAME}[\w.-]*|sig|signature|auth|key)=)[^\s&#\"']*"
    rf"|(?P<named>{_NAME}[\w.-]*[\"']?[ \t]*(?:=|:|%3D)[ \t]*(?:bearer\s+|basic\s+)?)"
    r"(?:\*{3}(?!\w)|\"[^\"]*\"|'[^']*'|\S+)"
    rf"|(?P<option>--?[\w.-]*{_NAME}[\w-]*\s+|\bbearer\s+)\S+",
    re.IGNORECASE,
)
_NAMED_ARGUMENT = re.compile(rf"([^\s=?&:/]*{_NAME}[^\s=?&]*=).*", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(rf"--?[\w.-]*{_NAME}[\w-]*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with `***` for logins in URLs and for the values of what is called password, token, secret, API key, ….

    Where it is in doubt it takes out too much: a path with an @ after a port loses its host.
    """
    text = _VALUE.sub(lambda found: (found["query"] or found["named"] or found["option"]) + "***", text)
    return _LOGIN.sub("***@", text)


def _command(argv: Sequence[str]) -> list[str]:
    """An argument is one value to its end, with spaces and ampersands; an option's value may be the next argument."""
    command: list[str] = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if _OPTION.fullmatch(before) and not argument.startswith("--"):
            command.append("***")
        elif named := _NAMED_ARGUMENT.fullmatch(argument):
            command.append(named[1] + "***")
        else:
            command.append(redact(argument))
    return command


# ---- the machine


@cache
def _packages() -> tuple[dict[str, str], list[str]]:
    """Versions by normalised name, and where neither could be read. The first one on the path is the one imported.

    Reads the two header lines itself: parsing each METADATA as an e-mail takes twenty times as long.
    """
    versions: dict[str, str] = {}
    unreadable: list[str] = []
    for package in importlib.metadata.distributions():
        text = package.read_text("METADATA") or package.read_text("PKG-INFO") or package.read_text("") or ""
        name, version = (re.search(rf"^{key}:\s*(\S+)", text, re.MULTILINE) for key in ("Name", "Version"))
        if name and version:
            versions.setdefault(re.sub(r"[-_.]+", "-", name[1]).lower(), version[1])
        else:
            unreadable.append(str(getattr(package, "_path", package)))
    return dict(sorted(versions.items())), unreadable


def _cpu(unknown: dict[str, str]) -> dict[str, Any]:
    import psutil
    import torch

    # A container or a batch system gives a process fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "model": _ask(unknown, "cpu.model", _cpu_model),
        "machine": platform.machine(),
        "capability": _ask(unknown, "cpu.capability", torch.backends.cpu.get_cpu_capability),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _cpu_model() -> str:
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True).stdout.strip()
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    model = found[1].strip() if found else platform.processor()
    if not model:
        raise LookupError("the system does not tell the processor's name")
    return model


def _gpu(unknown: dict[str, str]) -> dict[str, Any]:
    import torch

    def names() -> list[str]:
        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]

    def driver() -> str:
        text = Path("/proc/driver/nvidia/version").read_text()
        found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
        if not found:
            raise LookupError(f"no version in {text.splitlines()[0]!r}")
        return found[1]

    def cudnn() -> int:
        version = torch.backends.cudnn.version()
        if version is None:
            raise LookupError("torch finds no cuDNN")
        return version

    gpu: dict[str, Any] = {"names": [], "driver": None, "cuda": torch.version.cuda, "cudnn": None}
    if gpu["cuda"] is None:
        unknown["gpu.cuda"] = "this torch was built without CUDA"
    if torch.cuda.is_available():
        gpu["names"] = _ask(unknown, "gpu.names", names) or []
        gpu["driver"] = _ask(unknown, "gpu.driver", driver)
        gpu["cudnn"] = _ask(unknown, "gpu.cudnn", cudnn)
    else:
        unknown["gpu.driver"] = unknown["gpu.cudnn"] = "torch.cuda is not available"
    return gpu


def _torch() -> dict[str, Any]:
    import torch

    # The older torch.get_float32_matmul_precision() raises once anybody has set one of these.
    precisions = {
        "all": torch.backends,
        "cuda.matmul": torch.backends.cuda.matmul,
        "cudnn.conv": torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        "mkldnn.matmul": torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        "mkldnn.conv": torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
    }
    return {
        "version": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "fp32_precision": {name: str(getattr(place, "fp32_precision")) for name, place in precisions.items()},  # noqa: B009
    }


# ---- the code


class GitError(Exception):
    """Why git gave no answer, in words for a person."""


@dataclass
class _Status:
    commit: str | None = None
    branch: str | None = None
    changed: list[str] = field(default_factory=list)  # tracked, from the repository's top
    submodules: list[str] = field(default_factory=list)  # with changes inside, which no diff of this repository holds
    untracked: list[str] = field(default_factory=list)


def _git(folder: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    # What a hook or a script around us says about *its* repository is left out; fsmonitor would start a daemon that
    # keeps the pipe open, and optional locks would get in the way of the user's own git commands.
    mine = {key: value for key, value in os.environ.items() if not re.fullmatch(r"GIT_(?!CONFIG|EXEC|CEILING).*", key)}
    mine |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"} | dict(env or {})
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, env=mine, timeout=GIT_SECONDS)
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} took longer than {GIT_SECONDS} s") from None
    except OSError as error:
        raise GitError(f"git cannot be started: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise GitError(f"git {arguments[0]}: {lines[0].removeprefix('fatal: ')}")
    return done.stdout


def _status(root: Path) -> _Status:
    lines = _git(root, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames")
    status = _Status()
    for line in os.fsdecode(lines).split("\0"):
        match line.split(" ", 1):
            case ["#", rest]:
                key, _, value = rest.partition(" ")
                if key in ("branch.oid", "branch.head") and not value.startswith("("):
                    setattr(status, {"branch.oid": "commit", "branch.head": "branch"}[key], value)
            case ["?", path]:
                status.untracked.append(path)
            case [("1" | "u") as kind, rest]:
                values = rest.split(" ", 7 if kind == "1" else 9)
                status.changed.append(values[-1])
                if values[1].startswith("S") and re.search("[MU]", values[1]):
                    status.submodules.append(values[-1])
    return status


def _is_source(path: str) -> bool:
    return Path(path).suffix.lower() in SOURCES


def _code(unknown: dict[str, str]) -> dict[str, Any]:
    def repository() -> Path:
        root = Path(os.fsdecode(_git(PACKAGE, "rev-parse", "--show-toplevel")).removesuffix("\n"))
        ours = PACKAGE / "__init__.py"
        # A virtual environment inside somebody's repository: that repository says nothing about this code.
        installed = {"site-packages", "dist-packages"} & set(ours.relative_to(root.resolve()).parts)
        if installed or _git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", str(ours)):
            raise GitError(f"installed in {PACKAGE.parent}, not run from a repository")
        return root

    root = _ask(unknown, "code.root", repository)
    status = _ask(unknown, "code.commit", lambda: _status(root)) if root else None
    code: dict[str, Any] = {"commit": None, "branch": None, "dirty": None, "root": root and str(root)}
    if status:
        dirty = bool(status.changed or any(map(_is_source, status.untracked)))
        code |= {"commit": status.commit, "branch": status.branch, "dirty": dirty}
    why = unknown.get("code.root") or unknown.get("code.commit")
    reasons = {"commit": why or "no commit yet", "branch": why or "detached HEAD", "dirty": why}
    unknown.update({f"code.{key}": str(reason) for key, reason in reasons.items() if code[key] is None})
    return code | {"version": __version__}


def diff(root: Path, limit_bytes: int = 1_000_000) -> str:
    """What turns the last commit of the repository around `root` into what is there now, for `git apply`.

    Holds changes to tracked files and whole untracked source and config files, small ones first up to `limit_bytes`.
    What is left out stands in `#` lines at the top, which git skips (a diff of such lines alone needs `--allow-empty`).
    Empty where nothing differs. Line ends are part of it: write it with `newline=""`, or as bytes.
    """
    try:
        top, index, objects = os.fsdecode(
            _git(Path(root), "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "index",
                 "--git-path", "objects")
        ).splitlines()  # fmt: skip
        status = _status(Path(top))
        new, huge, left_out = _choose(Path(top), status, limit_bytes)
        patches = _patches(Path(top), index, objects, status, new, huge)
    except GitError as error:
        return f"# no diff: {error}\n"
    kept = _within(limit_bytes, patches, left_out)
    return _listing(Path(top), left_out) + "".join(kept)


def _within(limit_bytes: int, patches: list[bytes], left_out: list[tuple[str, str]]) -> list[str]:
    """The patches that fit, in their order: changes come before new files, and small ones before large ones."""
    texts: dict[int, str] = {}
    used = 0
    for _, size, number in sorted((b"\nnew file mode" in patch, len(patch), n) for n, patch in enumerate(patches)):
        header = patches[number].partition(b"\n")[0].decode(errors="replace").removeprefix("diff --git ")
        name = header[: len(header) // 2].strip('"').removeprefix("a/")
        if used + size > limit_bytes:
            left_out.append((name, f"its patch of {size:,} bytes is beyond the limit of {limit_bytes:,} bytes in all"))
            continue
        try:
            texts[number] = patches[number].decode()
            used += size
        except UnicodeDecodeError:
            left_out.append((name, "its text is not UTF-8"))
    return [texts[number] for number in sorted(texts)]


def _choose(root: Path, status: _Status, limit: int) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """The untracked files to add, the tracked ones to pass over, and what is left out without a look inside."""
    new: list[str] = []
    huge = [path for path in status.changed if (root / path).is_file() and (root / path).stat().st_size > HUGE]
    left_out = [(path, "changes inside a submodule") for path in status.submodules]
    left_out += [(path, f"changed, and larger than {HUGE:,} bytes") for path in huge]
    for path in status.untracked:
        file = root / path
        if path.endswith("/"):
            left_out.append((path, "untracked, a repository of its own"))
        elif not _is_source(path):
            left_out.append((path, "untracked, not a source or config file"))
        elif SECRET_FILE.search(file.name):
            left_out.append((path, "untracked, and its name says that it holds credentials"))
        elif not file.is_symlink() and not os.access(file, os.R_OK):
            left_out.append((path, "untracked, and cannot be read"))
        elif file.lstat().st_size > limit:
            left_out.append((path, f"untracked, beyond the limit of {limit:,} bytes in all"))
        else:
            new.append(path)
    return new, huge, left_out


def _patches(root: Path, index: str, objects: str, status: _Status, new: list[str], huge: list[str]) -> list[bytes]:
    """One patch a file. New files are added to a copy of the index, and nothing is written into the repository."""
    with tempfile.TemporaryDirectory(prefix="blitz-diff-") as folder:
        scratch = Path(folder, "index")
        if Path(index).exists():
            shutil.copyfile(index, scratch)
        quoted = objects.replace("\\", "\\\\").replace('"', '\\"')
        env = {
            "GIT_INDEX_FILE": str(scratch),
            "GIT_OBJECT_DIRECTORY": str(Path(folder, "objects")),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"',
        }
        Path(folder, "objects").mkdir()
        if new:
            paths = b"\0".join(map(os.fsencode, new))
            add = ("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
            _git(root, *add, env=env | {"GIT_LITERAL_PATHSPECS": "1"}, stdin=paths)
        base = "HEAD" if status.commit else os.fsdecode(_git(root, "hash-object", "-t", "tree", "--stdin")).strip()
        # Every option undoes a setting of the user's that git apply could not read.
        options = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
                   "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=dirty",
                   "--unified=3", "--inter-hunk-context=0")  # fmt: skip
        excluded = [f":(top,exclude,literal){path}" for path in huge]
        out = _git(root, "diff", *options, base, "--", *(["."] if excluded else []), *excluded, env=env)
    # In a hunk each line starts with a space, a sign or a backslash, and base 85 has no spaces.
    return [patch for patch in re.split(rb"^(?=diff --git )", out, flags=re.MULTILINE) if patch]


def _listing(root: Path, left_out: list[tuple[str, str]]) -> str:
    def line(path: str, why: str) -> str:
        file = root / path
        size = f" ({file.lstat().st_size:,} bytes)" if os.path.lexists(file) and not file.is_dir() else ""
        return f"# {json.dumps(path)}{size}: {why}\n"

    if not left_out:
        return ""
    more = f"# and {len(left_out) - LISTED:,} more\n" if len(left_out) > LISTED else ""
    return "# Left out of this diff:\n" + "".join(line(*entry) for entry in left_out[:LISTED]) + more

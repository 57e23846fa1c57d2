"""What git knows about the code: its repository, its commit, and the diff that brings the working tree back.

Nothing is written into the repository. The diff is the user's code as it stands: a file's patch that holds a known
secret is left out as a whole, and nothing is taken out of the others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blitz.redaction import holds_secret, redact

SECONDS = 10  # for one git command
SOURCES = frozenset({".py", ".yaml", ".yml", ".toml", ".md", ".txt", ".sh", ".cfg"})
LISTED = 100  # names of files that a diff left out; the rest is a number
HUGE = 50_000_000  # bytes of a tracked file from which on it is not compared at all
SECRET_FILE = re.compile(r"secret|credential|password|(?:^|[._-])(?:token|api_?key)s?(?:[._-]|$)", re.IGNORECASE)


class GitError(Exception):
    """Why git gave no answer, in words for a person."""


@dataclass
class Status:
    commit: str | None = None
    branch: str | None = None
    changed: list[str] = field(default_factory=list)  # tracked, from the repository's top
    submodules: list[str] = field(default_factory=list)  # with changes inside, which no diff of this repository holds
    untracked: list[str] = field(default_factory=list)

    @property
    def dirty(self) -> bool:
        """Whether a tracked file has changed, or a source or config file is new."""
        return bool(self.changed or any(map(_is_source, self.untracked)))


def repository(package: Path) -> Path:
    """The top folder of the repository that `package` runs from. Raises GitError where it runs from none."""
    root = Path(os.fsdecode(_git(package, "rev-parse", "--show-toplevel")).removesuffix("\n"))
    ours = package / "__init__.py"
    # A virtual environment inside somebody's repository: that repository says nothing about this code.
    installed = {"site-packages", "dist-packages"} & set(ours.relative_to(root.resolve()).parts)
    if installed or _git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", str(ours)):
        raise GitError(f"installed in {package.parent}, not run from a repository")
    return root


def status(root: Path) -> Status:
    """Where the repository at `root` stands. Raises GitError."""
    lines = _git(root, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames")
    state = Status()
    for line in os.fsdecode(lines).split("\0"):
        match line.split(" ", 1):
            case ["#", rest]:
                key, _, value = rest.partition(" ")
                if key in ("branch.oid", "branch.head") and not value.startswith("("):
                    setattr(state, {"branch.oid": "commit", "branch.head": "branch"}[key], value)
            case ["?", path]:
                state.untracked.append(path)
            case [("1" | "u") as kind, rest]:
                values = rest.split(" ", 7 if kind == "1" else 9)
                state.changed.append(values[-1])
                if values[1].startswith("S") and re.search("[MU]", values[1]):
                    state.submodules.append(values[-1])
    return state


def diff(root: Path, limit_bytes: int = 1_000_000) -> str:
    """What turns the last commit of the repository around `root` into what is there now, for `git apply`.

    Holds changes to tracked files and whole untracked source and config files, small ones first up to `limit_bytes`.
    What is left out stands in `#` lines at the top, which git skips (a diff of such lines alone needs `--allow-empty`).
    Empty where nothing differs. Line ends are part of it: write it with `newline=""`, or as bytes.
    """
    try:
        top, index, objects = os.fsdecode(
            _git(root, "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "index",
                 "--git-path", "objects")
        ).splitlines()  # fmt: skip
        state = status(Path(top))
        new, huge, left_out = _choose(Path(top), state, limit_bytes)
        patches = _patches(Path(top), index, objects, state, new, huge)
    except (GitError, OSError) as error:  # such as of a full disk for temporary files
        return f"# no diff: {error}\n"
    kept = _within(limit_bytes, patches, left_out)
    return _listing(Path(top), left_out) + "".join(kept)


def fingerprint(diff: str) -> str:
    """SHA-256 of what a diff changes, whatever it lists as left out."""
    patches = diff[diff.find("diff --git ") :] if "diff --git " in diff else ""
    return hashlib.sha256(patches.encode()).hexdigest()


def _within(limit_bytes: int, patches: list[bytes], left_out: list[tuple[str, str]]) -> list[str]:
    """The patches that fit, in their order: changes come before new files, and small ones before large ones."""
    texts: dict[int, str] = {}
    used = 0
    for _, size, number in sorted((b"\nnew file mode" in patch, len(patch), n) for n, patch in enumerate(patches)):
        name = _path(patches[number])
        if used + size > limit_bytes:
            left_out.append((name, f"its patch of {size:,} bytes is beyond the limit of {limit_bytes:,} bytes in all"))
            continue
        if _holds_secret(patches[number]):
            left_out.append((name, "its patch holds a credential"))
            continue
        try:
            texts[number] = patches[number].decode()
            used += size
        except UnicodeDecodeError:
            left_out.append((name, "its text is not UTF-8"))
    return [texts[number] for number in sorted(texts)]


def _path(patch: bytes) -> str:
    """Of the file, which git quotes as in C where it is more than plain ASCII."""
    header = patch.partition(b"\n")[0].removeprefix(b"diff --git ")
    path = header[: len(header) // 2]
    if path.startswith(b'"'):
        path = path[1:-1].decode("unicode_escape").encode("latin-1")
    return os.fsdecode(path.removeprefix(b"a/"))


def _holds_secret(patch: bytes) -> bool:
    """Also inside a binary patch, which is lines of base 85 (a length before each) over zlib."""
    texts = [patch]
    if b"\nGIT binary patch\n" in patch:
        for block in re.findall(rb"^(?:literal|delta) \d+\n((?:.+\n)+)", patch, flags=re.MULTILINE):
            packed = b"".join(base64.b85decode(line[1:]) for line in block.splitlines())
            texts.append(zlib.decompressobj().decompress(packed))  # ends before the zeros that fill the last line
    return any(holds_secret(text.decode(errors="replace")) for text in texts)


def _choose(root: Path, state: Status, limit: int) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """The untracked files to add, the tracked ones to pass over, and what is left out without a look inside."""
    new: list[str] = []
    huge = [path for path in state.changed if (root / path).is_file() and (root / path).stat().st_size > HUGE]
    left_out = [(path, "changes inside a submodule") for path in state.submodules]
    left_out += [(path, f"changed, and larger than {HUGE:,} bytes") for path in huge]
    for path in state.untracked:
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


def _patches(root: Path, index: str, objects: str, state: Status, new: list[str], huge: list[str]) -> list[bytes]:
    """One patch a file. New files are added to a copy of the index, and nothing is written into the repository."""
    with tempfile.TemporaryDirectory(prefix="blitz-diff-") as folder:
        scratch = Path(folder, "index")
        if Path(index).exists():
            # With its time: git looks into files that changed in the same second as the index, and takes the others to
            # be what they were by size and second. Under a later time, such a change would go unseen.
            shutil.copy2(index, scratch)
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
        base = "HEAD" if state.commit else os.fsdecode(_git(root, "hash-object", "-t", "tree", "--stdin")).strip()
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
        return f"# {redact(json.dumps(path))}{size}: {why}\n"

    if not left_out:
        return ""
    more = f"# and {len(left_out) - LISTED:,} more\n" if len(left_out) > LISTED else ""
    return "# Left out of this diff:\n" + "".join(line(*entry) for entry in left_out[:LISTED]) + more


def _is_source(path: str) -> bool:
    return Path(path).suffix.lower() in SOURCES


def _git(folder: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    # What a hook or a script around us says about *its* repository is left out; fsmonitor would start a daemon that
    # keeps the pipe open, and optional locks would get in the way of the user's own git commands.
    mine = {key: value for key, value in os.environ.items() if not re.fullmatch(r"GIT_(?!CONFIG|EXEC|CEILING).*", key)}
    mine |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"} | dict(env or {})
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, env=mine, timeout=SECONDS)
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} took longer than {SECONDS} s") from None
    except OSError as error:
        raise GitError(f"git cannot be started: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise GitError(redact(f"git {arguments[0]}: {lines[0].removeprefix('fatal: ')}"))
    return done.stdout

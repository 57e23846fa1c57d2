"""Real repositories, made with real git: what is recorded about a run, and whether its diff brings the code back."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from blitz import __version__
from blitz.tracking import provenance
from blitz.tracking.provenance import collect, diff, redact, tags

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))  # TMPDIR may lie in a repository
    (tmp_path / "gitconfig").write_text("[user]\nname = A\nemail = a@b.c\n[init]\ndefaultBranch = main\n")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "change")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository called "code" with a package, a binary file and a Latin-1 file in it."""
    root = tmp_path / "code"
    root.mkdir()
    git(root, "init", "-q")
    files = {
        ".gitignore": b"runs/\n",
        "blitz/__init__.py": b"# no empty file, so that git has no object for one\n",
        "blitz/run.py": b"".join(b"line %d\n" % n for n in range(100)),
        "blitz/gone.py": b"gone\n",
        "blitz/old name.py": b"one\ntwo\nthree\n",
        "tool.sh": b"#!/bin/sh\n",
        "weights.bin": bytes(range(256)) * 8,
        "latin.txt": "caf\u00e9\n".encode("latin-1"),
    }
    commit(make(root, files))
    return root


@pytest.fixture
def package(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository, as the one that this blitz runs from."""
    monkeypatch.setattr(provenance, "PACKAGE", repository / "blitz")
    return repository


def change(root: Path) -> None:
    """One change of each kind."""
    text = (root / "blitz/run.py").read_bytes()
    files = {
        "blitz/run.py": text.replace(b"line 7\n", b"line seven\n").replace(b"line 99\n", b"no newline at the end"),
        "weights.bin": bytes(range(255, -1, -1)) * 8,
        "n\u00e4me with sp\u00e4ce.py": "print('\u00e4')\n".encode(),
        'quoted "name" \\ and\ttab.md': b"text\n",
        ":(glob)*[.py": b"no pattern\n",
        "empty.py": b"",
        "sub/deep/end.yaml": b"no: newline",
        "crlf.txt": b"one\r\ntwo\r\n",
        "odd.cfg": b"diff --git a/x b/x\n# comment\n\x0cform feed\n",
        "staged.dat": b"staged\n",
    }
    make(root, files)
    git(root, "add", "staged.dat")
    git(root, "mv", "blitz/old name.py", "blitz/new name.py")
    (root / "blitz/gone.py").unlink()
    (root / "tool.sh").chmod(0o755)
    (root / "link.py").symlink_to("blitz/run.py")


def tree(root: Path, leave: tuple[str, ...] = ()) -> dict[str, tuple[int, bytes]]:
    """Kind and executable bit, and content, by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(".git/") or name in (".git", *leave) or (path.is_dir() and not path.is_symlink()):
            continue
        mode = path.lstat().st_mode
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        found[name] = (stat.S_IFMT(mode) | (mode & 0o100 if not path.is_symlink() else 0), content)
    return found


def applied(root: Path, patch: str, tmp_path: Path) -> Path:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(root), str(clone))
    (tmp_path / "git.diff").write_bytes(patch.encode())
    git(clone, "apply", str(tmp_path / "git.diff"))
    return clone


# ---- diff

UNUSUAL = {
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.relative": "true",
    "diff.renames": "copies",
    "diff.context": "0",
    "diff.external": "false",
    "diff.suppressBlankEmpty": "true",
    "color.ui": "always",
    "core.quotePath": "false",
    "core.fsmonitor": "false",
    "status.relativePaths": "true",
    "status.showUntrackedFiles": "no",
    "core.pager": "false",
}


@pytest.mark.parametrize("settings", [{}, UNUSUAL], ids=["plain", "unusual settings"])
def test_the_diff_turns_a_clone_into_the_working_tree(
    repository: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    for key, value in settings.items():
        git(repository, "config", key, value)
    change(repository)
    patch = diff(repository)
    assert not patch.startswith("#")
    assert tree(applied(repository, patch, tmp_path)) == tree(repository)
    assert diff(repository / "blitz") == patch  # from any folder of the repository, all of it


def test_the_diff_leaves_the_repository_alone(repository: Path) -> None:
    change(repository)
    os.utime(repository / "latin.txt", (1, 1))  # git would refresh its index now
    before = {path: path.read_bytes() for path in (repository / ".git").rglob("*") if path.is_file()}
    diff(repository)
    assert {path: path.read_bytes() for path in (repository / ".git").rglob("*") if path.is_file()} == before


def test_no_change_is_an_empty_diff(repository: Path) -> None:
    os.utime(repository / "latin.txt", (1, 1))
    assert diff(repository) == ""


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    root = make(tmp_path / "fresh", {"a.py": b"a\n", "b.py": b"b\n"})
    git(root, "init", "-q")
    git(root, "add", "a.py")
    patch = diff(root)
    bare = tmp_path / "bare"
    bare.mkdir()
    git(bare, "init", "-q")
    (tmp_path / "git.diff").write_text(patch)
    git(bare, "apply", str(tmp_path / "git.diff"))
    assert tree(bare) == tree(root)


def test_a_merge_in_conflict(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "-b", "other")
    make(repository, {"latin.txt": b"theirs\n"})
    commit(repository)
    git(repository, "checkout", "-q", "main")
    make(repository, {"latin.txt": b"ours\n"})
    commit(repository)
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "merge", "other")
    change(repository)
    assert b"<<<<<<<" in (repository / "latin.txt").read_bytes()
    assert tree(applied(repository, diff(repository), tmp_path)) == tree(repository)


def test_what_is_left_out_is_told(repository: Path, tmp_path: Path) -> None:
    files = {
        "large.py": b"x = 1\n" * 5000,
        "picture.png": b"\x89PNG",
        "hf_token.txt": SECRET.encode(),
        "tokenizer.py": b"kept\n",
        "latin.txt": "caf\u00e9s\n".encode("latin-1"),
        "blitz/run.py": b"y\n" * 9000,
        "small.py": b"kept\n",
        "a\nb.bin": b"",
    }
    make(repository, files)
    git(make(repository / "inner", {"z.py": b""}), "init", "-q")
    patch = diff(repository, limit_bytes=10_000)
    head = patch[: patch.index("diff --git")].splitlines()
    assert head[0] == "# Left out of this diff:"
    assert '# "large.py" (30,000 bytes): untracked, beyond the limit of 10,000 bytes in all' in head
    assert '# "picture.png" (4 bytes): untracked, not a source or config file' in head
    assert '# "hf_token.txt" (7 bytes): untracked, and its name says that it holds credentials' in head
    assert '# "latin.txt" (6 bytes): its text is not UTF-8' in head
    assert '# "inner/": untracked, a repository of its own' in head
    assert '# "a\\nb.bin" (0 bytes): untracked, not a source or config file' in head
    assert any(line.startswith('# "blitz/run.py" (18,000 bytes): its patch of ') for line in head)
    assert len(head) == 8
    assert SECRET not in patch

    clone = applied(repository, patch, tmp_path)
    git(repository, "checkout", "-q", "blitz/run.py", "latin.txt")
    shutil.rmtree(repository / "inner")
    assert tree(clone) == tree(repository, leave=("large.py", "picture.png", "hf_token.txt", "a\nb.bin"))


def test_changes_come_before_new_files(repository: Path) -> None:
    make(repository, {"tool.sh": b"changed " * 60, "new.py": b"new"})
    patch = diff(repository, limit_bytes=900)
    assert "+changed" in patch
    assert '# "new.py" (3 bytes): its patch of ' in patch


def test_a_huge_tracked_file_is_not_even_compared(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "HUGE", 1000)
    make(repository, {"weights.bin": b"\0" * 2000, "tool.sh": b"changed\n"})
    patch = diff(repository)
    assert '# "weights.bin" (2,000 bytes): changed, and larger than 1,000 bytes' in patch
    assert "GIT binary patch" not in patch
    assert "+changed" in patch


def test_a_change_inside_a_submodule_is_told(repository: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    shutil.copytree(repository, inner)
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "part")
    commit(repository)
    make(repository / "part", {"tool.sh": b"changed\n"})
    assert diff(repository) == '# Left out of this diff:\n# "part": changes inside a submodule\n'


def test_thousands_of_untracked_files_are_counted(repository: Path) -> None:
    make(repository, {f"images/{number}.png": b"" for number in range(130)})
    lines = diff(repository).splitlines()
    assert len(lines) == 102
    assert lines[-1] == "# and 30 more"


# ---- code


def test_a_clean_repository(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    make(package, {"runs/1/config.yaml": b"ignored", "picture.png": b""})
    code = collect([])["code"]
    head = (package / ".git/refs/heads/main").read_text().strip()
    assert code == {"commit": head, "branch": "main", "dirty": False, "root": str(package), "version": __version__}


@pytest.mark.parametrize("path", ["blitz/run.py", "new.py"])
def test_a_change_or_a_new_source_file_is_dirty(package: Path, path: str) -> None:
    make(package, {path: b"other\n"})
    assert collect([])["code"]["dirty"] is True


def test_a_detached_head(package: Path) -> None:
    git(package, "checkout", "-q", "--detach")
    found = collect([])
    assert found["code"]["branch"] is None
    assert found["unknown"]["code.branch"] == "detached HEAD"
    assert found["code"]["commit"]


def expect_no_code(reason: str) -> None:
    found = collect([])
    assert {**found["code"], "version": ""} == {
        "commit": None, "branch": None, "dirty": None, "root": None, "version": "",
    }  # fmt: skip
    for key in ("commit", "branch", "dirty", "root"):
        assert reason in found["unknown"][f"code.{key}"]
    assert tags(found)["git.commit"] == tags(found)["git.dirty"] == "unknown"


def test_outside_of_any_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "plain", {"blitz/__init__.py": b""})
    monkeypatch.setattr(provenance, "PACKAGE", folder / "blitz")
    expect_no_code("not a git repository")
    assert diff(folder).startswith("# no diff: git rev-parse: not a git repository")


@pytest.mark.parametrize("home", ["runs/copy", ".venv/lib/python3.11/site-packages"])
def test_code_that_only_lies_inside_somebodys_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    make(repository, {f"{home}/blitz/__init__.py": b""})
    monkeypatch.setattr(provenance, "PACKAGE", repository / home / "blitz")
    expect_no_code("not run from a repository")


def test_without_git(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    expect_no_code("git is not installed")
    assert diff(package) == "# no diff: git is not installed\n"


def test_a_git_that_hangs(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make(tmp_path, {"bin/git": b"#!/bin/sh\nexec sleep 30\n"})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "GIT_SECONDS", 0.1)
    expect_no_code("took longer than 0.1 s")


# ---- the rest of the record


def nulls(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from nulls(inner, f"{path}.{key}" if path else key)
    elif value is None:
        yield path


def test_plain_json_and_a_reason_for_every_null(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nobody)
    found = collect(["blitz"])
    assert json.loads(json.dumps(found)) == found
    missing = set(nulls(found))
    assert "user" in missing
    assert missing == set(found["unknown"]) - {"packages"}
    assert found["unknown"]["user"] == "uid not found: 1234"


def test_the_machine_as_it_is_told_by_others() -> None:
    import psutil

    found = collect([])
    assert found["process"]["pid"] == os.getpid()
    assert found["cpu"]["cores"] == len(os.sched_getaffinity(0))
    assert found["cpu"]["memory_bytes"] == psutil.virtual_memory().total
    assert found["cpu"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"]["version"] == torch.__version__
    assert torch.__version__.startswith(found["packages"]["torch"])  # without "+cu132"
    assert found["process"]["started_at"] < found["started_at"]
    assert found["started_at"].endswith("+00:00")


def test_the_flags_are_read_at_the_call() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch._C._set_deterministic_algorithms(True)  # the public function imports inductor: 2 s
        assert collect([])["torch"]["threads"] == 3
        assert collect([])["torch"]["deterministic"] is True
    finally:
        torch._C._set_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    assert collect([])["torch"]["threads"] == threads
    assert collect([])["torch"]["deterministic"] is False


def test_survives_the_newer_precision_interface() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
            torch.get_float32_matmul_precision()
        assert collect([])["torch"]["fp32_precision"]["cuda.matmul"] == "tf32"
    finally:
        matmul.fp32_precision = before


def test_the_import_is_light() -> None:
    code = "import sys, blitz.tracking.provenance; print({'torch', 'hydra', 'mlflow', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_graphics_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: ["H200", "H200", "A100"][number])
    found = collect([])
    assert found["gpu"]["names"] == ["H200", "H200", "A100"]
    for key in ("driver", "cudnn"):
        assert found["gpu"][key] or found["unknown"][f"gpu.{key}"]
    assert tags(found)["device.gpu"] == "2 x H200, 1 x A100"


def test_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "one/Some_Thing.x-1.dist-info/METADATA": b"Keywords: a\nName: Some_Thing.x\nVersion: 1.0\n\nName: no\n",
        "two/some_thing_x-2.dist-info/METADATA": b"Name: some-thing-x\nVersion: 2.0\n",
        "two/egg.egg-info/PKG-INFO": b"Name: egg\nVersion: 3\n",
        "two/broken-1.dist-info/METADATA": b"",
    }
    make(tmp_path, files)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "one"), str(tmp_path / "two")])
    provenance._packages.cache_clear()
    try:
        found = collect([])
    finally:
        provenance._packages.cache_clear()
    assert list(found["packages"].items()) == [("egg", "3"), ("some-thing-x", "1.0")]
    assert str(tmp_path / "two/broken-1.dist-info") in found["unknown"]["packages"]


def test_tags(package: Path) -> None:
    make(package, {"new.py": b""})
    found = collect([])
    assert tags(found) == {
        "git.commit": found["code"]["commit"],
        "git.branch": "main",
        "git.dirty": "true",
        "host": found["host"],
        "user": found["user"],
        "device.cpu": found["cpu"]["model"],
        "device.gpu": ", ".join(found["gpu"]["names"]) or "none",
        "python": found["python"],
        "torch": torch.__version__,
    }


# ---- credentials


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://***@host:5432/db"),
        ("postgresql+psycopg://me:hunt@er2@host/db", "postgresql+psycopg://***@host/db"),
        ("postgresql://me:hunter2/?#@host/db", "postgresql://***@host/db"),
        ("redis://:hunter2@host", "redis://***@host"),
        ("https://hunter2@host/a/b", "https://***@host/a/b"),
        ("see http://a:hunter2@b, http://c:hunter2@d", "see http://***@b, http://***@d"),
        ("http://host/?token=hunter2&page=2", "http://host/?token=***&page=2"),
        ("http://host/?a=1&X-Amz-Signature=ab&X-Amz-Security-Token=hunter2#top", None),
        ("https://host/c?sv=1&sig=hunter2&se=2", "https://host/c?sv=1&sig=***&se=2"),
        ("tracking.password=hunter2 seed=1", "tracking.password=*** seed=1"),
        ("+wandb.api_key='hunter2 x' seed=1", "+wandb.api_key=*** seed=1"),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=***"),
        ('{"hf_token": "hunter2"}', '{"hf_token": ***}'),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("blitz --api-key hunter2 --help", "blitz --api-key *** --help"),
        ("mssql:///?odbc_connect=UID%3Da%3BPWD%3Dhunter2", "mssql:///?odbc_connect=UID%3Da%3BPWD%3D***"),
    ],
)
def test_credentials_are_taken_out(text: str, expected: str | None) -> None:
    found = redact(text)
    assert SECRET not in found
    assert redact(found) == found
    if expected:
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///mlflow.db",
        "sqlite:////data/a@b/c:d/mlflow.db",
        "http://localhost:5000",
        "https://host:8443/api?page=2&order=a",
        "git@github.com:somebody/blitz",
        "blitz model=resnet18 optimizer.lr=1e-3 -m seed=0,1,2",
        "s3://bucket/run@2",
    ],
)
def test_the_rest_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_no_credential_in_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [
        "/bin/blitz",
        "model=net",
        f"tracking.uri=postgresql://me:{SECRET}@host/db",
        f"password={SECRET}&more {SECRET}",
        "--store-token",
        f"-{SECRET}",
        "--token",
        "--help",
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    found = collect(argv)
    assert found["command"] == [
        "/bin/blitz",
        "model=net",
        "tracking.uri=postgresql://***@host/db",
        "password=***",
        "--store-token",
        "***",
        "--token",
        "--help",
    ]
    assert SECRET not in json.dumps(found)

"""Real repositories, made with real git: what is told of one, and whether its diff brings the code back."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from blitz.run_folder.git import HUGE, GitError, diff, fingerprint, repository, status

SECRET = "hunter2"

pytestmark = pytest.mark.usefixtures("plain_git")


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
def root(tmp_path: Path) -> Path:
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
def test_the_diff_turns_a_clone_into_the_working_tree(root: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    for key, value in settings.items():
        git(root, "config", key, value)
    change(root)
    patch = diff(root)
    assert not patch.startswith("#")
    assert tree(applied(root, patch, tmp_path)) == tree(root)
    assert diff(root / "blitz") == patch  # from any folder of the repository, all of it


def test_the_diff_leaves_the_repository_alone(root: Path) -> None:
    change(root)
    os.utime(root / "latin.txt", (1, 1))  # git would refresh its index now
    before = {path: path.read_bytes() for path in (root / ".git").rglob("*") if path.is_file()}
    diff(root)
    assert {path: path.read_bytes() for path in (root / ".git").rglob("*") if path.is_file()} == before


def test_no_change_is_an_empty_diff(root: Path) -> None:
    os.utime(root / "latin.txt", (1, 1))
    assert diff(root) == ""


def test_a_change_of_the_same_size_within_the_second_of_the_commit_is_seen(root: Path) -> None:
    git(root, "config", "core.trustctime", "false")  # a time that cannot be set
    file, second = root / "tool.sh", (1_000_000_000, 1_000_000_000)
    os.utime(file, second)
    git(root, "update-index", "--refresh")
    os.utime(root / ".git/index", second)
    file.write_bytes(file.read_bytes().replace(b"sh", b"ls"))
    os.utime(file, second)
    (root / "new.py").touch()  # is added to the copy of the index
    assert status(root).changed == ["tool.sh"]
    assert "+#!/bin/ls" in diff(root)


def test_a_diffs_fingerprint_is_that_of_its_changes_alone(root: Path) -> None:
    empty = fingerprint("")
    change(root)
    first = fingerprint(diff(root))
    assert first != empty
    (root / "notes.bin").write_bytes(b"\0")  # is listed as left out, and nothing else
    assert "notes.bin" in diff(root)
    assert fingerprint(diff(root)) == first
    (root / "new.py").write_text("another = 1\n")
    assert fingerprint(diff(root)) != first


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


def test_a_merge_in_conflict(root: Path, tmp_path: Path) -> None:
    git(root, "checkout", "-q", "-b", "other")
    make(root, {"latin.txt": b"theirs\n"})
    commit(root)
    git(root, "checkout", "-q", "main")
    make(root, {"latin.txt": b"ours\n"})
    commit(root)
    with pytest.raises(subprocess.CalledProcessError):
        git(root, "merge", "other")
    change(root)
    assert b"<<<<<<<" in (root / "latin.txt").read_bytes()
    assert tree(applied(root, diff(root), tmp_path)) == tree(root)


def test_what_is_left_out_is_told(root: Path, tmp_path: Path) -> None:
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
    make(root, files)
    git(make(root / "inner", {"z.py": b""}), "init", "-q")
    patch = diff(root, limit_bytes=10_000)
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

    clone = applied(root, patch, tmp_path)
    git(root, "checkout", "-q", "blitz/run.py", "latin.txt")
    shutil.rmtree(root / "inner")
    assert tree(clone) == tree(root, leave=("large.py", "picture.png", "hf_token.txt", "a\nb.bin"))


def test_a_patch_with_a_secret_is_left_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_QmVuaW" + "x" * 60
    noise = bytes(n * n // 7 % 251 for n in range(5000))  # so large that git packs what was changed, not all of it
    files = {"held.cfg": f"1\n2\ntoken: {secret}\n".encode(), "dropped.cfg": f"1\n{secret}\n".encode()}
    make(root, {**files, "large.bin": noise})
    commit(root)
    change(root)
    holders: dict[str, bytes] = {
        "held.cfg": f"one\n2\ntoken: {secret}\n".encode(),  # in a line beside the changed one
        "dropped.cfg": b"1\n",
        "weights.bin": bytes(range(9)) * 99 + secret.encode() + bytes(range(256)),
        "large.bin": noise[:2500] + secret.encode() + noise[2500:],
        "url.py": f"URL = 'https://host/%68f?{secret.replace('_', '%5F')}'\n".encode(),
        f"\u00e4 {secret}.py": b"\n",
    }
    make(root, holders)
    assert re.search("\ndelta ", diff(root))
    assert not diff(root).startswith("#")

    monkeypatch.setenv("HF_TOKEN", secret)
    patch = diff(root)
    lines = patch[: patch.index("diff --git")].splitlines()
    assert lines[0] == "# Left out of this diff:"
    assert all(line.endswith(": its patch holds a credential") for line in lines[1:])
    names = {line.split('"')[1] for line in lines[1:]}
    assert names == {"held.cfg", "dropped.cfg", "weights.bin", "large.bin", "url.py", "\\u00e4 ***.py"}
    assert '# "\\u00e4 ***.py" (1 bytes): its patch holds a credential' in lines
    assert secret not in patch
    assert "GIT binary patch" not in patch
    clone = applied(root, patch, tmp_path)
    git(root, "checkout", "-q", "held.cfg", "dropped.cfg", "weights.bin", "large.bin")
    assert tree(clone) == tree(root, leave=("url.py", f"\u00e4 {secret}.py"))


def test_changes_come_before_new_files(root: Path) -> None:
    make(root, {"tool.sh": b"changed " * 60, "new.py": b"new"})
    patch = diff(root, limit_bytes=900)
    assert "+changed" in patch
    assert '# "new.py" (3 bytes): its patch of ' in patch


def test_a_huge_tracked_file_is_not_even_compared(root: Path) -> None:
    make(root, {"tool.sh": b"changed\n"})
    os.truncate(root / "weights.bin", HUGE + 1)  # which takes no room on the disk
    patch = diff(root)
    assert f'# "weights.bin" ({HUGE + 1:,} bytes): changed, and larger than {HUGE:,} bytes' in patch
    assert "GIT binary patch" not in patch
    assert "+changed" in patch


def test_a_change_inside_a_submodule_is_told(root: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    shutil.copytree(root, inner)
    git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "part")
    commit(root)
    make(root / "part", {"tool.sh": b"changed\n"})
    assert diff(root) == '# Left out of this diff:\n# "part": changes inside a submodule\n'


def test_thousands_of_untracked_files_are_counted(root: Path) -> None:
    make(root, {f"images/{number}.png": b"" for number in range(130)})
    lines = diff(root).splitlines()
    assert len(lines) == 102
    assert lines[-1] == "# and 30 more"


# ---- repository and status


def test_a_clean_repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    make(root, {"runs/1/config.yaml": b"ignored", "picture.png": b""})
    assert repository(root / "blitz") == root
    found = status(root)
    head = (root / ".git/refs/heads/main").read_text().strip()
    assert (found.commit, found.branch, found.dirty) == (head, "main", False)


@pytest.mark.parametrize("path", ["blitz/run.py", "new.py"])
def test_a_change_or_a_new_source_file_is_dirty(root: Path, path: str) -> None:
    make(root, {path: b"other\n"})
    assert status(root).dirty is True


def test_a_detached_head(root: Path) -> None:
    git(root, "checkout", "-q", "--detach")
    found = status(root)
    assert found.branch is None
    assert found.commit


def test_outside_of_any_repository(tmp_path: Path) -> None:
    folder = make(tmp_path / "plain", {"blitz/__init__.py": b""})
    with pytest.raises(GitError, match=r"^git rev-parse: not a git repository"):
        repository(folder / "blitz")
    assert diff(folder).startswith("# no diff: git rev-parse: not a git repository")


@pytest.mark.parametrize("home", ["runs/copy", ".venv/lib/python3.11/site-packages"])
def test_code_that_only_lies_inside_somebodys_repository(root: Path, home: str) -> None:
    make(root, {f"{home}/blitz/__init__.py": b""})
    with pytest.raises(GitError, match=f"^installed in {re.escape(str(root / home))}, not run from a repository$"):
        repository(root / home / "blitz")


def test_without_git(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match=r"^git is not installed$"):
        repository(root / "blitz")
    assert diff(root) == "# no diff: git is not installed\n"


def test_a_git_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make(tmp_path, {"bin/git": b"#!/bin/sh\nexec sleep 30\n"})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("blitz.run_folder.git.SECONDS", 0.1)
    with pytest.raises(GitError, match=r"^git status took longer than 0\.1 s$"):
        status(root)


def test_a_message_of_git_without_its_credentials(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = f"#!/bin/sh\necho \"fatal: unable to access 'https://me:{SECRET}@host/'\" >&2\nexit 128\n"
    make(tmp_path, {"bin/git": script.encode()})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(GitError, match=r"^git status: unable to access 'https://\*\*\*@host/'$"):
        status(root)

"""What is recorded about a run: the code, the packages, the machine and the command line."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from blitz import __version__
from blitz.run_folder import provenance
from blitz.run_folder.provenance import collect, tags


@pytest.fixture
def package(plain_git: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, as the one that this blitz runs from."""
    root = tmp_path / "code"
    (root / "blitz").mkdir(parents=True)
    (root / "blitz/__init__.py").write_bytes(b"")
    for command in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", root / "blitz")
    return root


def test_the_code(package: Path) -> None:
    head = (package / ".git/refs/heads/main").read_text().strip()
    assert collect([])["code"] == {
        "commit": head, "branch": "main", "dirty": False, "root": str(package), "version": __version__,
    }  # fmt: skip


def test_a_detached_head(package: Path) -> None:
    subprocess.run(["git", "-C", str(package), "checkout", "-q", "--detach"], check=True)
    found = collect([])
    assert found["code"]["branch"] is None
    assert found["unknown"]["code.branch"] == "detached HEAD"
    assert found["code"]["commit"]


def test_code_outside_of_any_repository(package: Path) -> None:
    shutil.rmtree(package / ".git")
    found = collect([])
    assert found["code"] == {"commit": None, "branch": None, "dirty": None, "root": None, "version": __version__}
    for key in ("commit", "branch", "dirty", "root"):
        assert "not a git repository" in found["unknown"][f"code.{key}"]
    assert tags(found)["git.commit"] == tags(found)["git.dirty"] == "unknown"


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
    code = (
        "import sys, blitz.run_folder.provenance; print({'torch', 'hydra', 'mlflow', 'matplotlib'} & set(sys.modules))"
    )
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
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    for folder in ("two", "one"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    provenance._packages.cache_clear()
    try:
        found = collect([])
    finally:
        provenance._packages.cache_clear()
    assert found["packages"].items() >= {("egg", "3"), ("some-thing-x", "1.0")}  # the first one on the path
    assert list(found["packages"]) == sorted(found["packages"])
    assert str(tmp_path / "two/broken-1.dist-info") in found["unknown"]["packages"]


def test_tags(package: Path) -> None:
    found = collect([])
    assert tags(found)["git.diff"] == "none"
    (package / "new.py").write_bytes(b"")
    found = collect([])
    found["code"]["diff_sha256"] = "0123456789abcdef"  # as a run's opening adds it
    found["packages"] = {"b": "2", "a": "1"}
    assert tags(found) == {
        "git.commit": found["code"]["commit"],
        "git.branch": "main",
        "git.dirty": "true",
        "git.diff": "0123456789ab",
        "packages": hashlib.sha256(b"a==1\nb==2").hexdigest()[:12],
        "host": found["host"],
        "user": found["user"],
        "device.cpu": found["cpu"]["model"],
        "device.gpu": ", ".join(found["gpu"]["names"]) or "none",
        "python": found["python"],
        "torch": torch.__version__,
    }


def test_no_credential_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    found = collect(["/bin/blitz", "tracking.uri=postgresql://me:hunter2@host/db", "--token", "hunter2"])
    assert found["command"] == ["/bin/blitz", "tracking.uri=postgresql://***@host/db", "--token", "***"]
    assert "hunter2" not in json.dumps(found)

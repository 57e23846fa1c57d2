"""The package as a user installs it: not editable, from any folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # pip takes its time


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation: the build backend is here, and a test has no network.
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w"]
    subprocess.run([*command, str(folder), str(ROOT)], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_config_and_what_a_page_is_made_of(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"blitz/figures/page.css", "blitz/figures/page.js"} <= set(names)
    shipped = {name for name in names if name.startswith("blitz/conf/")}
    ours = {f"blitz/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert ours
    assert shipped == ours


def test_an_installed_copy_composes_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(site), str(wheel)], check=True, capture_output=True)
    (elsewhere / "conf").mkdir()  # a folder of this name in the current one is not mistaken for ours
    (elsewhere / "conf" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    shown = subprocess.run(
        [sys.executable, "-m", "blitz", "--cfg", "job"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "name: cifar10" in shown.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import blitz.config.groups; print(blitz.config.groups.CONF)"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()) == site / "blitz" / "conf"
    sweep = subprocess.run(
        [sys.executable, "-m", "blitz", "-m", "seed=0,1", "sweep.dry_run=true"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert sweep.returncode == 0, sweep.stderr
    assert "2 jobs; sweep.dry_run=true: none was started" in sweep.stdout


def test_constraints_pin_every_dependency_and_name_no_host() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pinned = {match.lower() for match in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    asked = re.findall(r'^ +"([\w-]+)(?:\[\w+\])?>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(asked) > 15
    assert {name.lower() for name in asked} - {name.replace("_", "-") for name in pinned} == set()
    assert "://" not in text
    assert "@" not in text

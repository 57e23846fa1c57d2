"""An installed package with entry points: what lies in a folder of `sys.path`, as pip leaves it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, group: str, points: Mapping[str, str], source: str) -> Path:
    """Install a package `brass-band` with a module `brass_band`, which holds what its entry points name."""
    metadata = folder / "brass_band-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: brass-band\nVersion: 1.0\n")
    lines = [f"{name} = brass_band:{value}" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    (folder / "brass_band.py").write_text(source)
    return folder


def path(*folders: Path) -> str:
    """PYTHONPATH of a process that finds packages in these folders, and those that this one finds."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])

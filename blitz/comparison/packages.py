"""Which packages are not the same in all of some runs, from the runs' provenance."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from blitz.errors import BadInput
from blitz.tracking import queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DIGEST = "packages"  # a tag: the same for runs with the same packages
MOST, MOST_READ = 8, 10  # packages that are listed; provenances that are read, which a server sends one by one
# Those whose version can change a number.
OF_CONSEQUENCE = ("torch", "torchvision", "numpy", "pillow", "scipy", "scikit-learn", "timm", "triton")
TORCH = "torch"  # whose version has a tag of its own


def packages_that_differ(client: MlflowClient, runs: Iterable[Run]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The digest of a run's packages -> the columns about them; and notes on what is left out.

    Versions of those that differ, of consequence first; the digest as well where these are too many or unreadable.
    """
    one_each = {digest: run for run in runs if (digest := run.data.tags.get(DIGEST))}
    if len(one_each) < 2:
        return {}, []
    digests = {digest: {DIGEST: digest} for digest in one_each}
    if len(one_each) > MOST_READ:
        return digests, [f"Packages differ in {len(one_each)} ways; listed is their digest only"]
    versions = {digest: _recorded(client, run) for digest, run in one_each.items()}
    if not all(versions.values()):
        return digests, []
    names = {name for found in versions.values() for name in found} - {TORCH}
    differing = sorted(name for name in names if len({found.get(name) for found in versions.values()}) > 1)
    differing.sort(key=lambda name: OF_CONSEQUENCE.index(name) if name in OF_CONSEQUENCE else len(OF_CONSEQUENCE))
    listed, left = differing[:MOST], differing[MOST:]
    columns = {
        digest: {f"package {name}": found.get(name, "none") for name in listed} | (digests[digest] if left else {})
        for digest, found in versions.items()
    }
    return columns, [f"{len(left)} more packages differ"] if left else []


def _recorded(client: MlflowClient, run: Run) -> dict[str, str]:
    """Version by name; nothing where they cannot be read."""
    with tempfile.TemporaryDirectory(prefix="blitz-") as folder:
        try:
            text = queries.fetch(client, run, "provenance.json", Path(folder)).read_text(encoding="utf-8")
            return {str(name): str(version) for name, version in json.loads(text)["packages"].items()}
        except (BadInput, OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

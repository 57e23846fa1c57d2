"""Fixture `lab`: a store for the tests of a file, each in an experiment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lab import Lab


@pytest.fixture
def lab(workshop: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Lab:
    """The current folder's store is this file's; opening one takes as long as three tests."""
    monkeypatch.chdir(workshop)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Lab(request.node.name)

"""How OpenMP's threads wait for each other: within bounds, and as the user says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from blitz.openmp import wants_more_than


@pytest.mark.parametrize(
    ("already", "expected"),
    [
        ({}, {("10000", "None"), ("0", "None")}),  # by what else computes at that moment
        ({"GOMP_SPINCOUNT": "7"}, {("7", "None")}),
        ({"OMP_WAIT_POLICY": "active"}, {("None", "active")}),
    ],
)
def test_waiting_is_bounded_before_torch_is_imported(
    already: dict[str, str], expected: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in already.items():
        monkeypatch.setenv(name, value)
    code = (
        "import os, sys, blitz; assert 'torch' not in sys.modules; "
        "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) in expected


@pytest.mark.parametrize(
    ("load", "is_busy"),
    [
        ("0.50 0.60 0.40 1/300 4711\n", False),  # this process alone
        ("0.50 0.60 0.40 2/300 4711\n", False),
        ("0.50 0.60 0.40 3/300 4711\n", True),
        ("9.00 9.00 9.00 1/300 4711\n", False),  # what was a minute ago does not matter
        ("", False),  # a system without this file
        ("x", False),
        ("a b c d e", False),
    ],
)
def test_cores_are_busy_where_more_threads_want_to_compute(load: str, is_busy: bool) -> None:
    assert wants_more_than(2, load) == is_busy

"""Recorded configs: those of an older blitz are read as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import blitz
from blitz.config.recorded import change, read_config
from blitz.config.settings import check
from blitz.errors import BadInput


def test_a_recorded_config_with_the_old_keys_of_a_sweeps_job_is_the_same_without_them(tmp_path: Path) -> None:
    settings = blitz.compose(["data=digits", "seed=3"])
    old = {"dry_run": False, "seed": 0, "id": "2026-01-01_a", "job": 2, "label": "seed=3", "cores": 2, "go_on": None}
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create({**settings.as_dict(), "sweep": old})))
    assert check(read_config(tmp_path / "config.yaml")) == settings


def test_a_number_that_python_does_not_read_is_the_users_mistake() -> None:
    with pytest.raises(BadInput, match=r"^epochs=9+: accepted: numbers of at most 4,300 digits$"):
        change({"epochs": 2}, [f"epochs={'9' * 5000}"])

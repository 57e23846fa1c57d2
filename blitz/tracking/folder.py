"""A run's folder: unique, with what was asked for written before anything is trained."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from blitz.errors import BadInput

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without letters and digits that look alike


def new_folder(runs_dir: str) -> Path:
    """A folder that no other run has, such as `2026-11-22_18-04-59_k3f9`. Raises BadInput where none can be made."""
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    while True:
        folder = Path(runs_dir) / f"{started}_{''.join(secrets.choice(ALPHABET) for _ in range(4))}"
        try:
            Path(runs_dir).mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if Path(runs_dir).is_dir():
                continue
            raise BadInput(f"runs_dir={runs_dir}: is a file; name a folder") from None
        except OSError as error:
            raise BadInput(
                f"runs_dir={runs_dir}: no folder can be made there ({error.strerror}); name another with runs_dir="
            ) from None
        (folder / "checkpoints").mkdir()
        (folder / "figures").mkdir()
        return folder


def write_opening(
    folder: Path, config: Mapping[str, Any], overrides: Sequence[str], provenance: Mapping[str, Any], diff: str
) -> list[Path]:
    """Write what was asked for and what it runs on; returns the files."""
    texts = {
        "config.yaml": OmegaConf.to_yaml(OmegaConf.create(dict(config))),
        "overrides.yaml": OmegaConf.to_yaml(OmegaConf.create(list(overrides))),
        "provenance.json": json.dumps(provenance, indent=2) + "\n",
        "git.diff": diff,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")  # line ends are part of a diff
    return [folder / name for name in texts]


@contextmanager
def log_file(folder: Path, logger: logging.Logger) -> Iterator[Path]:
    """Everything that the logger is told also goes to the folder's `run.log`, with the time of day."""
    path = folder / "run.log"
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield path
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()

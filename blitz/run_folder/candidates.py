"""Best weights of a sweep's job until the sweep decides whether they stay: in the run's folder, and not sent yet."""

from __future__ import annotations

from pathlib import Path

BEST = "checkpoints/best.pt"
MARK = "checkpoints/candidate"  # holds the sweep's id


def leave_to_sweep(folder: Path, sweep: str) -> None:
    """Mark the best weights of a finished run as a candidate. Raises OSError."""
    (folder / MARK).write_text(sweep, encoding="utf-8")


def is_candidate(folder: Path, sweep: str | None = None) -> bool:
    """Whether a sweep, or this one, has still to decide."""
    try:
        return sweep in (None, (folder / MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False


def keep_weights(folder: Path) -> None:
    """Keep them; they are sent with the next files. Raises OSError."""
    (folder / MARK).unlink(missing_ok=True)


def remove_weights(folder: Path) -> None:
    """Raises OSError."""
    (folder / BEST).unlink(missing_ok=True)
    (folder / MARK).unlink(missing_ok=True)

"""What a run gives back to Python."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from blitz.run_folder.journal import VAL_ACCURACY
from blitz.runner.record import Record
from blitz.training.metrics import Evaluation


@dataclass(frozen=True)
class Result:
    """What a run found, and where it is recorded."""

    objective: float  # validation accuracy of the best epoch; training accuracy of the last without a validation split
    best_epoch: int
    history: list[dict[str, float]]  # the metrics of each epoch
    test: Evaluation  # of the best weights
    classes: tuple[str, ...]
    folder: Path
    run_id: str | None  # None where there is no store or it failed
    seconds: float | None = None  # wall time; None for a run that was resumed

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{what} {value}' for what, value in self._main())})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = (f"<tr><th>{escape(what)}</th><td>{escape(value)}</td></tr>" for what, value in self._main())
        return f"<table>{''.join(rows)}</table>"

    def _main(self) -> list[tuple[str, str]]:
        """The main figures."""
        images = "validation" if any(VAL_ACCURACY in row for row in self.history) else "training"
        return [
            ("test accuracy", f"{self.test.accuracy:.2%}"),
            ("top-5", f"{self.test.top5:.2%}"),
            ("loss", f"{self.test.loss:.4f}"),
            (f"{images} accuracy", f"{self.objective:.2%} (epoch {self.best_epoch} of {len(self.history)})"),
            *([] if self.seconds is None else [("time", f"{self.seconds:.1f} s")]),
            ("folder", str(self.folder)),
            *([] if self.run_id is None else [("run", self.run_id)]),
        ]

    @classmethod
    def of(cls, record: Record) -> Result:
        best, test = record.tested_epoch, record.test
        assert best is not None
        assert test is not None
        classes, seconds = record.setup.dataset.classes, record.recorder.about.seconds
        return cls(best.accuracy, best.epoch, record.history, test, classes, record.folder, record.run_id, seconds)

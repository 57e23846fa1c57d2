"""torch's profiler over the first steps of a run."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from blitz.training.loop import EpochResult, Progress

ROWS = 15

logger = logging.getLogger("blitz")


def profiled(
    reports: Iterable[Progress | EpochResult], device: torch.device, steps: int, folder: Path
) -> Generator[Progress | EpochResult]:
    """The same reports. Profiles the first `steps`, or fewer where there are no more or the generator is closed: writes
    `trace.json` (for chrome://tracing or Perfetto) and logs a table.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    order = f"self_{device.type if device.type == 'cuda' else 'cpu'}_time_total"
    profiler = profile(activities=activities, record_shapes=False)

    remaining = iter(reports)
    profiler.start()
    try:
        for report in remaining:
            yield report
            if report.step >= steps:
                break
    finally:  # torch crashes where one is at work when the program ends
        profiler.stop()
        profiler.export_chrome_trace(str(folder / "trace.json"))
        logger.info("%s", profiler.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=40))
    yield from remaining

"""torch's profiler over the first steps of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

ROWS = 15


class Profiler:
    """Started at once; `stop` writes `trace.json` (for chrome://tracing or Perfetto) and tells where the time went."""

    def __init__(self, device: torch.device) -> None:
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        self._sort = f"self_{device.type if device.type == 'cuda' else 'cpu'}_time_total"
        self._profile = profile(activities=activities, record_shapes=False)
        self._profile.start()

    def stop(self, folder: Path) -> str:
        """The table of the costliest operations."""
        self._profile.stop()
        self._profile.export_chrome_trace(str(folder / "trace.json"))
        return str(self._profile.key_averages().table(sort_by=self._sort, row_limit=ROWS, max_name_column_width=40))

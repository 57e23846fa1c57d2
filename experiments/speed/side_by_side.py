"""Sixteen jobs of Net: on how many processes, with how many threads each?

    python experiments/speed/side_by_side.py [--rounds 3] [--jobs 16] [--epochs 8] [--batch 32]

The same sweep with each number of processes and threads, in turns, and with `hydra/launcher=joblib` as it comes. The
jobs train on scikit-learn's digits and are recorded in a store of SQLite.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from blitz.parts.devices import usable_cores
from blitz.run_folder.provenance import cpu_model

JOBLIB = "hydra/launcher=joblib"
AS_IT_COMES = "as it comes"


def ways(cores: int) -> dict[str, list[str]]:
    """One job after another, then several beside each other, and what is chosen where nothing is said."""
    found = {f"1 process, {threads} threads": [f"device.threads={threads}"] for threads in sorted({1, cores})}
    for processes in sorted({cores, 2 * cores}):
        found[f"{processes} processes, 1 thread"] = [JOBLIB, f"hydra.launcher.n_jobs={processes}", "device.threads=1"]
    found[f"{cores} processes, {cores} threads"] = [JOBLIB, f"hydra.launcher.n_jobs={cores}", f"device.threads={cores}"]
    return {**found, AS_IT_COMES: [JOBLIB]}


def sweep(overrides: list[str], jobs: int, epochs: int, batch: int) -> float:
    """Seconds of a whole sweep."""
    asked = ["data=digits", f"epochs={epochs}", f"batch_size={batch}", f"seed=range({jobs})", "tracking.figures=false"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-m", "blitz", "-m", *asked, *overrides]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(list(Path(folder).glob("runs/*/provenance.json"))) == jobs
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    found: dict[str, list[float]] = {way: [] for way in ways(usable_cores())}
    for _ in range(options.rounds):
        for way, overrides in ways(usable_cores()).items():
            found[way].append(sweep(overrides, options.jobs, options.epochs, options.batch))
    print(f"{date.today()}, {usable_cores()} cores, {cpu_model()}; {options.jobs} jobs, batches of {options.batch}\n")
    print("| way | seconds, median (range) |\n|---|---|")
    for way, seconds in found.items():
        print(f"| {way} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) |")


if __name__ == "__main__":
    main()

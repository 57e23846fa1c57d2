"""What a command waits for before and after its work: starts and ends as multiples of the imports that they need.

    python experiments/speed/start.py [--rounds 5] [--images PATH]

Whole processes, all ways in turns, each in the folder of a store that exists. What is promised is a ratio of medians in
one run of this script, but for the commands that import neither torch nor mlflow, which have seconds. The first step's
time is that of its line in the journal. With `--images`, also how long reading a folder of images takes in a process
that has torch imported and that finds them decoded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from blitz.run_folder import journal
from blitz.run_folder.journal import JOURNAL, STEP_LOSS
from blitz.run_folder.provenance import cpu_model

QUICKSTART = ["experiment=quickstart", "epochs=1"]
TORCH, ALL, MLFLOW = "import torch", "import torch, torchvision, mlflow", "import mlflow"
READING = """
import gc, json, sys, time
import blitz
from blitz.runner.build import data_of
choice = blitz.compose(sys.argv[1:]).data
gc.freeze()  # as the command does
started = time.perf_counter()
data_of(choice)
print(json.dumps(time.perf_counter() - started))
"""
# what -> what it is compared with (None: seconds), and how much of that is promised
PROMISED: dict[str, tuple[str | None, float]] = {
    "quickstart to its first step": (TORCH, 1.25),
    "quickstart to its prompt": (ALL, 1.2),
    "blitz --help": (None, 0.15),
    "blitz --cfg job": (None, 0.6),
    "blitz compare RUN RUN": (MLFLOW, 1.3),
    "data=digits": (None, 0.2),
    "data=folder": (None, 0.6),
}


def seconds(folder: Path, *command: str) -> float:
    """From the start of a process to its end."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - started


def blitz(folder: Path, *arguments: str) -> float:
    return seconds(folder, "-m", "blitz", *arguments)


def first_step(folder: Path) -> float:
    """From the start of a run's process to the end of its first step."""
    started = time.time()
    blitz(folder, *QUICKSTART, "report_every=1")
    point = journal.first(newest(folder)[0] / JOURNAL, STEP_LOSS)
    assert point is not None
    return point.milliseconds / 1000 - started


def newest(folder: Path) -> list[Path]:
    runs = [path.parent for path in folder.glob(f"runs/*/{JOURNAL}")]
    return sorted(runs, key=os.path.getctime, reverse=True)


def reading(folder: Path, *overrides: str) -> float:
    """Seconds from a data set's name to its tensors, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", READING, *overrides], cwd=folder, capture_output=True, check=True)
    return float(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for seed in range(2):  # makes the store, fills the disk's cache, and gives two runs to compare
            blitz(folder, *QUICKSTART, f"seed={seed}")
        two = [run.name for run in newest(folder)[:2]]
        ways: dict[str, Callable[[], float]] = {
            TORCH: lambda: seconds(folder, "-c", TORCH),
            MLFLOW: lambda: seconds(folder, "-c", MLFLOW),
            ALL: lambda: seconds(folder, "-c", ALL),
            "quickstart to its first step": lambda: first_step(folder),
            "quickstart to its prompt": lambda: blitz(folder, *QUICKSTART),
            "blitz --help": lambda: blitz(folder, "--help"),
            "blitz --cfg job": lambda: blitz(folder, "--cfg", "job"),
            "blitz compare RUN RUN": lambda: blitz(folder, "compare", *(f"runs/{name}" for name in two)),
            "data=digits": lambda: reading(folder, "data=digits"),
        }
        if options.images:
            ways["data=folder"] = lambda: reading(folder, "data=folder", f"data.root={options.images.resolve()}")
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, way_of in ways.items():
                found[way].append(way_of())
    print(f"{date.today()}, {cpu_model()}, medians of {options.rounds} rounds in turns\n")
    print("| what | seconds, median (range) | promised |\n|---|---|---|")
    middle = {way: statistics.median(values) for way, values in found.items()}
    for way, values in found.items():
        promise = ""
        if way in PROMISED:
            base, limit = PROMISED[way]
            what = f"{limit:g} s" if base is None else f"{limit:g} × `{base}`"
            reached = middle[way] if base is None else middle[way] / middle[base]
            promise = f"{what}: {reached:.2f}, {'kept' if reached <= limit else 'NOT kept'}"
        print(f"| `{way}` | {middle[way]:.2f} ({min(values):.2f} to {max(values):.2f}) | {promise} |")


if __name__ == "__main__":
    main()

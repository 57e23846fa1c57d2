"""What speed, time and memory are proportional to: more images, larger models, longer runs.

    python experiments/speed/growth.py [--rounds 3] [--images 1000,10000,…] [--steps 100000] [--figure FILE]

Images: random ones, each number in a process of its own: seconds until everything is built, images per second of Net at
batch 128, and the memory that the process has for itself. Models: perceptrons of one hidden layer on 10,000 images.
Medians of rounds, all numbers and models in turns. Length: a run of single images with every step's loss recorded,
looked at in ten moments: what the journal and the store hold, and the memory of training and of the process that writes
to the store.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import psutil

from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.provenance import cpu_model

UNITS = [3, 32, 325, 3250]  # hidden ones of a perceptron: 10^4 to 10^7 parameters
STEPS = 60

# In a process of its own, as memory is not given back: overrides in, what was found out.
TRAINING = """
import json, sys, time
import psutil, torch
import blitz
from blitz.runner.build import build
from blitz.training.loop import Progress, fit
steps = int(sys.argv[1])
settings = blitz.compose(["tracking=none", *sys.argv[2:]])
started = time.perf_counter()
setup = build(settings)
ready = time.perf_counter() - started
times = {}
for report in fit(setup.learner, setup.train, None, setup.augment, setup.mix, epochs=10**6, report_every=10):
    if isinstance(report, Progress):
        times[report.step] = time.perf_counter()
    if max(times) >= steps:
        break
first, last = min(times), max(times)
memory = psutil.Process().memory_info()
print(json.dumps({
    "ready": ready,
    "images_per_second": (last - first) * settings.batch_size / (times[last] - times[first]),
    "memory": memory.rss - memory.shared,
    "parameters": sum(parameter.numel() for parameter in setup.learner.model.parameters()),
}))
"""


class Found(NamedTuple):
    ready: float  # seconds
    images_per_second: float
    memory: float  # bytes
    parameters: int


def trained(*overrides: str) -> Found:
    command = [sys.executable, "-c", TRAINING, str(STEPS), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Found(**json.loads(done.stdout))


def median(rounds: Sequence[Found]) -> Found:
    return Found(*map(statistics.median, zip(*rounds, strict=True)))


class Moment(NamedTuple):
    """Of a long run."""

    seconds: float
    journal: int  # bytes
    store: int
    training: int  # memory
    writer: int


def long_run(steps: int, folder: Path) -> list[Moment]:
    """What is there after each tenth of the time with a journal, as nearly as looking now and then finds it."""
    command = [sys.executable, "-m", "blitz", "data=synthetic", f"data.train_size={steps}", "data.test_size=100"]
    command += ["data.validation=0", "epochs=1", "batch_size=1", "tracking.step_loss=1", "tracking.figures=false"]
    moments: list[Moment] = []
    started = time.perf_counter()

    def look(training: int, writer: int) -> None:
        journal = sum(path.stat().st_size for path in folder.glob(f"runs/*/{JOURNAL}"))
        if journal:
            store = sum(path.stat().st_size for path in folder.glob("mlflow.db*"))
            moments.append(Moment(time.perf_counter() - started, journal, store, training, writer))

    with psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            training, *others = (anonymous(one) for one in [process, *process.children(recursive=True)])
            if training:
                look(training, sum(others))
            time.sleep(0.25)
        assert process.returncode == 0
    look(0, 0)  # both have ended
    return [moments[(len(moments) - 1) * tenth // 10] for tenth in range(1, 11)]


def anonymous(process: psutil.Process) -> int:
    """Bytes that a process has for itself; 0 for one that has ended."""
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - memory.shared)


def draw(path: Path, images: Sequence[tuple[int, Found]], models: Sequence[Found], moments: Sequence[Moment]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    data, ready, model, length = figure.subplots(1, 4)
    numbers = [number for number, _ in images]
    data.plot(numbers, [found.images_per_second for _, found in images], "o-")
    data.set(xscale="log", ylim=(0, None), xlabel="training images", ylabel="images per second (Net)")
    ready.plot(numbers, [found.ready for _, found in images], "o-")
    ready.set(xscale="log", yscale="log", xlabel="training images", ylabel="seconds until ready")
    model.plot([found.parameters for found in models], [found.images_per_second for found in models], "o-")
    model.set(xscale="log", yscale="log", xlabel="parameters", ylabel="images per second (perceptron)")
    under_way = [moment for moment in moments if moment.training]
    seconds = [moment.seconds for moment in under_way]
    length.plot(seconds, [moment.training / 2**20 for moment in under_way], label="training")
    length.plot(seconds, [moment.writer / 2**20 for moment in under_way], label="writer")
    length.set(ylim=(0, None), xlabel="seconds of a long run", ylabel="memory, MiB")
    length.legend(frameon=False)
    for axes in (data, ready, model, length):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", default="1000,10000,100000,1000000")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    numbers = [int(number) for number in options.images.split(",")]
    cases = [["data=synthetic", f"data.train_size={number}", "batch_size=128"] for number in numbers]
    cases += [["data=synthetic", "batch_size=128", "model=mlp", f"model.hidden=[{units}]"] for units in UNITS]
    rounds = [[trained(*overrides) for overrides in cases] for _ in range(options.rounds)]
    found = [median(one) for one in zip(*rounds, strict=True)]
    images, models = list(zip(numbers, found, strict=False)), found[len(numbers) :]
    print(f"{date.today()}, {cpu_model()}, medians of {options.rounds} rounds in turns\n")
    print("| training images | ready after | images/s | memory, MiB |\n|---|---|---|---|")
    for number, one in images:
        print(f"| {number:,} | {one.ready:.2f} s | {one.images_per_second:,.0f} | {one.memory / 2**20:,.0f} |")
    print("\n| parameters | images/s |\n|---|---|")
    for one in models:
        print(f"| {one.parameters:,} | {one.images_per_second:,.0f} |")
    with tempfile.TemporaryDirectory() as scratch:
        moments = long_run(options.steps, Path(scratch))
    print(f"\n{options.steps:,} steps, every loss recorded\n")
    print("| after | journal, MiB | store, MiB | training, MiB | writer, MiB |\n|---|---|---|---|---|")
    for moment in moments:
        sizes = " | ".join(f"{size / 2**20:,.1f}" for size in moment[1:])
        print(f"| {moment.seconds:.0f} s | {sizes if moment.training else sizes + ' (ended)'} |")
    if options.figure:
        draw(options.figure, images, models, moments)


if __name__ == "__main__":
    main()

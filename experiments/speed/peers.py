"""blitz beside what people use: the tutorial's script, Lightning, and loops written by hand, in turns on one machine.

    python experiments/speed/peers.py --images PATH [--rounds 3] [--cases net-4,net-32,…] [--ways blitz,…] [--figure F]

Each way is a whole process that trains one epoch on the same images, then evaluates on test images: `ways/*.py`, and
the command `blitz` as it comes, with its record in a store of SQLite. Printed are medians and ranges: images per second
after a warm-up of a fifth of the steps, the peak of memory that a way's processes have for themselves, seconds from the
command to the end of the first step, and the accuracy; then the ratios of medians that blitz promises.
`--images` is a folder for `data=folder`; without it the images are random. Lightning is in the extra `bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

import blitz
from blitz.run_folder.journal import JOURNAL, STEP_LOSS, TEST_ACCURACY, every_point
from blitz.run_folder.provenance import cpu_model
from blitz.runner.build import build, data_of
from blitz.training.loop import train_step

WAYS = Path(__file__).parent / "ways"
SCRIPTS = {
    "tutorial-0": ["tutorial.py"],
    "tutorial-2": ["tutorial.py", "--workers=2"],
    "lightning-0": ["with_lightning.py"],
    "lightning-2": ["with_lightning.py", "--workers=2"],
    "tensors-uint8": ["by_hand.py"],
    "tensors-float32": ["by_hand.py", "--float32"],
}
BLITZ = "blitz"
HALVES = "[0.5,0.5,0.5]"  # mean and standard deviation, as in the tutorial
RECIPE = f"data.validation=0 data.mean={HALVES} data.std={HALVES} optimizer.lr=0.001 optimizer.momentum=0.9 epochs=1"
SAMPLED = 0.2  # seconds between two looks at the memory


class Case(NamedTuple):
    model: str
    batch: int
    steps: int
    augment: bool = False


CASES = {
    "net-4": Case("net", 4, 6000),
    "net-32": Case("net", 32, 1200),
    "net-128": Case("net", 128, 390),
    "resnet20-128": Case("resnet20", 128, 30),
    "resnet18-128": Case("resnet18", 128, 8, augment=True),
}
# case -> the peers, of which the fastest counts, and how many times as fast blitz is to be
TUTORIAL = ("tutorial-0", "tutorial-2")
PROMISED: dict[str, list[tuple[tuple[str, ...], float]]] = {
    "net-4": [(TUTORIAL, 1.45), (("lightning-2",), 4.0)],
    "net-128": [((*TUTORIAL, "lightning-0", "lightning-2"), 2.4)],
    "resnet18-128": [(TUTORIAL, 1.15)],
}
# in every case
BY_HAND: list[tuple[tuple[str, ...], float]] = [(("tensors-uint8",), 0.98), (("tensors-float32",), 0.97)]


class Found(NamedTuple):
    """What one process of a way took."""

    images_per_second: float
    memory: float  # MiB
    first_step: float  # seconds
    accuracy: float


class Images:
    """The same images for all: a data set for blitz, and a file of tensors for the others."""

    def __init__(self, folder: Path, root: Path | None, case: Case, train: int | None) -> None:
        number = min(train, case.batch * case.steps) if train is not None else case.batch * case.steps
        of = f"data=folder data.root={root} data.limit={number}" if root else f"data=synthetic data.train_size={number}"
        self.overrides = [*of.split(), *RECIPE.split(), f"model={case.model}", f"batch_size={case.batch}"]
        self.overrides += ["augment=flip_crop"] * case.augment
        self.steps = -(-number // case.batch)
        self.file = folder / "images.pt"
        _, splits = data_of(blitz.compose(self.overrides).data)
        tensors = {"train": splits.train, "test": splits.test}
        torch.save({name: (part.images.clone(), part.labels.clone()) for name, part in tensors.items()}, self.file)


def script(way: str, case: Case, images: Images) -> list[str]:
    name, *more = SCRIPTS[way]
    asked = [f"--images={images.file}", f"--model={case.model}", f"--batch={case.batch}"]
    return [sys.executable, str(WAYS / name), *more, *asked, *["--augment"] * case.augment]


def watched(command: Sequence[str], folder: Path) -> tuple[str, float, float]:
    """What a command prints, its peak of memory in MiB, and when it was started."""
    started, peak = time.time(), 0.0
    with (folder / "output").open("w+") as output, (folder / "errors").open("w+") as errors:
        process = psutil.Popen(command, cwd=folder, stdout=output, stderr=errors)
        while process.poll() is None:
            peak = max(peak, sum(anonymous(one) for one in [process, *children(process)]))
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(SAMPLED)
        output.seek(0)
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-3000:]
        return output.read(), peak / 2**20, started


def children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def anonymous(process: psutil.Process) -> int:
    """Bytes that are the process's own; 0 for one that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        memory = process.memory_info()
        return int(memory.rss - memory.shared)
    return 0


def by_script(way: str, case: Case, images: Images, folder: Path) -> Found:
    printed, memory, started = watched(script(way, case, images), folder)
    found = json.loads(printed.splitlines()[-1])
    return Found(found["images_per_second"], memory, found["first_step"] - started, found["accuracy"])


def by_blitz(case: Case, images: Images, folder: Path) -> Found:
    """Twice: the second reports after its first step, which would slow the first down were it done after each."""
    warm = max(1, images.steps // 5)
    command = [sys.executable, "-m", "blitz", *images.overrides]
    _, memory, _ = watched([*command, f"report_every={warm}", f"tracking.step_loss={warm}"], folder)
    (long,) = folder.glob(f"runs/*/{JOURNAL}")
    points = list(every_point(long))
    ends = {point.step: point.milliseconds / 1000 for point in points if point.name == STEP_LOSS}
    steps = max(ends) - min(ends)
    speed = steps * case.batch / (ends[max(ends)] - ends[min(ends)])
    accuracy = next(point.value for point in points if point.name == TEST_ACCURACY)
    short = ["report_every=1", "tracking.step_loss=1", f"data.limit={2 * case.batch}"]
    _, _, started = watched([*command, *short], folder)
    (short_run,) = set(folder.glob(f"runs/*/{JOURNAL}")) - {long}
    first = next(point for point in every_point(short_run) if point.name == STEP_LOSS)
    return Found(speed, memory, first.milliseconds / 1000 - started, accuracy)


def measure(case: Case, images: Images, ways: Sequence[str], rounds: int, folder: Path) -> dict[str, list[Found]]:
    """Each way once a round, each round in the same order."""
    found: dict[str, list[Found]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            own = folder / f"{number} {way}"
            own.mkdir(parents=True)
            one = by_blitz(case, images, own) if way == BLITZ else by_script(way, case, images, own)
            found[way].append(one)
            print(f"  {way}: {one.images_per_second:,.0f} images/s", file=sys.stderr, flush=True)
    return found


def data_share(images: Images) -> float:
    """The share of a step of blitz that goes into making its batch: read, augmented and normalised."""
    setup = build(blitz.compose([*images.overrides, "tracking=none"]))
    batches = setup.train.shuffled(0, 0, setup.augment, setup.mix)
    for _ in range(2):  # what is made once
        train_step(setup.learner, *next(batches))
    made, trained = 0.0, 0.0
    for _ in range(min(20, images.steps - 2)):
        started = time.perf_counter()
        batch = next(batches)
        made += time.perf_counter() - started
        train_step(setup.learner, *batch)
        trained += time.perf_counter() - started
    return made / trained


def ratios(name: str, found: Mapping[str, Sequence[Found]]) -> list[str]:
    """What blitz promises of a case, and what came out."""

    def speed(way: str) -> float:
        return statistics.median(one.images_per_second for one in found[way])

    lines = []
    for peers, promised in [*PROMISED.get(name, []), *BY_HAND]:
        there = [way for way in peers if way in found]
        if there and BLITZ in found:
            fastest = max(there, key=speed)
            ratio = speed(BLITZ) / speed(fastest)
            kept = "kept" if ratio >= promised else "NOT kept"
            lines.append(f"{ratio:.2f} times {fastest} (promised: {promised:g}; {kept})")
    return lines


def table(name: str, found: Mapping[str, Sequence[Found]]) -> str:
    """Rows of Markdown, one a way: median (smallest to largest)."""
    lines = [f"| {name} | images/s | memory, MiB | first step after | accuracy |", "|---|---|---|---|---|"]
    for way, ones in found.items():
        speed, memory, first, accuracy = ([one[index] for one in ones] for index in range(len(Found._fields)))
        lines.append(
            f"| {way} | {spread(speed, ',.0f')} | {statistics.median(memory):,.0f} | {spread(first, '.1f')} s "
            f"| {100 * statistics.mean(accuracy):.1f} % |"
        )
    return "\n".join(lines)


def spread(values: Sequence[float], digits: str) -> str:
    shown = format(statistics.median(values), digits)
    return shown if len(values) == 1 else f"{shown} ({min(values):{digits}} to {max(values):{digits}})"


def draw(path: Path, speeds: Mapping[str, Mapping[str, Sequence[Found]]]) -> None:
    """Images per second of each way as a multiple of the first's, case by case."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    ways = list(next(iter(speeds.values())))
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        heights, errors = [], []
        for found in speeds.values():
            first = statistics.median(one.images_per_second for one in found[ways[0]])
            values = [one.images_per_second / first for one in found[way]]
            middle = statistics.median(values)
            heights.append(middle)
            errors.append((middle - min(values), max(values) - middle))
        at = [case + (place - (len(ways) - 1) / 2) * width for case in range(len(speeds))]
        colour = "C3" if way == BLITZ else f"{0.8 - 0.09 * place:.2f}"
        axes.bar(at, heights, width, label=way, color=colour, yerr=list(zip(*errors, strict=True)), ecolor="0.3")
    axes.set_xticks(range(len(speeds)), list(speeds))
    axes.set_ylabel(f"images per second, as a multiple of\n{ways[0]}")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def versions() -> str:
    found = {}
    for name in ("torch", "torchvision", "lightning", "mlflow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--ways", default=",".join([*SCRIPTS, BLITZ]))
    parser.add_argument("--train", type=int, help="training images at most, for a try")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    ways = options.ways.split(",")
    if importlib.util.find_spec("lightning") is None:
        print('Lightning is not installed, and left out: pip install -e ".[bench]"')
        ways = [way for way in ways if not way.startswith("lightning")]
    speeds: dict[str, dict[str, list[Found]]] = {}
    source = options.images or "random images"
    print(f"{date.today()}, {cpu_model()}, {psutil.cpu_count()} cores, {versions()}; {options.rounds} rounds; {source}")
    for name in options.cases.split(","):
        case = CASES[name]
        with tempfile.TemporaryDirectory() as scratch:
            images = Images(Path(scratch), options.images, case, options.train)
            print(f"{name}: {images.steps} steps", file=sys.stderr, flush=True)
            speeds[name] = measure(case, images, ways, options.rounds, Path(scratch))
            share = data_share(images)
        print(f"\n{table(name, speeds[name])}\n")
        for line in [*ratios(name, speeds[name]), f"{100 * share:.1f} % of a step make its batch"]:
            print(f"- {line}", flush=True)
    if options.figure:
        draw(options.figure, speeds)


if __name__ == "__main__":
    main()

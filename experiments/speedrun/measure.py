"""Accuracy against training seconds: the recipes that are made for it, the tutorial's own script and `resnet20`.

    python experiments/speedrun/measure.py --images PATH [--seeds 5,3,1] [--curves] [--figure FILE] [--csv FILE]

Whole runs of the command `blitz`, each recipe with seeds 0, 1, …, in turns with the script of PyTorch's tutorial
(`experiments/speed/ways/tutorial.py`, without and with worker processes). Seconds are those of training, without the
start and without evaluations; the accuracy is that of the last or best weights on the test images, read once after
training. `--curves` adds a run of each recipe with validation images, for the figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

import blitz
from blitz.run_folder import journal
from blitz.run_folder.journal import JOURNAL, TEST_ACCURACY, VAL_ACCURACY
from blitz.run_folder.provenance import cpu_model
from blitz.runner.build import data_of

TUTORIAL = Path(__file__).parents[1] / "speed" / "ways" / "tutorial.py"
RECIPES = ["speedrun_55", "speedrun_90", "resnet20"]
SCRIPT = {f"tutorial's script, {workers} workers": workers for workers in (0, 2)}
# recipe -> with what it is compared, and how much of its training seconds it may take
PROMISED = {"speedrun_55": (tuple(SCRIPT), 1 / 15), "speedrun_90": (("resnet20",), 1 / 3)}


class Run(NamedTuple):
    seconds: float
    accuracy: float | None  # on test images; None: for its curve alone
    curve: list[tuple[float, float]]  # seconds, accuracy on validation images


def recipe(name: str, seed: int, data: Sequence[str], folder: Path, more: Sequence[str] = ()) -> Run:
    before = set(folder.glob(f"runs/*/{JOURNAL}"))
    command = [sys.executable, "-m", "blitz", *data, f"experiment={name}", f"seed={seed}", *more]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (path,) = set(folder.glob(f"runs/*/{JOURNAL}")) - before
    seconds, curve = 0.0, []
    for row in journal.epochs(path):
        seconds += row["time/train"]
        if VAL_ACCURACY in row:
            curve.append((seconds, row[VAL_ACCURACY]))
    point = journal.first(path, TEST_ACCURACY)
    assert point is not None
    return Run(seconds, point.value, curve)


def script(workers: int, images: Path, epochs: int) -> Run:
    """The tutorial's, two epochs of batches of four; its first step does not count."""
    command = [sys.executable, str(TUTORIAL), f"--images={images}", f"--workers={workers}", f"--epochs={epochs}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed.splitlines()[-1])
    return Run(found["seconds"], found["accuracy"], [])


def row(name: str, runs: Sequence[Run]) -> str:
    seconds, accuracy = [run.seconds for run in runs], [run.accuracy for run in runs if run.accuracy is not None]
    spread = f" ± {100 * statistics.stdev(accuracy):.2f}" if len(runs) > 1 else ""
    span = f" ({min(seconds):.1f} to {max(seconds):.1f})" if len(runs) > 1 else ""
    accuracies = f"{100 * statistics.mean(accuracy):.2f}{spread} %"
    return f"| {name} | {len(runs)} | {accuracies} | {statistics.median(seconds):.1f} s{span} |"


def promises(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    middle = {name: statistics.median(run.seconds for run in found) for name, found in runs.items() if found}
    lines = []
    for name, (others, share) in PROMISED.items():
        there = [other for other in others if other in middle]
        if there and name in middle:
            fastest = min(there, key=lambda other: middle[other])
            ratio = middle[fastest] / middle[name]
            kept = "kept" if ratio >= 1 / share else "NOT kept"
            lines.append(f"{name}: 1/{ratio:.1f} of the seconds of {fastest} (promised: 1/{1 / share:.0f}; {kept})")
    return lines


def draw(path: Path, runs: Mapping[str, Sequence[Run]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, (name, found) in enumerate(runs.items()):
        colour = f"C{place}"
        for run in found:
            if run.curve:
                axes.plot(*zip(*run.curve, strict=True), "-", color=colour, alpha=0.6, linewidth=1)
        tested = [(run.seconds, run.accuracy) for run in found if run.accuracy is not None]
        axes.plot(*zip(*tested, strict=True), "o", color=colour, label=name)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="accuracy (lines: validation, dots: test)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder for data=folder; without it, random images")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="5,3,1", help="of each recipe, how many")
    parser.add_argument("--script", type=int, default=1, help="how often the tutorial's script runs in each way")
    parser.add_argument("--script-epochs", type=int, default=2)
    parser.add_argument("--curves", action="store_true", help="a further run of recipes without validation images")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("overrides", nargs="*", help="for all recipes, such as device.precision=bf16")
    options = parser.parse_args()
    source = [f"data.root={options.images.resolve()}"] if options.images else []
    data = [f"data={'folder' if options.images else 'synthetic'}", *source, *options.overrides]
    recipes = options.recipes.split(",")
    seeds = dict(zip(recipes, map(int, options.seeds.split(",")), strict=True))
    runs: dict[str, list[Run]] = {name: [] for name in [*SCRIPT, *recipes]}
    with tempfile.TemporaryDirectory() as scratch:
        folder, images = Path(scratch), Path(scratch, "images.pt")
        _, splits = data_of(blitz.compose([*data, "data.validation=0"]).data)
        parts = {"train": splits.train, "test": splits.test}
        torch.save({name: (part.images.clone(), part.labels.clone()) for name, part in parts.items()}, images)
        for turn in range(max(options.script, *seeds.values())):
            for name, workers in SCRIPT.items():
                if turn < options.script:
                    runs[name].append(script(workers, images, options.script_epochs))
                    print(row(name, runs[name][-1:]), file=sys.stderr, flush=True)
            for name in recipes:
                if turn < seeds[name]:
                    runs[name].append(recipe(name, turn, data, folder))
                    print(row(name, runs[name][-1:]), file=sys.stderr, flush=True)
        curves = {name: list(found) for name, found in runs.items()}
        for name in recipes:
            if options.curves and not any(run.curve for run in runs[name]):
                shown = recipe(name, 0, data, folder, ["data.validation=0.1"])
                curves[name].append(shown._replace(accuracy=None))
    print(f"{date.today()}, {cpu_model()}, torch {torch.__version__}; {options.images or 'random images'}\n")
    print("| what | n | test accuracy, mean ± std | training seconds, median (range) |\n|---|---|---|---|")
    for name, found in runs.items():
        if found:
            print(row(name, found))
    print("\n" + "\n".join(f"- {line}" for line in promises(runs)))
    if options.figure:
        draw(options.figure, {name: found for name, found in curves.items() if found})
    if options.csv:
        with options.csv.open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["name", "seed", "training_seconds", "test_accuracy"])
            for name, found in runs.items():
                lines.writerows([name, seed, f"{run.seconds:.3f}", run.accuracy] for seed, run in enumerate(found))


if __name__ == "__main__":
    main()

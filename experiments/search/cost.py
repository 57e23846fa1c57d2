"""What sweeps trained and found: images, wall time, and the best objective by images trained.

    python experiments/search/cost.py NAME=SWEEP_FOLDER … [--picture cost.png]

The first sweep is what the others are compared with. All of it is read from the folders of the sweeps' runs.
"""

from __future__ import annotations

import argparse
import json
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from blitz.run_folder.journal import JOURNAL, OBJECTIVE, STEP_LOSS, TRAIN_LOSS
from blitz.run_folder.run_info import FINISHED, SWEEP, RunInfo, runs_in


class Moment(NamedTuple):
    """A job has trained more images, and is known to be so good."""

    milliseconds: int
    images: int
    objective: float


def moments_of(folder: Path, about: RunInfo) -> list[Moment]:
    """Of one run: its epochs, and where its search paused it within one."""
    images, found = int(about.dataset["rows"]), list[Moment]()
    rows = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    epochs = {row["step"]: row for row in rows if TRAIN_LOSS in row}
    pauses = {rung: objective for rung, objective in about.rungs.items() if rung not in epochs}
    before = 0.0
    for when in sorted([*epochs, *pauses]):
        if when in epochs:
            row = epochs[when]
            time, objective = row["time"], row[OBJECTIVE]
        else:  # no metric of the run; the last step before it says when
            within = [row["time"] for row in rows if STEP_LOSS in row and row["step"] <= when * steps(about)]
            time, objective = max(within, default=about.started_at), pauses[when]
        found.append(Moment(time, round((when - before) * images), objective))
        before = when
    return found


def steps(about: RunInfo) -> float:
    """In an epoch."""
    return int(about.dataset["rows"]) / int(about.params["batch_size"])


class Cost(NamedTuple):
    images: int
    seconds: float
    finished: int
    jobs: int
    curve: list[tuple[int, float]]  # images trained, and the best objective until then


def cost(sweep: Path) -> Cost:
    about = RunInfo.load(sweep)
    runs = [run for run in runs_in(sweep.parent.parent) if run[1].tags.get(SWEEP) == sweep.name]
    moments = sorted(moment for run in runs for moment in moments_of(*run))
    images = list(accumulate(moment.images for moment in moments))
    best = list(accumulate((moment.objective for moment in moments), max))
    finished = sum(run.status == FINISHED for _, run in runs)
    return Cost(images[-1], about.seconds or 0.0, finished, len(runs), list(zip(images, best, strict=True)))


def draw(costs: dict[str, Cost], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, each in costs.items():
        axes.step(
            [images for images, _ in each.curve], [100 * best for _, best in each.curve], where="post", label=name
        )
    axes.set_xscale("log")
    axes.set_xlabel("images trained, all jobs together")
    axes.set_ylabel("best objective so far (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="What sweeps trained and found.")
    parser.add_argument("sweeps", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--picture", metavar="FILE")
    asked = parser.parse_args()
    costs = {name: cost(Path(folder)) for name, _, folder in (text.partition("=") for text in asked.sweeps)}
    first = next(iter(costs.values()))
    print("| search | jobs to their end | images trained | of the first | wall time | of the first | best objective |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    for name, each in costs.items():
        print(
            f"| {name} | {each.finished} of {each.jobs} | {each.images:,} | {each.images / first.images:.3f} | "
            f"{each.seconds:,.0f} s | {each.seconds / max(first.seconds, 1e-9):.3f} | {each.curve[-1][1]:.2%} |"
        )
    if asked.picture:
        draw(costs, asked.picture)


if __name__ == "__main__":
    main()

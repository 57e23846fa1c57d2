"""What device.deterministic=true costs, and whether this device needs it.

    python experiments/reproduction/determinism.py [--rounds 9] [OVERRIDE…]

For each recipe two jobs of the same seed train alternately in one process, one with deterministic kernels only and one
with any. The script prints the speed of the first relative to the second, as the median over neighbouring rounds, and
whether both end with the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import time

import blitz
from blitz.runner.build import Setup, build, device_of
from blitz.training.checkpoint import fingerprint
from blitz.training.loop import Progress, fit

RECIPES = {  # and the steps of a round, some two seconds
    "net, batch 4": (1000, ["model=net", "batch_size=4"]),
    "net, batch 128": (100, ["model=net", "batch_size=128"]),
    "resnet20, batch 128": (10, ["model=resnet20", "batch_size=128", "augment=flip_crop"]),
    "resnet20, batch 128, channels_last": (10, ["model=resnet20", "batch_size=128", "device.channels_last=true"]),
    "vit, batch 64, mixup": (10, ["model=vit", "batch_size=64", "mix=mixup", "optimizer=adamw"]),
}


def train(job: Setup, steps: int) -> float:
    """Seconds for so many steps, after which it stands where it was in its epoch."""
    device_of(
        job.settings.device, job.settings.images_at_once
    )  # the flags are the process's, and the other job has set its own
    started = time.perf_counter()
    for report in fit(job.learner, job.train, None, job.augment, job.mix, epochs=10**9, report_every=steps):
        assert isinstance(report, Progress)
        break
    seconds = time.perf_counter() - started
    job.learner.epoch, job.learner.epoch_step = job.learner.epoch + 1, 0
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    for name, (steps, recipe) in RECIPES.items():
        jobs = [
            build(blitz.compose(["tracking=none", *recipe, f"device.deterministic={flag}", *options.overrides]))
            for flag in ("true", "false")
        ]
        for job in jobs:
            train(job, steps)  # the warm-up
        seconds = [[train(job, steps) for job in jobs] for _ in range(options.rounds)]
        ratios = [anything / deterministic for deterministic, anything in seconds]
        same = len({fingerprint(job.learner.model.state_dict()) for job in jobs}) == 1
        print(
            f"{name:<36} {statistics.median(ratios):.3f} of the speed ({min(ratios):.3f} to {max(ratios):.3f}); "
            f"{'the same bits' if same else 'other bits'}, {jobs[0].device.describe()}"
        )


if __name__ == "__main__":
    main()

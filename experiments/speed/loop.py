"""Images a second of blitz's training against a loop written by hand, in one process, in turns.

    python experiments/speed/loop.py [--rounds 15] [--steps 1500] [OVERRIDE…]

Both read the same uint8 tensors in the same order, normalise each batch, call the same optimizer with as many threads
and add up loss and right answers. What is compared is the ratio of each pair of neighbouring rounds, because a shared
machine's speed drifts; its median is the figure to quote. The losses of both are compared bit for bit as well.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from torch import Tensor, nn

import blitz
from blitz.runner.build import Setup, build
from blitz.training.batches import stream
from blitz.training.loop import Progress, fit


def by_hand(job: Setup, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, steps: int) -> Tensor:
    """The textbook loop; returns the loss of each step."""
    images, labels = job.train.images, job.train.labels
    seed = stream(job.settings.seed, "order", epoch)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    mean, scale = job.classifier.mean, job.classifier.scale
    criterion = nn.CrossEntropyLoss()
    model.train()
    losses = []
    total_loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    for chosen in order.split(job.settings.batch_size)[:steps]:
        batch = images.index_select(0, chosen).float().sub_(mean).mul_(scale)
        wanted = labels.index_select(0, chosen)
        optimizer.zero_grad()
        outputs = model(batch)
        loss = criterion(outputs, wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        total_loss += losses[-1] * len(wanted)
        correct += (outputs.argmax(1) == wanted).sum()
    return torch.stack(losses)


def by_blitz(job: Setup, steps: int) -> Tensor:
    """The same through `fit`, left after `steps` steps; returns the loss of each step."""
    losses = []
    for report in fit(job.learner, job.train, None, job.augment, job.mix, epochs=job.learner.epoch + 1):
        if isinstance(report, Progress):
            losses.append(report.losses)
            if report.epoch_step >= steps:
                break
    job.learner.epoch, job.learner.epoch_step = job.learner.epoch + 1, 0  # or `fit` would continue where it was left
    return torch.cat(losses)[:steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1500, help="a multiple of 50")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    settings = blitz.compose(["experiment=tutorial", "tracking=none", *options.overrides])
    job = build(settings)
    steps = min(options.steps, len(job.train) // 50 * 50)
    model = copy.deepcopy(job.learner.model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=settings.optimizer["lr"], momentum=settings.optimizer["momentum"]
    )

    ratios: list[float] = []
    speeds: dict[str, list[float]] = {"by hand": [], "blitz": []}
    for number in range(options.rounds + 1):  # the first is the warm-up
        started = time.perf_counter()
        expected = by_hand(job, model, optimizer, number, steps)
        between = time.perf_counter()
        found = by_blitz(job, steps)
        ended = time.perf_counter()
        assert torch.equal(expected, found), f"round {number}: the losses differ"
        if number:
            images = steps * settings.batch_size
            speeds["by hand"].append(images / (between - started))
            speeds["blitz"].append(images / (ended - between))
            ratios.append((between - started) / (ended - between))
    print(f"Net, batch {settings.batch_size}, {job.device.describe()}, {options.rounds} rounds of {steps} steps")
    for name, values in speeds.items():
        print(f"{name:>8}: {statistics.median(values):8,.0f} images/s (median)")
    print(f"   ratio: {statistics.median(ratios):.3f} (median; {min(ratios):.3f} to {max(ratios):.3f})")
    print(f"  losses: the same bits in all {options.rounds * steps:,} steps")


if __name__ == "__main__":
    main()

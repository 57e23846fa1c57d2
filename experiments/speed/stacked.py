"""What was tried to make small models faster, and was not built: several as one, the compiler, a fused optimizer.

    python experiments/speed/stacked.py [--rounds 5] [--steps 200] [--models 8] [--batches 4,128]

Milliseconds of a step of one Net (the tutorial's, SGD with momentum 0.9) on random images, in turns: alone, with the
fused optimizer, compiled by `torch.compile`, and as one of several models whose parameters are stacked and trained
together (`torch.func`). One thread for batches under 16 images, else every core, as blitz takes them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from blitz.parts.devices import FEW_IMAGES, usable_cores
from blitz.parts.models.net import Net
from blitz.run_folder.provenance import cpu_model

LR, MOMENTUM = 0.001, 0.9


def alone(images: Tensor, labels: Tensor, *, compiled: bool = False, fused: bool = False) -> Callable[[], None]:
    """A step of one model."""
    net = Net(10, (3, 32, 32))
    if compiled:
        net.compile()
    optimizer = torch.optim.SGD(net.parameters(), LR, MOMENTUM, fused=fused or None)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return step


def stacked(images: Tensor, labels: Tensor, models: int) -> Callable[[], None]:
    """A step of several models at once, each on these images."""
    nets: list[nn.Module] = [Net(10, (3, 32, 32)) for _ in range(models)]
    parameters, _ = stack_module_state(nets)
    values = {name: value.detach() for name, value in parameters.items()}
    momenta = {name: torch.zeros_like(value) for name, value in values.items()}
    skeleton = copy.deepcopy(nets[0]).to("meta")

    def loss(values: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(skeleton, values, (images,)), labels)

    gradients_of = vmap(grad(loss), in_dims=(0, None, None))

    def step() -> None:
        gradients = gradients_of(values, images, labels)
        for name, value in values.items():
            momenta[name].mul_(MOMENTUM).add_(gradients[name])
            value.sub_(momenta[name], alpha=LR)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--batches", default="4,128")
    options = parser.parse_args()
    print(f"{date.today()}, {cpu_model()}, torch {torch.__version__}\n")
    print(
        "| batch | threads | alone | fused optimizer | compiled | one of several stacked |\n|---|---|---|---|---|---|"
    )
    for batch in map(int, options.batches.split(",")):
        threads = 1 if batch < FEW_IMAGES else usable_cores()
        torch.set_num_threads(threads)
        images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
        ways = {
            "alone": (alone(images, labels), 1),
            "fused": (alone(images, labels, fused=True), 1),
            "compiled": (alone(images, labels, compiled=True), 1),
            "stacked": (stacked(images, labels, options.models), options.models),
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for step, _ in ways.values():
            step()  # compiles, and makes what is made once
        for _ in range(options.rounds):
            for way, (step, models) in ways.items():
                started = time.perf_counter()
                for _ in range(options.steps):
                    step()
                found[way].append(1000 * (time.perf_counter() - started) / options.steps / models)
        shown = " | ".join(
            f"{statistics.median(times):.2f} ms ({min(times):.2f} to {max(times):.2f})" for times in found.values()
        )
        print(f"| {batch} | {threads} | {shown} |")


if __name__ == "__main__":
    main()

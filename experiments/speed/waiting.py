"""Images a second of Net on two threads, by how long OpenMP's threads wait for each other in a busy loop.

    python experiments/speed/waiting.py [--rounds 5] [--seconds 4] [--busy 0,2] [--turns 20000,10000,5000] [OVERRIDE…]

Every way of waiting is a process of its own, all of them in turns, beside so many processes that only compute: where
these want the cores, a thread that waits in a loop keeps them from the very thread that it waits for. One thread, which
waits for nobody, is there to compare with.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

ONE_THREAD = "one thread"


def ways(turns: str) -> dict[str, dict[str, str]]:
    """The environment of each, in which an empty text stands for a variable that is not set."""
    own = {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": "300000"}  # its number where nothing is set
    bounded = {f"{int(count):,} turns": {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": count} for count in turns.split(",")}
    passive = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": ""}
    return {"libgomp's own": own, **bounded, "passive": passive, ONE_THREAD: own}


def train(seconds: float, overrides: list[str]) -> None:
    """Print images a second, and a hash of the losses of the first hundred steps."""
    import torch

    import blitz
    from blitz.runner.build import build
    from blitz.training.loop import Progress, fit

    job = build(blitz.compose(["experiment=tutorial", "tracking=none", *overrides]))
    losses: list[float] = []
    images, begun = 0, 0.0
    for report in fit(job.learner, job.train, None, job.augment, job.mix, epochs=1000):
        if not isinstance(report, Progress):
            continue
        if len(losses) < 100:
            losses += report.losses.tolist()
        elif not begun:
            begun = time.perf_counter()
        else:
            images += len(report.losses) * job.settings.batch_size
            if time.perf_counter() - begun > seconds:
                break
    bits = hashlib.sha256(torch.tensor(losses[:100]).numpy().tobytes()).hexdigest()[:8]
    print(images / (time.perf_counter() - begun), bits)


def measured(way: str, environment: dict[str, str], options: argparse.Namespace) -> tuple[float, str]:
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value}
    command = [sys.executable, __file__, "--train", "--seconds", str(options.seconds), *options.overrides]
    command.append(f"device.threads={1 if way == ONE_THREAD else 2}")
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    speed, bits = done.stdout.split()[-2:]
    return float(speed), bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--busy", default="0,2", help="numbers of processes that only compute")
    parser.add_argument("--turns", default="20000,10000,5000", help="values of GOMP_SPINCOUNT")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    if options.train:
        train(options.seconds, options.overrides)
        return
    compared = ways(options.turns)
    for busy in map(int, options.busy.split(",")):
        speeds: dict[str, list[float]] = {way: [] for way in compared}
        bits = set()
        with ExitStack() as others:
            for _ in range(busy):
                other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                others.callback(other.kill)
            for _ in range(options.rounds):
                for way, environment in compared.items():
                    speed, losses = measured(way, environment, options)
                    speeds[way].append(speed)
                    if way != ONE_THREAD:
                        bits.add(losses)
        same = "the same losses" if len(bits) == 1 else f"{len(bits)} kinds of losses"
        print(f"beside {busy} busy processes, {options.rounds} rounds; {same} on two threads", flush=True)
        best = max(map(statistics.median, speeds.values()))
        for way, found in speeds.items():
            median = statistics.median(found)
            spread = f"{min(found):,.0f} to {max(found):,.0f}"
            print(f"{way:>14}: {median:8,.0f} images/s ({spread}), {median / best:.2f} of the best", flush=True)


if __name__ == "__main__":
    main()

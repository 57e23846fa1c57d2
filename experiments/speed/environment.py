"""Images a second by two variables of the environment that blitz sets: GOMP_SPINCOUNT and GLIBC_TUNABLES.

    python experiments/speed/environment.py waiting [--rounds 5] [--busy 0,2] [--turns 20000,10000,5000] [OVERRIDE…]
    python experiments/speed/environment.py memory [--rounds 5] [--seconds 4] [--first 100] [OVERRIDE…]

How OpenMP's threads wait for each other, and how the C library gives out memory. Every way is a process of its own, all
of them in turns; `--busy` puts so many processes beside them that only compute: where these want the cores, a thread
that waits in a loop keeps them from the very thread that it waits for. One thread, which waits for nobody, is there to
compare with. Printed are medians (ranges) and the peak of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

from blitz.allocator import SETTINGS, VARIABLE

ONE_THREAD = "one thread"


class Found(NamedTuple):
    images_per_second: float
    peak: float  # MiB
    bits: str  # of the first losses


def waiting(turns: str) -> dict[str, dict[str, str]]:
    """The environment of each way, in which an empty text stands for a variable that is not set."""
    own = {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": "300000"}  # its number where nothing is set
    bounded = {f"{int(count):,} turns": {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": count} for count in turns.split(",")}
    passive = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": ""}
    return {"libgomp's own": own, **bounded, "passive": passive, ONE_THREAD: own}


def memory() -> dict[str, dict[str, str]]:
    """The same for memory."""
    huge, kept = SETTINGS.split(":", 1)
    ways = {"glibc's own": "", "huge pages": huge, "kept": kept, "huge pages, kept": SETTINGS}
    return {way: {VARIABLE: value} for way, value in ways.items()}


def train(seconds: float, first: int, overrides: list[str]) -> None:
    """Print images a second, the peak of memory and a hash of the first losses."""
    import torch

    import blitz
    from blitz.runner.build import build
    from blitz.training.loop import Progress, fit

    job = build(blitz.compose(["experiment=tutorial", "tracking=none", *overrides]))
    losses: list[float] = []
    images, begun = 0, 0.0
    for report in fit(job.learner, job.train, None, job.augment, job.mix, epochs=1000, report_every=10):
        if not isinstance(report, Progress):
            continue
        if begun:
            images += len(report.losses) * job.settings.batch_size
            if time.perf_counter() - begun > seconds:
                break
        else:
            losses += report.losses.tolist()
            if len(losses) >= first:
                begun = time.perf_counter()
    bits = hashlib.sha256(torch.tensor(losses).numpy().tobytes()).hexdigest()[:8]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(images / (time.perf_counter() - begun), peak, bits)


def measured(way: str, environment: dict[str, str], options: argparse.Namespace) -> Found:
    environment = {name: value for name, value in {**os.environ, **environment}.items() if value}
    command = [sys.executable, __file__, options.what, "--train", *options.overrides]
    command += [f"--seconds={options.seconds}", f"--first={options.first}"]
    command.append(f"device.threads={1 if way == ONE_THREAD else 2}")
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    speed, peak, bits = done.stdout.split()[-3:]
    return Found(float(speed), float(peak), bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["waiting", "memory"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--first", type=int, default=100, help="steps that do not count, whose losses are compared")
    parser.add_argument("--busy", default="0", help="numbers of processes that only compute")
    parser.add_argument("--turns", default="20000,10000,5000", help="values of GOMP_SPINCOUNT")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    if options.train:
        train(options.seconds, options.first, options.overrides)
        return
    ways = waiting(options.turns) if options.what == "waiting" else memory()
    for busy in map(int, options.busy.split(",")):
        found: dict[str, list[Found]] = {way: [] for way in ways}
        with ExitStack() as others:
            for _ in range(busy):
                other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                others.callback(other.kill)
            for _ in range(options.rounds):
                for way, environment in ways.items():
                    found[way].append(measured(way, environment, options))
        bits = {one.bits for way, ones in found.items() if way != ONE_THREAD for one in ones}
        same = "the same losses" if len(bits) == 1 else f"{len(bits)} kinds of losses"
        print(f"beside {busy} busy processes, {options.rounds} rounds; {same} on two threads", flush=True)
        first = statistics.median(one.images_per_second for one in next(iter(found.values())))
        for way, ones in found.items():
            speeds = [one.images_per_second for one in ones]
            median, peak = statistics.median(speeds), statistics.median(one.peak for one in ones)
            spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
            print(
                f"{way:>16}: {median:8,.0f} images/s ({spread}), {median / first:.2f} of the first, {peak:,.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Proposals against random combinations: the best objective after so many jobs, over pairs of sweeps.

    python experiments/search/proposals.py RANDOM_RUNS_DIR TPE_RUNS_DIR [--after 10,15,20,30]

Each folder is the `runs_dir` of as many sweeps, of which the nth ones, by when they began, are a pair.
"""

from __future__ import annotations

import argparse
from itertools import accumulate
from pathlib import Path
from statistics import mean

from scipy.stats import wilcoxon

from blitz.run_folder.run_info import runs_in
from blitz.sweeps.folder import read_outcomes


def curves(runs_dir: Path) -> list[list[float]]:
    """Of each sweep: the best objective after one job, two jobs, …; a job that failed found 0."""
    found = []
    for sweep, _ in runs_in(runs_dir / "sweeps"):
        outcomes = sorted(read_outcomes(sweep).items())
        found.append(list(accumulate((outcome.objective or 0.0 for _, outcome in outcomes), max)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("random", type=Path)
    parser.add_argument("tpe", type=Path)
    parser.add_argument("--after", default="10,15,20,30")
    options = parser.parse_args()
    pairs = list(zip(curves(options.random), curves(options.tpe), strict=True))
    print(f"| jobs | random | tpe | tpe better | worse | p |\n|{'--:|' * 6}")
    for jobs in map(int, options.after.split(",")):
        random, tpe = ([curve[jobs - 1] for curve in column] for column in zip(*pairs, strict=True))
        better = sum(b > a for a, b in zip(random, tpe, strict=True))
        worse = sum(b < a for a, b in zip(random, tpe, strict=True))
        p = wilcoxon(random, tpe).pvalue if better + worse else 1.0
        print(f"| {jobs} | {mean(random):.2%} | {mean(tpe):.2%} | {better} of {len(pairs)} | {worse} | {p:.2g} |")
    needed = [next((n for n, best in enumerate(tpe, 1) if best >= random[-1]), None) for random, tpe in pairs]
    reached = sorted(n for n in needed if n is not None)
    print(f"\ntpe gets as far as its random combinations in {len(reached)} of {len(pairs)} pairs, after {reached}")


if __name__ == "__main__":
    main()

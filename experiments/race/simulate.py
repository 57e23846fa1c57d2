"""How often a race errs, what it finds, and what it costs: the strategy itself, on drawn scores.

    python experiments/race/simulate.py [--races 3000] [--processes 2]

Every race is `blitz.sweeps.search.race.race`, asked once with a score for each seed that it could train: a look uses
the seeds of its plan alone, so that this is the race of a sweep (a test compares the two). The standard deviation over
seeds is one point, if not said otherwise. Prints the tables of the README.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from blitz.comparison.noise import holm, welch
from blitz.intervals import estimate, interval_of_share
from blitz.run_folder.run_info import FINISHED
from blitz.sweeps.search.race import ALPHA, planned, race
from blitz.sweeps.search.strategy import DROP, Round, Space, Trial

MAX_SEEDS, POINT = 24, 0.01

Draw = Callable[[np.random.Generator, int], np.ndarray]  # number of rows -> rows by seeds, in spreads from the mean


class Setting(NamedTuple):
    """Races that are drawn alike."""

    name: str
    rows: int
    seeds: int  # asked for
    draw: str  # a key of DRAWS
    ahead: tuple[float, ...] = ()  # points by which the first rows are better than the others
    spread: float = 1.0  # points
    margin: float = 0.0


class Outcome(NamedTuple):
    """What came out of one race."""

    dropped: bool  # any row
    best_dropped: bool
    wrong_pair: bool  # a row was called worse than one that is not better
    found: bool  # the best row was left alone
    within: bool
    runs: int
    full: int  # runs of a design with as many seeds for every row


def normal(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.standard_normal((rows, MAX_SEEDS))


# Mean and standard deviation of Net's validation accuracy at six learning rates, in experiments/learning_rate_sweep.
RATES = [(53.24, 1.13), (51.35, 0.36), (42.83, 1.31), (41.28, 0.85), (13.89, 3.66), (10.09, 0.43)]

DRAWS: dict[str, Draw] = {
    "equal": normal,
    "1 to 10": lambda rng, rows: np.geomspace(1, 10, rows)[:, None] * normal(rng, rows),
    "one of 10": lambda rng, rows: np.where(np.arange(rows) == 0, 10, 1)[:, None] * normal(rng, rows),
    "seeds in common": lambda rng, rows: np.sqrt(0.5) * (normal(rng, rows) + normal(rng, 1)),
    "skewed": lambda rng, rows: 1 - rng.standard_exponential((rows, MAX_SEEDS)),
    "of 500 images": lambda rng, rows: np.round(5 * normal(rng, rows)) / 5,
    "as Net's rates": lambda rng, rows: np.array([[spread] for _, spread in RATES]) * normal(rng, rows),
}


def scores(setting: Setting, number: int) -> np.ndarray:
    rng = np.random.default_rng([number, setting.rows, setting.seeds, sum(map(ord, setting.name + setting.draw))])
    ahead = np.zeros(setting.rows)
    ahead[: len(setting.ahead)] = setting.ahead
    return POINT * (ahead[:, None] + setting.spread * DRAWS[setting.draw](rng, setting.rows))


def one_race(setting: Setting, number: int) -> Outcome:
    drawn = scores(setting, number)
    asked = [(row, seed) for row in range(setting.rows) for seed in range(setting.seeds)]
    further = [(row, seed) for row in range(setting.rows) for seed in range(setting.seeds, MAX_SEEDS)]
    listed = [Trial(number, {"row": str(row)}, seed, 1) for number, (row, seed) in enumerate(asked)]
    trials = [
        Trial(number, {"row": str(row)}, seed, 1, FINISHED, objective=float(drawn[row, seed]))
        for number, (row, seed) in enumerate(asked + further)
    ]
    end = race(Space(listed), margin=setting.margin, max_seeds=MAX_SEEDS)(trials)
    return outcome(setting, end)


def outcome(setting: Setting, end: Round) -> Outcome:
    def row(job: int) -> int:
        return job // setting.seeds

    ahead = (*setting.ahead, *[0.0] * (setting.rows - len(setting.ahead)))
    drops = [decision for decision in end.decisions if decision.decision == DROP]
    dropped = {row(decision.job) for decision in drops}
    pairs = [(row(decision.job), row(decision.numbers["compared_with"])) for decision in drops]
    seeds = {decision.job: decision.numbers["seeds"] for decision in end.decisions}
    return Outcome(
        dropped=bool(dropped),
        best_dropped=any(ahead[index] == max(ahead) for index in dropped),
        wrong_pair=any(ahead[worse] >= ahead[better] for worse, better in pairs),
        found=dropped == set(range(1, setting.rows)),
        within="lie within" in end.conclusion,
        runs=sum(seeds.values()),
        full=max(seeds.values()) * setting.rows,
    )


def uncorrected(setting: Setting, number: int) -> bool:
    """Whether any two rows are told apart at any look by what `blitz compare` prints of them."""
    drawn = scores(setting, number)
    looks = [look.seeds for look in planned(max(3, setting.seeds), MAX_SEEDS)]
    tables = ([found for row in drawn if (found := estimate(row[:seeds].tolist()))] for seeds in looks)
    return any(holm(welch(table)).min() <= ALPHA for table in tables)


def some(task: tuple[Setting, range]) -> list[Outcome]:
    setting, numbers = task
    return [one_race(setting, number) for number in numbers]


def some_uncorrected(task: tuple[Setting, range]) -> list[bool]:
    setting, numbers = task
    return [uncorrected(setting, number) for number in numbers]


def share(found: list[bool]) -> str:
    low, high = interval_of_share(sum(found), len(found))
    return f"{100 * sum(found) / len(found):.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def equal_rows() -> list[Setting]:
    every = [
        Setting("equal rows", rows, seeds, spread)
        for rows in (2, 6, 16)
        for seeds in (2, 3)
        for spread in ("equal", "1 to 10")
    ]
    return every + [Setting("equal rows", 6, 3, draw) for draw in list(DRAWS)[2:6]]


def one_better() -> list[Setting]:
    drawn = [
        Setting("one better", rows, 3, draw, (ahead,))
        for rows in (2, 6, 16)
        for draw in ("equal", "1 to 10", "seeds in common")
        for ahead in (1.0, 2.0, 3.0)
    ]
    return [*drawn, Setting("one better", len(RATES), 3, "as Net's rates", tuple(mean for mean, _ in RATES))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=3_000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:

        def races(setting: Setting, number: int) -> list[Outcome]:
            tasks = [(setting, range(first, min(first + 100, number))) for first in range(0, number, 100)]
            return [outcome for part in pool.map(some, tasks) for outcome in part]

        print("| rows | seeds asked for | spread | races with a row dropped (95 % interval) |\n|--:|--:|---|---|")
        for setting in equal_rows():
            found = races(setting, options.races)
            wrong = share([outcome.dropped for outcome in found])
            print(f"| {setting.rows} | {setting.seeds} | {setting.draw} | {wrong} |", flush=True)

        print("\n| rows | without any correction for looks: races in which two rows are told apart |\n|--:|---|")
        for rows in (2, 6, 16):
            tasks = [
                (Setting("looks", rows, 3, "equal"), range(n, n + 100)) for n in range(0, options.races // 10, 100)
            ]
            wrong = share([told for part in pool.map(some_uncorrected, tasks) for told in part])
            print(f"| {rows} | {wrong} |", flush=True)

        print("\n| rows | spread | best ahead by | found | best dropped | wrong pair | runs | full design | share |")
        print("|--:|---|--:|--:|--:|--:|--:|--:|--:|")
        for setting in one_better():
            found = races(setting, options.races // 10)
            runs, full = (float(np.mean([getattr(outcome, name) for outcome in found])) for name in ("runs", "full"))
            names = ("found", "best_dropped", "wrong_pair")
            shares = [f"{100 * np.mean([getattr(outcome, name) for outcome in found]):.1f} %" for name in names]
            print(
                f"| {setting.rows} | {setting.draw} | {setting.ahead[0] - max((*setting.ahead[1:], 0)):.2g} | "
                f"{' | '.join(shares)} | {runs:.0f} | {full:.0f} | {runs / full:.2f} |",
                flush=True,
            )

        print(
            "\n| rows | spread | differences | called within 0.5 points | runs | at most |\n|--:|--:|---|--:|--:|--:|"
        )
        for rows in (2, 6, 16):
            for spread in (0.3, 0.5, 1.0):
                for points, what in ((0.0, "none"), (0.5, "0.5 points, one row better")):
                    setting = Setting("margin", rows, 3, "equal", (points,), spread, 0.5)
                    found = races(setting, options.races // 10)
                    within = share([outcome.within and not outcome.best_dropped for outcome in found])
                    runs = float(np.mean([outcome.runs for outcome in found]))
                    print(f"| {rows} | {spread} | {what} | {within} | {runs:.0f} | {rows * MAX_SEEDS} |", flush=True)


if __name__ == "__main__":
    main()

"""Whose weights a sweep keeps: those of the rule, in whatever order its jobs finish, and never a winner's removed."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean

import pytest

from blitz.run_folder.candidates import BEST, leave_to_sweep
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED
from blitz.sweeps.combinations import Combination
from blitz.sweeps.folder import Outcome, write_outcome
from blitz.sweeps.plan import Plan
from blitz.sweeps.weights import beaten, keep_best, prune


def kept_by_the_rule(combinations: dict[int, str], objectives: dict[int, float]) -> set[int]:
    """The best of its seeds, and no worse than any other combination on average."""
    groups: dict[str, list[float]] = {}
    for number, combination in combinations.items():
        groups.setdefault(combination, []).append(objectives[number])
    return {
        number
        for number, combination in combinations.items()
        if objectives[number] == max(groups[combination])
        and all(objectives[number] >= fmean(groups[other]) for other in groups if other != combination)
    }


def orders(combinations: dict[int, str], chance: random.Random) -> list[list[int]]:
    """As jobs end one after another, by seeds first, side by side, and at random."""
    numbers = list(combinations)
    seeds_first = sorted(numbers, key=lambda number: (list(combinations).index(number) % 3, number))
    side_by_side = [number for pair in zip(numbers[::2], numbers[1::2], strict=False) for number in reversed(pair)]
    side_by_side += numbers[len(side_by_side) :]
    return [numbers, seeds_first, side_by_side, chance.sample(numbers, len(numbers))]


def test_weights_kept_are_those_of_the_rule_in_any_order() -> None:
    for seed in range(200):
        check_a_sweep(random.Random(seed))


def check_a_sweep(chance: random.Random) -> None:
    groups, seeds = chance.randint(1, 4), chance.randint(1, 3)
    combinations = {group * seeds + index: f"lr={group}" for group in range(groups) for index in range(seeds)}
    values = [chance.random() for _ in range(chance.choice((3, 100)))]  # few: many are equal
    objectives = {number: chance.choice(values) for number in combinations}
    for order in orders(combinations, chance):
        outcomes: dict[int, Outcome] = {}
        kept = set(combinations)
        for number in order:
            outcomes[number] = Outcome(FINISHED, objective=objectives[number])
            gone = beaten(combinations, outcomes)
            assert gone <= outcomes.keys()
            kept -= gone
        assert kept == kept_by_the_rule(combinations, objectives)


@pytest.mark.parametrize("last", [Outcome(FAILED, "diverged"), Outcome(KILLED), None])
def test_weights_are_kept_while_a_job_that_has_not_finished_may_make_them_the_best(last: Outcome | None) -> None:
    combinations = {0: "a", 1: "a", 2: "b", 3: "b"}
    ended = {0: Outcome(FINISHED, objective=0.8), 1: Outcome(FINISHED, objective=0.7)}
    ended |= {2: Outcome(FINISHED, objective=0.9)} | ({3: last} if last is not None else {})
    assert beaten(combinations, ended) == {1}  # 0 may be the best yet, should the average of b come down
    assert beaten(combinations, {**ended, 3: Outcome(FINISHED, objective=0.75)}) == {0, 1, 3}


def run_folder(tmp_path: Path, name: str, candidate_of: str | None) -> Path:
    folder = tmp_path / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / BEST).write_text("weights")
    if candidate_of is not None:
        leave_to_sweep(folder, candidate_of)
    return folder


def test_prune_removes_nothing_but_weights_that_wait_for_this_sweep(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "mine"
    sweep.mkdir(parents=True)
    candidates = ["mine", "mine", "another", None]  # the last: a run that this sweep did not train
    folders = [run_folder(tmp_path, str(number), of) for number, of in enumerate(candidates)]
    for number, (folder, objective) in enumerate(zip(folders, (0.9, 0.5, 0.5, 0.5), strict=True)):
        write_outcome(sweep, number, Outcome(FINISHED, objective=objective, folder=str(folder)))
    jobs = {number: Combination((), (f"seed={number}",)) for number in range(4)}
    Plan("mine", [], jobs, dict.fromkeys(jobs, "")).save(sweep)
    prune(sweep)
    assert [(folder / BEST).exists() for folder in folders] == [True, False, True, True]
    (tmp_path / "0" / "mlflow.json").write_text(
        '{"record": "r", "store": null, "experiment": "e", "name": "n", "started_at": 0, "params": {}, "tags": {}, '
        '"dataset": {}, "status": "FINISHED"}'
    )
    keep_best(sweep, None)
    assert [sorted(file.name for file in (folder / "checkpoints").iterdir()) for folder in folders[:2]] == [
        ["best.pt"], [],
    ]  # fmt: skip

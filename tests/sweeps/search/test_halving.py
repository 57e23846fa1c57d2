"""Successive halving: what it asks to be trained, by what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from blitz.errors import BadInput
from blitz.run_folder.run_info import FAILED, FINISHED, PAUSED
from blitz.sweeps.search.halving import derived, halving
from blitz.sweeps.search.searches import grid
from blitz.sweeps.search.strategy import GO_ON, PAUSE, Round, Space, Strategy, Trial

Objective = Callable[[Trial, float], float]  # of a trial after so many epochs


def trials(values: int, seeds: int = 1, epochs: int = 9) -> list[Trial]:
    pairs = [(value, seed) for value in range(values) for seed in range(seeds)]
    return [Trial(number, {"x": str(value)}, seed, epochs) for number, (value, seed) in enumerate(pairs)]


def by_value(trial: Trial, epochs: float) -> float:
    return int(trial.values["x"]) / 100 + trial.seed / 1000 + epochs / 10000


def trained(known: Sequence[Trial], asked: Round, objective: Objective, only: int | None = None) -> list[Trial]:
    """The trials after a round, or after the first so many of its tasks."""
    until = {task.job: task.until for task in asked.tasks[:only]}
    after = []
    for trial in known:
        if trial.number in until and (rung := until[trial.number]) is not None:
            rungs = {**trial.rungs, rung: objective(trial, rung)}
            trial = replace(trial, status=PAUSED, rungs=rungs)
        elif trial.number in until:
            trial = replace(trial, status=FINISHED, objective=objective(trial, trial.epochs))
        after.append(trial)
    return after


def played(
    strategy: Strategy, known: Sequence[Trial], objective: Objective = by_value
) -> tuple[list[Round], list[Trial]]:
    """All rounds, the last of which asks for nothing, and what came out."""
    rounds = [strategy(known)]
    while not rounds[-1].is_last:
        known = trained(known, rounds[-1], objective)
        rounds.append(strategy(known))
    return rounds, list(known)


def asked(rounds: Sequence[Round]) -> list[tuple[float | None, list[int]]]:
    """Until when each round trains which jobs."""
    found = []
    for each in rounds[:-1]:
        (until,) = {task.until for task in each.tasks}
        found.append((until, sorted(task.job for task in each.tasks)))
    return found


def test_a_grid_is_one_round_of_all_jobs_to_their_end() -> None:
    rounds, _ = played(grid(Space(trials(3))), trials(3))
    assert asked(rounds) == [(None, [0, 1, 2])]
    assert rounds[-1].decisions == ()


def test_the_best_third_goes_on_at_each_rung() -> None:
    rounds, after = played(halving(Space(trials(9))), trials(9))
    assert asked(rounds) == [(1.0, list(range(9))), (3.0, [6, 7, 8]), (None, [8])]
    assert [trial.status for trial in after] == [PAUSED] * 8 + [FINISHED]
    decided = [(made.round, made.job, made.decision) for made in rounds[-1].decisions]
    assert decided[:4] == [(1, 8, GO_ON), (1, 7, GO_ON), (1, 6, GO_ON), (1, 5, PAUSE)]
    assert decided[9:] == [(2, 8, GO_ON), (2, 7, PAUSE), (2, 6, PAUSE)]
    second = rounds[-1].decisions[1]
    assert second.why == "number 2 of 9 by objective after 1 epoch, of which the best 3 go on"
    assert second.numbers["objective"] == second.numbers["mean"] == after[7].rungs[1.0]


def test_seeds_go_on_together_by_their_mean() -> None:
    def lucky(trial: Trial, epochs: float) -> float:
        return {("0", 0): 0.9, ("0", 1): 0.1}.get((trial.values["x"], trial.seed), 0.55)

    rounds, _ = played(halving(Space(trials(2, 2)), factor=2.0, rungs=[1.0]), trials(2, 2), lucky)
    assert asked(rounds) == [(1.0, [0, 1, 2, 3]), (None, [2, 3])]
    assert rounds[-1].decisions[0].why.startswith("number 1 of 2 by the mean of 2 seeds")


@pytest.mark.parametrize(
    ("values", "factor", "keep", "left"),
    [(16, 3.0, None, [16, 5, 2]), (2, 3.0, None, [2, 1]), (1, 3.0, None, [1]), (10, 3.0, 0.5, [10, 5, 3])],
)
def test_how_many_go_on(values: int, factor: float, keep: float | None, left: list[int]) -> None:
    rounds, _ = played(halving(Space(trials(values)), factor=factor, keep=keep), trials(values))
    assert [len(jobs) for _, jobs in asked(rounds)] == left


def test_of_equal_ones_the_first_go_on() -> None:
    rounds, _ = played(halving(Space(trials(3)), rungs=[1.0]), trials(3), lambda trial, epochs: 0.5)
    assert asked(rounds)[1] == (None, [0])


def test_a_search_that_is_asked_in_the_middle_of_a_round_goes_on_there() -> None:
    strategy, known = halving(Space(trials(9, 2))), trials(9, 2)
    rounds, _ = played(strategy, known)
    for each, following in pairwise(rounds):
        for done in range(len(each.tasks)):
            part = trained(known, each, by_value, done)
            assert [task.job for task in strategy(part).tasks] == [task.job for task in each.tasks[done:]]
            assert strategy(part).decisions == each.decisions
        known = trained(known, each, by_value)
        assert strategy(known) == following
    assert strategy(known) == rounds[-1]


def test_what_was_decided_stays_in_front_of_what_is_decided_later() -> None:
    rounds, _ = played(halving(Space(trials(9))), trials(9))
    for each, following in pairwise(rounds):
        assert list(following.decisions)[: len(each.decisions)] == list(each.decisions)


def test_more_go_on_when_more_are_kept() -> None:
    _, after = played(halving(Space(trials(9))), trials(9))
    rounds, _ = played(halving(Space(trials(9)), keep=0.5), after)
    # Of 9 by the mean after 1 epoch 5 go on, of those 3 after 3 epochs; what was trained is not trained again.
    assert asked(rounds) == [(3.0, [4, 5]), (None, [6, 7])]


def failing(trial_number: int, at: float) -> Callable[[Sequence[Trial], Round], list[Trial]]:
    def after(known: Sequence[Trial], each: Round) -> list[Trial]:
        done = trained(known, each, by_value)
        fails = any(task.job == trial_number and task.until == at for task in each.tasks)
        rungs: Mapping[float, float] = known[trial_number].rungs
        return [
            replace(trial, status=FAILED, rungs=rungs) if fails and trial.number == trial_number else trial
            for trial in done
        ]

    return after


@pytest.mark.parametrize("at", [1.0, 3.0])
def test_a_combination_with_a_job_that_failed_does_not_go_on(at: float) -> None:
    strategy, known = halving(Space(trials(9, 2))), trials(9, 2)
    train, each = failing(16, at), strategy(known)
    while not each.is_last:
        known = train(known, each)
        each = strategy(known)
    assert [trial.number for trial in known if trial.status == FINISHED] == [14, 15]
    (paused,) = [made for made in each.decisions if made.job == 17 and made.decision == PAUSE]
    assert (paused.numbers["rung"], paused.why) == (at, "a job that differs in its seed alone failed")


def test_all_jobs_failed() -> None:
    known = [replace(trial, status=FAILED) for trial in trials(3)]
    assert halving(Space(trials(3)))(known).is_last


def test_a_job_that_stopped_early_is_ranked_by_its_end() -> None:
    known = trials(3, 2)
    strategy = halving(Space(known), rungs=[3.0])
    after = trained(known, strategy(known), by_value)
    after[5] = replace(after[5], status=FINISHED, objective=0.0, rungs={})
    following = strategy(after)
    assert [task.job for task in following.tasks] == [2, 3]  # the mean of the last two is that of 0.02 and 0
    assert [made.numbers["objective"] for made in following.decisions if made.job == 5] == [0.0]


def test_what_had_finished_before_takes_nobodys_place() -> None:
    known = [replace(trial, status=FINISHED, objective=0.99) if trial.number == 0 else trial for trial in trials(7)]
    rounds, _ = played(halving(Space(trials(7)), rungs=[1.0]), known)
    assert asked(rounds) == [(1.0, [1, 2, 3, 4, 5, 6]), (None, [5, 6])]
    assert {made.job for made in rounds[-1].decisions} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("epochs", "factor", "rungs"),
    [
        (9, 3.0, [1.0, 3.0]),
        (81, 3.0, [1.0, 3.0, 9.0, 27.0]),
        (10, 3.0, [10 / 9, 10 / 3]),
        (2, 3.0, [2 / 9, 2 / 3]),
        (1, 2.0, [0.25, 0.5]),
        (8, 2.0, [1.0, 2.0, 4.0]),
    ],
)
def test_rungs_follow_from_the_epochs(epochs: int, factor: float, rungs: list[float]) -> None:
    assert derived(epochs, factor) == rungs


@pytest.mark.parametrize(
    ("rungs", "problem"),
    [
        ([9.0], "search.rungs=[9.0]: accepted: below epochs=9, after which a job has finished"),
        ([1.0, 20.0], "search.rungs=[1.0, 20.0]: accepted: below epochs=9, after which a job has finished"),
        ([3.0, 1.0], "search.rungs=[3.0, 1.0]: accepted: ascending epochs"),
        ([1.0, 1.0], "search.rungs=[1.0, 1.0]: accepted: ascending epochs"),
        ([], "search.rungs=[]: accepted: one or more, or search=grid"),
    ],
)
def test_rungs_that_make_no_sense(rungs: list[float], problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        halving(Space(trials(3)), rungs=rungs)
    assert caught.value.problems == (problem,)


def test_jobs_of_different_length_need_rungs_of_their_own() -> None:
    both = [trials(2, epochs=3)[0], trials(2, epochs=9)[1]]
    with pytest.raises(BadInput, match=r"search.rungs=null: jobs of 3 to 9 epochs have no rungs in common"):
        halving(Space(both))
    assert [task.until for task in halving(Space(both), rungs=[1.0])(both).tasks] == [1.0, 1.0]
    with pytest.raises(BadInput, match="accepted: below epochs=3"):
        halving(Space(both), rungs=[3.0])

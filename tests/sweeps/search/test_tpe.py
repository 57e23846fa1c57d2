"""Tree-structured Parzen estimators: what is proposed, by what is recorded."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from blitz.errors import BadInput
from blitz.run_folder.run_info import FAILED, FINISHED, PAUSED
from blitz.sweeps.search.interval import Interval
from blitz.sweeps.search.strategy import GO_ON, PAUSE, PROPOSE, Round, Space, Strategy, Trial, rows
from blitz.sweeps.search.tpe import tpe

LR, WIDTH = Interval(1e-4, 1.0, is_log=True), Interval(4, 64, is_whole=True)
Measure = Callable[[Trial, float], float | None]  # after so many epochs; None: the job fails


def space(samples: int = 12, **given: Any) -> Space:
    ranges = {"optimizer.lr": LR, "model.width": WIDTH, "model": ["net", "mlp"]}
    return Space(**{"ranges": ranges, "samples": samples, "epochs": {9}, **given})


def smooth(trial: Trial, epochs: float) -> float:
    """Best, at 1, for a learning rate of 0.01, a width of 40 and the model net."""
    off = (math.log10(float(trial.values["optimizer.lr"])) + 2) ** 2 + (int(trial.values["model.width"]) / 40 - 1) ** 2
    return 1 - off - 0.5 * (trial.values["model"] != "net") - 0.001 * trial.seed - 0.1 / epochs


def made(answer: Round, trials: Sequence[Trial]) -> list[Trial]:
    """With the new jobs of a round."""
    values = [{key: value for key, value in new.items() if key != "seed"} for new in answer.new]
    seeds = [int(new.get("seed", "0")) for new in answer.new]
    numbers = range(len(trials), len(trials) + len(values))
    jobs = zip(numbers, values, seeds, strict=True)
    return [*trials, *(Trial(number, of_job, seed, 9) for number, of_job, seed in jobs)]


def trained(trial: Trial, until: float | None, measure: Measure) -> Trial:
    objective = measure(trial, until or trial.epochs)
    if objective is None:
        return replace(trial, status=FAILED)
    if until is not None:
        return replace(trial, status=PAUSED, rungs={**trial.rungs, until: objective})
    return replace(trial, status=FINISHED, objective=objective)


def play(
    strategy: Strategy, measure: Measure = smooth, trials: Sequence[Trial] = ()
) -> tuple[list[Round], list[list[Trial]]]:
    """As a sweep does: each answer of the search, the last of which asks for nothing, and the trials it was given."""
    answers, given = [], [list(trials)]
    while not (answer := strategy(given[-1])).is_last:
        answers.append(answer)
        after = made(answer, given[-1])
        for task in answer.tasks:
            after[task.job] = trained(after[task.job], task.until, measure)
        given.append(after)
    return [*answers, answer], given


def proposals(trials: Sequence[Trial]) -> list[dict[str, str]]:
    return [dict(row[0].values) for row in rows(trials)]


def result(strategy: Strategy, measure: Measure = smooth) -> list[dict[str, str]]:
    return proposals(play(strategy, measure)[1][-1])


def test_proposals_repeat_with_the_same_seed_and_depend_on_what_came_out() -> None:
    first = result(tpe(space(), startup=4))
    assert result(tpe(space(), startup=4)) == first
    assert result(tpe(space(seed=1), startup=4))[0] != first[0]
    other = result(tpe(space(), startup=4), lambda trial, epochs: -smooth(trial, epochs))
    assert other[:4] == first[:4]  # drawn at random
    assert other[5:] != first[5:]
    assert result(tpe(space(20), startup=4))[:12] == first


def test_proposals_lie_within_what_is_swept_and_are_all_different() -> None:
    found = result(tpe(space(30)))
    assert len({tuple(values.items()) for values in found}) == 30
    for values in found:
        assert 1e-4 <= float(values["optimizer.lr"]) < 1
        assert 4 <= int(values["model.width"]) < 64
        assert values["model"] in ("net", "mlp")


def test_proposals_come_near_the_best_values() -> None:
    _, given = play(tpe(space(40)))
    found = [trial.objective or 0.0 for trial in given[-1]]
    assert fmean(found[-10:]) > fmean(found[:10])


@pytest.mark.parametrize(
    ("at_once", "seeds", "options", "new"),
    [(1, [], {}, 1), (4, [], {}, 4), (4, ["0", "1"], {}, 4), (2, ["0", "1", "2"], {}, 3), (4, [], {"batch": 5}, 5)],
)
def test_a_round_has_as_many_jobs_as_run_at_once(
    at_once: int, seeds: list[str], options: dict[str, Any], new: int
) -> None:
    strategy = tpe(space(at_once=at_once, seeds=seeds), **options)
    first = strategy([])
    assert len(first.new) == new
    assert not first.tasks
    assert not first.decisions
    asked = [each["seed"] for each in first.new if "seed" in each]
    assert asked == seeds * (new // max(1, len(seeds)))
    assert [task.job for task in strategy(made(first, [])).tasks] == list(range(new))


def test_the_last_round_has_what_is_left_of_the_samples() -> None:
    answers, given = play(tpe(space(7, at_once=3)))
    assert [len(answer.new) for answer in answers if answer.new] == [3, 3, 1]
    assert len(given[-1]) == 7
    decided = [(made.round, made.job, made.decision) for made in answers[-1].decisions]
    assert decided == [(1 + job // 3, job, PROPOSE) for job in range(7)]
    assert answers[-1].conclusion == ""


def test_each_decision_holds_the_values_and_what_they_follow_from() -> None:
    answers, given = play(tpe(space(3), startup=2))
    for decision, values in zip(answers[-1].decisions, proposals(given[-1]), strict=True):
        assert decision.numbers == values
    assert [decision.why for decision in answers[-1].decisions] == [
        "drawn at random", "drawn at random", "follows from 2 earlier proposals",
    ]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"prune": True, "rungs": [1.0, 3.0]}])
def test_a_search_that_is_asked_in_the_middle_of_a_round_continues_there(options: dict[str, Any]) -> None:
    strategy = tpe(space(8, at_once=2, seeds=["0", "1"]), startup=4, batch=2, **options)
    answers, given = play(strategy)
    for answer, trials in zip(answers, given, strict=True):
        assert strategy(trials) == answer
        part = list(trials)
        for done, task in enumerate(answer.tasks):
            assert strategy(part).tasks == answer.tasks[done:]
            assert strategy(part).decisions == answer.decisions
            part[task.job] = trained(part[task.job], task.until, smooth)
        assert list(answers[-1].decisions[: len(answer.decisions)]) == list(answer.decisions)


def test_a_failed_job_makes_its_proposal_a_failed_one() -> None:
    def failing(of_the_others: float) -> Measure:
        """The second seed of each second width fails; what its first seed found says nothing."""
        return lambda trial, epochs: (
            smooth(trial, epochs)
            if int(trial.values["model.width"]) % 2
            else of_the_others
            if trial.seed == 0
            else None
        )

    strategy = tpe(space(seeds=["0", "1"]), startup=3)
    found = result(strategy, failing(0.0))
    assert result(strategy, failing(1.0)) == found
    assert len(found) == 12
    assert len({int(values["model.width"]) % 2 for values in found}) == 2


@pytest.mark.parametrize("objective", [None, math.nan])
def test_proposals_are_made_where_all_others_failed(objective: float | None) -> None:
    assert len(result(tpe(space(6), startup=2), lambda trial, epochs: objective)) == 6


def test_a_search_ends_when_each_combination_was_proposed() -> None:
    few = {"model.width": Interval(4, 7, is_whole=True), "model": ["net", "mlp"]}
    answers, given = play(tpe(space(20, ranges=few, at_once=4), startup=2), lambda trial, epochs: 0.5)
    found = {(values["model.width"], values["model"]) for values in proposals(given[-1])}
    assert found == {(width, model) for width in "456" for model in ("net", "mlp")}
    assert len(given[-1]) == 6
    assert answers[-1].conclusion == "All 6 combinations that there are were proposed."


def test_pruned_proposals_are_paused_at_a_rung_unless_they_are_among_the_best_so_far() -> None:
    answers, given = play(tpe(space(9, at_once=3), startup=3, prune=True, factor=3.0, rungs=[1.0, 3.0]))
    trials, decisions = given[-1], answers[-1].decisions
    first = [
        (each.decision, each.numbers["rung"]) for each in decisions if each.round == 1 and each.decision != PROPOSE
    ]
    assert first == [(GO_ON, 1.0), (PAUSE, 1.0), (PAUSE, 1.0), (GO_ON, 3.0)]
    for rung in (1.0, 3.0):
        there = [trial for trial in trials if rung in trial.rungs]
        for last in range(3, 10, 3):  # each round was compared with all that had come so far
            so_far = [trial.rungs[rung] for trial in there if trial.number < last]
            places = max(1, math.floor(len(so_far) / 3 + 0.5))
            best = sorted(so_far, reverse=True)[:places]
            own = [each for each in decisions if each.round == last // 3 and each.numbers.get("rung") == rung]
            assert {each.job for each in own if each.decision == GO_ON} == {
                trial.number for trial in there if last - 3 <= trial.number < last and trial.rungs[rung] in best
            }
    assert {trial.status for trial in trials} == {FINISHED, PAUSED}


def test_what_is_paused_counts_by_its_last_rung() -> None:
    """Two searches that differ in nothing but what paused jobs had shown."""

    def by_rung(sign: int) -> Measure:
        return lambda trial, epochs: 1.0 if trial.number == 0 else sign * smooth(trial, epochs) - 100

    strategy = tpe(space(14), startup=11, prune=True, factor=100.0, rungs=[1.0])
    up, down = (play(strategy, by_rung(sign))[1][-1] for sign in (1, -1))
    assert [trial.status for trial in up] == [trial.status for trial in down] == [FINISHED, *[PAUSED] * 13]
    assert proposals(up)[:11] == proposals(down)[:11]
    assert proposals(up)[11:] != proposals(down)[11:]


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BadInput, match=r"^search=tpe: needs Optuna: pip install 'blitz\[search\]'$"):
        tpe(space())


@pytest.mark.parametrize(
    ("given", "options", "problem"),
    [
        ({"ranges": {"model": ["net", "mlp"]}}, {}, "search=tpe: nothing to search; give an interval, such as "),
        ({"samples": None}, {}, "search=tpe: needs sweep.samples=N, the number of proposals"),
        ({}, {"prune": True, "rungs": [9.0]}, "search.rungs=[9.0]: accepted: below epochs=9, after which a job has"),
        ({"epochs": {3, 4}}, {"prune": True}, "search.rungs=null: jobs of 3 to 4 epochs have no rungs in common"),
    ],
)
def test_what_no_search_can_be_made_of_is_refused(given: dict[str, Any], options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput) as refusal:
        tpe(space(**given), **options)
    assert len(refusal.value.problems) == 1
    assert str(refusal.value).startswith(problem)
    if "prune" in options:
        tpe(space(**given), rungs=options.get("rungs"))  # without it rungs are ignored

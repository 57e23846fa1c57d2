"""A race: which rows get more seeds, when it ends, and what it says."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from scipy import stats

from blitz.errors import BadInput
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED
from blitz.sweeps.search.race import ALPHA, planned, race
from blitz.sweeps.search.strategy import DROP, MORE, STOP, Round, Space, Strategy, Trial, rows

Measure = Callable[[str, int], float | None]  # learning rate, seed -> objective; None: the job fails


def listed(rates: Sequence[str], seeds: Sequence[int]) -> list[Trial]:
    pairs = [(rate, seed) for rate in rates for seed in seeds]
    return [Trial(number, {"optimizer.lr": rate}, seed, 1) for number, (rate, seed) in enumerate(pairs)]


def made(answer: Round, trials: Sequence[Trial]) -> list[Trial]:
    """With the new jobs of a round."""
    number = len(trials)
    values = [{key: value for key, value in new.items() if key != "seed"} for new in answer.new]
    return [*trials, *(Trial(number + i, values[i], int(new["seed"]), 1) for i, new in enumerate(answer.new))]


def trained(trial: Trial, measure: Measure) -> Trial:
    objective = measure(trial.values["optimizer.lr"], trial.seed)
    return replace(trial, status=FAILED if objective is None else FINISHED, objective=objective)


def play(strategy: Strategy, trials: Sequence[Trial], measure: Measure) -> tuple[Round, list[Trial]]:
    """As a sweep does."""
    done = list(trials)
    while not (answer := strategy(done)).is_last:
        done = made(answer, done)
        for task in answer.tasks:
            assert not done[task.job].is_over
            done[task.job] = trained(done[task.job], measure)
    return answer, done


def scores(seed: int, spread: float = 0.01, **means: float) -> Measure:
    """Normal ones, the same for the same row and seed."""
    return lambda rate, of: random.Random(f"{seed} {rate} {of}").gauss(means[f"lr{rate}"], spread)


def result(rates: Sequence[str], seeds: Sequence[int], measure: Measure, **options: float) -> tuple[Round, list[Trial]]:
    trials = listed(rates, seeds)
    return play(race(Space(trials), **options), trials, measure)  # type: ignore[arg-type]


def seeds_of(trials: Sequence[Trial]) -> dict[str, int]:
    return Counter(trial.values["optimizer.lr"] for trial in trials if trial.is_over)


# The plan


@pytest.mark.parametrize(
    ("first", "most", "seeds"), [(3, 24, [3, 5, 7, 10, 16, 24]), (5, 20, [5, 8, 13, 20]), (3, 4, [3, 4]), (8, 8, [8])]
)
def test_looks_are_few_and_spend_the_chance_of_an_error_once(first: int, most: int, seeds: list[int]) -> None:
    looks = planned(first, most)
    assert [look.seeds for look in looks] == seeds
    assert [look.number for look in looks] == list(range(1, len(seeds) + 1))
    assert sum(look.share for look in looks) == pytest.approx(1)
    assert min(look.share for look in looks) > 0


def test_the_first_round_trains_all_that_was_asked_for():
    trials = listed(["1", "2"], [7, 3, 5])
    first = race(Space(trials))(trials)
    assert [task.job for task in first.tasks] == list(range(6))
    assert not first.new
    assert not first.decisions


def test_two_seeds_are_too_few_to_compare_and_get_a_third():
    trials = listed(["1", "2"], [0, 1])
    strategy = race(Space(trials))
    assert strategy(trials).new == [{"optimizer.lr": "1", "seed": "2"}, {"optimizer.lr": "2", "seed": "2"}]
    first = strategy(made(strategy(trials), trials))
    assert [task.job for task in first.tasks] == [0, 1, 4, 2, 3, 5]


# Errors


def at_once(trials: Sequence[Trial], measure: Measure, **options: float) -> Round:
    """The end of a race, from everything that it might have trained."""
    further = range(max(trial.seed for trial in trials) + 1, int(options["max_seeds"]))
    new = [{**row[0].values, "seed": str(seed)} for row in rows(trials) for seed in further]
    every = made(Round(new=new), trials)
    return race(Space(trials), **options)([trained(trial, measure) for trial in every])  # type: ignore[arg-type]


def most(races: int) -> int:
    """Errors in so many races that one of a thousand sound procedures exceeds."""
    return int(stats.binom.ppf(0.999, races, ALPHA))


def test_equal_rows_are_seldom_told_apart():
    wrong = 0
    for number in range(200):
        measure = scores(number, lr1=0.5, lr2=0.5, lr3=0.5, lr4=0.5)
        answer = at_once(listed("1234", [0, 1, 2]), measure, margin=0, max_seeds=12)
        wrong += any(decision.decision == DROP for decision in answer.decisions)
    assert 0 < wrong <= most(200)


def test_rows_that_differ_by_the_margin_are_seldom_called_within_it():
    wrong = 0
    for number in range(200):
        measure = scores(number, lr1=0.5, lr2=0.48, lr3=0.48)
        answer = at_once(listed("123", [0, 1, 2]), measure, margin=2, max_seeds=12)
        wrong += "lie within" in answer.conclusion
    assert 0 < wrong <= most(200)


# The end


def test_the_best_row_is_found_and_bad_rows_cost_few_seeds():
    answer, trials = result(["1", "2", "3"], [0, 1, 2], scores(0, lr1=0.2, lr2=0.5, lr3=0.48))
    counts = seeds_of(trials)
    assert counts["1"] < counts["2"] == counts["3"] < 24
    last = answer.decisions[-2:]
    assert [(decision.job, decision.decision) for decision in last] == [(3, STOP), (6, DROP)]
    assert last[1].numbers["compared_with"] == 3
    assert last[1].numbers["seeds"] == counts["2"]
    assert last[1].why.startswith("significantly worse than lr=2, by ")
    p = max(decision.numbers["p"] for decision in answer.decisions if decision.decision == DROP)
    n, total, behind = counts["2"], sum(counts.values()), 100 * last[1].numbers["behind"]
    assert answer.conclusion == (
        f"lr=2 is significantly better than all other rows: the next one, lr=3, is {behind:.2f} points behind "
        f"(p = {p:.2g}; paired t-tests, corrected for all pairs and looks); "
        f"{total} runs were trained; a full design of the same power, 3 rows of {n} seeds, takes {3 * n}."
    )


def test_p_values_are_corrected_for_the_look_all_other_rows_and_the_rows_that_are_left():
    """Here in plain words: after the second look, at which three of four rows are left."""
    measure = scores(1, lr1=0.5, lr2=0.49, lr3=0.485, lr4=-5)
    answer, _ = result("1234", [0, 1, 2], measure, max_seeds=12)
    decided = {rate: answer.decisions[4 + place] for place, rate in enumerate("123")}
    assert [decision.decision for decision in answer.decisions[:4]] == [MORE, MORE, MORE, DROP]
    assert {(decision.round, decision.numbers["seeds"]) for decision in decided.values()} == {(2, 5)}
    share = (5 - 3) / 12
    of = {rate: [measure(rate, seed) for seed in range(5)] for rate in "123"}
    pairs = [(row, other) for row in "123" for other in "123" if other != row]
    worse = {pair: stats.ttest_rel(of[pair[0]], of[pair[1]], alternative="less").pvalue * 3 / share for pair in pairs}
    of_row = {row: min(worse[pair] for pair in pairs if pair[0] == row) for row in "123"}
    first, second, third = sorted(of_row, key=lambda row: of_row[row])
    assert decided[first].numbers["p"] == pytest.approx(min(1, 3 * of_row[first]))
    assert decided[second].numbers["p"] == pytest.approx(min(1, max(3 * of_row[first], 2 * of_row[second])))
    assert decided[third].numbers["p"] == pytest.approx(1)
    assert 0.05 < decided[first].numbers["p"] < 1


def test_the_margin_is_tested_for_each_two_rows_that_are_left_and_corrected_for_all_others():
    measure = scores(9, 0.002, lr1=0.5, lr2=0.5, lr3=0.1)
    answer, _ = result("123", [0, 1, 2], measure, margin=1, max_seeds=12)
    seeds = range(answer.decisions[-1].numbers["seeds"])
    look = planned(3, 12)[answer.decisions[-1].round - 1]
    first, second = ([measure(rate, seed) or 0.0 for seed in seeds] for rate in "12")
    less = [
        stats.ttest_rel(row, [score + 0.01 for score in other], alternative="less").pvalue
        for row, other in ((first, second), (second, first))
    ]
    assert answer.decisions[-1].numbers["p_of_margin"] == pytest.approx(max(less) * 2 / look.share)


def test_close_rows_end_within_the_margin():
    measure = scores(2, 0.002, lr1=0.3, lr2=0.5, lr3=0.5)
    answer, trials = result(["1", "2", "3"], [0, 1, 2], measure, margin=1)
    assert seeds_of(trials)["2"] < 24
    assert "lie within 1 points of each other (p = " in answer.conclusion
    assert "1" not in answer.conclusion.split(" lie ")[0].replace("lr=", "")
    assert [decision.decision for decision in answer.decisions][-2:] == [STOP, STOP]


def test_undecided_at_max_seeds_it_says_between_which_rows():
    rates = ["1", "2", "3", "4", "5"]
    answer, trials = result(rates, [0, 1, 2], scores(3, **{f"lr{rate}": 0.5 for rate in rates}), max_seeds=4)
    assert seeds_of(trials) == dict.fromkeys(rates, 4)
    assert answer.conclusion.startswith("Undecided after 4 seeds between lr=")
    assert " and 2 more rows: lr=" in answer.conclusion
    assert answer.conclusion.endswith(
        "20 runs were trained; a full design of the same power, 5 rows of 4 seeds, takes 20."
    )


def test_max_seeds_may_be_the_seeds_that_were_asked_for():
    answer, trials = result(["1", "2"], range(5), scores(4, lr1=0.5, lr2=0.9), max_seeds=5)
    assert len(trials) == 10
    assert {decision.round for decision in answer.decisions} == {1}
    assert answer.conclusion.startswith("lr=2 is significantly better than all other rows")


# Without spread


def test_rows_that_are_equal_at_every_seed_lie_within_any_margin():
    answer, trials = result(["1", "2"], [0, 1, 2], lambda rate, seed: 0.1)
    assert len(trials) == 6
    assert answer.conclusion.startswith("lr=1 and lr=2 lie within 0.5 points of each other")


def test_rows_that_differ_without_spread_are_not_told_apart():
    answer, trials = result(["1", "2"], [0, 1, 2], lambda rate, seed: {"1": 0.1, "2": 0.9}[rate], max_seeds=4)
    assert len(trials) == 8
    assert answer.conclusion.startswith("Undecided after 4 seeds between lr=2 and lr=1: lr=2 is ahead, by 80.00 points")


# Failed jobs


def test_a_row_with_a_failed_job_is_dropped():
    normal = scores(5, lr1=0.9, lr2=0.5, lr3=0.3)
    answer, trials = result(
        ["1", "2", "3"], [0, 1, 2], lambda rate, seed: None if (rate, seed) == ("1", 1) else normal(rate, seed)
    )
    assert seeds_of(trials)["1"] == 3
    first = answer.decisions[0]
    assert (first.job, first.decision, first.numbers) == (0, DROP, {"seeds": 3, "failed": [1]})
    assert answer.conclusion.startswith(
        "lr=2 is significantly better than all other rows, without 1 with a failed job: "
    )


def test_rivals_that_all_failed_leave_no_result():
    answer, _ = result(["1", "2"], [0, 1], lambda rate, seed: None if rate == "1" else 0.5)
    assert answer.conclusion == "The race has no result: only lr=2 is left without a failed job."
    answer, _ = result(["1", "2"], [0, 1], lambda rate, seed: None)
    assert answer.conclusion == "The race has no result: no row is left without a failed job."


# Stopped and resumed


def test_a_race_that_is_stopped_after_any_job_makes_the_same_decisions():
    rates = ["1", "2", "3", "4"]
    measure = scores(6, lr1=0.5, lr2=0.49, lr3=0.45, lr4=0.3)
    trials = listed(rates, [0, 1])
    whole, recorded = play(race(Space(trials)), trials, measure)
    assert Counter(decision.decision for decision in whole.decisions) >= Counter([DROP, DROP, MORE, STOP])
    assert race(Space(trials))(recorded) == whole
    assert at_once(trials, measure, max_seeds=24) == whole
    done = list(trials)
    while not (answer := race(Space(trials))(done)).is_last:
        done = made(answer, done)
        order = random.Random(len(done)).sample([task.job for task in answer.tasks], len(answer.tasks))
        for job in order:  # in any order
            done[job] = replace(done[job], status=KILLED)
            again = race(Space(trials))(done)  # another process
            assert again.decisions == whole.decisions[: len(again.decisions)]
            assert job in {task.job for task in again.tasks}
            done[job] = trained(done[job], measure)
    assert answer == whole
    assert done == recorded


def test_later_results_do_not_change_earlier_decisions():
    measure = scores(7, lr1=0.5, lr2=0.49, lr3=0.3)
    trials = listed(["1", "2", "3"], [0, 1, 2])
    whole, recorded = play(race(Space(trials)), trials, measure)
    assert max(seeds_of(recorded).values()) > 3
    changed = [replace(trial, objective=0.999) if trial.seed > 2 else trial for trial in recorded]
    first = [decision for decision in whole.decisions if decision.round == 1]
    assert [decision for decision in race(Space(trials))(changed).decisions if decision.round == 1] == first


def test_new_seeds_follow_the_largest_one_for_all_rows():
    trials = listed(["1", "2"], [42, 7])
    _, recorded = play(race(Space(trials), max_seeds=4), trials, scores(8, lr1=0.5, lr2=0.5))
    assert [[trial.seed for trial in row] for row in rows(recorded)] == [[42, 7, 43, 44]] * 2


def test_rows_that_lack_a_seed_of_another_one_get_it():
    trials = [*listed(["1"], [0, 1, 2]), Trial(3, {"optimizer.lr": "2"}, 5, 1)]
    new = race(Space(trials))(trials).new
    assert new == [
        {"optimizer.lr": "1", "seed": "5"},
        *({"optimizer.lr": "2", "seed": seed} for seed in ("0", "1", "2")),
    ]


# Bad input


@pytest.mark.parametrize(
    ("rates", "seeds", "max_seeds", "message"),
    [
        (["1", "2"], [0], 24, "search=race: no row has more than one seed; accepted: several, such as seed=0,1,2"),
        (
            ["1"],
            [0, 1],
            24,
            "search=race: all jobs differ in their seed alone; accepted: two or more values of another key",
        ),
        (["1", "2"], range(5), 4, "search.max_seeds=4: accepted: 5, the seeds that were asked for, or more"),
    ],
)
def test_what_is_no_race_is_refused(rates: list[str], seeds: list[int], max_seeds: int, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        race(Space(listed(rates, seeds)), max_seeds=max_seeds)
    assert str(refused.value) == message

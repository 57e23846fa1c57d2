"""Whether what a search has decided follows from what is recorded: sweeps that are played, and altered records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from blitz.errors import BadInput
from blitz.reproduction.replay import Answer, Attempt, Records, check
from blitz.run_folder import decisions
from blitz.run_folder.decisions import Decision, Line
from blitz.run_folder.run_info import FAILED, FINISHED, KILLED, PAUSED
from blitz.sweeps.search.searches import SEARCHES
from blitz.sweeps.search.strategy import Space, Trial

Objective = Callable[[Trial, float], float | None]  # of a trial after so many epochs; None: it fails
HALVING = {"name": "halving", "factor": 2.0, "rungs": [1.0, 3.0], "keep": None}
RACE = {"name": "race", "margin": 0.1, "max_seeds": 8}


def trials(values: int, seeds: int = 1, epochs: int = 9) -> list[Trial]:
    pairs = [(value, seed) for value in range(values) for seed in range(seeds)]
    return [Trial(number, {"x": str(value)}, seed, epochs) for number, (value, seed) in enumerate(pairs)]


def better_with_x(trial: Trial, epochs: float) -> float:
    return int(trial.values["x"]) / 100 + (trial.seed * 7 % 5) / 1000 + epochs / 10000


def not_told_apart(trial: Trial, epochs: float) -> float:
    return 0.5 + (int(trial.values["x"]) * 3 + trial.seed * 7) % 5 / 100


class Sweep:
    """A sweep that trains nothing, in a folder of decisions."""

    def __init__(self, folder: Path, search: Mapping[str, Any], listed: list[Trial]) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.search, self.listed = folder, search, listed
        self.now = {trial.number: trial for trial in listed}
        self.earlier: dict[int, list[Attempt]] = {}

    def play(self, objective: Objective = better_with_x, rounds: int = 99) -> Records:
        """So many rounds, or all; returns what is recorded then."""
        strategy = SEARCHES.build(self.search, Space(self.listed))
        for _ in range(rounds):
            asked = strategy(list(self.now.values()))
            decisions.note(self.folder, self.search, asked.decisions)
            for values in asked.new:
                number = len(self.now)
                own = {key: value for key, value in values.items() if key != "seed"}
                self.now[number] = Trial(number, own, int(values["seed"]), 9)
            for task in asked.tasks:
                self.now[task.job] = self.trained(self.now[task.job], task.until, objective)
            if asked.is_last:
                break
        return self.records()

    @staticmethod
    def trained(trial: Trial, until: float | None, objective: Objective) -> Trial:
        found = objective(trial, until or trial.epochs)
        if found is None:
            return replace(trial, status=FAILED)
        if until is None:
            return replace(trial, status=FINISHED, objective=found)
        return replace(trial, status=PAUSED, rungs={**trial.rungs, until: found})

    def retry(self) -> None:
        """As a sweep that is resumed: what failed is trained again."""
        for number, trial in self.now.items():
            if trial.status == FAILED:
                self.earlier.setdefault(number, []).append(Attempt(trial, 1, "first"))
                self.now[number] = replace(trial, status=None, rungs={}, objective=None)

    def records(self, status: str = FINISHED) -> Records:
        attempts = {
            number: [*(before := self.earlier.get(number, [])), Attempt(trial, 1 + len(before), "run")]
            for number, trial in self.now.items()
            if trial.status is not None
        }
        jobs = [Trial(trial.number, trial.values, trial.seed, trial.epochs) for trial in self.now.values()]
        lines = decisions.read(self.folder / decisions.FILE)
        return Records("a", self.search, lines, jobs, len(self.listed), attempts, status)


def altered(records: Records, number: int, **values: Any) -> Records:
    """With other values of a job's record."""
    (attempt,) = records.attempts[number]
    changed = replace(attempt, trial=replace(attempt.trial, **values))
    return replace(records, attempts={**records.attempts, number: [changed]})


def with_lines(records: Records, change: Callable[[list[Line]], object]) -> Records:
    lines = list(records.lines)
    change(lines)
    return replace(records, lines=lines)


def sound(answer: Answer) -> int:
    """How many decisions follow, where all do."""
    assert (answer.wrong, answer.contradictions) == ([], [])
    return answer.follow


@pytest.fixture
def halved(tmp_path: Path) -> Records:
    return Sweep(tmp_path / "halving", HALVING, trials(4, 2)).play()


@pytest.fixture
def raced(tmp_path: Path) -> Records:
    return Sweep(tmp_path / "race", RACE, trials(3, 3)).play(not_told_apart)


def test_decisions_follow_from_the_records(halved: Records, raced: Records, tmp_path: Path) -> None:
    assert sound(check(halved)) == 8 + 4
    assert len(raced.jobs) > raced.listed  # it has added some
    assert sound(check(raced)) == len([line for line in raced.lines if isinstance(line, Decision)]) >= 6
    assert sound(check(Sweep(tmp_path / "grid", {"name": "grid"}, trials(3)).play())) == 0


def test_finished_jobs_are_those_that_may_be_drawn(halved: Records) -> None:
    assert list(halved.finished) == [6, 7]


def test_an_altered_objective_at_a_rung_changes_what_follows(halved: Records) -> None:
    answer = check(altered(halved, 0, rungs={1.0: 0.9}))
    assert (len(answer.wrong), answer.follow, answer.is_sound) == (12, 0, False)
    assert answer.wrong[0] == (
        "round 1, job 0: decision recorded pause, follows go on; objective recorded 0.0001, follows 0.9; "
        f"mean recorded {(0.0001 + 0.0021) / 2}, follows {(0.9 + 0.0021) / 2}; place recorded 4, follows 1"
    )
    assert answer.wrong[-1].endswith("the best 1 go on), follows nothing")  # job 0 has no second rung


def test_an_altered_objective_that_changes_no_rank_is_found_as_well(halved: Records) -> None:
    answer = check(altered(halved, 0, rungs={1.0: 0.0002}))
    assert answer.follow == 10
    assert answer.wrong[0].startswith("round 1, job 0: objective recorded 0.0001, follows 0.0002; mean recorded ")
    assert answer.wrong[1].startswith("round 1, job 1: mean recorded ")


def test_an_altered_objective_of_a_finished_job_changes_a_race(raced: Records) -> None:
    (attempt,) = raced.attempts[4]
    answer = check(altered(raced, 4, objective=(attempt.trial.objective or 0) + 0.01))
    assert answer.wrong[0].startswith("round 1, job ")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"decision": "pause"}, "round 1, job 6: decision recorded pause, follows go on"),
        ({"why": "it looks good"}, "round 1, job 6: why recorded it looks good, follows number 1 of 4"),
        ({"numbers": {}}, "round 1, job 6: objective recorded nothing, follows 0.0301; rung recorded nothing, "),
        ({"job": 9}, "round 1, job 9: recorded go on (number 1 of 4 by the mean of 2 seeds after 1 epoch"),
        ({"round": 7}, "round 7, job 6: recorded go on (number 1 of 4 by the mean of 2 seeds after 1 epoch"),
    ],
)
def test_an_altered_line_does_not_follow(halved: Records, change: dict[str, Any], problem: str) -> None:
    line = halved.lines[1]
    assert isinstance(line, Decision)
    answer = check(with_lines(halved, lambda lines: lines.__setitem__(1, Decision(**{**asdict(line), **change}))))
    assert len(answer.wrong) == 1
    assert answer.follow == 11
    assert answer.wrong[0].startswith(problem)


def test_a_line_that_is_gone_is_missed(halved: Records) -> None:
    (problem,) = check(with_lines(halved, lambda lines: lines.pop(3))).wrong
    assert problem == (
        "round 1, job 4: recorded nothing, follows go on (number 2 of 4 by the mean of 2 seeds after 1 epoch, of which "
        "the best 2 go on)"
    )


def test_an_altered_search_decides_otherwise(halved: Records) -> None:
    answer = check(with_lines(halved, lambda lines: lines.__setitem__(0, decisions.Heading({**HALVING, "keep": 0.8}))))
    assert len(answer.wrong) >= 8


def test_a_search_that_there_is_not_is_refused(halved: Records) -> None:
    with pytest.raises(BadInput, match="halvin: no such search; did you mean halving"):
        check(with_lines(halved, lambda lines: lines.__setitem__(0, decisions.Heading({"name": "halvin"}))))


def test_a_job_that_the_search_did_not_add(raced: Records) -> None:
    added = Trial(99, {"x": "1"}, 77, 9)
    answer = check(replace(raced, jobs=[*raced.jobs, added]))
    assert answer.contradictions == ["job 99 (x=1 seed=77): recorded, and the search asks for no such job"]


def test_an_objective_that_the_metrics_of_a_job_do_not_have(halved: Records) -> None:
    (attempt,) = halved.attempts[0]
    curve = {1: 0.25, 2: 0.5}
    answer = check(replace(halved, attempts={**halved.attempts, 0: [replace(attempt, curve=curve)]}))
    assert (answer.wrong, answer.follow) == ([], 12)
    assert answer.contradictions == ["job 0: its objective after 1 epoch: 0.25 in its metrics, 0.0001 by its rungs"]


def test_a_sweep_that_was_stopped_has_decided_less(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, HALVING, trials(4, 2))
    sweep.play(rounds=1)  # all jobs are at the first rung, and nobody has compared them
    with pytest.raises(BadInput, match=r"sweep a: its record has no decisions.jsonl, and 8 decisions follow from its"):
        check(sweep.records(KILLED))
    sweep.play(rounds=1)
    assert sound(check(sweep.records(KILLED))) == 8


def test_each_search_of_a_sweep_that_was_resumed_with_more_to_keep(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, HALVING, trials(4, 2))
    sweep.play(rounds=2)  # stopped before the second rung
    sweep.search = {**HALVING, "keep": 0.8}
    records = sweep.play()
    assert [line.search["keep"] for line in records.lines if isinstance(line, decisions.Heading)] == [None, 0.8]
    assert sound(check(records)) == 8 + 8 + 6
    sweep.search = {**HALVING, "keep": 1.0}  # which decides nothing
    assert sound(check(sweep.play())) == 8 + 8 + 6
    (wrong,) = check(with_lines(records, lambda lines: lines.pop(-1))).wrong
    assert wrong.startswith("round 2, job ")


def test_what_was_decided_while_a_job_had_failed_follows_from_its_first_run(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, HALVING, trials(4, 2))
    sweep.play(lambda trial, epochs: None if trial.number == 6 else better_with_x(trial, epochs))
    failed = decisions.read(tmp_path / decisions.FILE)
    assert any(isinstance(line, Decision) and "seed alone failed" in line.why for line in failed)
    assert sound(check(sweep.records(FAILED))) == len(failed) - 1
    sweep.retry()
    records = sweep.play()
    assert len(records.lines) > len(failed)
    assert sound(check(records)) == len(records.lines) - 1
    assert check(replace(records, attempts={**records.attempts, 6: records.attempts[6][1:]})).wrong


def test_a_job_whose_process_was_killed_failed_without_a_record_of_it(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, HALVING, trials(4, 2))
    sweep.play(lambda trial, epochs: None if trial.number == 6 else better_with_x(trial, epochs))
    sweep.now[6] = replace(sweep.now[6], status=KILLED)
    assert sound(check(sweep.records(FAILED))) == 7 + 4


def test_jobs_that_had_finished_before_the_sweep(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, HALVING, trials(5))
    sweep.now[2] = replace(sweep.now[2], status=FINISHED, objective=0.9)
    records = sweep.play()
    (attempt,) = records.attempts[2]
    records = replace(records, attempts={**records.attempts, 2: [replace(attempt, is_own=False)]})
    assert sound(check(records)) == 4 + 2


def test_what_a_decision_says_is_as_it_was_written(halved: Records, tmp_path: Path) -> None:
    """A line of text is what decides: what JSON makes of a number is the same number."""
    lines = [json.loads(line) for line in (tmp_path / "halving" / decisions.FILE).read_text().splitlines()]
    assert [line for line in lines if "decision" in line] == [asdict(line) for line in halved.lines[1:]]

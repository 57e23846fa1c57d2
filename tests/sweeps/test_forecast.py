"""What a dry run says of a sweep's time and of the differences that its seeds detect; it changes nothing."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from support.lab import Lab
from support.processes import QUICK
from support.recorded import runs
from support.shell import blitz as command
from support.shell import refused

import blitz
from blitz.comparison.power import Spread
from blitz.parts.datasets import DATASETS
from blitz.parts.registry import Registry
from blitz.run_folder import provenance
from blitz.run_folder.run_info import FINISHED, PAUSED, texts
from blitz.sweeps.forecast import seeds_line, time_line
from blitz.sweeps.preflight import timed_epoch
from blitz.sweeps.search.halving import halving
from blitz.sweeps.search.play import Pace, Play, makespan, plays
from blitz.sweeps.search.race import race
from blitz.sweeps.search.searches import grid
from blitz.sweeps.search.strategy import Round, Space, Strategy, Task, Trial
from blitz.tracking import databases

SHORT = [*QUICK, "device=cpu", "data.limit=100", "epochs=2", "tracking.system_metrics=null"]
DRY = "sweep.dry_run=true"


@pytest.fixture(autouse=True)
def _digits_in_the_cache() -> None:
    """A dry run puts no data there."""
    DATASETS.build({"name": "digits", "image_size": 32})


def listed(rows: int, seeds: int, epochs: int = 9) -> list[Trial]:
    pairs = [(row, seed) for row in range(rows) for seed in range(seeds)]
    return [Trial(number, {"x": str(row)}, seed, epochs) for number, (row, seed) in enumerate(pairs)]


def played(strategy: Strategy, trials: Sequence[Trial], slots: int = 1, *seconds: float) -> list[Play]:
    """With so many seconds for an epoch of each row, and one besides its epochs."""
    rows = dict.fromkeys(trial.row for trial in trials)
    paces = {key: Pace(seconds[number] if seconds else 1.0, 1.0) for number, key in enumerate(rows)}
    return plays(strategy, trials, paces, lambda number: min(number, slots))


# ---- the time of a search


def test_jobs_begin_as_soon_as_there_is_a_slot():
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 1, 3], 2) == 4
    assert makespan([1, 2], 1) == 3


def test_a_grid_trains_everything():
    for found in played(grid(Space([])), listed(3, 2), 2):
        assert found == Play(epochs=54, seconds=30, seeds=[2, 2, 2])


def test_halving_trains_what_its_rungs_leave():
    trials = listed(9, 2)
    for found in played(halving(Space(trials)), trials):
        assert found.epochs == 2 * (9 * 1 + 3 * 2 + 1 * 6)
        assert found.seconds == found.epochs + 2
        assert found.seeds == [2]


def test_halving_takes_as_long_as_the_rows_that_go_on():
    trials = listed(3, 1)
    times = [found.seconds for found in played(halving(Space(trials), rungs=[3]), trials, 1, 1, 10, 100)]
    assert times[:2] == [3 * 111 + 6 * 100 + 1, 3 * 111 + 6 * 1 + 1]
    assert min(times) <= times[2] <= max(times)


@pytest.mark.parametrize("rows", [2, 6, 40])
@pytest.mark.parametrize("asked", [2, 3, 5])
@pytest.mark.parametrize("margin", [0.0, 0.5, 5.0])
def test_a_race_takes_from_the_seeds_asked_for_to_the_most(rows: int, asked: int, margin: float) -> None:
    trials = listed(rows, asked, 1)
    found = played(race(Space(trials), margin=margin, max_seeds=12), trials)
    assert [set(play.seeds) for play in found] == [{max(asked, 3)}, {max(asked, 3)}, {12}]
    assert found[2].epochs == rows * 12


def test_what_was_trained_before_takes_no_time():
    trials = listed(3, 1)
    done = [
        Trial(0, {"x": "0"}, 0, 9, FINISHED, {}, 0.7),
        Trial(1, {"x": "1"}, 0, 9, PAUSED, {3.0: 0.5}),
        trials[2],
    ]
    assert {found.epochs for found in played(grid(Space(trials)), done)} == {6 + 9}
    strategy = halving(Space(trials), rungs=[3])
    # The finished one takes nobody's place: of the two others one goes on.
    assert {found.epochs for found in played(strategy, done)} == {3 + 6}


def test_a_search_without_an_end_ends_all_the_same():
    (found, *_) = played(lambda trials: Round([Task(0, 1.0)]), listed(2, 1))
    assert found.seeds == []


def test_a_search_of_many_proposals_takes_so_many_times_what_the_first_ones_do():
    assert Play(6, 4.0, [2, 1]).times(1.5) == Play(9, 6.0, [2, 1, 2])
    assert Play(6, 4.0, [2, 1]).times(1) == Play(6, 4.0, [2, 1])


# ---- the lines


def test_time_says_where_it_comes_from():
    seen, timed = Pace(1, 0, runs=4), Pace(2, 0, steps=20)
    one, other = Play(18, 90.2, [1]), Play(54.5, 3600, [2])

    def line(found: list[Play], *paces: Pace, unknown: str = "", stop: bool = False) -> str:
        return time_line(found, paces, unknown, "one job at a time", stop)

    same = "of the same model, data, batch size and device"
    assert line([one], seen, seen) == f"about 0:01:31 for 18 epochs, one job at a time, as 4 earlier runs {same}"
    assert line([other, one], timed, stop=True) == (
        "at most 0:01:31 to 1:00:00 for 18 to 54.5 epochs, one job at a time, by 20 timed steps, without validation"
    )
    assert line([one], seen, timed).endswith(
        f"as 4 earlier runs {same} and by 20 timed steps of the others, without validation"
    )
    assert line([one], unknown="no data") == "not known, for 18 epochs: no data"


def test_seeds_say_what_they_detect_and_what_a_point_needs():
    six, test = [Play(0, 0, [3] * 6)], "Welch's t-test, Holm's correction for all 15 pairs, normal scores"
    assert seeds_line(six, Spread(0.01, 9, 3), "") == (
        "3 a row detect differences of 9.47 points in four of five cases; 1 point needs 31 "
        f"({test}; the spread of 9 earlier runs of 3 rows: 1 points)"
    )
    assert seeds_line(six, None, "no store") == (
        "3 a row detect differences of 9.47 times the spread over seeds in four of five cases "
        f"({test}); nothing is known yet of the spread: no store"
    )
    assert seeds_line(six, Spread(0.0, 2, 1), "").endswith("of the spread: that of 2 earlier runs of 1 row is 0")
    to_24 = seeds_line([*six, Play(0, 0, [24] * 6)], None, "")
    assert to_24.startswith("3 to 24 a row detect differences of 9.47 to 1.15 times the spread")
    assert seeds_line([Play(0, 0, [1, 1])], Spread(0.01, 9, 3), "").startswith(
        "1 a row, which cannot be compared; 1 point needs 17 (Welch's t-test, Holm's correction for the one pair"
    )
    assert seeds_line([Play(0, 0, [3])], None, "") == "only one row is trained to its end: there is nothing to compare"


def test_timed_steps_of_a_run_that_diverges_or_is_short_or_slow():
    asked = [*SHORT, "data.limit=60", "batch_size=20", "model=mlp", "epochs=50"]

    def timed(*more: str, longest: float = math.inf) -> int:
        seconds, steps = timed_epoch(blitz.compose([*asked, *more]), longest=longest)
        assert seconds > 0
        return steps

    assert timed() >= 20
    assert timed("epochs=1") == 3  # there are no more
    assert timed("optimizer.lr=1e30") == 1
    assert timed(longest=0.0) == 1


# ---- dry runs


def contents(folder: Path) -> dict[str, bytes]:
    """But for the lock of the store, which every command that reads it holds."""
    files = [path for path in folder.rglob("*") if path.name != "mlflow.db.lock"]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in files}


def forecast(*asked: str) -> tuple[str, str]:
    """The lines of a dry run about time and seeds."""
    ended = command("-m", *SHORT, *asked, DRY)
    assert (ended.code, ended.told) == (0, []), ended
    time, seeds = ended.output.splitlines()[-2:]
    assert time.startswith("time     ")
    assert seeds.startswith("seeds    ")
    return time.removeprefix("time     "), seeds.removeprefix("seeds    ")


@cache
def machine() -> dict[str, str]:
    return provenance.tags(provenance.collect([]))


def recorded(*asked: str, objective: float = 0.5, epoch: float = 4.0, tags: Mapping[str, str] | None = None) -> None:
    """A run in the store as blitz records one, that took 30 s; nothing is trained."""
    settings = blitz.compose([*SHORT, *asked])
    fingerprint = DATASETS.build(settings.data).fingerprint
    found = {
        "device": "cpu",
        "device.cpu": machine()["device.cpu"],
        "data.fingerprint": fingerprint,
        "group_hash": settings.group_hash(fingerprint),
    }
    params = texts({**settings.parameters(), "device.threads": 1})
    Lab("blitz").foreign(params, {"objective": objective, "time/epoch": epoch}, {**found, **(tags or {})})


def test_dry_run_takes_time_and_spread_from_earlier_runs(here: Path) -> None:
    for seed, objective in enumerate((0.50, 0.52, 0.54)):
        recorded(f"seed={seed}", "optimizer.lr=0.1", objective=objective)
    recorded("seed=0", "optimizer.lr=0.1", objective=0.9)  # once more: no further seed
    recorded("seed=7", "optimizer.lr=0.1", objective=0.9, tags={"reproduces": "0123"})
    recorded("seed=8", "optimizer.lr=0.1", objective=0.9, tags={"epochs": "9"})  # extended
    recorded("seed=9", "optimizer.lr=0.1", objective=0.9, tags={"data.fingerprint": "other"})
    recorded("seed=9", "optimizer.lr=0.1", "optimizer.momentum=0.5", objective=0.9, epoch=1000)  # as fast, another row
    recorded("seed=0", "optimizer.lr=0.1", "batch_size=16", epoch=1000)
    recorded("seed=1", "optimizer.lr=0.1", objective=0.9, epoch=1000, tags={"device.cpu": "another"})
    before = contents(here)
    time, seeds = forecast("optimizer.lr=0.1,0.3", "seed=10,11,12")
    # The median of 4 s for an epoch, and of 22 s beside two of them
    what = "5 earlier runs of the same model, data, batch size and device"
    assert time == f"about 0:03:00 for 12 epochs, one job at a time, as {what}"
    assert seeds == (
        "3 a row detect differences of 7.02 points in four of five cases; 1 point needs 64 (Welch's t-test, Holm's "
        "correction for the one pair, normal scores; the spread of 3 earlier runs of 1 row: 2 points)"
    )
    assert contents(here) == before


def test_dry_run_times_steps_where_the_store_knows_nothing(here: Path) -> None:
    before = contents(here)
    time, seeds = forecast("model=net,mlp", "seed=0,1")
    assert re.fullmatch(
        r"about \d:\d\d:\d\d for 8 epochs, one job at a time, by \d+ timed steps, without validation", time
    )
    assert seeds.endswith("nothing is known yet of the spread: no row has two finished runs in the store")
    assert contents(here) == before


def no_file(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def older(path: Path) -> None:
    version = min(databases._schemas()[0] - {databases._schemas()[1]})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{version}'")
        connection.commit()


@pytest.mark.parametrize(
    ("asked", "change", "why"),
    [
        (["tracking=none"], None, "tracking=none keeps no earlier runs"),
        ([], no_file, "no run is recorded in sqlite:///"),
        ([], empty, "no run is recorded in sqlite:///"),
        ([], older, "its tables are those of another MLflow"),
        (["tracking.uri=http://me:hunter22@127.0.0.1:1"], None, "http://***@127.0.0.1:1: no tracking store answers"),
        (["tracking.uri=sqlite:///a.txt"], None, "a.txt is no SQLite database"),
    ],
)
def test_dry_run_without_a_store_to_read_changes_nothing(
    here: Path, asked: list[str], change: Callable[[Path], None] | None, why: str
) -> None:
    (here / "a.txt").write_text("not a database, and longer than the first bytes of one")
    if change is not None:
        change(here / "mlflow.db")
    before = contents(here)
    time, seeds = forecast("model=mlp", "seed=0,1", "optimizer.lr=0.1,0.2", *asked)
    assert "timed steps" in time
    assert why in seeds
    assert "\n" not in seeds
    assert "hunter22" not in seeds
    assert contents(here) == before


def test_dry_run_that_skips_what_has_finished_leaves_an_older_store_as_it_is(here: Path) -> None:
    older(here / "mlflow.db")
    before = contents(here)
    (problem,) = refused("-m", *SHORT, "seed=0,1", "sweep.skip_finished=true", DRY)
    assert "its tables are those of another MLflow" in problem
    assert contents(here) == before


def test_dry_run_neither_downloads_nor_decodes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = here / "cache"
    monkeypatch.setenv("BLITZ_CACHE", str(cache))
    for data in ("digits", "cifar10"):
        time, _ = forecast(f"data={data}", "seed=0,1")
        assert time == f"not known, for 4 epochs: data={data}: not in the cache yet; the first run puts it there"
    assert not cache.exists()


@pytest.mark.slow
def test_dry_run_of_many_proposals_plays_the_first_ones(here: Path) -> None:
    interval = "optimizer.lr=tag(log,interval(1e-3,1))"
    time, _ = forecast("model=mlp", interval, "seed=0,1", "search=tpe", "sweep.samples=2000", "sweep.seed=3")
    assert " for 8,000 epochs, one job at a time, " in time


def test_dry_run_of_a_part_that_cannot_be_built(here: Path, models: Registry) -> None:
    def broken(num_classes: int, input_shape: tuple[int, ...]) -> None:
        raise LookupError("no such luck")

    models.add("broken", broken)
    time, _ = forecast("model=broken", "seed=0,1")
    assert time == "not known, for 4 epochs: no such luck"


@pytest.mark.slow
def test_dry_run_of_a_sweep_that_was_trained_and_of_a_search_that_is_resumed(here: Path) -> None:
    assert command("-m", *SHORT, "epochs=1", "optimizer.lr=0.1,0.01", "seed=0,1").code == 0
    before = contents(here)
    time, seeds = forecast("epochs=1", "optimizer.lr=0.1,0.01", "seed=0,1,2")
    assert "for 6 epochs, one job at a time, as 4 earlier runs" in time
    assert " of 4 earlier runs of 2 rows" in seeds  # which may be 0
    assert contents(here) == before
    search = [*SHORT, "epochs=2", "optimizer.lr=0.1,0.05,0.01", "search=halving", "search.rungs=[1]"]
    assert command("-m", *search).code == 0
    assert [run.info.status for run in runs()].count("SCHEDULED") == 2
    before = contents(here)
    ended = command("-m", "sweep.resume=last", "search.keep=0.6", DRY)
    assert (ended.code, ended.told) == (0, [])
    assert " for 1 epoch, one job at a time, " in ended.output.splitlines()[-2]
    assert contents(here) == before

"""What `blitz compare` and the search for finished jobs take in a store of ten thousand runs.

    python experiments/speed/compare.py [--sweeps 50] [--jobs 200] [--rounds 5]

A sweep of two short jobs on scikit-learn's digits is trained; its rows in the tables of its SQLite store are then
copied, with other ids, seeds, learning rates, hashes and results, until there are so many sweeps of so many jobs in
one experiment. Timed are whole processes from their start to their end, the ways in turns, and, in this process, the
search for a sweep's jobs that have finished, as resuming it needs. Ends with 1 where a median is beyond the promise.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from blitz.tracking import queries, store

SHORT = "data=digits data.limit=200 batch_size=32 epochs=3 device.threads=1 tracking.figures=false"
PROMISE = 5.0  # seconds
SEEDS = 5  # of each learning rate
MINUTE = 60_000  # milliseconds
TABLES = {"runs": "run_uuid", "params": "run_uuid", "tags": "run_uuid", "metrics": "run_uuid",
          "latest_metrics": "run_uuid", "inputs": "destination_id"}  # fmt: skip

Row = dict[str, object]


def blitz(folder: Path, *arguments: str) -> float:
    """Seconds that a process took."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "blitz", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    return seconds


def digits(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class Copies:
    """Rows of a run, copied under other ids."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        database.row_factory = sqlite3.Row
        self.pending: dict[str, list[Row]] = {table: [] for table in TABLES}

    def rows_of(self, run_id: str) -> dict[str, list[Row]]:
        return {
            table: [dict(row) for row in self.database.execute(f"SELECT * FROM {table} WHERE {key} = ?", [run_id])]
            for table, key in TABLES.items()
        }

    def add(
        self, rows: Mapping[str, Sequence[Row]], run_id: str, begun: int, texts: Mapping[str, str], noise: float
    ) -> None:
        """`texts`: parameters and tags that are others than in `rows`. `noise` is added to each metric."""
        for table, key in TABLES.items():
            for row in rows[table]:
                copy = {**row, key: run_id}
                if table == "runs":
                    copy |= {"start_time": begun, "end_time": begun + MINUTE}
                elif table == "inputs":
                    copy |= {"input_uuid": digits(run_id, row["input_uuid"])}
                elif table in ("params", "tags"):
                    copy["value"] = texts.get(str(row["key"]), row["value"])
                else:
                    assert isinstance(row["value"], float)
                    copy["value"] = row["value"] + noise
                self.pending[table].append(copy)

    def write(self) -> None:
        for table, rows in self.pending.items():
            if rows:
                columns = list(rows[0])
                places = ", ".join("?" * len(columns))
                self.database.executemany(
                    f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",
                    [list(row.values()) for row in rows],
                )
                rows.clear()
        self.database.commit()


def fill(path: Path, sweeps: int, jobs: int) -> dict[str, str]:
    """Copy the one sweep of this store; returns config hash -> group hash of the newest one's jobs."""
    chance = random.Random(0)
    with sqlite3.connect(path) as database:
        copies = Copies(database)
        made = [row["run_uuid"] for row in database.execute("SELECT run_uuid FROM runs ORDER BY start_time")]
        tags = {run_id: {row["key"]: row["value"] for row in copies.rows_of(run_id)["tags"]} for run_id in made}
        parent = next(run_id for run_id in made if queries.OF_A_SWEEP in tags[run_id])
        child = next(run_id for run_id in made if run_id != parent)
        templates = {run_id: copies.rows_of(run_id) for run_id in (parent, child)}
        begun = int(str(templates[parent]["runs"][0]["start_time"]))
        hashes: dict[str, str] = {}
        for sweep in range(sweeps):
            name, number = f"2026-01-{sweep + 1:02}_00-00-00_abcd", digits(sweep)
            begun += MINUTE
            texts = {"sweep": name, "record": name, queries.OF_A_SWEEP: str(jobs)}
            copies.add(templates[parent], number, begun, texts, 0.0)
            hashes = {
                digits("config", sweep, job)[:16]: digits("group", sweep, job // SEEDS)[:16] for job in range(jobs)
            }
            for job, (config_hash, group_hash) in enumerate(hashes.items()):
                begun += MINUTE
                rate = job // SEEDS
                texts = {
                    "sweep": name, "sweep.job": str(job), "record": digits("record", sweep, job),
                    "mlflow.parentRunId": number, "config_hash": config_hash,
                    "group_hash": group_hash, "seed": str(job % SEEDS),
                    "optimizer.lr": f"{0.001 * (1 + rate):g}",
                }  # fmt: skip
                copies.add(templates[child], digits(sweep, job), begun, texts, chance.gauss(0, 0.01) - rate / 1000)
            copies.write()
    return hashes


def timed(question: Callable[[], object]) -> float:
    started = time.perf_counter()
    question()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = Path(scratch), Path(scratch, "mlflow.db")
        blitz(folder, "-m", *SHORT.split(), "optimizer.lr=0.1,0.01")
        hashes = fill(path, options.sweeps, options.jobs)
        client = store.connect(f"sqlite:///{path}")
        named = queries.newest(client, queries.experiment_ids(client), 2)
        print(
            f"{options.sweeps} sweeps of {options.jobs} jobs, {len(named[0].data.params)} parameters, "
            f"{len(named[0].data.tags)} tags and {len(named[0].data.metrics)} metrics a run, "
            f"{path.stat().st_size / 2**20:,.0f} MiB"
        )
        ways = {
            "help": ["compare", "--help"],
            "sweep": ["compare", "--sweep", "last"],
            "experiment": ["compare", "--experiment", "blitz"],
            "newest 20": ["compare"],
            "two runs": ["compare", *(run.info.run_id for run in named)],
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, arguments in ways.items():
                seconds[way].append(blitz(folder, *arguments))
        for way, found in seconds.items():
            shown = " ".join(ways[way])[:40]
            print(f"{shown:>40}: {statistics.median(found):5.2f} s ({min(found):.2f} to {max(found):.2f})")
        searches: dict[str, Callable[[], object]] = {
            "resuming a sweep": lambda: queries.finished_runs(client, hashes, named[0].data.tags["sweep"]),
            "skipping what has finished": lambda: queries.finished_runs(client, hashes, None),
            "the same, each job by itself": lambda: [
                queries.finished_runs(client, {config_hash: group_hash}, None)
                for config_hash, group_hash in hashes.items()
            ],
        }
        for search, question in searches.items():
            found = [timed(question) for _ in range(options.rounds)]
            print(f"{search:>40}: {statistics.median(found):5.2f} s ({min(found):.2f} to {max(found):.2f})")
    sys.exit(1 if any(statistics.median(seconds[way]) > PROMISE for way in ("sweep", "experiment")) else 0)


if __name__ == "__main__":
    main()

"""What a sweep costs beside its jobs: twice two hundred jobs of about one second, on two processes.

    python experiments/speed/sweep.py [--rounds 2] [--jobs 200] [--processes 2] [--epochs 4]

The jobs train Net on scikit-learn's digits, a thread each, without figures, recorded into an MLflow store of SQLite in
a temporary folder. A job itself is what its own training took (`time/epoch`, in the same sweep); all else that a
process spends until the sweep ends is the sweep's: composing, starting processes and importing, reading data, recording
and waiting for MLflow. Ends with 1 where a job is missing, or the store lacks anything of one.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blitz.run_folder import journal
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import RunInfo
from blitz.tracking.sending import Delivery

ASKED = "data=digits batch_size=32 device.threads=1 tracking.figures=false tracking.system_metrics=null"


def sweep(folder: Path, jobs: int, processes: int, epochs: int) -> float:
    """Seconds that it took."""
    parallel = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={processes}"]
    command = [
        sys.executable,
        "-m",
        "blitz",
        "-m",
        *ASKED.split(),
        f"epochs={epochs}",
        f"seed=range({jobs})",
        *parallel,
    ]
    started = time.perf_counter()
    with (folder / "output").open("w") as output:
        done = subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, (folder / "output").read_text()[-2000:]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    print(shlex.join(["blitz", "-m", *ASKED.split(), f"epochs={options.epochs}", f"seed=range({options.jobs})"]))
    lost = 0
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as scratch:
            seconds = sweep(Path(scratch), options.jobs, options.processes, options.epochs)
            uri = f"sqlite:///{scratch}/mlflow.db"
            runs = [path.parent for path in Path(scratch).glob(f"runs/*/{JOURNAL}")]
            whole = [folder for folder in runs if Delivery(folder, uri, RunInfo.load(folder)).complete]
            trained = [sum(row["time/epoch"] for row in journal.epochs(folder / JOURNAL)) for folder in runs]
        lost += options.jobs - len(whole)
        beside = (seconds * options.processes - sum(trained)) / options.jobs
        print(
            f"round {number}: {len(whole)} of {options.jobs} jobs whole in the store, {seconds:.1f} s; a job trains "
            f"{sum(trained) / options.jobs:.2f} s, and costs {beside:.2f} s of a process beside that "
            f"({beside / options.processes:.2f} s of the sweep)"
        )
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()

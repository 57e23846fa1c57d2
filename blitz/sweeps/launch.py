"""A sweep's jobs, handed to a Hydra launcher until each has come to an end."""

from __future__ import annotations

import pickle
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from blitz.config.targets import refuse_code
from blitz.errors import BadInput, in_one_line
from blitz.parts.devices import usable_cores
from blitz.redaction import redact
from blitz.run_folder.run_info import FAILED, KILLED, RunInfo
from blitz.sweeps import cluster
from blitz.sweeps.budget import Budget
from blitz.sweeps.finished import outcome_of
from blitz.sweeps.folder import (
    INTERRUPT,
    LOOK_EVERY,
    PAUSE_ALL,
    STOP,
    Outcome,
    finished_runs,
    forget_outcomes,
    is_any_trained,
    read_outcomes,
    times_begun,
    unfinished_runs,
    write_outcome,
)
from blitz.sweeps.jobs import SweepJob
from blitz.terminal.repeating import repeating
from blitz.terminal.signals import SPENT, Interrupt, graceful
from blitz.terminal.text import print_line

HERE = ("BasicLauncher", "JoblibLauncher", "LocalLauncher")  # which run jobs on this machine
ATTEMPTS = 3  # of a job: after that, the job itself is taken to be what kills its process
GONE = "its process is gone"
OF_A_TERMINAL = (signal.SIGINT, signal.SIGHUP)


@dataclass
class CheckedConfigs:
    """Hands out the configs that were checked, whatever became of the files that they were composed from.

    Pickled, since a launcher sends all of them along with every job, and OmegaConf takes milliseconds for each.
    """

    configs: dict[tuple[str, ...], tuple[int, bytes]]  # by what a launcher hands on of a job

    @classmethod
    def of(cls, jobs: Sequence[SweepJob]) -> CheckedConfigs:
        return cls({job.overrides: (job.number, pickle.dumps(job.config)) for job in jobs})

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        number, pickled = self.configs[tuple(sweep_overrides)]
        config = pickle.loads(pickled)
        assert isinstance(config, DictConfig)
        with read_write(config.hydra):
            config.hydra.sweep.dir = master_config.hydra.sweep.dir  # where a job finds its options
            config.hydra.job.name = str(number)  # its `num` is its place among those that are launched together
        return config


def at_once(config: DictConfig, number: int) -> int:
    """How many of so many jobs the launcher runs side by side: on this machine, or on a cluster of Ray.

    Raises BadInput for none at all.
    """
    if _is(config, "JoblibLauncher"):
        jobs = 1 if config.hydra.launcher.n_jobs is None else int(config.hydra.launcher.n_jobs)
        if jobs == 0:
            raise BadInput("hydra.launcher.n_jobs=0: accepted: a number of processes, or -1 for one a core")
        # As joblib reads it: -1 is every core, -2 all but one
        return min(number, jobs if jobs > 0 else max(1, usable_cores() + 1 + jobs))
    if cluster.is_ray(config.hydra.launcher):
        return min(number, cluster.places(config.hydra.launcher))
    return min(number, usable_cores()) if _is(config, "LocalLauncher") else 1


def cores_for_each(config: DictConfig, number: int) -> int | None:
    """How many processor cores each of so many jobs has for itself; None: all of them.

    Jobs that are left over at the end, or in a later sweep, have as many: the number of threads changes bits.
    """
    if cluster.is_ray(config.hydra.launcher):
        return cluster.cores_of(config.hydra.launcher)
    side_by_side = at_once(config, number)
    return max(1, usable_cores() // side_by_side) if side_by_side > 1 else None


def runs_here(config: DictConfig) -> bool:
    """Whether the launcher's jobs have the data and devices of this machine."""
    return any(_is(config, launcher) for launcher in HERE)


def _is(config: DictConfig, launcher: str) -> bool:
    return str(config.hydra.launcher._target_).endswith(f".{launcher}")


def launch(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[SweepJob],
    folder: Path,
    budget: Budget,
) -> tuple[dict[int, Outcome], Interrupt]:
    """The outcome of each job that started, and whether the sweep was interrupted or has spent its budget.

    A job without an outcome was killed, or never started: it is relaunched, and continues its run.
    """
    with read_write(config.hydra), open_dict(config):
        config.hydra.sweep.dir = str(folder)
    forget_outcomes(folder, [job.number for job in jobs])  # of an earlier round
    outcomes: dict[int, Outcome] = {}
    begun = at_first = times_begun(folder)
    earlier = finished_runs(folder)  # of jobs that are trained again all the same
    with _interruptible(folder, budget) as interrupt:
        while pending := [job for job in jobs if job.number not in outcomes]:
            why = _launched(context, task, config, pending, interrupt)
            while is_any_trained(folder):  # a launcher gives up all for one that is gone
                time.sleep(LOOK_EVERY)
            before, begun = begun, times_begun(folder)
            ended = _ends(folder, pending, earlier)
            if interrupt.requested:
                return outcomes | _with_runs(folder, ended), interrupt
            outcomes |= {number: outcome for number, outcome in ended.items() if outcome.status != KILLED}
            for job in pending:
                times = begun.get(job.number, 0)
                # Its batch system stopped it, say: it is continued as often as that happens.
                saved = job.number in ended and times > before.get(job.number, 0)
                gone = begun == before or times - at_first.get(job.number, 0) >= ATTEMPTS
                if job.number not in outcomes and not saved and gone:
                    outcomes[job.number] = Outcome(FAILED, why)
            if left := [job for job in jobs if job.number not in outcomes]:
                jobs_left = f"{len(left)} job{'s' * (len(left) > 1)}"
                print_line(f"blitz: {jobs_left} did not finish: {redact(why)}; relaunching", sys.stderr)
    return outcomes, interrupt


def _ends(folder: Path, jobs: Sequence[SweepJob], earlier: Mapping[int, tuple[Path, RunInfo]]) -> dict[int, Outcome]:
    """The outcomes so far. A job may be gone between the end of its run and its outcome, which is written here then."""
    ended = read_outcomes(folder)
    unclear = [job.number for job in jobs if job.number not in ended or ended[job.number].status == KILLED]
    found = finished_runs(folder) if unclear else {}
    for number in unclear:
        if number in found and found[number] != earlier.get(number):
            ended[number] = outcome_of(*found[number])
            write_outcome(folder, number, ended[number])
    return ended


def _with_runs(folder: Path, ended: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """The same with what is known of the runs of jobs that were stopped."""
    runs = unfinished_runs(folder, [number for number, outcome in ended.items() if outcome.folder is None])
    found = {number: replace(outcome_of(*run), status=ended[number].status) for number, run in runs.items()}
    return {**ended, **found}


def _launched(
    context: HydraContext, task: TaskFunction, config: DictConfig, jobs: Sequence[SweepJob], interrupt: Interrupt
) -> str:
    """Launch jobs; returns why those without an outcome are gone. What a launcher returns is ignored."""
    frozen_context = HydraContext(config_loader=CheckedConfigs.of(jobs), callbacks=context.callbacks)  # type: ignore[arg-type]
    refuse_code(config, True)  # again: the sweep's folder, which its values may refer to, was not known then
    is_ray = cluster.is_ray(config.hydra.launcher)
    if is_ray:
        cluster.open_home(Path(config.hydra.sweep.dir), config.hydra.launcher)
    launcher = Plugins.instance().instantiate_launcher(frozen_context, task, config)
    # submitit's local launcher starts at once whatever it is given.
    most = at_once(config, len(jobs)) if _is(config, "LocalLauncher") else len(jobs)
    try:
        for first in range(0, len(jobs), most):
            if interrupt.requested:
                break
            launcher.launch([list(job.overrides) for job in jobs[first : first + most]], initial_job_idx=first)
    except KeyboardInterrupt:  # a second signal, or of a launcher's own
        interrupt.request(signal.SIGTERM)
    except Exception as error:  # of the launcher: a job's own are in its outcome
        if is_ray:  # or those that it has in its queue would start beside those that are relaunched
            cluster.disconnect()
        return f"{GONE} ({type(error).__name__}: {in_one_line(error)[:150]})"
    return GONE


@contextmanager
def _interruptible(folder: Path, budget: Budget) -> Iterator[Interrupt]:
    """The first signal to stop, or a budget that is spent, makes all jobs save a checkpoint and end, wherever they run;
    the second signal raises here.

    A terminal sends SIGINT and SIGHUP to a launcher's workers as well, which would end them in the middle of a
    checkpoint: they inherit a mask that blocks both, and look for a file instead. Here a thread still receives them,
    whose handlers are run by the main thread as always.
    """

    def stop_jobs(interrupt: Interrupt) -> None:
        if interrupt.requested:
            (folder / STOP).touch()
            (folder / (PAUSE_ALL if interrupt.is_pause else INTERRUPT)).touch()

    def receive(interrupt: Interrupt) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_A_TERMINAL)
        if budget.is_spent():
            interrupt.request(SPENT)
        stop_jobs(interrupt)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_A_TERMINAL)
    try:
        with graceful() as interrupt:
            try:
                with repeating(lambda: receive(interrupt), LOOK_EVERY):
                    yield interrupt
            finally:
                stop_jobs(interrupt)  # it may have come since the last look
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

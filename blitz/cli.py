"""The command line: `blitz [overrides]` is the Hydra app, `blitz VERB` the rest."""

from __future__ import annotations

import errno
import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from blitz.errors import BadInput, RunFailed, SweepFailed, did_you_mean, in_one_line
from blitz.redaction import redact, remember
from blitz.terminal.signals import Terminated
from blitz.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
blitz: train and evaluate an image classifier, and record the run

  blitz [OVERRIDE…]             train with the defaults (the tutorial's Net on CIFAR-10), changed as told
  blitz -m KEY=A,B [OVERRIDE…]  one run for each combination of the values
  blitz resume RUN [epochs=N]   go on with a run that was stopped, from its last checkpoint
  blitz reproduce RUN           train a recorded run again, and tell whether it came out the same
  blitz compare [RUN…]          runs side by side, or --sweep ID, or --experiment NAME: what differs, and what came out
  blitz options [GROUP [NAME]]  what can be chosen, and the options of a choice
  blitz evaluate RUN            accuracy of a run's best weights, by class, on its data or on other data
  blitz predict RUN IMAGE…      the classes of image files
  blitz sync [DIR…]             send what an MLflow store lacks of the runs in these folders (all of ./runs)
  blitz ui                      open the MLflow UI on the recorded runs

  blitz experiment=quickstart                          seconds, no download: scikit-learn's digits
  blitz data=cifar10 model=resnet20 epochs=20          choose parts by name
  blitz data=folder data.root=DIR data.image_size=32   images of your own: DIR/train/CLASS/*, DIR/test/CLASS/*
  blitz -m optimizer.lr=0.1,0.01,0.001 seed=0,1,2      sweep

Overrides: GROUP=NAME chooses a part, GROUP.OPTION=VALUE and KEY=VALUE set a value.
Groups: model optimizer schedule loss augment mix data device tracking experiment debug
Hydra's own flags work as well: --cfg job (show the config), --config-dir DIR (groups of your own), --hydra-help.
"""
OF_THE_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # errors of a write to it
INTERRUPTED, NOBODY_READS, TERMINATED = 130, 141, 143  # exit codes: 128 and the signal's number
_terminated = False


class JobFailed(Exception):
    """A job in another process ended with this exit code; why has been told."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> NoReturn:
    """Exit codes: 0 done, 1 the run failed, 2 bad input, 130 and 143 ended by Ctrl-C and SIGTERM, 141 a closed pipe."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # which may be closed: blitz … >&-
    code = _ended(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            code = code or _told(error)
        sys.stdout = _nowhere()  # Python would tell of it once more
    sys.exit(code)


def _ended(arguments: list[str]) -> int:
    """Do what a command line says; the exit code."""
    for argument in arguments:  # a mistake may be told with what stands in it
        remember(argument)
    try:
        signal.signal(signal.SIGTERM, _terminate)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, _terminate)  # the terminal was closed
        return _done(arguments)
    except BrokenPipeError:  # `blitz compare | head`
        return NOBODY_READS
    except BadInput as error:
        return _refused(error)
    except RunFailed as error:
        return _failed(str(error))
    except SweepFailed as error:
        print(f"blitz: {error}", file=sys.stderr)
        return 1
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # a full disk behind a redirection, say
        return _told(error)


def _done(arguments: list[str]) -> int:
    """The same, whatever is raised."""
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if first == "--version":
        print(f"blitz {__version__}")
        return 0
    if first and not first.startswith("-") and "=" not in first and first[0] not in "+~":
        return _verb(first, arguments)
    return train(arguments)


def train(arguments: list[str]) -> int:
    """Run the Hydra app; returns the exit code, in a sweep of another sweeper that of the first job that failed.

    Raises SweepFailed where jobs of a sweep of blitz failed.
    """
    # Hydra prints its own exceptions and exits with 1 unless this is set; we word and count them ourselves.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra

    from blitz.config.compose import (
        CONF,
        as_hydra_job_overrides,
        as_hydra_overrides,
        explained,
        offering_the_menu,
        refuse_shadowed,
        refuse_without_effect,
    )
    from blitz.config.hydra_internals import COMPOSING_ERRORS, VERSION_BASE

    flags = _flags(arguments)
    multirun = flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides
    overrides = as_hydra_job_overrides(flags.overrides) if multirun else as_hydra_overrides(flags.overrides)
    refuse_without_effect(flags.overrides, multirun)
    if flags.config_dir is not None:
        refuse_shadowed(flags.config_dir)
    for override in flags.overrides:
        arguments.remove(override)
    sys.argv[1:] = arguments + overrides  # Hydra reads them there, and wants the overrides in one row
    code, here = 0, os.getpid()

    def job(config: DictConfig) -> float | None:
        nonlocal code
        objective, failed = _job(config)
        code = code or failed
        if failed and os.getpid() != here:
            raise JobFailed(failed)  # the one thing that a launcher brings back from another process
        return objective

    try:
        offering_the_menu(hydra.main(config_path=str(CONF), config_name="config", **VERSION_BASE)(job))
    except JobFailed as failed:
        return failed.code
    except COMPOSING_ERRORS as error:
        if code:  # of a sweeper that has found no job that did not fail, which has been told
            return code
        raise explained(as_hydra_overrides(flags.overrides), error, flags.config_dir, multirun) from None
    return code


def _job(config: DictConfig) -> tuple[float | None, int]:
    """One run, whose failures are told here: the objective and the exit code."""
    from hydra.core.hydra_config import HydraConfig

    from blitz.config.compose import as_typed, plain
    from blitz.config.settings import check
    from blitz.tracking.writer import Writer

    try:
        values = plain(config)
        overrides = as_typed(HydraConfig.get().overrides.task)
        if values["tracking"]["name"] == "mlflow":
            Writer.prepare()  # its seconds pass while the check imports torch
        if values["sweep"]["id"] is not None:
            return _job_of_a_sweep(values, overrides), 0
        settings = check(values)
        from blitz.runner.run import run

        return run(settings, overrides).objective, 0
    except BadInput as error:
        return None, _refused(error)
    except RunFailed as error:
        return None, _failed(str(error))
    except Exception as error:
        return None, _failed(f"{type(error).__name__}: {error}")


def _job_of_a_sweep(values: dict[str, Any], overrides: list[str]) -> float | None:
    """The objective. What failed is told at once, and again at the sweep's end."""
    from blitz.sweeps.folder import FAILED
    from blitz.sweeps.run_job import train
    from blitz.terminal.names import title_of_job

    outcome = train(values, overrides)
    if outcome.status == FAILED:
        title = redact(title_of_job(values["sweep"]["job"], values["sweep"]["label"]))
        print(f"blitz: {title} failed: {outcome.why}", file=sys.stderr)
    return outcome.objective


def _verb(name: str, arguments: Sequence[str]) -> int:
    from click import Abort, ClickException

    from blitz.commands import VERBS

    if name not in VERBS.commands:
        known = [*VERBS.commands, "help"]
        raise BadInput(
            f"{name}: no such command{did_you_mean(name, known)} (accepted: {', '.join(known)}, or KEY=VALUE to train)"
        )
    try:
        return int(VERBS.main(list(arguments), prog_name="blitz", standalone_mode=False) or 0)
    except ClickException as error:
        raise BadInput(f"{name}: {error.format_message()}") from None
    except Abort as error:  # click's word for Ctrl-C
        raise error.__cause__ or KeyboardInterrupt from None


def _refused(error: BadInput) -> int:
    from blitz.terminal.text import in_a_line

    for problem in error.problems:
        print(f"blitz: {in_a_line(redact(problem))}", file=sys.stderr)
    return 2


def _told(error: OSError) -> int:
    where = error.filename or ("the output" if error.errno in OF_THE_OUTPUT else type(error).__name__)
    print(f"blitz: {redact(f'{where}: {error.strerror or in_one_line(error)}')}", file=sys.stderr)
    return 1


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _failed(why: str) -> int:
    if _terminated:  # between two lines of a library, which made another error of it
        return TERMINATED
    print(f"blitz: the run failed: {redact(why)}", file=sys.stderr)
    return 1


def _flags(arguments: Sequence[str]) -> Any:
    """A command line as Hydra's own parser reads it, with overrides anywhere between the flags."""
    from blitz.config.hydra_internals import arguments_parser

    try:
        flags, unknown = arguments_parser().parse_known_intermixed_args(list(arguments))
    except ArgumentError as error:
        raise BadInput(in_one_line(error)) from None
    if unknown:
        raise BadInput(*(f"{flag}: no such flag; see blitz --help and blitz --hydra-help" for flag in unknown))
    return flags


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    global _terminated
    _terminated = True
    raise Terminated

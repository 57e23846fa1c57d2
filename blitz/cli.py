"""The command line: `blitz [overrides]` is the Hydra app, `blitz VERB` the rest."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from blitz import __version__
from blitz.errors import BadInput, RunFailed, SweepFailed, did_you_mean, in_one_line
from blitz.interrupts import Terminated
from blitz.tracking.credentials import redact, remember

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
blitz: train and evaluate an image classifier, and record the run

  blitz [OVERRIDE…]             train with the defaults (the tutorial's Net on CIFAR-10), changed as told
  blitz -m KEY=A,B [OVERRIDE…]  one run for each combination of the values
  blitz resume RUN [epochs=N]   go on with a run that was stopped, from its last checkpoint
  blitz reproduce RUN           train a recorded run again, and tell whether it came out the same
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
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the signal's number
_terminated = False


class JobFailed(Exception):
    """A job in another process ended with this exit code; why has been told."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> NoReturn:
    """Exit codes: 0 done, 1 the run failed, 2 bad input, 130 and 143 ended by Ctrl-C and SIGTERM."""
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help", "help"):
        print(HELP, end="")
        sys.exit(0)
    if first == "--version":
        print(f"blitz {__version__}")
        sys.exit(0)
    for argument in arguments:  # a mistake may be told with what stands in it
        remember(argument)
    try:
        signal.signal(signal.SIGTERM, _terminate)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, _terminate)  # the terminal was closed
        if first and not first.startswith("-") and "=" not in first and first[0] not in "+~":
            sys.exit(_verb(first, arguments))
        sys.exit(train(arguments))
    except BadInput as error:
        sys.exit(_refused(error))
    except RunFailed as error:
        sys.exit(_failed(str(error)))
    except SweepFailed as error:
        print(f"blitz: {error}", file=sys.stderr)
        sys.exit(1)
    except Terminated:
        sys.exit(TERMINATED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def train(arguments: list[str]) -> int:
    """Run the Hydra app; returns the exit code, in a sweep that of the first job that failed."""
    # Hydra prints its own exceptions and exits with 1 unless this is set; we word and count them ourselves.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra

    from blitz.config import COMPOSING_ERRORS, CONF, explained, offering_the_menu, opened, refuse_shadowed

    flags = _flags(arguments)
    overrides = opened(flags.overrides)
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
        offering_the_menu(hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job))
    except JobFailed as failed:
        return failed.code
    except COMPOSING_ERRORS as error:
        raise explained(overrides, error, flags.config_dir, flags.multirun) from None
    return code


def _job(config: DictConfig) -> tuple[float | None, int]:
    """One run, whose failures are told here: the objective and the exit code."""
    from hydra.core.hydra_config import HydraConfig

    from blitz.config import plain
    from blitz.settings import check
    from blitz.studies.outcomes import FAILED, FINISHED, STOP, Outcome, begin, write_outcome
    from blitz.tracking.writer import Writer

    number, sweep = _place_in_a_sweep()
    if sweep is not None and not begin(sweep, number):
        return None, 0
    outcome = Outcome(FAILED)
    try:
        values = plain(config)
        if values["tracking"]["name"] == "mlflow":
            Writer.prepare()  # its seconds pass while the check imports torch
        settings = check(values)
        from blitz.runner import run

        result = run(settings, list(HydraConfig.get().overrides.task))
        outcome = Outcome(FINISHED, "", result.objective, str(result.folder), result.run_id)
        return result.objective, 0
    except Exception as error:
        why = str(error) if isinstance(error, BadInput | RunFailed) else f"{type(error).__name__}: {error}"
        outcome = Outcome(FAILED, "; ".join([*why.splitlines(), *getattr(error, "__notes__", ())]))
        return None, _refused(error) if isinstance(error, BadInput) else _failed(why)
    finally:
        if sweep is not None and not isinstance(sys.exception(), KeyboardInterrupt):
            if outcome.status == FAILED and config.sweep.on_failure == "stop":
                (sweep / STOP).touch()
            write_outcome(sweep, number, replace(outcome, why=redact(outcome.why)))


def _place_in_a_sweep() -> tuple[int, Path | None]:
    """The job's number and the sweep's folder; None for a run that is no job of blitz's own sweeper."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    own = str(hydra.sweeper.get("_target_", "")).startswith("hydra_plugins.blitz.")
    if hydra.mode != RunMode.MULTIRUN or not own:
        return 0, None
    return int(hydra.job.num), Path(hydra.sweep.dir)


def _verb(name: str, arguments: Sequence[str]) -> int:
    from click import Abort, ClickException

    from blitz.verbs import VERBS

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
    for problem in error.problems:
        print(f"blitz: {redact(problem)}", file=sys.stderr)
    return 2


def _failed(why: str) -> int:
    if _terminated:  # between two lines of a library, which made another error of it
        return TERMINATED
    print(f"blitz: the run failed: {redact(why)}", file=sys.stderr)
    return 1


def _flags(arguments: Sequence[str]) -> Any:
    """A command line as Hydra's own parser reads it, with overrides anywhere between the flags."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    except ArgumentError as error:
        raise BadInput(in_one_line(error)) from None
    if unknown:
        raise BadInput(*(f"{flag}: no such flag; see blitz --help and blitz --hydra-help" for flag in unknown))
    return flags


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    global _terminated
    _terminated = True
    raise Terminated

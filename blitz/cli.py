"""The command line: `blitz [OVERRIDE…]` is the Hydra app, `blitz VERB …` the rest; how each ends."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from textwrap import shorten
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from blitz.errors import BadInput, Bug, RunFailed, SweepFailed, no_such, refuse
from blitz.redaction import redact, remember
from blitz.terminal.loading import sign_of_life
from blitz.terminal.signals import Terminated
from blitz.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
blitz: train and evaluate an image classifier, and record the run

  blitz [OVERRIDE…]             train; by default the tutorial's Net on CIFAR-10
  blitz -m KEY=A,B [OVERRIDE…]  sweep: one job for each combination of values
  blitz resume RUN [epochs=N]   continue a stopped run from its last checkpoint
  blitz reproduce RUN           train a recorded run again: is it the same?
                                --sweep ID: jobs of a sweep, and its decisions
  blitz compare [RUN…]          parameters and metrics side by side, of runs, of
                                --sweep ID or of --experiment NAME
  blitz ls                      list the newest runs and sweeps
  blitz show RUN                config, curves and files of a run or a sweep
  blitz options [GROUP [NAME]]  list groups, choices of GROUP or options of NAME
  blitz evaluate RUN            accuracy of a run's best weights, also by class
  blitz predict RUN IMAGE…      classify image files
  blitz sync [DIR…]             send what MLflow lacks of runs (default: ./runs)
  blitz ui                      open the MLflow UI on the recorded runs

  blitz experiment=quickstart                    seconds, on digits, no download
  blitz data=cifar10 model=resnet20 epochs=20    choose parts by name
  blitz -m optimizer.lr=0.1,0.01 seed=0,1,2      sweep
  blitz data=folder data.root=DIR data.image_size=32
                                                 your own images, which lie in
                                                 DIR/{train,test}/CLASS/

Overrides: GROUP=NAME chooses a part, GROUP.OPTION=VALUE, KEY=VALUE set values.
Groups: model optimizer schedule loss augment mix data device tracking search
  experiment debug
Hydra's own flags work as well: --cfg job (print the config), --config-dir DIR
  (your own groups), --hydra-help.
Exit codes: 0 done, 1 failed or different, 2 bad input, 130 Ctrl-C, 143 SIGTERM,
  141 closed pipe.
BLITZ_TRACEBACK=1 prints the traceback of whatever fails.
"""
PAGES = {"-h": HELP, "--help": HELP, "help": HELP, "--version": f"blitz {__version__}\n"}
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # of a write to stdout
NAME_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP)  # of a path that a user gave
INTERRUPTED, CLOSED_PIPE, TERMINATED = 130, 141, 143  # exit codes: 128 and the signal's number
TRACEBACK = "BLITZ_TRACEBACK"  # environment variable: print tracebacks
EXPANDED = set("$`\\\"'();<>&|")  # what a shell would make more of than a word; names of files may contain it
LONGEST = 500  # characters of a library's error message
_terminated = False


class JobFailed(Exception):
    """A job in another process has printed why it failed; the argument is its exit code."""


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed or different, 2 bad input, 130, 143 or 141 for a signal."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # closed streams: blitz … >&-
    usual, warnings.formatwarning = warnings.formatwarning, _format_warning
    code = _exit_code(sys.argv[1:])
    warnings.formatwarning = usual
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = _nowhere()  # or Python reports it once more
    sys.exit(code)


def report(error: Exception, what: str) -> int:
    """Print why `what` failed, each mistake in one line; returns the exit code."""
    if _terminated:  # between two lines of a library, which raised another error because of it
        return TERMINATED
    notes = [" ".join(note.split()) for note in getattr(error, "__notes__", ())]
    code = 1
    if isinstance(error, BadInput):
        code, problems = 2, list(error.problems)
    elif isinstance(error, SweepFailed):
        problems = [str(error)]
    elif isinstance(error, RunFailed):
        problems = ["; ".join([f"the run failed: {error}", *notes])]
    elif isinstance(error, OSError) and error.strerror:
        where = error.filename or ("the output" if error.errno in OUTPUT_ERRORS else type(error).__name__)
        problems = [f"{what} failed: {where}: {error.strerror}"]
        if error.errno in NAME_ERRORS:
            code, problems = 2, [f"{where}: {error.strerror}"]
    else:
        reason = shorten(redact(f"{type(error).__name__}: {error}"), LONGEST, placeholder=" …")
        problems = ["; ".join([f"{what} failed: {reason}", *(notes or [f"{TRACEBACK}=1 prints the traceback"])])]
    from blitz.terminal.text import brief_words, in_a_line, print_line

    with suppress(OSError):  # stderr may be closed, or a full disk
        if os.environ.get(TRACEBACK):
            print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        for problem in problems:
            print_line(f"blitz: {in_a_line(brief_words(redact(problem)))}", sys.stderr)
    return code


def _exit_code(arguments: list[str]) -> int:
    """Run a command line to its end, whatever is raised: the only place where exceptions become exit codes."""
    verb = _verb(arguments)
    try:
        for argument in arguments:  # a message may quote what a credential was written in
            remember(argument)
        signal.signal(signal.SIGTERM, _terminate)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, _terminate)  # the terminal was closed
        if arguments and arguments[0] in PAGES:
            print(PAGES[arguments[0]], end="")
            code = 0
        elif arguments[:1] == ["-sc"] and "".join(arguments[1:2]).startswith("query="):
            code = _complete(arguments)
        else:
            with sign_of_life():
                code = run_hydra(arguments) if verb is None else _run_verb(verb, arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `blitz compare | head`
        return CLOSED_PIPE
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return report(error, verb or "the run")


def _verb(arguments: Sequence[str]) -> str | None:
    """The first argument, unless it is a flag or an override."""
    first = arguments[0] if arguments else ""
    return None if not first or first[0] in "-+~" or "=" in first else first


def _run_verb(verb: str, arguments: Sequence[str]) -> int:
    from click import ClickException
    from click.exceptions import Exit

    from blitz.commands import VERBS

    if verb not in VERBS.commands:
        raise BadInput(no_such(verb, "command", verb, [*VERBS.commands, "help"]) + "; KEY=VALUE trains")
    try:
        with VERBS.make_context("blitz", list(arguments)) as context:
            return int(VERBS.invoke(context) or 0)
    except Exit as end:  # after --help
        return end.exit_code
    except ClickException as error:
        raise BadInput(f"{verb}: {error.format_message()}") from None


def _complete(arguments: list[str]) -> int:
    """Print what the line in COMP_LINE may continue with: a verb, a verb's flags and values, or Hydra's overrides.

    Whatever is wrong with the line, nothing else is printed: the shell would show it in the middle of the line.
    """
    _, *words = f"{os.environ.get('COMP_LINE', '')}|".split()
    last = words.pop()[:-1] if words else ""
    found: list[str] = []
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()), suppress(Exception, SystemExit):
        from click.shell_completion import ShellComplete

        from blitz.commands import VERBS

        if not words or words[0] in VERBS.commands:
            found = [item.value for item in ShellComplete(VERBS, {}, "blitz", "").get_completions(words, last)]
        if not words or words[0] not in VERBS.commands:
            run_hydra(arguments)
            found += printed.getvalue().split()
    print("\n".join(word for word in found if not EXPANDED.intersection(word)))
    return 0


def run_hydra(arguments: list[str]) -> int:
    """Run the Hydra app; returns the exit code, in a sweep of another sweeper that of the first job that failed.

    Raises SweepFailed if jobs of a sweep of blitz failed.
    """
    # Hydra prints its own exceptions and exits with 1 unless this is set; `report` words and counts them instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra

    from blitz.config import compose, groups, refused
    from blitz.config.hydra_internals import COMPOSING_ERRORS, VERSION_BASE, checked_configs, read_flags

    flags = read_flags(arguments)
    if flags.experimental_rerun is not None:
        raise BadInput(
            f"--experimental-rerun={flags.experimental_rerun}: runs whatever code the file holds; "
            "blitz reproduce RUN trains a recorded run again"
        )
    printing = {"--resolve": flags.resolve, "--package": flags.package}
    refuse(f"{flag}: needs --cfg, which prints a config" for flag, given in printing.items() if given and not flags.cfg)
    multirun = flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides
    overrides = (compose.as_hydra_job_overrides if multirun else compose.as_hydra_overrides)(flags.overrides)
    refused.refuse_without_effect(flags.overrides, multirun, is_run=not (flags.cfg or flags.info))
    if flags.config_path is not None:
        raise BadInput(
            f"--config-path={flags.config_path}: blitz has its own; --config-dir DIR adds groups and recipes"
        )
    if flags.config_dir is not None:
        refused.refuse_shadowed(flags.config_dir)
    folders = groups.own_folders(flags.config_dir, flags.overrides)
    if flags.config_name is not None:
        refused.refuse_name(flags.config_name, folders)
    for override in flags.overrides:
        arguments.remove(override)
    if flags.hydra_help:  # composed without our config, which chooses these
        overrides += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    sys.argv[1:] = arguments + overrides  # Hydra reads them there, and wants the overrides in one row
    code, here = 0, os.getpid()

    def job(config: DictConfig) -> float | None:
        nonlocal code
        objective, failed = _run_job(config)
        code = code or failed
        if failed and os.getpid() != here:
            raise JobFailed(failed)  # the one thing that a launcher brings back from another process
        return objective

    try:
        with checked_configs(refused.refuse_composed, groups.with_menu):
            hydra.main(config_path=str(groups.CONF), config_name="config", **VERSION_BASE)(job)()
    except JobFailed as failed:
        return int(failed.args[0])
    except Bug as bug:
        raise bug.error from None
    except COMPOSING_ERRORS as error:
        if code:  # another sweeper found no job that did not fail; why has been printed
            return code
        raise compose.explain(compose.as_hydra_overrides(flags.overrides), error, folders, multirun) from None
    return code


def _run_job(config: DictConfig) -> tuple[float | None, int]:
    """One run, which reports its own failure so that a sweep continues: the objective and the exit code."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from blitz.config.compose import as_typed, plain, typed_in
    from blitz.config.settings import check, uses_mlflow
    from blitz.tracking.writer import Writer

    try:
        values, hydra = plain(config), HydraConfig.get()
        overrides = as_typed(typed_in(hydra.overrides.task))
        is_job_of_ours = hydra.sweeper._target_.endswith(".BlitzSweeper") and not OmegaConf.is_missing(hydra.job, "num")
        if uses_mlflow(values):
            Writer.prepare()  # its seconds pass while the check imports torch
        if is_job_of_ours:
            from blitz.sweeps.cluster import place_of
            from blitz.sweeps.run_job import train

            with place_of(hydra) as sweep:
                return train(values, overrides, sweep, int(hydra.job.name)).objective, 0
        if OmegaConf.is_missing(hydra.job, "num") and hydra.sweeper.get("params"):
            swept = ", ".join(map(str, hydra.sweeper.params))
            raise BadInput(f"hydra.sweeper.params: a recipe sweeps {swept}: needs -m, for a sweep")
        settings = check(values)
        from blitz.runner.run import run

        gc.freeze()  # what was imported stays: collections need not look through all of it
        return run(settings, overrides).objective, 0
    except Exception as error:
        return None, report(error, "the run")


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    """A library's warning as people read it: without the path and the line of where the library is installed."""
    from blitz.terminal.text import in_a_line

    return f"blitz: warning: {in_a_line(redact(' '.join(str(message).split())))}\n"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    global _terminated
    _terminated = True
    raise Terminated


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")

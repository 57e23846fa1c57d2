"""One job of a sweep, in whatever process its launcher starts it: it ends with a word in the sweep's folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blitz.config.settings import Settings, check
from blitz.errors import BadInput, RunFailed
from blitz.redaction import redact
from blitz.sweeps import folder
from blitz.sweeps.folder import FAILED, FINISHED, KILLED, NOT_STARTED, STOP, Outcome
from blitz.terminal.signals import graceful


def train(values: Mapping[str, Any], overrides: Sequence[str]) -> Outcome:
    """Train the job that a composed config describes, or go on with its run, and write down how it ended.

    Nothing is raised: what fails is this job's alone, and what stops it stops the sweep by itself.
    """
    from blitz.runner import run as runner  # whose imports are not the time of a process's first job

    sweep = folder.folder_of(values["runs_dir"], values["sweep"]["id"])
    number = values["sweep"]["job"]
    _leave_if_abandoned(sweep)
    with folder.sole_job(sweep, number, patience=1.0) as is_ours, graceful() as interrupt:
        if not is_ours or interrupt.requested or not folder.begin(sweep, number):
            return Outcome(NOT_STARTED)
        outcome = Outcome(KILLED)
        print(f"{'job':8} {number}  {values['sweep']['label']}".rstrip())
        try:
            with folder.calling_when_interrupted(sweep, interrupt.request):
                with _with_a_gpu(check(values), sweep) as settings:
                    if settings.sweep.go_on is not None:
                        gone_on = Path(settings.sweep.go_on)
                        result = runner.resume(gone_on, uri=settings.tracking.uri, gpu=settings.sweep.gpu)
                    else:
                        result = runner.run(settings, overrides)
                place, group = str(result.folder), settings.group_hash("")
                outcome = Outcome(FINISHED, "", result.objective, result.seconds, place, result.run_id, group)
        except KeyboardInterrupt:  # it has saved where it stands; a sweep in this process hears of it here
            interrupt.request(signal.SIGTERM)
        except (Exception, SystemExit) as error:  # somebody else's part may call sys.exit
            told = isinstance(error, BadInput | RunFailed)
            why = str(error) if told else f"{type(error).__name__}: {error}"
            outcome = Outcome(FAILED, redact("; ".join([*why.splitlines(), *getattr(error, "__notes__", ())])))
            if values["sweep"]["on_failure"] == "stop":
                (sweep / STOP).touch()
        folder.write_outcome(sweep, number, outcome)
        _leave_if_abandoned(sweep)
        return outcome


def _leave_if_abandoned(sweep: Path) -> None:
    """A launcher's worker outlives a sweep that was killed, and would begin jobs that `sweep.resume` begins as well."""
    if folder.is_abandoned(sweep):
        os._exit(1)  # there is nobody left to answer to


@contextmanager
def _with_a_gpu(settings: Settings, sweep: Path) -> Iterator[Settings]:
    """Where several jobs run side by side on a machine with several GPUs, one of these is the job's own."""
    import torch

    number = torch.cuda.device_count() if settings.sweep.cores is not None else 0
    if number < 2:
        yield settings
        return
    with folder.place(sweep, number) as gpu:
        options = settings.sweep.model_copy(update={"gpu": gpu})
        yield settings.model_copy(update={"sweep": options})

"""`blitz resume`: what a run's folder holds, and whether it can be resumed from that as the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blitz.config.recorded import Provenance, change, check_recorded, read_config, read_provenance
from blitz.config.settings import Settings, check
from blitz.errors import BadInput, did_you_mean
from blitz.parts.models import recorded_weights_follow
from blitz.parts.schedules import SCHEDULES
from blitz.redaction import redact
from blitz.run_folder import journal
from blitz.run_folder.journal import JOURNAL
from blitz.run_folder.run_info import FINISHED, RunInfo
from blitz.runner.build import JobInfo, Setup, build
from blitz.runner.find import BEST, LAST
from blitz.runner.start import tracking_store
from blitz.tracking import store
from blitz.tracking.sending import Busy, sole_sender
from blitz.training import checkpoint
from blitz.training.selection import Selection

# What may be changed on the way: how long it trains, and what changes no result.
ACCEPTED = ("epochs", "checkpoint_every", "report_every", "data.root", "data.url", "tracking.offline")
# What a checkpoint holds that a run can be resumed from.
NEEDED = (
    "model", "average", "optimizer", "scaler", "epoch", "step", "epoch_step", "sums", "record", "journal", "selection",
    "windows", "weights",
)  # fmt: skip
COUNTS = ("epoch", "step", "epoch_step", "journal")  # of these
AGAIN = "to begin again from the first step, with the same result"
ORPHAN_SECONDS = 60.0  # that the writer of a killed run may take to end


@dataclass(frozen=True)
class ResumePoint:
    """A run as its folder has it, and the settings that it is resumed with."""

    folder: Path
    info: RunInfo
    recorded: Settings
    settings: Settings
    provenance: Provenance
    state: Mapping[str, Any] | None  # last.pt; None for a run that was killed before it saved one

    @classmethod
    def load(cls, folder: Path, info: RunInfo, overrides: Sequence[str] = ()) -> ResumePoint:
        """Raises BadInput for a run that cannot be resumed."""
        try:
            with sole_sender(folder, ORPHAN_SECONDS):
                pass  # by now the writer of a killed run has sent what there is
        except Busy:
            raise BadInput(f"{folder}: another process is still sending this run to MLflow; try again later") from None
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written to ({error.strerror})") from None
        path = folder / "config.yaml"
        config = read_config(path)
        keys = {text: text.lstrip("+").partition("=")[0] for text in overrides}
        if wrong := {text: key for text, key in keys.items() if key not in ACCEPTED}:
            rule = f"cannot be changed on resume (allowed: {', '.join(ACCEPTED)})"
            raise BadInput(*(f"{text}: {rule}{did_you_mean(key, ACCEPTED)}" for text, key in wrong.items()))
        state = _state(folder, info) if (folder / LAST).exists() else None
        provenance = read_provenance(folder / "provenance.json")
        point = cls(folder, info, check_recorded(config, path), check(change(config, overrides)), provenance, state)
        point._refuse_what_is_over()
        return point

    def store(self, given: str | None, job: JobInfo | None) -> str | None:
        """Where it was recorded, None for nowhere. Its address may be given, for the credentials that no record holds.

        Raises BadInput where another one is given, where credentials are missing, and as `tracking_store`.
        """
        if given is not None and redact(given := store.resolve(given)) != self.info.store:
            raise BadInput(f"--store={redact(given)}: the run was recorded in {self.info.store or 'no store'}")
        if self.info.store is None:
            return None
        try:
            where = given or store.recorded_in(self.info)
        except BadInput as problem:
            raise BadInput(f"{self.folder}: {problem}") from None
        return tracking_store(self.settings, where, job)

    def setup(self, job: JobInfo | None = None) -> Setup:
        """Everything built, and where it was when the checkpoint was saved. Raises BadInput where it does not fit."""
        settings = self.settings
        if self.state is not None:  # which holds all that came of them
            settings = settings.model_copy(update={"model": {**settings.model, "weights": None}})
        with recorded_weights_follow() if self.state is not None else nullcontext():
            setup = replace(build(settings, self.provenance.device, job), settings=self.settings)
        found, expected = setup.dataset.fingerprint, self.provenance.data.fingerprint
        if found != expected:
            raise BadInput(
                f"data={settings.data['name']}: not the images that the run started with (fingerprint {found[:12]}, "
                f"recorded {expected[:12]})"
            )
        if self.state is not None:
            try:
                checkpoint.restore(setup.learner, self.state)
            except checkpoint.Misfit as reason:
                raise BadInput(f"{self.folder / LAST}: {reason}; {_remedy(self.info)}") from None
            self._refuse_another_best()
            if self.settings.model["weights"] is not None:
                setup = replace(setup, starting_weights=self.state["weights"]["initial"])
            if self.settings.epochs != self.recorded.epochs:
                self._refuse_another_course(len(setup.train), self.state)
        return setup

    def _refuse_what_is_over(self) -> None:
        done, state, epochs = self.info.status == FINISHED, self.state, self.settings.epochs
        if state is None:
            if done:
                keep = self.recorded.checkpoint.keep or "null, in a sweep"
                raise BadInput(f"{self.folder}: the run has finished and kept no {LAST} (checkpoint.keep={keep})")
            return
        # An epoch that is done was not validated as the last one is.
        unvalidated = epochs != self.recorded.epochs and state["epoch"] % self.settings.eval_every
        least = state["epoch"] + bool(state["epoch_step"] or unvalidated)
        selection = Selection(True, self.recorded.early_stopping)
        selection.load_state_dict(state["selection"])
        if done and selection.is_over:
            raise BadInput(
                f"{self.folder}: the run stopped early, after {selection.worse} evaluations without a better "
                "validation accuracy, and would stop there again"
            )
        if done and epochs == least:
            raise BadInput(f"{self.folder}: the run has finished; epochs=N with more than {epochs} extends it")
        if epochs < least:
            raise BadInput(f"epochs={epochs}: accepted: at least {least}, which have started already")

    def _refuse_another_best(self) -> None:
        """The best weights must be those that the checkpoint names, unless it holds them itself.

        Where they are gone, a later epoch may be better, if there is one left.
        """
        state = self.state
        assert state is not None
        best = state["selection"]["best"]
        if best is None or (best["epoch"] == state["epoch"] and not state["epoch_step"]):
            return
        path, which = self.folder / BEST, f"epoch {best['epoch']}, the best one so far"
        selection = Selection(True, self.settings.early_stopping)
        selection.load_state_dict(state["selection"])
        is_over = selection.is_over or (state["epoch"] == self.settings.epochs and not state["epoch_step"])
        remedy = f"remove {LAST} {AGAIN}" if is_over else "remove it to continue, in case that a later epoch is better"
        if not path.exists():
            if is_over:
                raise BadInput(f"{path}: the weights of {which}, are gone, and no epoch is left to train; {remedy}")
            return
        try:
            found = checkpoint.fingerprint(checkpoint.load(path)["model"])
        except checkpoint.Damaged as problem:
            raise BadInput(f"{problem}; it held the weights of {which}; {remedy}") from None
        if found != state["weights"]["best"]:
            raise BadInput(f"{path}: not the weights of {which}; {remedy}")

    def _refuse_another_course(self, steps_per_epoch: int, state: Mapping[str, Any]) -> None:
        """More epochs must leave what was done as it is."""
        name, epochs = self.settings.schedule["name"], self.settings.epochs
        before, after = (
            SCHEDULES.build(settings.schedule, settings.epochs * steps_per_epoch, steps_per_epoch)
            for settings in (self.recorded, self.settings)
        )
        last, every = self.recorded.epochs, self.settings.eval_every
        if self.settings.data["validation"] and state["epoch"] == last and last % every:
            raise BadInput(
                f"epochs={epochs}: epoch {last} was validated because it was the last, which a run of {epochs} with "
                f"eval_every={every} would not have done; train anew"
            )
        for step in range(state["step"]):
            if before(step) != after(step):
                raise BadInput(
                    f"epochs={epochs}: schedule={name} spreads over all epochs: in a run of {epochs}, step {step + 1} "
                    f"would have had {after(step) / before(step):.4g} times the learning rate; train anew, or with a "
                    "schedule that does not depend on the end (constant, step)"
                )


def _remedy(info: RunInfo) -> str:
    """What to do about a `last.pt` that no run can be resumed from."""
    if info.status == FINISHED:
        return "the run has finished, and cannot be extended; blitz reproduce trains it again"
    return f"remove it {AGAIN}"


def _state(folder: Path, info: RunInfo) -> dict[str, Any]:
    """What `last.pt` holds. Raises BadInput for one that no run can be resumed from."""
    path = folder / LAST
    try:
        state = checkpoint.load(path)
    except checkpoint.Damaged as problem:
        raise BadInput(f"{problem}; {_remedy(info)}") from None
    if (found := state.get("format", 0)) < checkpoint.FORMAT:
        raise BadInput(f"{path}: written by an older blitz (format {found}), which cannot be resumed; {_remedy(info)}")
    if missing := [key for key in NEEDED if key not in state]:
        raise BadInput(f"{path}: holds no {', no '.join(missing)}; accepted: the {LAST} of a run; {_remedy(info)}")
    if not all(isinstance(state[key], int) for key in COUNTS):
        raise BadInput(f"{path}: damaged: {', '.join(COUNTS)} are not all numbers; {_remedy(info)}")
    if state["record"] != info.record:
        raise BadInput(f"{path}: the checkpoint of another run; {_remedy(info)}")
    path, position = folder / JOURNAL, state["journal"]
    if not journal.ends_at(path, position):
        size = path.stat().st_size if path.exists() else 0
        found = f"{size:,} bytes" if size < position else f"no line ends at byte {position:,}"
        raise BadInput(
            f"{path}: {found}, where {position:,} had been written when {LAST} was saved: what "
            f"was measured is lost; train anew, or remove the checkpoint {AGAIN}"
        )
    return state

"""A recorded run, as its store has it: what a repetition is made of and compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blitz.config.recorded import (
    Provenance,
    change,
    check_recorded,
    read_config,
    read_provenance,
    refuse_missing_place,
)
from blitz.config.settings import Settings, check
from blitz.errors import BadInput
from blitz.reproduction.verdict import Results
from blitz.run_folder.files import read_overrides
from blitz.run_folder.run_info import RUNNING
from blitz.runner.find import find_run, for_this_host, is_path
from blitz.tracking import queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Original:
    client: MlflowClient
    run: Run
    experiment: str
    config: Mapping[str, Any]  # for this host
    overrides: Sequence[str]
    provenance: Provenance
    has_diff: bool
    results: Results

    @property
    def id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def weights(self) -> dict[str, str]:
        tags = self.run.data.tags
        return {tag.partition(".")[2]: sha256 for tag, sha256 in tags.items() if tag.startswith("weights.")}

    @classmethod
    def find(cls, wanted: str, uri: str | None) -> Original:
        """Raises BadInput for a run that is not there, is still training, or is none of blitz."""
        with find_run(wanted, uri) as found:
            stored, client, run = found.stored, found.stored.client, found.stored.run
            if run.info.status == RUNNING:
                raise BadInput(f"{wanted}: run {run.info.run_id} has not ended yet")
            path = stored.file("config.yaml")
            config = for_this_host(read_config(path), found)
            check_recorded(config, path)
            return cls(
                client,
                run,
                str(client.get_experiment(run.info.experiment_id).name),
                config,
                read_overrides(stored.file("overrides.yaml").parent),
                read_provenance(stored.file("provenance.json")),
                stored.file("git.diff").stat().st_size > 0,
                queries.results(client, run),
            )

    def settings(self, overrides: Sequence[str]) -> Settings:
        """To train it again here. Raises BadInput for a config that is none of today's, or more than data."""
        config = dict(self.config)
        name = str(self.run.info.run_name).removeprefix("again: ")
        here = {"uri": str(self.client.tracking_uri), "experiment": self.experiment}
        config |= {"name": f"again: {name}"[:240], "tracking": {**config.get("tracking", {}), **here}}
        if elsewhere := [text for text in overrides if text.startswith(("tracking.uri=", "tracking.experiment="))]:
            reason = "the new run is recorded beside the one that it repeats; --store names the store"
            raise BadInput(*(f"{text}: {reason}" for text in elsewhere))
        settings = check(change(config, overrides))
        refuse_missing_place(settings)
        weights, given = settings.model["weights"], any(text.startswith("model.weights=") for text in overrides)
        if weights is not None and is_path(weights) and not given:
            raise BadInput("model.weights: a path is never taken from a run's record; give model.weights=PATH")
        return settings

"""What is asked of a store: runs, sweeps, metrics and files."""

from __future__ import annotations

import getpass
import itertools
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blitz.errors import BadInput
from blitz.redaction import redact
from blitz.run_folder.journal import is_result
from blitz.run_folder.run_info import NOTABLE, REPRODUCES, SWEEP, seconds_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LAST = "last"
BEST_OF_SWEEP = "best"
RUN = f"a run id, the start of one, {LAST}, or {BEST_OF_SWEEP}"
BEST_JOB = "sweep.best"  # a tag of runs that stand for a sweep: the id of its best run
OF_A_SWEEP = "sweep.jobs"  # a tag of runs that stand for a sweep: the number of its jobs
CONCLUSION = "sweep.conclusion"  # likewise: of its search, in a sentence
SKIPPED = "sweep.skipped"  # others, numbered where one is not enough: ids of the runs that it did not repeat
AT_ONCE = 200  # ids in a query
LARGEST_PAGE = 1000  # runs, of which MLflow's own is one
PAGE_TO_FILTER = 200  # runs that are read at once where only some of them may be wanted: 4 ms each
TRAINED, SWEEPS = f"tags.`{OF_A_SWEEP}` IS NULL", f"tags.`{OF_A_SWEEP}` IS NOT NULL"  # queries
CONNECTIONS = 8  # requests at once, where a store answers each with one metric of one run


def experiment_ids(client: MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in pages(client.search_experiments)]


def pages(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """All that an MLflow search finds."""
    token = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def search(client: MlflowClient, query: str, **options: Any) -> Iterator[Run]:
    """The runs of all experiments that a query finds, the newest first."""
    return pages(client.search_runs, experiment_ids=experiment_ids(client), filter_string=query, **options)


def find(client: MlflowClient, wanted: str) -> Run:
    """The run with this id, a unique prefix of one, or `last`: the newest that this user started on this host.

    Raises BadInput where there is none or more than one, and for the run that stands for a sweep.
    """
    runs: list[Run] = []
    if wanted == LAST:
        runs = _first(client, f"{_mine()} and {TRAINED}", 1)
    elif re.fullmatch("[0-9a-f]{1,32}", wanted):
        runs = _first(client, f"attributes.run_id LIKE '{wanted}%'", 2)
    where = redact(str(client.tracking_uri))
    if not runs:
        raise BadInput(f"{wanted}: no such run in {where} (accepted: {RUN})")
    if len(runs) > 1:
        raise BadInput(f"{wanted}: more than one run in {where} starts like this; give more of its id")
    if OF_A_SWEEP in runs[0].data.tags:
        sweep = runs[0].data.tags[SWEEP]
        raise BadInput(f"{wanted}: a sweep, and no run that was trained; blitz compare --sweep {sweep} lists its runs")
    return runs[0]


def find_sweep(client: MlflowClient, wanted: str) -> Run | None:
    """The run that stands for a sweep: by the sweep's id or the start of one, or by its own; or `last`, as for `find`.

    Raises BadInput where there is more than one.
    """
    if wanted == LAST:
        queries = [f"{SWEEPS} and {_mine()}"]
    elif re.fullmatch(r"[\w-]+", wanted):
        queries = [f"{SWEEPS} and tags.sweep = '{wanted}'", f"{SWEEPS} and tags.sweep LIKE '{wanted}%'"]
        queries += [f"{SWEEPS} and attributes.run_id LIKE '{wanted}%'"]
    else:
        return None
    for query in queries:
        runs = _first(client, query, 1 if wanted == LAST else 2)
        if len(runs) > 1:
            where = redact(str(client.tracking_uri))
            raise BadInput(f"{wanted}: more than one sweep in {where} starts like this; give more of its id")
        if runs:
            return runs[0]
    return None


def sweeps(client: MlflowClient) -> Iterator[Run]:
    """The runs that stand for sweeps, the newest first."""
    return search(client, SWEEPS)


def jobs_of(client: MlflowClient, sweep: Run) -> list[Run]:
    """The runs of a sweep's jobs, with those that had finished before it began."""
    tags = sweep.data.tags
    earlier = [run_id for tag, ids in tags.items() if tag.startswith(SKIPPED) for run_id in ids.split()]
    queries = [f"tags.sweep = '{tags['sweep']}' and {TRAINED}"]
    for first in range(0, len(earlier), AT_ONCE):
        ids = ", ".join(f"'{run_id}'" for run_id in earlier[first : first + AT_ONCE])
        queries.append(f"attributes.run_id IN ({ids})")
    return list({run.info.run_id: run for query in queries for run in search(client, query)}.values())


def newest(
    client: MlflowClient,
    experiments: Sequence[str],
    number: int,
    query: str = TRAINED,
    keep: Callable[[Run], bool] | None = None,
) -> list[Run]:
    """So many runs of these experiments, the newest first: of those that the query finds the ones to keep."""
    size = min(number, LARGEST_PAGE) if keep is None else PAGE_TO_FILTER
    runs = pages(client.search_runs, experiment_ids=list(experiments), filter_string=query, max_results=size)
    return list(itertools.islice(runs if keep is None else filter(keep, runs), number))


def is_recorded(client: MlflowClient, experiments: Sequence[str], key: str) -> bool:
    """Whether any run of these experiments has a parameter, a metric or a tag of this name; `tags.NAME` is a tag."""
    tag = key.removeprefix("tags.")
    if not re.fullmatch(r"[\w./ :-]+", tag):  # what MLflow takes for a name
        return False
    queries = [f"tags.`{tag}` IS NOT NULL"]
    if tag == key:
        queries += [f"params.`{key}` LIKE '%'", f"metrics.`{key}` >= 0", f"metrics.`{key}` < 0"]
    return any(client.search_runs(list(experiments), query, max_results=1) for query in queries)


def finished_runs(client: MlflowClient, wanted: Mapping[str, str], sweep: str | None) -> dict[str, list[Run]]:
    """By config hash the runs that came to their end: this sweep's own, if it has any, before the newest of others.

    `wanted`: config hash -> group hash. None repeats another run, which may have been cut short. A query goes through
    the tags of all runs, 25 ms for 10,000 of them: there is one for the sweep, and one for all seeds of a group.
    """
    found: dict[str, dict[str, Run]] = {}  # with their ids

    def look(tag: str, value: str) -> None:
        query = f"attributes.status = 'FINISHED' and tags.{tag} = '{value}' and tags.reproduces IS NULL"
        for run in search(client, query):
            config_hash = run.data.tags.get("config_hash", "")
            if config_hash in wanted:
                found.setdefault(config_hash, {}).setdefault(run.info.run_id, run)

    if sweep is not None:
        look("sweep", sweep)
    for group in dict.fromkeys(group for config_hash, group in wanted.items() if config_hash not in found):
        look("group_hash", group)
    return {config_hash: list(runs.values()) for config_hash, runs in found.items()}


def _first(client: MlflowClient, query: str, number: int) -> list[Run]:
    return list(client.search_runs(experiment_ids(client), query, max_results=number))


def _mine() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as a container may be started with
        user = "unknown"  # in the tag as well
    return f"tags.user = '{user}' and tags.host = '{platform.node()}'"


def notable(run: Run) -> dict[str, str]:
    """The parameters that say what a run is, without those that are there to be searched; all of other programs."""
    params, names = run.data.params, run.data.tags.get(NOTABLE)
    return dict(params) if names is None else {name: params[name] for name in names.split() if name in params}


def seconds(run: Run) -> float | None:
    """As `RunInfo.seconds`."""
    return seconds_of(run.data.tags, run.info.start_time, run.info.end_time or None)


def fetch(client: MlflowClient, run: Run, artifact: str, folder: Path) -> Path:
    """Copy an artifact of a run into `folder`. Raises BadInput where the run has none of this name."""
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run.info.run_id, artifact, str(folder)))
    except (MlflowException, OSError):
        raise BadInput(f"{run.info.run_id}: this run has no {artifact} in {redact(str(client.tracking_uri))}") from None


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder for what is fetched, which is gone afterwards; a BadInput about a file in it says `name` instead."""
    with tempfile.TemporaryDirectory(prefix="blitz-") as folder:
        try:
            yield Path(folder)
        except BadInput as error:
            raise BadInput(*(problem.replace(folder, name) for problem in error.problems)) from None


def results(client: MlflowClient, run: Run) -> dict[str, dict[int, float]]:
    """Each result that a run measured, by name and step; of what was measured again, as tests are, what came last."""
    found: dict[str, dict[int, float]] = {}
    for name in filter(is_result, sorted(run.data.metrics)):
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda point: point.timestamp)
        points = history[-1:] if name.startswith("test/") else history
        found[name] = {point.step: point.value for point in points}
    return found


def histories(client: MlflowClient, wanted: Sequence[tuple[str, str]]) -> list[dict[int, float]]:
    """For each run id and metric its values by step; of what was measured again at a step, what came last."""

    def history(pair: tuple[str, str]) -> dict[int, float]:
        points = sorted(client.get_metric_history(*pair), key=lambda point: (point.step, point.timestamp))
        return {point.step: point.value for point in points}

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(history, wanted))


def files(client: MlflowClient, run: Run, folder: str | None = None) -> Iterator[tuple[str, int]]:
    """Each artifact's path, and its size in bytes."""
    for item in client.list_artifacts(run.info.run_id, folder):
        if item.is_dir:
            yield from files(client, run, item.path)
        else:
            yield item.path, item.file_size or 0


def others_of_its_group(client: MlflowClient, run: Run) -> list[Run]:
    """Finished runs that differ in their seed alone, one a seed, the first ones; none that repeats another."""
    query = f"attributes.status = 'FINISHED' and tags.group_hash = '{run.data.tags.get('group_hash', '')}'"
    by_seed: dict[str, Run] = {}
    for other in search(client, query, order_by=["attributes.start_time ASC"]):
        if REPRODUCES not in other.data.tags:
            by_seed.setdefault(other.data.params.get("seed", ""), other)
    return list(by_seed.values())


def value(client: MlflowClient, run: Run, name: str, step: int | None) -> float | None:
    """A metric of a run at a step, or its last value; None where it was not measured."""
    if step is None or name not in run.data.metrics:
        return run.data.metrics.get(name)
    history = client.get_metric_history(run.info.run_id, name)
    return next((point.value for point in history if point.step == step), None)

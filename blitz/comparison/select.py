"""`blitz compare`: which runs of a store to put side by side, and what each of them was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from blitz.comparison import summaries
from blitz.comparison.packages import DIGEST, packages_that_differ
from blitz.comparison.rows import ID_LENGTH, ComparedRun, Comparison, compare
from blitz.comparison.where import ALL_HAVE, Where, facts_of
from blitz.errors import BadInput, did_you_mean, no_such
from blitz.redaction import redact, redact_values
from blitz.run_folder.journal import OBJECTIVE, SYSTEM, TEST_ACCURACY, TRAIN_LOSS
from blitz.run_folder.run_info import FINISHED, REPRODUCES, SWEEP, SWEEP_JOB
from blitz.tracking import health, orphaned, queries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRICS = (OBJECTIVE, TEST_ACCURACY, TRAIN_LOSS)
NEWEST, NEWEST_OF_ONE = 20, 100  # runs of all experiments, and of one
FINGERPRINT = "data.fingerprint"
# Tags of what a run was made with besides its config, and how many characters of each are shown.
PROVENANCE: dict[str, int | None] = {
    "git.commit": 10, "git.diff": 12, "python": None, "torch": None, "device": None, "precision": None,
    "device.cpu": None, "device.gpu": None, FINGERPRINT: 12,
}  # fmt: skip
UNKNOWN_TO_OTHERS = (*PROVENANCE, "device.threads")


def compare_runs(
    wanted: Sequence[str],
    *,
    sweep: str | None = None,
    experiment: str | None = None,
    metrics: Sequence[str] = (),
    everything: bool = False,
    limit: int | None = None,
    where: Sequence[str] = (),
    uri: str | None = None,
) -> Comparison:
    """Compare named runs, those of a sweep or the newest of an experiment; else the newest of all.

    `where`: only those that all of these conditions hold for. Raises BadInput where there are none.
    """
    if sum(map(bool, (wanted, sweep, experiment))) > 1:
        raise BadInput("compare: accepted: runs, or --sweep, or --experiment")
    if limit is not None and (wanted or sweep):
        raise BadInput(f"--limit={limit}: accepted with --experiment, or alone")
    if where and wanted:
        raise BadInput(f"--where={where[0]}: accepted with --sweep, with --experiment, or alone")
    conditions = Where(where)
    client, notes, conclusion = health.connect(uri), [], ""
    orphaned.mark_orphans(client)
    if wanted:
        runs = list({run.info.run_id: run for run in (queries.find(client, one) for one in wanted)}.values())
    elif sweep is not None:
        parent = find_sweep(client, sweep)
        jobs = queries.jobs_of(client, parent)
        known = {key for job in jobs for key in facts_of(job)}
        conditions.refuse_unknown(known.__contains__, lambda: jobs)
        runs, notes = list(filter(conditions.holds, jobs)), not_started(parent, jobs)
        conclusion = parent.data.tags.get(queries.CONCLUSION, "")
    else:
        number, experiments = limit or (NEWEST if experiment is None else NEWEST_OF_ONE), named(client, experiment)
        runs = newest_where(client, experiments, number + 1, conditions)
        if len(runs) > number:
            runs.pop()
            notes = [f"Runs older than the newest {number} are left out; --limit N takes more"]
    if not runs:
        of = f", experiment {experiment}" if experiment else f", sweep {sweep}" if sweep else ""
        of += f", where {conditions}" if where else ""
        raise BadInput(f"compare: no runs in {redact(str(client.tracking_uri))}{of}")
    found = side_by_side(client, runs, summaries.check(metrics, runs) or list(METRICS), everything=everything)
    is_about_this = found.metrics[0] == OBJECTIVE and not where
    return replace(found, notes=[*found.notes, *notes], conclusion=conclusion if is_about_this else "")


def side_by_side(
    client: MlflowClient, runs: Sequence[Run], metrics: Sequence[str], *, everything: bool = False
) -> Comparison:
    """With everything: all other metrics too, but those of the machine, and every run by itself."""
    chosen = list(metrics)
    if everything:
        others = {name for run in runs for name in run.data.metrics if not name.startswith(SYSTEM)}
        chosen = list(dict.fromkeys([*chosen, *sorted(others)]))
    packages, notes = packages_that_differ(client, runs)
    measured = summaries.values(client, runs, chosen)
    in_order = sorted(runs, key=lambda run: run.info.start_time)
    entries = [_entry(run, measured[run.info.run_id], packages) for run in in_order]
    if not everything:
        entries = _without_common_facts(entries)
    comparison = compare(entries, chosen, everything=everything)
    return replace(comparison, notes=[*comparison.notes, *notes])


def newest_where(client: MlflowClient, experiments: Sequence[str], number: int, conditions: Where) -> list[Run]:
    """So many runs that were trained and that the conditions hold for, the newest first.

    Raises BadInput for a condition on what no run has.
    """
    if not conditions.conditions:
        return queries.newest(client, experiments, number)
    conditions.refuse_unknown(
        lambda key: key in ALL_HAVE or queries.is_recorded(client, experiments, key),
        lambda: queries.newest(client, experiments, NEWEST_OF_ONE),
    )
    return queries.newest(client, experiments, number, f"{queries.TRAINED}{conditions.query}", conditions.holds)


def not_started(sweep: Run, jobs: Sequence[Run]) -> list[str]:
    """A note on how many jobs of a sweep have no run yet."""
    number = sweep.data.tags[queries.OF_A_SWEEP]
    started = {(run.data.tags.get(SWEEP), run.data.tags.get(SWEEP_JOB, run.info.run_id)) for run in jobs}
    if sweep.info.status == FINISHED or not number.isdigit() or int(number) <= len(started):
        return []
    return [f"{int(number) - len(started)} of {number} jobs have not started"]


def find_sweep(client: MlflowClient, wanted: str) -> Run:
    """Raises BadInput where there is none."""
    run = queries.find_sweep(client, wanted)
    if run is None:
        known = [run.data.tags[SWEEP] for run in queries.sweeps(client)]
        newest = f" (the newest: {', '.join(known[:3])})" if known else ""
        where = redact(str(client.tracking_uri))
        raise BadInput(f"--sweep={wanted}: no such sweep in {where}{did_you_mean(wanted, known)}{newest}")
    return run


def named(client: MlflowClient, name: str | None) -> list[str]:
    """The id of the experiment with this name, or all of them."""
    found = {experiment.name: experiment.experiment_id for experiment in queries.pages(client.search_experiments)}
    if name is None:
        return list(found.values())
    if name not in found:
        raise BadInput(no_such(f"--experiment={name}", "experiment", name, sorted(found)))
    return [found[name]]


def _entry(run: Run, metrics: Mapping[str, float], packages: Mapping[str, dict[str, str]]) -> ComparedRun:
    params, tags, info = queries.notable(run), run.data.tags, run.info
    values = {key: value for key, value in params.items() if key != "seed"}
    if "epochs" in tags:  # of a run that was extended
        values["epochs"] = tags["epochs"]
    if "precision" in tags:
        values.pop("device.precision", None)  # is the same
    if REPRODUCES in tags and TEST_ACCURACY not in run.data.metrics:  # cut short: no seed as the others are
        values["reproduces"] = tags[REPRODUCES][:ID_LENGTH]
    values |= {key: tags[key][:length] for key, length in PROVENANCE.items() if key in tags}
    values = redact_values({**values, **packages.get(tags.get(DIGEST, ""), {})})
    # Without a seed it is unknown whether a run differs from others in that.
    group = tags.get("group_hash", "" if "seed" in params else info.run_id)
    name, seed = redact(str(info.run_name)), params.get("seed", "")
    seconds, status = queries.seconds(run), orphaned.status(run)
    return ComparedRun(info.run_id, name, seed, values, metrics, seconds, status, group, _title(name, params))


def _title(name: str, params: Mapping[str, str]) -> str:
    """The name without its seed; none where it is made of the run's parts or overrides, and says no more than these."""
    if name == f"{params.get('model.name')} on {params.get('data.name')}":
        return ""
    words = [word for word in name.removeprefix("again: ").split() if not word.startswith("seed=")]
    return " ".join(words) if not all("=" in word for word in words) else ""


def _without_common_facts(entries: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Without what is the same in all runs that have it: runs of other programs lack it, which is no difference.

    Nor the fingerprint of the data where the options of the data say it all.
    """
    texts = {key: {entry.values[key] for entry in entries if key in entry.values} for key in UNKNOWN_TO_OTHERS}
    needless = {key for key, found in texts.items() if len(found) == 1}
    if _follows_from_options(entries):
        needless.add(FINGERPRINT)
    kept = [{key: text for key, text in entry.values.items() if key not in needless} for entry in entries]
    return [replace(entry, values=values) for entry, values in zip(entries, kept, strict=True)]


def _follows_from_options(entries: Sequence[ComparedRun]) -> bool:
    """Whether no two runs with the same options of the data had other data."""
    pairs = set()
    for entry in entries:
        options = {(key, text) for key, text in entry.values.items() if key.startswith("data.") and key != FINGERPRINT}
        pairs.add((frozenset(options), entry.values.get(FINGERPRINT)))
    return len(pairs) == len({options for options, _ in pairs})

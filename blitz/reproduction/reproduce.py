"""`blitz reproduce`: a run's id to a new run and a verdict, from the store alone."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from blitz.config.recorded import Code
from blitz.config.settings import Settings
from blitz.errors import BadInput
from blitz.intervals import estimate
from blitz.parts.datasets import DATASETS, Dataset, split
from blitz.redaction import redact
from blitz.reproduction import report
from blitz.reproduction.original import Original
from blitz.reproduction.report import Reproduction
from blitz.reproduction.verdict import BY_STEP, Results, Tolerance, Verdict, compare, from_images, from_seeds
from blitz.run_folder import git, journal
from blitz.run_folder.differences import Difference, differences
from blitz.run_folder.journal import JOURNAL, OBJECTIVE, TEST_ACCURACY, TRAIN_ACCURACY, TRAIN_LOSS, VAL_ACCURACY
from blitz.run_folder.provenance import PACKAGE
from blitz.run_folder.run_info import REPRODUCES
from blitz.runner import description
from blitz.runner import run as runner
from blitz.runner.build import device_of
from blitz.runner.record import Record
from blitz.runner.start import surroundings
from blitz.terminal.progress import Display
from blitz.terminal.text import print_line, print_table, printable
from blitz.tracking import queries, sending

logger = logging.getLogger("blitz")


def what_differs(original: Original, settings: Settings) -> list[Difference]:
    """What differs between the record and this machine; sets this process up as the run's was."""
    device = device_of(settings.device, settings.images_at_once, original.provenance.device)
    facts, _ = surroundings()
    facts["device"] = description.about_device(device)
    try:
        dataset: Dataset = DATASETS.build(settings.data)
        facts["data"] = description.about_data(dataset, split(dataset, **DATASETS.shared(settings.data)))
    except BadInput as problem:
        logger.warning("the data cannot be compared: %s", problem)
    recorded = original.provenance.model_dump()
    found = differences(recorded, facts)
    for resumed in recorded["resumed"]:
        changed = {difference.key for difference in differences(recorded, resumed)}
        since = f"from step {resumed['step']} on"
        others = (difference for difference in differences(resumed, facts) if difference.key in changed)
        found += [difference._replace(key=f"{difference.key} ({since})") for difference in others]
    return found


def reproduce(
    wanted: str, overrides: Sequence[str] = (), *, epochs: int | None = None, uri: str | None = None
) -> Reproduction:
    """Train a recorded run again, all of it or its first `epochs`, and compare.

    The new run is in the same store and experiment. Raises BadInput for what cannot be trained again.
    """
    original = Original.find(wanted, uri)
    settings = original.settings(overrides)
    until = _until(original, epochs)
    changes = print_differences(original, settings)
    again = [text for text in original.overrides if not description.is_unnamed(text.lstrip("+~").partition("=")[0])]
    tags, device = {REPRODUCES: original.id}, original.provenance.device
    record = runner.new_run(settings, [*again, *overrides], tags, before=device, until=until)
    changed = tuple(text for text in overrides if not description.is_unnamed(text.partition("=")[0]))
    found = Reproduction(
        original=original.id,
        run_id=record.run_id,
        verdict=_verdict(original, settings, record, until),
        changes=tuple(changes),
        overrides=changed,
        until=until,
        deterministic=settings.device["deterministic"],
        folder=record.folder,
    )
    with Display():
        _record(original, found)
    return found


def check_provenance(wanted: str, overrides: Sequence[str] = (), *, uri: str | None = None) -> int:
    """Print what differs, and how to bring the recorded code back; return the number of differences."""
    original = Original.find(wanted, uri)
    changes = print_differences(original, original.settings(overrides))
    if any(change.key.startswith("code.") for change in changes):
        provenance = original.provenance
        print("\nthe recorded code:")
        for command in commands(original, provenance.code, "git.diff" if original.has_diff else None):
            print(f"  {command}")
        for resumed in provenance.resumed:
            if resumed.code != provenance.code:
                print(f"from step {resumed.step} on:")
                for command in commands(original, resumed.code, resumed.diff, f"-step-{resumed.step}"):
                    print(f"  {command}")
    return len(changes)


def print_differences(original: Original, settings: Settings) -> list[Difference]:
    """Print what differs between the record and this machine, and return it."""
    with Display():
        changes = what_differs(original, settings)
    info = original.run.info
    print_line(printable(f"run      {info.run_id} ({info.run_name}), {info.status}"))
    if changes:
        print_table(report.HEADINGS, report.rows(changes), texts=(0, 1, 2))
    else:
        print("         nothing differs in code, packages, machine, device and data")
    return changes


def commands(original: Original, code: Code, diff: str | None, suffix: str = "") -> list[str]:
    """What brings code of a run back, in a folder beside this repository; `diff` is an artifact of the run."""
    if code.commit is None:
        return [f"pip install blitz=={code.version}   # its commit is not known"]
    try:
        root = git.repository(PACKAGE)
    except git.GitError:
        return [f"git clone … && git checkout {code.commit}   # this is no clone of the repository"]
    folder = root.parent / f"blitz-{code.commit[:12]}{suffix}"
    found = [shlex.join(["git", "-C", str(root), "worktree", "add", str(folder), code.commit])]
    if diff is not None:
        uri = shlex.quote(redact(str(original.client.tracking_uri)))
        found.append(shlex.join(["cd", str(folder)]))
        found.append(f"MLFLOW_TRACKING_URI={uri} mlflow artifacts download -r {original.id} -a {diff} -d .")
        found.append(f"git apply --allow-empty {diff} && rm {diff}")
    return found


def _until(original: Original, epochs: int | None) -> int | None:
    """After how many epochs to end; None for the whole of a run that came to its end."""
    done = max(original.results.get(TRAIN_LOSS, {}), default=0)
    if not done:
        raise BadInput(f"{original.id}: this run ended before its first epoch; there is nothing to compare")
    if epochs is not None and epochs > done:
        raise BadInput(f"--epochs={epochs}: accepted: at most {done}, the epochs that the run recorded")
    is_whole = epochs is None and TEST_ACCURACY in original.results
    return None if is_whole else epochs or done


def _verdict(original: Original, settings: Settings, record: Record, until: int | None) -> Verdict:
    now: dict[str, dict[int, float]] = {}
    for point in journal.every_point(record.folder / JOURNAL):
        if journal.is_result(point.name):
            now.setdefault(point.name, {})[point.step] = point.value
    if OBJECTIVE not in original.results:  # recorded before there was this metric, which follows from the others
        now.pop(OBJECTIVE, None)
    steps_per_epoch = -(-original.provenance.data.images.train // settings.batch_size)
    every = settings.tracking.window(steps_per_epoch)
    return compare(
        _whole_windows(original.results, every),
        _whole_windows(now, every),
        original.weights,
        record.weights,
        steps_per_epoch=steps_per_epoch,
        until=until,
        noise=_noise(original, until),
    )


def _whole_windows(results: Results, every: int | None) -> Results:
    """Without the means of fewer steps than a window has: a run that was extended ended more than once."""
    return {
        name: {step: value for step, value in points.items() if name not in BY_STEP or not step % (every or 1)}
        for name, points in results.items()
    }


def _noise(original: Original, epoch: int | None) -> dict[str, Tolerance]:
    """The tolerance of each accuracy that was measured, at the end or after an epoch."""
    images = dict(original.provenance.data.images)
    others = queries.others_of_its_group(original.client, original.run)
    found = {}
    for name, part in ((TEST_ACCURACY, "test"), (VAL_ACCURACY, "validation"), (TRAIN_ACCURACY, "train")):
        points = original.results.get(name, {})
        if not points or (epoch is not None and epoch not in points):
            continue
        values = [queries.value(original.client, other, name, epoch) for other in others]
        seeds = from_seeds(estimate([value for value in values if value is not None]))
        found[name] = seeds or from_images(points[epoch or max(points)], images[part] or 1)
    return found


def _record(original: Original, found: Reproduction) -> None:
    """Put the verdict into the new run's record, and link the two."""
    client = original.client
    report.write(found)
    if found.run_id is None:
        return  # the run itself has logged why
    try:
        sending.amend(found.folder, str(client.tracking_uri), {"verdict": found.verdict.word})
        # As the store has them now: others may have repeated the run since training began.
        before = client.get_run(original.id).data.tags.get("reproduced_by", "")
        links = [link for link in before.split(", ") if link]
        client.set_tag(original.id, "reproduced_by", ", ".join([*links, found.run_id]))
    except Exception as error:  # whatever the store's side raises: the verdict is printed all the same
        logger.warning("MLflow failed (%s); 'blitz sync %s' sends the verdict", sending.brief(error), found.folder)

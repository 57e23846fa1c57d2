"""`blitz show RUN`: what a run is, its config, its curves as text, and its files; of a sweep its table."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from blitz.comparison import report
from blitz.comparison.listing import Line, as_plain, line_of
from blitz.comparison.rows import Comparison, is_measured, is_share, sign
from blitz.comparison.select import METRICS, not_started, side_by_side
from blitz.comparison.summaries import best_epoch
from blitz.config.recorded import read_config
from blitz.config.settings import OWN_TAGS
from blitz.errors import BadInput
from blitz.redaction import redact, redact_values
from blitz.run_folder import journal
from blitz.run_folder.files import is_locked
from blitz.run_folder.journal import GRAD_NORM, JOURNAL, OBJECTIVE, STEP_LOSS, STEP_LR, SYSTEM, TRAIN_LR, is_result
from blitz.run_folder.run_info import FAILED, FINISHED, NOTABLE, REPRODUCES, RUNNING, SWEEP_JOB, RunInfo, status_word
from blitz.terminal.text import INDENT, NARROW, in_a_line, print_line, print_table, printable
from blitz.tracking import health, queries
from blitz.tracking.orphaned import ORPHANED
from blitz.tracking.sending import brief

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE = "mlflow.note.content"  # a tag
CONFIG = "config.yaml"
BY_STEP = (STEP_LOSS, GRAD_NORM, STEP_LR)
BLOCKS, NOT_FINITE, CONSTANT = "▁▂▃▄▅▆▇█", "×", "▄"
LONGEST_CURVE = 24  # columns

History = Mapping[int, float]  # step -> value, in the order of steps


@dataclass(frozen=True)
class Shown:
    """A run, or the run that stands for a sweep."""

    line: Line
    tags: Mapping[str, str]
    config: Mapping[str, Any]
    metrics: Mapping[str, History]
    files: Sequence[tuple[str, int]]  # path and bytes
    comparison: Comparison | None = None  # of a sweep's jobs
    notes: Sequence[str] = ()


def by_id(wanted: str, uri: str | None = None, everything: bool = False) -> Shown:
    """A sweep by its id, or a run of any program by its own. Raises BadInput where there is none."""
    client = health.connect(uri)
    return of_store(client, queries.find_sweep(client, wanted) or queries.find(client, wanted), everything)


def of_store(client: MlflowClient, run: Run, everything: bool = False) -> Shown:
    """As its store has it; with everything the whole config, and every metric."""
    line = line_of(client, run, client.get_experiment(run.info.experiment_id).name)
    names = [name for name in sorted(run.data.metrics) if everything or _is_shown(name)]
    histories = queries.histories(client, [(line.id, name) for name in names])
    jobs = queries.jobs_of(client, run) if line.jobs is not None else []
    config = _nested(queries.notable(run), run.data.tags)
    if everything:
        with tempfile.TemporaryDirectory(prefix="blitz-") as folder:
            with suppress(BadInput):  # that of a sweep has none
                queries.fetch(client, run, CONFIG, Path(folder))
            config = _whole(Path(folder), line.id) or _nested(run.data.params, run.data.tags)
    notes = not_started(run, jobs) if jobs else []
    try:
        files = sorted(queries.files(client, run))
    except Exception as error:  # of whatever library reads where artifacts are
        files, notes = [], [*notes, f"its files cannot be listed: {brief(error)}"]
    comparison = side_by_side(client, jobs, METRICS) if jobs else None
    return Shown(line, run.data.tags, config, dict(zip(names, histories, strict=True)), files, comparison, notes)


def of_folder(folder: Path, info: RunInfo, everything: bool = False) -> Shown:
    """The same of a run that may be in no store."""
    metrics: dict[str, dict[int, float]] = {}
    for point in journal.every_point(folder / JOURNAL) if (folder / JOURNAL).exists() else ():
        if everything or _is_shown(point.name):
            metrics.setdefault(point.name, {})[point.step] = point.value
    is_orphaned = info.status == RUNNING and not is_locked(folder)
    line = Line(
        id=str(folder),
        name=info.name,
        status=ORPHANED if is_orphaned else status_word(info.status),
        started=info.started_at,
        seconds=info.seconds,
        objective=next(reversed(metrics.get(OBJECTIVE, {}).values()), None),
        experiment=info.experiment,
        sweep=info.tags.get("sweep"),
    )
    notable = {name: info.params[name] for name in info.tags.get(NOTABLE, "").split() if name in info.params}
    config = (_whole(folder, str(folder)) if everything else {}) or _nested(notable or info.params, info.tags)
    files = [
        (str(path.relative_to(folder)), path.stat().st_size) for path in sorted(folder.rglob("[!.]*")) if path.is_file()
    ]
    in_order = {name: dict(sorted(history.items())) for name, history in sorted(metrics.items())}
    return Shown(line, info.tags, config, in_order, files)


def _is_shown(name: str) -> bool:
    return is_result(name) and name not in BY_STEP


def _is_single(name: str) -> bool:
    """Whether it is one number, not a curve: the objective is the best of a curve, tests are done once."""
    return name == OBJECTIVE or name.startswith("test/")


def _whole(folder: Path, name: str) -> dict[str, Any]:
    """The recorded config; an empty one where there is none. Raises BadInput for a damaged one."""
    if not (folder / CONFIG).exists():
        return {}
    try:
        found: dict[str, Any] = redact_values(read_config(folder / CONFIG))
    except BadInput as bad:
        raise BadInput(*(problem.replace(str(folder), name) for problem in bad.problems)) from None
    return found


def _nested(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of blitz as a config has them, those of another program as they are."""
    if "record" not in tags:
        return dict(redact_values(params))
    found: dict[str, Any] = {}
    for key, text in {**params, **({"epochs": tags["epochs"]} if "epochs" in tags else {})}.items():
        group, _, option = key.rpartition(".")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        (found.setdefault(group, {}) if group else found)[option] = value
    return dict(redact_values(found))


# ---- as text


def print_text(shown: Shown) -> None:
    for line in _heading(shown):
        print_line(line)
    if shown.comparison is None and (note := shown.tags.get(NOTE, "").strip()):  # that of a sweep is its table
        _print_section("note", redact(note).splitlines())
    if shown.config:
        in_groups = None if any(isinstance(value, dict) for value in shown.config.values()) else False
        text = yaml.safe_dump(
            dict(shown.config), sort_keys=False, allow_unicode=True, default_flow_style=in_groups, width=NARROW
        )
        _print_section("config", text.splitlines())
    curves = {name: history for name, history in shown.metrics.items() if len(history) > 1 and not _is_single(name)}
    if curves:
        epoch = _best_epoch(shown)
        headings = ["metric", "curve", "first", "last", "best", *([f"epoch {epoch}"] if epoch else [])]
        print()
        print_table(headings, (_curve(*pair, epoch) for pair in curves.items()), texts=(0, 1))
    if shown.comparison is not None:
        print()
        report.print_table(shown.comparison)
    if shown.files:
        width = max(len(path) for path, _ in shown.files)
        _print_section("files", [f"{path:<{width}}  {_size(size):>8}" for path, size in shown.files])


def _heading(shown: Shown) -> list[str]:
    line, tags, gap = shown.line, shown.tags, " " * INDENT
    what = "sweep" if queries.OF_A_SWEEP in tags else "run"
    name = line.id if line.jobs is None else line.sweep
    lines = [f"{what:<{INDENT}}{name} ({line.name}), {line.status_text()}"]
    where = f" on {tags['host']}" if "host" in tags else ""
    facts = [f"started {datetime.fromtimestamp(line.started / 1000):%Y-%m-%d %H:%M:%S}{where}"]
    facts += [report.duration(line.seconds)] * (line.seconds is not None) + [f"experiment {line.experiment}"]
    lines.append(f"{gap}{', '.join(facts)}")
    if line.jobs is not None:
        lines.append(f"{gap}MLflow run {line.id}")
    elif line.sweep and what == "run":
        lines.append(f"{gap}job {tags.get(SWEEP_JOB, '?')} of sweep {line.sweep}")
    lines += [f"{gap}{note}" for note in shown.notes]
    for tag, words in ((REPRODUCES, "reproduces"), ("reproduced_by", "reproduced by"), ("verdict", "verdict:")):
        lines += [f"{gap}{words} {tags[tag]}"] if tag in tags else []
    own = [f"{tag}={text}" for tag, text in tags.items() if not f"{tag}.".startswith(tuple(f"{t}." for t in OWN_TAGS))]
    lines += [f"tags     {', '.join(own)}"] if own else []
    if what == "sweep" and "mlflow.source.name" in tags:
        lines.append(f"command  {tags['mlflow.source.name']}")
    if "folder" in tags:
        lines.append(f"folder   {tags['folder']}")
    has_ended = line.status in (FINISHED, FAILED)
    singles = [f"{name} {_number(name, [*history.values()][-1])}" for name, history in shown.metrics.items()
               if history and _is_single(name)]  # fmt: skip
    lines += [f"{'result' if has_ended else 'so far':<{INDENT}}{'   '.join(singles)}"] if singles else []
    lines += [f"{word:<{INDENT}}{tags[word]}" for word in ("error", "ended") if word in tags]
    return [in_a_line(redact(line)) for line in lines]


def _print_section(heading: str, lines: Sequence[str]) -> None:
    print(f"\n{heading}")
    for line in lines:
        print_line(f"  {printable(line)}".rstrip())


def _best_epoch(shown: Shown) -> int | None:
    """Whose weights count; None where there is no objective so far."""
    objective = shown.metrics.get(OBJECTIVE)
    return best_epoch(shown.metrics, max(objective)) if objective else None


def _curve(name: str, history: History, epoch: int | None) -> list[str]:
    values = list(history.values())
    best = max(filter(is_measured, values), key=lambda value: sign(name) * value, default=math.nan)
    cells = [printable(name), sparkline(values), _number(name, values[0]), _number(name, values[-1])]
    cells.append(_number(name, best) if is_result(name) and name != TRAIN_LR else "")
    at_epoch = history.get(epoch) if epoch and not name.startswith((*BY_STEP, SYSTEM)) else None
    return [*cells, *([] if epoch is None else ["" if at_epoch is None else _number(name, at_epoch)])]


def sparkline(values: Sequence[float], columns: int = LONGEST_CURVE) -> str:
    """A curve of blocks, each the mean of the values that fall there; `×` where one of them is not finite."""
    count = min(len(values), columns)
    edges = [round(number * len(values) / count) for number in range(count + 1)]
    parts = [values[first:last] for first, last in pairwise(edges)]
    means = [sum(value / len(part) for value in part) if all(map(is_measured, part)) else math.nan for part in parts]
    finite = [mean for mean in means if not math.isnan(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def block(mean: float) -> str:
        if math.isnan(mean):
            return NOT_FINITE
        return BLOCKS[round((mean - low) / (high - low) * (len(BLOCKS) - 1))] if high > low else CONSTANT

    return "".join(map(block, means))


def _number(name: str, value: float) -> str:
    if not is_measured(value):
        return "not finite"
    return f"{value:.2%}" if is_share(name) else f"{value:.4g}"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


# ---- as JSON


def print_json(shown: Shown) -> None:
    """All of it, numbers in full; null for what is not finite."""
    found = {
        **as_plain(shown.line),
        "note": redact(shown.tags.get(NOTE, "")) or None,
        "tags": redact_values({name: text for name, text in shown.tags.items() if not name.startswith("mlflow.")}),
        "config": shown.config,
        "metrics": {
            name: [[step, value if is_measured(value) else None] for step, value in history.items()]
            for name, history in shown.metrics.items()
        },
        "files": [{"path": path, "bytes": size} for path, size in shown.files],
    }
    if shown.comparison is not None:
        found |= json.loads(report.as_json(shown.comparison))
    print(json.dumps(found, indent=2, allow_nan=False))

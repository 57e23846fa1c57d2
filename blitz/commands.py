"""`blitz VERB`: every command but training, each a thin layer over the function that does the work."""

from __future__ import annotations

import gc
import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from blitz.errors import BadInput, no_such, refuse


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def VERBS() -> None:
    """Commands beside training; see `blitz --help` for how to train."""


@VERBS.command()
@click.argument("group", required=False)
@click.argument("name", required=False)
def options(group: str | None, name: str | None) -> None:
    """List the groups, the choices of GROUP, or the options of NAME in GROUP."""
    from rich.table import Column, Table

    from blitz.config.settings import all_menus
    from blitz.terminal.text import Screen

    registries = all_menus()
    if group is None:
        headings = ["group", "choices"]
        rows = [[registry.group, ", ".join(registry.names())] for registry in registries.values()]
    elif group not in registries:
        raise BadInput(no_such(group, "group", group, registries))
    elif name is None:
        headings = [group, "description"]
        rows = [[choice, _first_sentence(registries[group].builder(choice))] for choice in registries[group].names()]
    else:
        headings, rows = ["option", "default", "accepted", "meaning"], []
        for option in registries[group].options(name):
            default = "(required)" if option.default is inspect.Parameter.empty else json.dumps(option.default)
            rows.append([f"{group}.{option.name}", default, option.accepted, option.meaning])
    table = Table(*(Column(word, overflow="fold") for word in headings), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Screen(width=None if sys.stdout.isatty() else 140).print_table(table)


def _first_sentence(builder: object) -> str:
    return (inspect.getdoc(builder) or "").partition("\n\n")[0].replace("\n", " ")


@contextmanager
def _without_collecting() -> Iterator[None]:
    """No garbage collection, not even at exit: a quarter of a command that imports 2,000 modules and ends."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


STORE = click.option("--store", "uri", default=None, help="tracking store [default: the one that a run would use]")
WHERE = click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="only runs such as 'optimizer.lr>0.01', 'model.name=net' or 'status!=FAILED'; may be repeated",
)
FORMAT = click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)


@VERBS.command()
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[data.OPTION=VALUE…]")
@click.option("--data", default=None, metavar="NAME", help="another data set, of the same image shape and classes")
@click.option("--split", "part", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True)
@FORMAT
@STORE
def evaluate(run: str, overrides: tuple[str, ...], data: str | None, part: str, form: str, uri: str | None) -> None:
    """Evaluate the best weights of RUN on its own data or on other data, with the run's device settings.

    RUN is a run id, a unique prefix of one, "last", "best" (of the last sweep) or a run's folder.
    data.OPTION=VALUE changes an option of the data. Of paths and addresses the record gives only data.root, on the
    host where the run was trained; elsewhere BLITZ_DATA or data.root=DIR does.
    """
    from blitz.evaluation import evaluate as evaluation
    from blitz.evaluation.report import print_json, print_tables
    from blitz.terminal.progress import Display

    with Display(stderr=True):
        report = evaluation.evaluate(run, overrides, data=data, part=part, uri=uri)
    {"table": print_tables, "json": print_json}[form](report)


@VERBS.command()
@click.argument("run")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--top", type=click.IntRange(min=1), default=1, metavar="K", help="print the K most likely classes")
@FORMAT
@STORE
def predict(run: str, images: tuple[str, ...], top: int, form: str, uri: str | None) -> None:
    """Classify image files with the best weights of RUN; prints class and confidence.

    RUN is a run id, a unique prefix of one, "last", "best" (of the last sweep) or a run's folder.
    Images are resized to the model's input size.
    """
    from blitz.evaluation import predict as prediction
    from blitz.terminal.progress import Display

    with Display(stderr=True):
        found = prediction.predict(run, images, top=top, uri=uri)
    {"table": prediction.print_predictions, "json": prediction.print_json}[form](found)


@VERBS.command()
@click.argument("runs", nargs=-1, metavar="[RUN…]")
@click.option("--sweep", default=None, metavar="ID", help="the runs of a sweep: its id, a prefix of it, or last")
@click.option("--experiment", default=None, metavar="NAME", help="the newest runs of an experiment")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="the newest N runs [default: 20; with --experiment 100]",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[:min|max|best]",
    help="show this metric; may be repeated; sorts by the first",
)
@WHERE
@click.option("--all", "everything", is_flag=True, help="one row per run, with all parameters and metrics")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "md"]), default="table", show_default=True)
@click.option("--plot", "picture", default=None, metavar="FILE", help="also save a figure: .png, .svg or .pdf")
@click.option(
    "--html", "web_page", default=None, metavar="FILE", help="also save a page for a browser: table and charts"
)
@STORE
def compare(
    runs: tuple[str, ...], form: str, picture: str | None, web_page: str | None, uri: str | None, **chosen: Any
) -> None:
    """Compare runs: the given ones, those of a sweep, or the newest of an experiment (default: the newest 20).

    Prints the parameters that differ (of config, code, packages, data and device) and the metrics, best first. Runs
    that differ only in their seed share a row with mean, 95 % interval (of three or more) and count; a test over seeds
    says whether the best row is significantly better. A metric is a run's last value, NAME:min and NAME:max the least
    and the largest one, NAME:best that of its best epoch; "objective" is the accuracy of that.

    Runs that have not finished are in no mean and come last, with what they have so far. --where takes KEY=VALUE, and
    != < <= > >=, of parameters, metrics, tags, name and status, in quotes: the shell would redirect the output at >.
    """
    with _without_collecting():
        from blitz.comparison import page, plot, report
        from blitz.comparison.select import compare_runs
        from blitz.runner.find import id_in_store

        if picture is not None:
            plot.check_path("--plot", picture, plot.SUFFIXES)
        if web_page is not None:
            page.check_path(web_page)
        found = compare_runs([id_in_store(run, uri) for run in runs], uri=uri, **chosen)
        if picture is not None:
            plot.save(found, picture, uri)
        if web_page is not None:
            page.save(found, web_page, uri, chosen["sweep"])
        if form == "table":
            report.print_table(found)
        else:
            print(report.TEXTS[form](found), end="")


@VERBS.command()
@click.option("--experiment", default=None, metavar="NAME", help="of this experiment [default: of all]")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, metavar="N")
@click.option("--all", "everything", is_flag=True, help="each job of a sweep as well")
@WHERE
@FORMAT
@STORE
def ls(form: str, **chosen: Any) -> None:
    """List the newest runs and sweeps.

    A sweep is one line, with how many of its jobs have finished and its best objective. --where lists runs, jobs of
    sweeps among them. A run whose process is gone, and which nobody has marked as KILLED so far, is ORPHANED.
    """
    with _without_collecting():
        from blitz.comparison import listing

        found = listing.newest(**chosen)
        {"table": listing.print_lines, "json": listing.print_json}[form](found)


@VERBS.command()
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="the whole config, and every metric")
@FORMAT
@STORE
def show(run: str, everything: bool, form: str, uri: str | None) -> None:
    """Show RUN: note, config (what is not at its default), curves and files; of a sweep its table.

    RUN is a run id, a unique prefix of one, "last", "best" (of the last sweep), a run's folder, or a sweep's id.
    """
    with _without_collecting():
        from blitz.comparison import show as record
        from blitz.runner.find import StoredRun, find_run, is_path
        from blitz.tracking.queries import BEST_OF_SWEEP, LAST

        if run not in (LAST, BEST_OF_SWEEP) and not is_path(run):
            found = record.by_id(run, uri, everything)
        else:
            with find_run(run, uri) as where:
                if isinstance(where, StoredRun):
                    found = record.of_store(where.client, where.run, everything)
                else:
                    found = record.of_folder(where.folder, where.info, everything)
        {"table": record.print_text, "json": record.print_json}[form](found)


@VERBS.command()
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE…]")
@STORE
def resume(run: str, overrides: tuple[str, ...], uri: str | None) -> None:
    """Resume RUN from its last checkpoint; epochs=N extends it.

    RUN is a run id, a unique prefix of one, "last", "best" (of the last sweep) or a run's folder.
    """
    from blitz.runner import run as runner

    runner.resume(run, overrides, uri)


@VERBS.command()
@click.argument("run", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE…]")
@click.option("--check", is_flag=True, help="train nothing; print what differs and how to restore the recorded code")
@click.option("--epochs", type=click.IntRange(min=1), default=None, metavar="N", help="train and compare N epochs only")
@click.option(
    "--sweep", default=None, metavar="ID", help="jobs of a sweep, and what it decided: its id, a prefix, last"
)
@click.option(
    "--jobs", type=click.IntRange(min=0), default=None, metavar="K", help="how many, with --sweep [default: 1]"
)
@STORE
def reproduce(
    run: str | None,
    overrides: tuple[str, ...],
    check: bool,
    epochs: int | None,
    sweep: str | None,
    jobs: int | None,
    uri: str | None,
) -> int:
    """Train RUN again from its record and report whether the result is the same, bit for bit.

    RUN is a run id, a unique prefix of one, "last" or "best" (of the last sweep). KEY=VALUE changes a value of its
    config. Of paths and addresses the record gives only data.root, on the host where the run was trained; elsewhere
    BLITZ_DATA or data.root=DIR does. The exit code is 0 if the result is identical or equal within noise, 1 if it is
    different (with --check: if anything differs).

    --sweep ID, in the place of RUN, trains K finished jobs of a sweep again, drawn at random, and checks that each
    decision of its search follows from the recorded numbers. ID may be the sweep's folder as well. The exit code is 1
    if a job is different or a decision does not follow.
    """
    from blitz.reproduction import reproduce as reproduction
    from blitz.reproduction.report import lines
    from blitz.terminal.text import print_line

    if sweep is not None:
        from blitz.reproduction.sweep import reproduce_sweep

        changes = overrides if run is None else (run, *overrides)
        refuse(f"{text}: accepted: RUN or --sweep, not both" for text in changes[:1] if "=" not in text)
        if check:
            raise BadInput("--check: accepted with RUN; with --sweep, --jobs 0 trains nothing")
        return reproduce_sweep(sweep, changes, jobs=1 if jobs is None else jobs, epochs=epochs, uri=uri)
    if jobs is not None:
        raise BadInput(f"--jobs={jobs}: needs --sweep ID")
    if run is None:
        raise click.UsageError("Missing argument 'RUN', or --sweep ID.")
    if check:
        return 1 if reproduction.check_provenance(run, overrides, uri=uri) else 0
    found = reproduction.reproduce(run, overrides, epochs=epochs, uri=uri)
    for line in lines(found):
        print_line(line)
    return found.exit_code


@VERBS.command()
@click.argument("folders", nargs=-1, metavar="[DIR…]")
@click.option("--store", "uri", default=None, help="tracking store [default: the one that each run is recorded in]")
def sync(folders: tuple[str, ...], uri: str | None) -> int:
    """Send what an MLflow store lacks of the runs in these folders (default: all in ./runs)."""
    from blitz.terminal.progress import Display
    from blitz.tracking.sync import sync as send

    with Display():
        return send(folders, uri)


@VERBS.command()
@STORE
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="[default: a free one]")
def ui(uri: str | None, port: int | None) -> int:
    """Start the MLflow UI on the recorded runs; Ctrl-C stops it."""
    from blitz.terminal.progress import Display
    from blitz.tracking.ui import serve

    with Display():
        return serve(uri, port)

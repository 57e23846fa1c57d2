"""`blitz VERB`: what is done beside training."""

from __future__ import annotations

import gc
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from blitz.errors import BadInput, RunFailed, did_you_mean


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def VERBS() -> None:
    """What is done beside training; `blitz --help` tells how to train."""


@VERBS.command()
@click.argument("group", required=False)
@click.argument("name", required=False)
def options(group: str | None, name: str | None) -> None:
    """List the groups, the choices of GROUP, or the options of NAME in GROUP."""
    from rich.table import Table

    from blitz.config.settings import menus
    from blitz.terminal.text import Screen

    registries = menus()
    table = Table(box=None, pad_edge=False, header_style="bold")
    if group is None:
        table.add_column("group")
        table.add_column("choices")
        for registry in registries.values():
            table.add_row(registry.group, ", ".join(registry.names()))
    elif group not in registries:
        raise BadInput(f"{group}: no such group{did_you_mean(group, registries)} (accepted: {', '.join(registries)})")
    elif name is None:
        table.add_column(group)
        table.add_column("what it is")
        for choice in registries[group].names():
            table.add_row(choice, _first_sentence(registries[group].builder(choice)))
    else:
        for heading in ("option", "default", "accepted", "meaning"):
            table.add_column(heading, overflow="fold")
        for option in registries[group].options(name):
            default = "(needed)" if option.default is inspect.Parameter.empty else json.dumps(option.default)
            table.add_row(f"{group}.{option.name}", default, option.accepted, option.meaning)
    console = Screen()
    console = console if console.is_terminal else Screen(width=140)
    console.print(table, highlight=False, markup=False)


def _first_sentence(builder: object) -> str:
    return (inspect.getdoc(builder) or "").partition("\n\n")[0].replace("\n", " ")


STORE = click.option("--store", "uri", default=None, help="the tracking store; by default the one that a run would use")
FORMAT = click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)


@VERBS.command()
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[data.OPTION=VALUE…]")
@click.option("--data", default=None, metavar="NAME", help="another data set, of the same image shape and classes")
@click.option(
    "--split",
    "part",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
)
@FORMAT
@STORE
def evaluate(run: str, overrides: tuple[str, ...], data: str | None, part: str, form: str, uri: str | None) -> None:
    """Evaluate the best weights of RUN, computed as in the run, on its own data or on other data.

    RUN is a run's id, the start of one, "last" or a run's folder. data.OPTION=VALUE changes an option of the data;
    paths and addresses, such as data.root=DIR, are never taken from the record.
    """
    from blitz.evaluation import evaluate as evaluation
    from blitz.evaluation.report import print_json, print_tables
    from blitz.terminal.progress import Display

    with Display(stderr=True):
        report = evaluation.evaluate(run, overrides, data=data, part=part, uri=uri)
    printed = {"table": print_tables, "json": print_json}
    printed[form](report)


@VERBS.command()
@click.argument("run")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--top", type=click.IntRange(min=1), default=1, metavar="K", help="tell the K likeliest classes")
@FORMAT
@STORE
def predict(run: str, images: tuple[str, ...], top: int, form: str, uri: str | None) -> None:
    """Tell the class of image files, and the model's confidence, with the best weights of RUN.

    RUN is a run's id, the start of one, "last" or a run's folder. Images of another size than the model's are resized.
    """
    from blitz.evaluation import predict as prediction
    from blitz.terminal.progress import Display

    with Display(stderr=True):
        found = prediction.predict(run, images, top=top, uri=uri)
    printed = {"table": prediction.print_predictions, "json": prediction.print_json}
    printed[form](found)


@VERBS.command()
@click.argument("runs", nargs=-1, metavar="[RUN…]")
@click.option("--sweep", default=None, metavar="ID", help="the runs of a sweep: its id, the start of one, or last")
@click.option("--experiment", default=None, metavar="NAME", help="the newest runs of an experiment")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="how many of the newest: 20, or 100 of an --experiment",
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="may be given several times; sorts by the first"
)
@click.option("--all", "everything", is_flag=True, help="every run by itself, with all parameters and metrics")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "md"]), default="table", show_default=True)
@click.option("--plot", "picture", default=None, metavar="FILE", help="draw it as well, into a .png, .svg or .pdf")
@STORE
def compare(
    runs: tuple[str, ...],
    sweep: str | None,
    experiment: str | None,
    limit: int | None,
    metrics: tuple[str, ...],
    everything: bool,
    form: str,
    picture: str | None,
    uri: str | None,
) -> None:
    """Put runs side by side: named ones, those of a sweep or the newest of an experiment; else the newest 20.

    Told are the parameters that differ (of config, code, packages, data and device) and the metrics, the best first.
    Runs that differ in their seed alone are one row, with mean, 95 % interval and number, and it is told whether the
    best is better by more than noise. A metric is a run's last value; "objective" is the best epoch's accuracy.
    """
    with _no_collections():
        from blitz.comparison import plot, report
        from blitz.comparison.select import compare_runs

        if picture is not None:
            plot.refuse(picture)
        found = compare_runs(
            runs, sweep=sweep, experiment=experiment, metrics=metrics, everything=everything, limit=limit, uri=uri
        )
        if picture is not None:
            plot.save(found, picture, uri)
        if form == "table":
            report.print_table(found)
        else:
            print(report.TEXTS[form](found), end="")


@contextmanager
def _no_collections() -> Iterator[None]:
    """Of garbage, not even at the end: they take a quarter of a command that imports 2,000 modules and is done."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@VERBS.command()
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE…]")
@STORE
def resume(run: str, overrides: tuple[str, ...], uri: str | None) -> None:
    """Go on with RUN (an id, the start of one, last, or its folder) from its last checkpoint; epochs=N extends it."""
    from blitz.runner.find import folder_of
    from blitz.runner.run import resume as go_on

    with _failures():
        go_on(folder_of(run, uri), overrides, uri)


@VERBS.command()
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE…]")
@click.option("--check", is_flag=True, help="train nothing: tell what differs, and how to bring the recorded code back")
@click.option("--epochs", type=click.IntRange(min=1), default=None, metavar="N", help="train and compare N epochs only")
@STORE
def reproduce(run: str, overrides: tuple[str, ...], check: bool, epochs: int | None, uri: str | None) -> int:
    """Train RUN again from its record, and tell whether it came out the same, to the last bit.

    RUN is a run's id, the start of one, or last. KEY=VALUE changes a value of its config; paths and addresses, such as
    data.root=DIR, are never taken from the record. Ends with 0 where it is identical or equal within noise, with 1
    where it is different (with --check: where anything differs).
    """
    from blitz.reproduction import reproduce as study
    from blitz.reproduction.report import lines

    if check:
        return 1 if study.check_provenance(run, overrides, uri=uri) else 0
    with _failures():
        found = study.reproduce(run, overrides, epochs=epochs, uri=uri)
    for line in lines(found):
        print(line)
    return found.exit_code


@contextmanager
def _failures() -> Iterator[None]:
    """What a run can fail with, in one line; its log has the traceback."""
    try:
        yield
    except (BadInput, RunFailed):
        raise
    except Exception as error:
        raise RunFailed(f"{type(error).__name__}: {error}") from error


@VERBS.command()
@click.argument("folders", nargs=-1, metavar="[DIR…]")
@click.option("--store", "uri", default=None, help="the tracking store; by default the one that a run was recorded in")
def sync(folders: tuple[str, ...], uri: str | None) -> int:
    """Send what an MLflow store lacks of runs: those in these folders, or all in ./runs that are not complete."""
    from blitz.terminal.progress import Display
    from blitz.tracking.sync import sync as synchronise

    with Display():
        return synchronise(folders, uri)


@VERBS.command()
@STORE
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="by default a free one")
def ui(uri: str | None, port: int | None) -> int:
    """Open the MLflow UI on the recorded runs; Ctrl-C ends it."""
    from blitz.terminal.progress import Display
    from blitz.tracking.ui import serve

    with Display():
        return serve(uri, port)

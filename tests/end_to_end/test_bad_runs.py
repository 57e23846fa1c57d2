"""Commands on runs that are not there, on records that are damaged or foreign, and on other people's databases."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image
from support.cases import SMALL, Case, Content, Forks, bad, fine, link

# ---- one run, whose record and store every case has a copy of

LAST, BEST, CONFIG = "runs/one/checkpoints/last.pt", "runs/one/checkpoints/best.pt", "runs/one/config.yaml"
FACTS, ABOUT, JOURNAL, STORE = "runs/one/provenance.json", "runs/one/mlflow.json", "runs/one/metrics.jsonl", "mlflow.db"


class Recorded(NamedTuple):
    folder: Path  # that holds runs/… and mlflow.db
    run: Path
    id: str

    def copied(self, here: Path) -> None:
        """As if it had been trained there, in runs/one."""
        shutil.copytree(self.folder, here, dirs_exist_ok=True)
        run = here / "runs" / "one"
        (here / self.run.relative_to(self.folder)).rename(run)
        places = ((str(self.run), str(run)), (str(self.folder), str(here)))
        about = (run / "mlflow.json").read_text()
        for old, new in places:
            about = about.replace(old, new)
        (run / "mlflow.json").write_text(about)
        with closing(sqlite3.connect(here / STORE)) as store, store:
            for old, new in places:
                for table, column in (
                    ("tags", "value"),
                    ("runs", "artifact_uri"),
                    ("experiments", "artifact_location"),
                ):
                    store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))


@pytest.fixture(scope="module")
def recorded(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root = tmp_path_factory.mktemp("recorded")
    forks.check(
        fine("recorded", f"{SMALL} model=mlp model.hidden=[] epochs=2", "test", store=True, makes="here/.*"), root
    )
    (run,) = (root / "here" / "runs").iterdir()
    with closing(sqlite3.connect(root / "here" / STORE)) as store:
        (run_id,) = store.execute("SELECT run_uuid FROM runs").fetchone()
    return Recorded(root / "here", run, run_id)


# ---- what befalls a file


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = b"\xa5" * 400
    path.write_bytes(content)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def as_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("x")


def edited(old: str, new: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


def set_to(key: str, value: object) -> Callable[[Path], None]:
    """A key of a JSON file."""

    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("pwned", "w")


def saved(state: object) -> Callable[[Path], None]:
    return lambda path: torch.save(state, path)


def changed_state(key: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        state.pop("sha256")
        torch.save({**state, key: value}, path)

    return change


def sql(*commands: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as store, store:
            for command in commands:
                store.execute(command)

    return change


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


def command(verb: str, run: str) -> str:
    return f"{verb} {run} image.png" if verb == "predict" else f"{verb} {run}"


# ---- RUN

WANTED = [
    *(
        bad(f"{verb}-{name}", command(verb, run), *words)
        for verb in ("resume", "predict")
        for name, run, words in (
            ("unknown", "0123abcd", ("0123abcd: no such run in sqlite:///",)),
            ("path", "runs/nope", ("runs/nope: no folder of a run",)),
            ("foreign", ".", ("folder",)),
        )
    ),
    *(
        bad(f"resume-{name}", f"resume {run}", *words)
        for name, run, words in (
            ("empty", "''", ("not the folder of a run",)),
            ("device", "/dev/null", ("/dev/null: no folder of a run",)),
            ("pattern", "'%'", ("%: no such run",)),
            ("best-of-none", "best", ("best: no sweep",)),
            ("home-of-nobody", "~nobody-here/x", ("~nobody-here/x: no folder of a run",)),
            ("two", "RUN RUN", ("RUN: cannot be changed",)),
        )
    ),
]

# ---- a record that is damaged


def damaged(
    name: str, verb: str, path: str, content: Content, *words: str, run: str = "runs/one", **more: object
) -> Case:
    return bad(f"{verb}-{name}", command(verb, run), *words, files={path: content}, **more)


DAMAGED = [
    *(
        damaged(f"about-{name}", "resume", ABOUT, content, "runs/one: not the folder of a run")
        for name, content in (
            ("gone", Path.unlink),
            ("cut", cut),
            ("folder", as_folder),
            ("not-utf-8", b"\xff{}"),
            ("tags-as-list", set_to("tags", [1])),
            ("params-as-null", set_to("params", None)),
            ("record-as-number", set_to("record", 3)),
            ("store-as-list", set_to("store", ["x"])),
            ("start-as-text", set_to("started_at", "yesterday")),
            ("status-as-mapping", set_to("status", {})),
        )
    ),
    damaged(
        "store-scheme",
        "resume",
        ABOUT,
        set_to("store", "ftp://x"),
        "tracking.uri=ftp://x: no store has the scheme ftp",
        run="runs/one epochs=3",
    ),
    *(
        damaged(f"config-{name}", verb, CONFIG, content, f"{CONFIG}: {words}")
        for verb in ("resume", "predict")
        for name, content, words in (
            ("cut", cut, ""),
            ("list", "- a\n", "not the config of a run"),
            ("bomb", BOMB, ""),
            ("option", edited("eval_every", "eval_evry"), ""),
        )
    ),
    *(
        damaged(f"config-{name}", "resume", CONFIG, content, CONFIG, words)
        for name, content, words in (
            ("gone", Path.unlink, "No such file"),
            ("tag", "model: !!python/object/apply:os.system [touch pwned]\n", "cannot be read"),
            ("interpolation", edited("\nseed: 0", "\nseed: ${oc.env:HOME}"), "seed=${oc.env:HOME}: an interpolation"),
            (
                "target",
                edited("name: sgd", "_target_: os.system\n  name: sgd"),
                "optimizer._target_=os.system: names code",
            ),
            ("value", edited("batch_size: 4", "batch_size: four"), "batch_size=four: accepted: integer"),
            ("choice", edited("name: sgd", "name: sdg"), "optimizer=sdg: no such optimizer"),
        )
    ),
    *(
        damaged(f"facts-{name}", verb, FACTS, content, f"{FACTS}: not the provenance of a run")
        for verb in ("resume", "evaluate")
        for name, content in (("cut", cut), ("mapping", "{}"))
    ),
    *(
        damaged(f"facts-{name}", "resume", FACTS, content, f"{FACTS}: not the provenance of a run")
        for name, content in (
            ("gone", Path.unlink),
            ("folder", as_folder),
            ("data-as-text", set_to("data", "x")),
            ("resumed-as-number", set_to("resumed", 3)),
            ("commit-as-option", set_to("code", {"commit": "--upload-pack=x", "version": "1"})),
        )
    ),
    *(
        damaged(f"last-{name}", "resume", LAST, content, LAST, words)
        for name, content, words in (
            ("cut", cut, "is not a file"),
            ("overwritten", overwritten, ""),
            ("code", saved(Evil()), "holds code ("),
            ("mapping", saved({}), ""),
            ("newer", changed_state("format", 99), "written by a newer blitz"),
            ("format-as-text", changed_state("format", "x"), "not a checkpoint of blitz"),
            ("of-another-run", changed_state("record", "x"), "the checkpoint of another run"),
        )
    ),
    damaged("last-journal-beyond", "resume", LAST, changed_state("journal", 10**6), JOURNAL),
    damaged("last-optimizer", "resume", LAST, changed_state("optimizer", {}), LAST, run="runs/one epochs=3"),
    damaged("last-step", "resume", LAST, changed_state("step", "x"), LAST, run="runs/one epochs=3"),
    damaged("journal-cut", "resume", JOURNAL, cut, JOURNAL, run="runs/one epochs=3"),
    *(
        damaged(f"best-{name}", verb, BEST, content, BEST, words)
        for verb in ("evaluate",)
        for name, content, words in (
            ("cut", cut, "is not a file that torch.save wrote"),
            ("code", saved(Evil()), "holds code ("),
            ("list", saved([1]), "not a checkpoint of blitz"),
            ("other", saved({"model": {"a": torch.ones(1)}}), "holds no model"),
            ("shape", changed_state("model", {"a": torch.ones(1)}), "holds other weights than model=mlp has"),
            ("about", changed_state("about", {"model": "x"}), "holds no model of a run"),
        )
    ),
    damaged(
        "checkpoints-a-file",
        "resume",
        "runs/one/checkpoints",
        as_file,
        "runs/one",
        run="runs/one epochs=3",
    ),
]

# ---- a store that is damaged or foreign

BY_ID = ("evaluate RUN", "compare")
STORES = [
    *(
        bad(f"{text.split()[0]}-{len(text.split())}-store-{name}", text, STORE, *words, files={STORE: content})
        for text in BY_ID
        for name, content, words in (
            ("gone", Path.unlink, ("there is no such store",)),
            ("text", "hello\n" * 100, ("is no SQLite database",)),
            ("cut", cut, ()),
            ("zeroed", zeroed, ("is no SQLite database",)),
            (
                "another-program",
                lambda path: (path.unlink(), sql("CREATE TABLE x (y)")(path)),
                ("belongs to another program",),
            ),
        )
    ),
    *(
        bad(f"compare-store-{name}", "compare", STORE, *words, files={STORE: content})
        for name, content, words in (
            ("folder", as_folder, ()),
            ("link-to-nothing", lambda path: (path.unlink(), path.symlink_to("nothing.db")), ()),
            ("newer", sql("UPDATE alembic_version SET version_num = 'ffffffffffff'"), ("schema ffffffffffff",)),
            ("no-version", sql("DELETE FROM alembic_version"), ("schema",)),
            ("no-experiments", sql("DROP TABLE experiments"), ()),
            ("no-tags", sql("DROP TABLE tags"), ()),
            ("no-metrics", sql("DROP TABLE latest_metrics"), ()),
            (
                "no-runs",
                sql(
                    "DELETE FROM latest_metrics",
                    "DELETE FROM metrics",
                    "DELETE FROM tags",
                    "DELETE FROM params",
                    "DELETE FROM runs",
                ),
                ("no runs in",),
            ),
        )
    ),
    bad(
        "reproduce-store-lacks-tag",
        "reproduce RUN",
        "not a run of blitz",
        files={STORE: sql("DELETE FROM tags WHERE key = 'record'")},
    ),
    bad(
        "resume-store-other-folder",
        "resume RUN",
        "is not here",
        files={STORE: sql("UPDATE tags SET value = '/nope' WHERE key = 'folder'")},
    ),
    bad(
        "reproduce-store-running",
        "reproduce RUN",
        "has not ended yet",
        files={STORE: sql("UPDATE runs SET status = 'RUNNING'")},
    ),
    bad(
        "reproduce-store-without-metrics",
        "reproduce RUN",
        "ended before its first epoch",
        files={STORE: sql("DELETE FROM latest_metrics", "DELETE FROM metrics")},
    ),
    bad(
        "resume-another-store",
        "resume runs/one epochs=3 --store sqlite:///other.db",
        "--store=sqlite:///",
        "other.db: the run was recorded in",
    ),
    bad("train-on-text", f"{SMALL}", "mlflow.db is no SQLite database", files={STORE: "hello"}, store=True),
]

# ---- arguments of verbs


def wide(path: Path) -> None:
    """A PNG of a few bytes that says it has 100,000 by 100,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def picture(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path)


def half_a_picture(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    cut(path)


ARGUMENTS = [
    bad("evaluate-split", "evaluate RUN --split nope", "evaluate: Invalid value for '--split'", "nope"),
    bad("evaluate-data", "evaluate RUN --data nope", "data=nope: no such data"),
    bad("evaluate-data-digits", "evaluate RUN --data digits", "data"),
    bad("evaluate-model", "evaluate RUN model.hidden=[3]", "model.hidden=[3]"),
    bad("evaluate-interpolation", "evaluate RUN 'data.limit=${nope}'", "data.limit=${nope}: an interpolation"),
    bad("predict-missing", "predict RUN nope.png", "nope.png: no such file"),
    bad("predict-half", "predict RUN a.png", "a.png: cannot be read as an image", files={"a.png": half_a_picture}),
    bad("predict-wide", "predict RUN a.png", "a.png: cannot be read as an image", files={"a.png": wide}),
    bad("predict-two", "predict RUN a.png b.png a.png", "a.png: no such file", "b.png: no such file", lines=2),
    bad("predict-top-many", "predict RUN image.png --top 11", "--top=11: accepted: at most 10"),
    bad("reproduce-epochs-many", "reproduce RUN --epochs 99", "--epochs=99: accepted: at most 2"),
    bad("reproduce-store", "reproduce RUN tracking.uri=sqlite:///x.db", "tracking.uri=sqlite:///x.db", "--store names"),
    bad("reproduce-added", "reproduce RUN +seed=1", "+seed=1: accepted: KEY=VALUE"),
    bad("resume-finished", "resume RUN", "the run has finished; epochs=N with more than 2 extends it"),
    bad("resume-fewer-epochs", "resume RUN epochs=1", "epochs=1: accepted: at least 2"),
    bad("resume-epochs-digits", f"resume RUN epochs={'9' * 5000}", "accepted: numbers of at most 4,300 digits"),
    bad("resume-interpolation", "resume RUN 'epochs=${seed}'", "epochs=${seed}"),
    bad("resume-value", "resume RUN optimizer.lr=1", "optimizer.lr=1: cannot be changed on resume"),
    bad("resume-misspelled", "resume RUN epohcs=3", "epohcs=3: cannot be changed on resume", "did you mean epochs?"),
    bad("compare-metric", "compare --metric nope", "--metric=nope: none of the runs has it"),
    bad("compare-metric-near", "compare --metric test/acuracy", "--metric=test/acuracy", "did you mean test/accuracy?"),
    bad("compare-experiment-quote", 'compare --experiment "a\'b"', "--experiment=a'b: no such experiment"),
    bad("compare-sweep-last", "compare --sweep last", "--sweep=last: no such sweep"),
    bad("compare-both", "compare RUN --sweep last", "compare: accepted: runs, or --sweep, or --experiment"),
    bad("compare-limit-of-runs", "compare RUN --limit 3", "--limit=3: accepted with --experiment, or alone"),
    bad("compare-plot-kind", "compare --plot a.txt", "--plot=a.txt: accepted: a file .png, .svg, .pdf"),
    bad("compare-plot-a-folder", "compare --plot a.png", "--plot=a.png", files={"a.png": Path.mkdir}),
    bad("compare-plot-dot", "compare --plot .png", "--plot=.png"),
    bad("compare-html-kind", "compare --html a.txt", "--html=a.txt: accepted: a file .html, .htm"),
    bad("compare-html-a-folder", "compare --html a.html", "--html=a.html", files={"a.html": Path.mkdir}),
    bad("compare-html-nowhere", "compare --html no/a.html", "--html=no/a.html: no such folder as no"),
    bad("sync-missing", "sync nope", "nope: not the folder of a run"),
    bad("sync-store", "sync --store ftp://x", "tracking.uri=ftp://x"),
    bad("sync-one-of-two", "sync runs/one nope", "nope: not the folder of a run"),
    bad("ui-store", "ui --store sqlite:///nope.db", "nope.db: there is no such store"),
    bad("verb-empty", "''", ": cannot be read as KEY=VALUE"),
    bad("verb-after-overrides", "epochs=0 compare", "compare: cannot be read as KEY=VALUE", "epochs=0", lines=2),
]

# ---- files that a config names

OWN = {f"own/{part}/{name}/1.png": picture for part in ("train", "test") for name in ("a", "b")}
FILES = [
    *(
        bad(f"weights-{name}", f"{SMALL} model=mlp model.weights={path}", f"model.weights={path}", words, files=files)
        for name, path, words, files in (
            ("missing", "nope.pt", "no such file", {}),
            ("empty", "w.pt", "is not a file that torch.save wrote", {"w.pt": ""}),
            ("code", "w.pt", "holds code (", {"w.pt": saved(Evil())}),
            ("list", "w.pt", "holds no state_dict", {"w.pt": saved([torch.ones(1)])}),
            ("numbers", "w.pt", "holds no state_dict", {"w.pt": saved({"a": 1})}),
            ("of-another", "w.pt", "the weights of another model", {"w.pt": saved({"a": torch.ones(1)})}),
            ("loop", "w.pt", "", {"w.pt": link("w.pt")}),
        )
    ),
    *(
        bad(
            f"data-{name}",
            f"data=folder data.root={root} {typed} model=mlp epochs=1".replace("  ", " "),
            f"data.root={root}",
            words,
            files={**OWN, **files},
            printed="(decoding .*)?",
        )
        for name, root, typed, words, files in (
            ("missing", "nope", "", "does not exist", {}),
            ("empty-text", "", "", "", {}),
            ("no-test", "own", "", "no folder test", {"own/test": shutil.rmtree}),
            ("one-class", "own", "", "is in", {"own/test/b": shutil.rmtree}),
            ("other-classes", "own", "", "class c is in test and not in train", {"own/test/c/1.png": picture}),
            ("no-image", "own", "", "no image in train/a", {"own/train/a": emptied}),
            ("text-for-an-image", "own", "", "cannot be read", {"own/train/a/2.png": "hello"}),
            ("half-an-image", "own", "", "cannot be read", {"own/train/a/2.png": half_a_picture}),
            ("wide-image", "own", "", "cannot be read", {"own/train/a/2.png": wide}),
        )
    ),
    *(
        bad(f"data-of-{name}", f"data={name} data.root=own model=mlp epochs=1", "data.root=own", files={"own/x": ""})
        for name in ("cifar10", "mnist", "svhn")
    ),
    bad(
        "data-archive-damaged",
        "data=cifar10 data.root=own model=mlp",
        "data.root=own: cifar-10-python.tar.gz cannot be unpacked",
        printed=".*",
        files={"own/cifar-10-python.tar.gz": "hello"},
    ),
    bad("data-url-unknown-scheme", "data=cifar10 data.url=nope://x model=mlp", "data.url=nope://x"),
    bad(
        "data-url-of-nobody",
        "data=cifar10 data.url=http://127.0.0.1:1/ model=mlp",
        "http://127.0.0.1:1/",
        printed="downloading .*",
    ),
    bad(
        "data-of-two-sizes",
        "data=folder data.root=own model=mlp epochs=1",
        "data.image_size=null: the images have different sizes",
        files={**OWN, "own/train/a/2.png": lambda path: Image.new("RGB", (16, 16)).save(path)},
        printed="(decoding .*)?",
    ),
    *(
        bad(f"{key}-of-nobody", f"{typed} '{key}=\"{path}\"'", f"{key}={path}: ", words)
        for key, path, typed, words in (
            ("data.root", "~nobody-here", "data=folder model=mlp", "does not exist"),
            ("model.weights", "~nobody-here/w.pt", f"{SMALL} model=mlp", "no such file"),
        )
    ),
]

TABLE = [*WANTED, *DAMAGED, *STORES, *ARGUMENTS, *FILES]


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_runs_stores_and_files(case: Case, forks: Forks, recorded: Recorded, tmp_path: Path) -> None:
    def prepare(here: Path) -> None:
        recorded.copied(here)
        picture(here / "image.png")

    words = tuple(word.replace("RUN", recorded.id) for word in case.words)
    forks.check(replace(case, command=case.command.replace("RUN", recorded.id), words=words), tmp_path, prepare)

"""Values that no option takes, of every option of `conf/`; flags, launchers, points of a sweep, and the environment."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cases import SMALL, Case, Content, Forks, bad, fine, link

from blitz.config.groups import CONF

# ---- every option of conf/, by the kind of its default

# What no option of this kind takes, as it is typed.
WRONG: dict[type, tuple[str, ...]] = {
    bool: ("1", "maybe", "null", "", "[true]", "{a: true}", "0.5", "'\"true\"'"),
    int: ("1.5", "abc", "", "[1]", "{a: 1}", "nan", "-1", "true", "-inf", "'\"1\"'", "???"),
    float: ("abc", "", "nan", "inf", "-inf", "[1]", "{a: 1}", "true", "-1", "-1e-300", "'\"0.1\"'", "???"),
    str: ("[a]", "{a: b}", "null", "3", "1.5", "true", "???"),
    list: ("8", "[abc]", "nan", "[[1]]", "[-1]", "[null]", "abc"),
    type(None): ("{a: 1}", "[{a: 1}]", "[[[1]]]"),
}
NUMBERS_OR_A_WORD = ("device.threads", "tracking.step_loss")  # by default the word
OPEN = ("tags", "defaults", "hydra", "sweep")  # of conf/config.yaml: no options of a run
CHOICES = [file for file in sorted(CONF.glob("*/*.yaml")) if file.parent.name not in ("experiment", "debug", "search")]


def options(values: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from options(value, f"{path}{key}.")
        elif (key != "name" or not path) and f"{path}{key}" not in NUMBERS_OR_A_WORD:
            yield f"{path}{key}", value


def read(file: Path) -> dict[str, Any]:
    found = yaml.safe_load(file.read_text())
    assert isinstance(found, dict)
    return found


def of_options(name: str, command: str, found: list[tuple[str, Any]], turn: int) -> Case:
    """Each option with a value that it does not take; a line for each."""
    given = {
        key: WRONG[type(value)][(turn + index) % len(WRONG[type(value)])] for index, (key, value) in enumerate(found)
    }
    typed = [f"'{key}={value}'" if "'" not in value else f"{key}={value}" for key, value in given.items()]
    words = [
        f"blitz: {key}{':' if value == '???' else '=' if value[:1] not in '{[' else ''}" for key, value in given.items()
    ]
    return bad(name, " ".join([command, *typed]), *words, lines=len(given))


def every_option() -> Iterator[Case]:
    """A choice of each group at once, until all were chosen."""
    groups = [list(files) for _, files in groupby(CHOICES, lambda file: file.parent)]
    for turn, files in enumerate(zip_longest(*groups)):
        chosen = [file for file in files if file]
        found = [option for file in chosen for option in options(read(file), f"{file.parent.name}.")]
        yield of_options(f"choices-{turn}", " ".join(f"{file.parent.name}={file.stem}" for file in chosen), found, turn)
    for turn, file in enumerate(sorted(CONF.glob("search/*.yaml"))):
        if found := list(options(read(file), "search.")):
            yield of_options(f"search-{file.stem}", f"-m seed=0,1 search={file.stem}", found, turn)
    of_a_run = [(key, value) for key, value in options(read(CONF / "config.yaml"), "") if key.split(".")[0] not in OPEN]
    for turn in range(0, 12, 3):
        yield of_options(f"config-{turn}", "", of_a_run, turn)
    of_a_sweep = [(key, value) for key, value in options(read(CONF / "config.yaml"), "") if key.startswith("sweep.")]
    for turn in range(0, 8, 4):
        yield of_options(f"sweep-{turn}", "-m seed=0,1", of_a_sweep, turn)


OPTIONS = list(every_option())

# ---- values beyond what makes sense, and sizes that do not fit together

HUGE, MANY = "9" * 25, "9" * 400
TINY = f"{SMALL} model=mlp model.hidden=[]"


def trains(name: str, override: str) -> Case:
    return fine(name, f"{TINY} {override}", "test", makes=r"here/runs.*")


EXTREMES = [
    bad("epochs-digits", f"epochs={'9' * 5000}", "epochs=99", "accepted: numbers of at most 4,300 digits"),
    bad("batch-size-beyond-counting", f"{TINY} batch_size={HUGE}", f"batch_size={HUGE}"),
    bad("classes-beyond-images", f"{TINY} data.num_classes=1", "data.num_classes=1"),
    bad(
        "classes-beyond-memory",
        f"{TINY} data.num_classes={HUGE}",
        f"data.train_size=20: accepted: integer >= data.num_classes={HUGE}",
        "data.test_size=20",
        lines=2,
    ),
    bad(
        "image-size-one",
        "data=synthetic data.image_size=1 data.train_size=20 data.test_size=20",
        "data.image_size: net needs",
    ),
    bad(
        "train-size-one", "data=synthetic data.train_size=1 data.test_size=20 model=mlp", "data.train_size=1: accepted"
    ),
    bad("validation-nearly-all", f"{TINY} data.validation=0.9999", "data.validation=0.9999"),
    bad("limit-of-one", f"{TINY} data.limit=1", "batch_size=4: accepted: at most 1, the number of training images"),
    bad("limit-neither-number-nor-share", f"{TINY} data.limit=1.5", "data.limit=1.5"),
    bad(
        "step-loss-word",
        f"{TINY} tracking.step_loss=often",
        "tracking.step_loss=often: accepted: integer >= 1 or auto or null",
    ),
    bad("shift-beyond-the-image", f"{TINY} eval_shift=32", "eval_shift=32: accepted: 0 to 31 pixels"),
    bad("mean-of-two", f"{TINY} data.mean=[0.5,0.5]", "data.mean=[0.5, 0.5]"),
    bad("std-zero", f"{TINY} data.std=[0,0,0]", "data.std=[0, 0, 0]"),
    bad("noise-beyond-fp32", f"{TINY} data.noise=1e300", "data.noise=1e+300"),
    bad("lr-below-numbers", "optimizer.lr=1e-400", "optimizer.lr=0.0: accepted: number > 0"),
    bad("nesterov-without-momentum", f"{TINY} optimizer.nesterov=true optimizer.momentum=0", "optimizer.nesterov=true"),
    bad("depth-not-of-the-form", f"{SMALL} model=cifar_resnet model.depth=21", "model.depth=21"),
    bad("patch-beyond-the-image", f"{SMALL} model=vit model.patch=64", "model.patch=64"),
    bad("width-without-heads", f"{SMALL} model=vit model.width=10 model.heads=3", "model.width=10"),
    bad("arch-unknown", f"{SMALL} model=torchvision model.arch=resnet19", "model.arch=resnet19", "did you mean"),
    bad(
        "class-weights-of-two",
        f"{TINY} loss.class_weights=[1,2]",
        "loss.class_weights=[1.0, 2.0]: 2 weights for 10 classes",
    ),
    bad("class-weights-zero", f"{TINY} loss.class_weights=[{','.join(['0'] * 10)}]", "loss.class_weights"),
    bad("milestones-beside-every", f"{TINY} schedule=step schedule.milestones=[1]", "schedule.every"),
    bad("warmup-beyond-the-run", f"{TINY} schedule=cosine schedule.warmup=2", "schedule.warmup=2"),
    bad(
        "warmup-and-decay-beyond-the-run",
        f"{TINY} schedule=trapezoid schedule.warmup=0.9 schedule.decay=0.9",
        "schedule.warmup=0.9",
    ),
    bad("pad-beyond-reflection", f"{TINY} augment=flip_crop augment.pad=32 augment.pad_mode=reflect", "augment.pad=32"),
    bad("trivial-on-two-channels", f"{TINY} data.channels=2 augment=trivial", "augment.name=trivial: made for"),
    bad("precision-of-a-gpu", f"{TINY} device=cpu device.precision=fp16", "device.precision=fp16"),
    bad("threads-word", "device.threads=all", "device.threads=all: accepted: auto or integer >= 1"),
    bad("experiment-long", f"tracking.experiment={'x' * 257}", "tracking.experiment='x", "1 to 256", store=True),
    bad("tag-of-ours", "tags.sweep=x", "tags.sweep: blitz sets this tag itself"),
    bad("tag-without-name", "tags.=b", "tags."),
    bad("tags-null", "tags=null", "tags=null: accepted: mapping of text to text"),
    bad("runs-dir-a-file", f"{TINY} runs_dir=notes.txt", "runs_dir=notes.txt: is a file", files={"notes.txt": "x"}),
    bad(
        "runs-dir-below-a-file", f"{TINY} runs_dir=notes.txt/runs", "runs_dir=notes.txt/runs", files={"notes.txt": "x"}
    ),
    bad("runs-dir-a-loop", f"{TINY} runs_dir=runs", "runs_dir=runs", files={"runs": link("runs")}),
    bad("runs-dir-of-the-system", f"{TINY} runs_dir=/proc/runs", "runs_dir=/proc/runs"),
    bad("runs-dir-long", f"{TINY} runs_dir={'x' * 300}", f"runs_dir={'x' * 200}"),
    trains("name-long", f"name={'x' * 3000}"),
    trains("name-odd", "'name=\"a/b\\n\\x1b[31m\"'"),
    trains("eval-beyond-counting", f"eval_every={HUGE}"),
]

# ---- how overrides are written

GRAMMAR = [
    bad("only-a-tilde", "'~'", "cannot be read as KEY=VALUE"),
    bad("two-dots", "optimizer..lr=1", "optimizer..lr=1"),
    bad("slash", "optimizer/lr=1", "optimizer/lr"),
    bad("colon", "seed:1 epochs=0", "seed:1"),
    bad("index", "model=mlp model.hidden[0]=3", "model.hidden[0]"),
    bad("unicode-minus", "optimizer.lr=−1", "optimizer.lr=−1: cannot be read"),
    bad("not-utf-8", "name=\udcff", "name=", "cannot be read as KEY=VALUE"),
    bad("control-characters", "'model=\x1b[2Jnet'", "model="),
    bad("newline", "'model=net\nmodel=mlp'", "model="),
    bad("deep-mapping", f"'tags={'{a:' * 300}1{'}' * 300}'", "tags", "brackets within brackets 50 times at most"),
    bad("choice-in-a-mapping", "'optimizer={name: adam}'", "optimizer.momentum: no such option of adam", lines=2),
    bad("cast", "epochs=int(abc)", "epochs=int(abc)"),
    bad("unknown-function", "epochs=floor(3)", "epochs=floor(3)"),
    bad("choice-function", "'seed=choice(1,2)'", "seed=choice(1,2): several values need -m"),
    bad("range-of-text", "-m 'seed=range(a,b)'", "seed=range(a,b)"),
    bad("glob-of-a-value", "-m 'seed=glob(*)'", "seed=glob(*)"),
    bad("glob-of-nothing", "-m 'model=glob(nope*)'", "model=glob(nope*)"),
    bad("sort-of-mixed", "-m 'seed=sort(3,a)'", "seed=sort(3,a)"),
    bad("trailing-comma", "-m seed=1,", "seed=1,"),
    bad("quotes-unclosed", 'name="\'a"', "name='a"),
    bad("removing-hydra", "'~hydra'", "~hydra"),
    bad("hydra-as-a-mapping", "'hydra={verbose: true}' epochs=0", "epochs=0"),
    bad("hydra-unknown", "hydra.nope=1", "hydra.nope: no such option"),
    bad("hydra-mode-unknown", "hydra.mode=FAST", "hydra.mode"),
    bad("hydra-group-unknown", "hydra/launhcer=basic", "hydra/launhcer: no such group; did you mean hydra/launcher?"),
    bad("flag-with-value", "--multirun=3", "--multirun"),
    bad("flag-abbreviated", "--multi seed=0,1 epochs=0", "epochs=0"),
    bad("resolve-without-cfg", "--resolve epochs=0", "--resolve"),
]

# ---- launchers and sweepers

JOBS = f"-m seed=0,1 {TINY}"


def launcher(name: str, chosen: str, option: str, *words: str, **more: Any) -> Case:
    return bad(f"{chosen}-{name}", f"{JOBS} hydra/launcher={chosen} {option}".strip(), *words, **more)


LAUNCHERS = [
    launcher(
        "option-misspelled",
        "joblib",
        "hydra.launcher.n_jbos=2",
        "hydra.launcher.n_jbos: no such option",
        "did you mean hydra.launcher.n_jobs?",
    ),
    launcher("zero-jobs", "joblib", "hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0"),
    launcher("jobs-swept", "joblib", "hydra.launcher.n_jobs=1,2", "hydra.launcher.n_jobs=1,2"),
    launcher(
        "option-of-another",
        "basic",
        "hydra.launcher.n_jobs=2",
        "hydra.launcher.n_jobs: no such option",
        "hydra/launcher=NAME chooses",
    ),
    launcher("misspelled", "jobblib", "", "launcher=jobblib: no such launcher", "did you mean joblib?"),
    launcher("timeout-text", "submitit_local", "hydra.launcher.timeout_min=abc", "hydra.launcher.timeout_min=abc"),
    launcher(
        "option-of-slurm", "submitit_local", "hydra.launcher.partition=gpu", "hydra.launcher.partition: no such option"
    ),
    bad("sweeper-option", f"{JOBS} hydra.sweeper.max_batch_size=1", "hydra.sweeper.max_batch_size: no such option"),
    bad("sweeper-params-number", f"{JOBS} hydra.sweeper.params=3", "hydra.sweeper.params=3"),
    bad("sweep-without-values", f"-m {TINY} sweep.samples=3", "sweep.samples=3: nothing to draw from"),
    bad("sweep-of-different-stores", f"-m {TINY} runs_dir=a,b", "runs_dir: accepted: the same for all jobs"),
    bad(
        "sweep-of-options",
        "-m seed=0,1 sweep.on_failure=stop,continue",
        "sweep.on_failure=stop,continue: accepted: one",
    ),
    bad("sweep-resume-missing", f"-m {TINY} sweep.resume=nope", "sweep.resume=nope: no such sweep"),
    bad("sweep-resume-last-of-none", f"-m {TINY} sweep.resume=last", "sweep.resume=last: no such sweep"),
    bad("sweep-resume-path", f"-m {TINY} sweep.resume=../..", "sweep.resume=../.."),
    bad("sweep-skip-without-store", JOBS + " sweep.skip_finished=true", "sweep.skip_finished=true: needs a store"),
    bad("sweep-as-a-value", "-m seed=0,1 sweep=3", "sweep=3"),
]

# ---- points and draws


def points(name: str, content: Content, *words: str, file: str = "points.yaml", typed: str = "", **more: Any) -> Case:
    command = f"-m {TINY} sweep.points={file} {typed}".strip()
    return bad(f"points-{name}", command, *words, files={file: content}, **more)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("sheet", "optimizer.lr\n0.1\n")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
POINTS = [
    bad("points-missing", f"-m {TINY} sweep.points=nope.yaml", "sweep.points=nope.yaml: No such file"),
    bad("points-without-m", f"{TINY} sweep.points=nope.yaml", "sweep.points=nope.yaml: needs -m"),
    points("folder", Path.mkdir, "sweep.points=points.yaml: Is a directory"),
    points("link-to-itself", link("points.yaml"), "sweep.points=points.yaml"),
    points("no-points", "[]\n", "sweep.points=points.yaml: holds no points"),
    points("mapping", "seed: 1\n", "points.yaml: accepted: a list of points"),
    points("empty-point", "- {}\n", "points.yaml: accepted: a list of points"),
    points("not-utf-8", b"- name: \xff\n", "sweep.points=points.yaml: cannot be read"),
    points(
        "tag", "- name: !!python/object/apply:os.system [touch pwned]\n", "sweep.points=points.yaml: cannot be read"
    ),
    points("bomb", BOMB, "sweep.points=points.yaml: cannot be read"),
    points("of-hydra", "- {hydra.verbose: true}\n", "points.yaml: hydra.verbose: accepted: the dotted key"),
    points("twice", "- {optimizer: {lr: 1}, optimizer.lr: 2}\n", "points.yaml: optimizer.lr stands twice"),
    points(
        "unknown",
        "- {optimizer.lrr: 1}\n- {optimizer.lrr: 2}\n",
        "points.yaml: optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
    ),
    points("value", "- {seed: 1}\n- {seed: -1}\n", "points.yaml: seed=-1: accepted: integer >= 0 (in 1 of 2 jobs"),
    points("choice", "- {loss: focla}\n", "loss=focla: no such loss; did you mean focal?"),
    points("interpolation", "- {seed: '${nope}'}\n", "seed", "nope"),
    points(
        "command-line-as-well", "- {seed: 1}\n", "seed: is given by points.yaml and on the command line", typed="seed=2"
    ),
    points(
        "too-many",
        "- {seed: 1}\n" * 1001,
        "sweep.points=points.yaml: 1,001,000 jobs; accepted: at most 100,000",
        typed="'eval_every=range(1,1001)'",
    ),
    points("semicolons", "seed;epochs\n1;2\n", "points.csv: accepted: commas", file="points.csv"),
    points("column-twice", "seed,seed\n1,2\n", "points.csv: more than one column seed", file="points.csv"),
    points("too-many-cells", "seed\n1\n1,2\n", "points.csv: line 3: 2 cells, but 1 columns", file="points.csv"),
    points("column-empty", "seed,epochs\n1,\n", "points.csv: epochs: no cell of this column", file="points.csv"),
    points("quote-unclosed", 'seed,name\n1,"a\n', "sweep.points=points.csv: cannot be read", file="points.csv"),
    points("cell-unreadable", "seed\n[1\n", "points.csv: line 2: seed=[1: accepted: one value", file="points.csv"),
    points("bom-of-csv", "\ufeffseed\n-1\n", "points.csv: seed=-1: accepted: integer", file="points.csv"),
    bad(
        "draw-without-number",
        f"-m {TINY} 'optimizer.lr=interval(0,1)'",
        "optimizer.lr=interval(0,1): needs sweep.samples=N",
    ),
    bad("draw-of-nan", f"-m {TINY} 'optimizer.lr=interval(nan,1)' sweep.samples=2", "optimizer.lr=interval(nan,1)"),
    bad("draw-log-of-zero", f"-m {TINY} 'optimizer.lr=tag(log,interval(0,1))' sweep.samples=2", "accepted: A above 0"),
    bad("draw-unknown-tag", f"-m {TINY} 'optimizer.lr=tag(lgo,interval(1,2))' sweep.samples=2", "no such tag as lgo"),
    bad(
        "draw-no-whole-number",
        f"-m {TINY} 'batch_size=int(interval(1.2,1.8))' sweep.samples=2",
        "batch_size=int(interval(1.2,1.8)): accepted: interval(A,B) with A below B",
    ),
    bad(
        "draw-fractions-of-a-count",
        f"-m {TINY} 'batch_size=interval(1.5,8.5)' sweep.samples=2",
        "batch_size=interval(1.5,8.5): accepted: integer >= 1; int(interval(A,B)) draws whole numbers",
    ),
    bad("draw-twice", f"-m {TINY} 'optimizer.lr=interval(0.1,1)' optimizer.lr=1 sweep.samples=2", "optimizer.lr"),
]

# ---- the environment

FULL = {"HYDRA_FULL_ERROR": "1"}
ENVIRONMENT = [
    bad("hydra-full-error", "epochs=0", "epochs=0", environment=FULL),
    bad(
        "cache-a-file", "data=digits", "BLITZ_CACHE", environment={"BLITZ_CACHE": "notes.txt"}, files={"notes.txt": "x"}
    ),
    bad("cache-that-cannot-be", "data=digits", "BLITZ_CACHE", environment={"BLITZ_CACHE": "/proc/nope"}),
    bad("data-nowhere", "data=cifar10 model=mlp", "BLITZ_DATA", environment={"BLITZ_DATA": "nope"}),
    bad("no-gpu-is-visible", f"{TINY} device=cuda", "device=cuda", environment={"CUDA_VISIBLE_DEVICES": ""}),
    *(
        bad(f"store-{name}", "compare", f"tracking.uri={uri}", environment={"MLFLOW_TRACKING_URI": uri})
        for name, uri in (
            ("database", "postgresql://127.0.0.1:1/x"),
            ("memory", "sqlite://"),
        )
    ),
    bad("store-blank", "compare", "mlflow.db: there is no such store", environment={"MLFLOW_TRACKING_URI": ""}),
    bad(
        "store-of-training",
        TINY,
        "tracking.uri=ftp://x: no store has the scheme ftp",
        store=True,
        environment={"MLFLOW_TRACKING_URI": "ftp://x"},
    ),
    *(
        fine(f"trains-{name}", f"{TINY}", "test", makes=r"here/runs.*", environment=environment)
        for name, environment in (
            ("no-home", {"HOME": None}),
            ("one-column", {"COLUMNS": "1"}),
            ("git-nowhere", {"GIT_DIR": "/nonexistent"}),
        )
    ),
    fine("compare-help-in-one-column", "compare --help", "Usage", environment={"COLUMNS": "1"}),
]

TABLE = [*OPTIONS, *EXTREMES, *GRAMMAR, *LAUNCHERS, *POINTS, *ENVIRONMENT]


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_values_and_surroundings(case: Case, forks: Forks, tmp_path: Path) -> None:
    forks.check(case, tmp_path)

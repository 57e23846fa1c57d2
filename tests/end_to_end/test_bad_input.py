"""A mistake on the command line costs one clear message: exit code 2, and nothing on disk."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import psutil
import pytest
from support import shell
from support.processes import PATIENCE

from blitz.commands import VERBS

Blitz = Callable[[str], list[str]]


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blitz:
    """Run a command line in a folder of its own; returns the mistakes that it reports, and leaves no file."""
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> list[str]:
        before = everything(tmp_path)
        reported = shell.refused(*shlex.split(command))
        assert everything(tmp_path) == before
        return reported

    return run


def without_menu(problems: list[str]) -> list[str]:
    """Without what is accepted where that is a whole menu, which may grow."""
    return [problem.partition(" (accepted: ")[0] for problem in problems]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # an option
        ("optimizer.lrr=1", ["optimizer.lrr: no such option of sgd; did you mean optimizer.lr?"]),
        ("+optimizer.foo=1 ++loss.gamma=1 'schedule={final: 1}' tracking.urj=x checkpoint.kep=all optimizer=adam",
         ["optimizer.foo: no such option of adam",
          "schedule.final: no such option of constant",
          "loss.gamma: no such option of cross_entropy",
          "tracking.urj: no such option; did you mean tracking.uri?",
          "checkpoint.kep: no such option; did you mean checkpoint.keep?"]),
        # a value
        ("optimizer.lr=abc", ["optimizer.lr=abc: accepted: number > 0"]),
        ("optimizer.lr=\"'0.1'\" optimizer.momentum=1 optimizer.weight_decay=inf optimizer.nesterov=1 model=mlp "
         "model.hidden=8 model.dropout=nan device.threads=??? data.limit=true checkpoint.keep=bset "
         "epochs=1.5 batch_size= seed=null clip_norm=-1 tags.year=2015",
         ["model.hidden=8: accepted: list of: integer >= 1",
          "model.dropout=NaN: accepted: number >= 0 and < 1",
          'optimizer.lr="0.1": accepted: number > 0',
          "optimizer.momentum=1: accepted: number >= 0 and < 1",
          "optimizer.nesterov=1: accepted: true or false",
          "optimizer.weight_decay=Infinity: accepted: number >= 0",
          "data.limit=true: accepted: integer >= 1 or number > 0 and < 1 or null",
          "device.threads: a value is needed",
          "checkpoint.keep=bset: accepted: all or best or last or none or null",
          "epochs=1.5: accepted: integer >= 1",
          "batch_size=: accepted: integer >= 1",
          "clip_norm=-1: accepted: number > 0 or null",
          "seed=null: accepted: integer >= 0",
          'tags.year=2015: accepted: text, such as \'tags.year="2015"\'']),
        ("early_stopping=2 data.validation=0 micro_batch_size=8",
         ["early_stopping=2: needs a validation split; set data.validation above 0",
          "micro_batch_size=8: accepted: at most batch_size=4"]),
        # a key
        ("epohcs=3", ["epohcs: no such key of a config; did you mean epochs?"]),
        ("modle=net", ["modle: no such key of a config; did you mean model?"]),
        ("~loss ~tracking", ["~loss: every config has one; accepted: loss=NAME, loss.OPTION=VALUE",
                             "~tracking: every config has one; accepted: tracking=NAME, tracking.OPTION=VALUE"]),
        ("~nope ~tags.x", ["~nope: no such key of a config", "~tags.x: no such key of a config"]),
        ("~epochs ~epochs=3 ~optimizer.lr ~optimizer.name ~experiment ~checkpoint.keep",
         ["~epochs: cannot be removed; accepted: epochs=VALUE",
          "~epochs=3: cannot be removed; accepted: epochs=VALUE",
          "~optimizer.lr: cannot be removed; accepted: optimizer.lr=VALUE",
          "~optimizer.name: every config has one; accepted: optimizer=NAME, optimizer.OPTION=VALUE",
          "~experiment: leave it out for none",
          "~checkpoint.keep: cannot be removed; accepted: checkpoint.keep=VALUE"]),
        ("~model@foo", ["~model@foo: nothing of this name was chosen"]),
        ("model@foo=net", ["model: accepted: model=NAME, without @"]),
        # a choice
        ("model=resnt20", ["model=resnt20: no such model; did you mean resnet20?"]),
        ("model=/etc/passwd", ["model=/etc/passwd: no such model"]),
        ("experiment=quikstart", ["experiment=quikstart: no such experiment; did you mean quickstart?"]),
        ("optimizer=null", ["optimizer=null: needs a name; leave it out for the default"]),
        ("experiment=[quickstart,tutoral] tracking=mlfow optimizer=3 debug=null",
         ["experiment=tutoral: no such experiment; did you mean tutorial?",
          "tracking=mlfow: no such tracking; did you mean mlflow?",
          "optimizer=3: no such optimizer",
          "debug=null: needs a name; leave it out for the default"]),
        ("+epochs=1", ["+epochs: every config has it; write it without +"]),
        ("+experiment=quickstart +model=mlp ++debug=fast",
         ["+experiment=quickstart: write it without +, experiment=NAME",
          "+model=mlp: write it without +, model=NAME",
          "++debug=fast: write it without +, debug=NAME"]),
        # what cannot be read
        ("optimizer.lr=[1 epochs=1 seed =3 ''",
         ["optimizer.lr=[1: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)",
          "seed: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)",
          "=3: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)",
          ": cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)"]),
        ("=3", ["=3: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)"]),
        ("'optimizer.lr=${nope}'", ["optimizer.lr: Interpolation key 'nope' not found"]),
        ("'optimizer.lr=${nope:1}'", ["optimizer.lr: Unsupported interpolation type nope"]),
        ("optimizer.lr=1,2 model=net,mlp",
         ["optimizer.lr=1,2: several values need -m, for a sweep; a list is written optimizer.lr=[A,B]",
          "model=net,mlp: several values need -m, for a sweep"]),
        ("'seed=range(1,9999999999999)' 'optimizer.lr=shuffle(range(0,1,0.0))'",
         ["seed=range(1,9999999999999): several values need -m, for a sweep; a list is written seed=[A,B]",
          "optimizer.lr=shuffle(range(0,1,0.0)): several values need -m, for a sweep; a list is written "
          "optimizer.lr=[A,B]",
          "optimizer.lr=0: accepted: number > 0"]),
        (f"epochs=1{'0' * 4300}", [f"epochs=1{'0' * 192}…{'0' * 19}: accepted: numbers of at most 4,300 digits"]),
        ("'model=[net,mlp]' 'optimizer=[sgd]' 'tracking=[]'",
         ["model=[net,mlp]: accepted: one name", "optimizer=[sgd]: accepted: one name",
          "tracking=[]: accepted: one name"]),
        ("'model=[net,nett]' modle=net",
         ["model=[net,nett]: accepted: one name", "model=nett: no such model; did you mean net?",
          "modle: no such key of a config; did you mean model?"]),
        # everything at once
        ("model=resnt20 optimizer.lrr=1 epochs=abc seed=-1 modle=net experiment=quikstart",
         ["model=resnt20: no such model; did you mean resnet20?",
          "experiment=quikstart: no such experiment; did you mean quickstart?",
          "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
          "epochs=abc: accepted: integer >= 1",
          "seed=-1: accepted: integer >= 0",
          "modle: no such key of a config; did you mean model?"]),
        ("epochs=0 optimizer=null ~nope lr=[1 hydra.job.nme=x",
         ["optimizer=null: needs a name; leave it out for the default",
          "~nope: no such key of a config",
          "lr=[1: cannot be read as KEY=VALUE (quote what has spaces, brackets or commas)",
          "hydra.job.nme: no such option; did you mean hydra.job.name?",
          "epochs=0: accepted: integer >= 1"]),
        # longer than any name, larger than any size
        (f"experiment={'x' * 251} +hydra/launcher={'x' * 251} {'y' * 251}=1 optimizer.{'y' * 251}=1",
         [f"experiment={'x' * 251}: too long for the name of a key or of a file",
          f"+hydra/launcher={'x' * 251}: too long for the name of a key or of a file",
          f"{'y' * 251}=1: too long for the name of a key or of a file",
          f"optimizer.{'y' * 251}=1: too long for the name of a key or of a file"]),
        ("optimizer.lr=1e300 model=vit model.depth=99999999999999999999 device.threads=99999999999999999999",
         ["optimizer.lr=1e+300: accepted: numbers up to 3.4e+38",
          "model.depth=99999999999999999999: accepted: integer >= 1 and <= 2000",
          "device.threads=99999999999999999999: accepted: auto or integer >= 1 and <= 1024"]),
        # a sweep's options, and Hydra's for folders
        ("sweep.dry_run=true sweep.id=mine", ["sweep.dry_run=true: needs -m, for a sweep",
                                              "sweep.id=mine: needs -m, for a sweep"]),
        ("hydra.run.dir=mine hydra.job.chdir=true hydra.output_subdir=mine",
         ["hydra.run.dir=mine: blitz makes a run's folder itself, in runs_dir",
          "hydra.job.chdir=true: blitz makes a run's folder itself, in runs_dir",
          "hydra.output_subdir=mine: blitz makes a run's folder itself, in runs_dir"]),
        ("hydra.job.num=1 hydra.overrides.task=[] hydra.runtime.cwd=mine",
         ["hydra.job.num=1: Hydra sets this key itself", "hydra.overrides.task=[]: Hydra sets this key itself",
          "hydra.runtime.cwd=mine: Hydra sets this key itself"]),
        ("hydra/launcher=joblib hydra/sweeper=basic",
         ["hydra/launcher=joblib: needs -m, for a sweep", "hydra/sweeper=basic: needs -m, for a sweep"]),
        ("-m hydra.mode=RUN", ["hydra.mode=RUN: contradicts -m, which asks for a sweep"]),
        ("-m hydra.verbose=true,false",
         ["hydra.verbose=true,false: accepted: one value; a list is written KEY=[A,B]"]),
        ("~hydra.job", ["~hydra.job: cannot be removed"]),
        ("hydra.searchpath=[missing]", ["hydra.searchpath=[missing]: no such folder"]),
        ("-m seed=0,1 hydra.searchpath=[pkg://missing]", ["hydra.searchpath=[missing]: no such folder"]),
        ("hydra.searchpath=missing",
         ["hydra.searchpath=missing: accepted: list of folders, such as hydra.searchpath=[DIR]"]),
        ("hydra.searchpath=[ftp://a]", ["hydra.searchpath: no such scheme as ftp"]),
        ("'hydra.verbose={a: [1]}'",
         ["hydra.verbose={'a': [1]}: accepted: true, false, the name of a logger or a list of these"]),
        ("hydra.verbose=[1]", ["hydra.verbose=[1]: accepted: true, false, the name of a logger or a list of these"]),
        # flags
        ("--cfg job --package nope", ["--package=nope: no such key of the config that is printed"]),
        ("--cfg job --package [", ["--package=[: no such key of the config that is printed"]),
        ("--one --two", ["--one: no such flag; see blitz --help and blitz --hydra-help",
                         "--two: no such flag; see blitz --help and blitz --hydra-help"]),
        ("--cfg", ["argument --cfg/-c: expected one argument"]),
        ("--cfg job --info", ["Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified"]),
        ("--config-dir nope epochs=1", ["--config-dir=nope: no such folder"]),
        ("-cp nope", ["--config-path=nope: blitz has its own; --config-dir DIR adds groups and recipes"]),
        ("-cn confg", ["--config-name=confg: no such config; did you mean config?"]),
        # verbs
        ("optoins", ["optoins: no such command; did you mean options?"]),
        ("options --nope", ["options: No such option '--nope'."]),
        ("options modle", ["modle: no such group; did you mean model?"]),
        ("options model nett", ["model=nett: no such model; did you mean net?"]),
        ("options model net more", ["options: Got unexpected extra argument (more)"]),
        ("ui --port 99999999", ["ui: Invalid value for '--port': 99999999 is not in the range 1<=x<=65535."]),
        (f"compare --limit {'9' * 30}",
         [f"compare: Invalid value for '--limit': {'9' * 30} is not in the range 1<=x<=1000000."]),
        ("ui --prot 1", ["ui: No such option '--prot'. Did you mean '--port'?"]),
    ],
)  # fmt: skip
def test_mistakes_are_reported_together_each_in_one_line(refused, command, expected):
    assert sorted(without_menu(refused(command))) == sorted(expected)


# Sweeps


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("-m optimizer.lr=abc,0", [
            "optimizer.lr=abc: accepted: number > 0 (in 1 of 2 jobs, the first of them lr=abc)",
            "optimizer.lr=0: accepted: number > 0 (in 1 of 2 jobs, the first of them lr=0)"]),
        ("experiment=quickstart -m epohcs=1,2", ["epohcs: no such key of a config; did you mean epochs?"]),
        ("-m model=net,nett epohcs=1", ["model=nett: no such model; did you mean net?",
                                        "epohcs: no such key of a config; did you mean epochs?"]),
        # counted before they are expanded
        ("-m 'seed=range(1,9999999999999)'",
         ["seed=range(1,9999999999999): 9,999,999,999,998 jobs; accepted: at most 100,000"]),
        ("-m 'seed=range(1,300)' 'optimizer.lr=range(0.001,1,0.001)'",
         ["optimizer.lr=range(0.001,1,0.001): 298,701 jobs; accepted: at most 100,000"]),
        ("-m 'optimizer.lr=shuffle(range(0,1,1e-300))'",
         ["optimizer.lr=shuffle(range(0,1,1e-300)): too many jobs; accepted: at most 100,000"]),
        ("-m 'seed=range(0,5,0)'",
         ["seed=range(0,5,0): accepted: range(START,STOP,STEP) with three numbers, STEP not 0"]),
        ("-m 'optimizer.lr=range(0,1e999)'",
         ["optimizer.lr=range(0,1e999): accepted: range(START,STOP,STEP) with three numbers, STEP not 0"]),
        ("-m 'seed=range(5,0)'", ["seed=range(5,0): holds no value, and the sweep no job"]),
        ("-m 'model=[net,mlp],net'", [
            "model=[net,mlp]: accepted: one name (in 1 of 2 jobs, the first of them model=[net,mlp])"]),
    ],
)  # fmt: skip
def test_mistakes_in_a_sweep_are_reported_together(refused, command, expected):
    assert without_menu(refused(command)) == expected


# A folder of the user's own


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str, str], None]:
    def write(name: str, content: str) -> None:
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    return write


def test_mistakes_inside_files_of_the_users_own(refused, own):
    own("optimizer/typo.yaml", "name: sgd\nlrr: 1\nmomentum: '0.9'\n")
    own("model/unknown.yaml", "name: nett\n")
    own("schedule/needy.yaml", "name: cosine\nfinal: ???\n")
    own("loss/listed.yaml", "- mse\n")
    own("augment/empty.yaml", "")
    own("experiment/typo.yaml", "# @package _global_\nepohcs: 3\ndata:\n  lmit: 3\n")
    choices = "optimizer=typo model=unknown schedule=needy loss=listed augment=empty experiment=typo"
    assert set(without_menu(refused(f"--config-dir own {choices}"))) == {
        "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
        'optimizer.momentum="0.9": accepted: number >= 0 and < 1',
        "model=nett: no such model; did you mean net?",
        "schedule.final: a value is needed",
        'loss=["mse"]: accepted: mapping of options to values',
        "augment: no choice made",
        "epohcs: no such key of a config; did you mean epochs?",
        "data.lmit: no such option of cifar10; did you mean data.limit?",
    }


@pytest.mark.parametrize(
    ("name", "content", "command", "expected"),
    [
        ("optimizer/own.yaml", "name: sgd\nname: adam\n", "optimizer=own",
         "own.yaml: cannot be read: line 2: found duplicate key name"),
        ("optimizer/own.yaml", "name: [sgd\n", "optimizer=own", "own.yaml: cannot be read: line 2: "),
        ("experiment/own.yaml", "# @package _global_\ndefaults:\n  - override /model: nett\n", "experiment=own",
         "model=nett: no such model; did you mean net? (accepted: airbench, cifar_resnet, mlp, net, "),
        ("experiment/own.yaml", "# @package _global_\ndefaults:\n  - quikstart\n", "experiment=own",
         "In 'experiment/own': Could not load 'experiment/quikstart'."),
        ("optimizer/own.yaml", "name: sgd\n", "optimizer=onw", "optimizer=onw: no such optimizer; did you mean own?"),
        ("hydra/launcher/own.yaml", "n_jobs: 2\n", "-m hydra/launcher=own seed=1,2",
         "hydra.launcher: names no launcher (accepted: hydra/launcher=NAME of an installed one)"),
        ("hydra/launcher/own.yaml", "_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher\nn: 1\n",
         "-m hydra/launcher=own seed=1,2", "hydra.launcher.n: Key 'n' not in 'BasicLauncherConf'"),
        ("optimizer/sgd.yaml", "name: sgd\nlr: 1\n", "epochs=0",
         "own/optimizer/sgd.yaml: blitz has a file of that name, which goes first; rename yours"),
        ("experiment/own.yaml", "# @package _global_\ndefaults:\n  - override /model: [net, mlp]\n", "experiment=own",
         "model=[…]: accepted: one name"),
    ],
)  # fmt: skip
def test_files_of_the_users_own_that_hydra_refuses(refused, own, name, content, command, expected):
    own(name, content)
    (problem,) = refused(f"--config-dir own {command}")
    assert expected in problem


@pytest.mark.parametrize("flag", ["", "-m"])
def test_folders_of_the_search_path_are_the_users_own_as_well(refused, own, flag):
    own("optimizer/own.yaml", "name: sgd\n")
    path = f"{flag} hydra.searchpath=[own] optimizer=own"
    assert refused(f"{path} modle=net") == ["modle: no such key of a config; did you mean model?"]
    own("optimizer/sgd.yaml", "name: sgd\nlr: 1\n")
    (problem,) = refused(f"{path} epochs=0")
    assert problem == "own/optimizer/sgd.yaml: blitz has a file of that name, which goes first; rename yours"


def test_flags_and_overrides_come_in_any_order(refused, own):
    own("optimizer/own.yaml", "name: sgd\n")
    printed = refused("epochs=0 --config-dir own optimizer=own seed=-1")
    assert printed == ["epochs=0: accepted: integer >= 1", "seed=-1: accepted: integer >= 0"]


# Sizes and names beyond what a machine holds

SMALL = "data=synthetic data.train_size=20 data.test_size=20 tracking=none"


@pytest.mark.parametrize(
    ("sizes", "key"),
    [
        ("model=mlp model.hidden=[99999999999]", "model.hidden=[99999999999]"),
        ("model=mlp model.hidden=[99999999999999999999]", "model.hidden=[99999999999999999999]"),
        ("model=vit model.mlp_ratio=1e30", "model.mlp_ratio=1e+30"),
        ("model=vit model.width=99999999999999999999 model.heads=1",
         "model.width=99999999999999999999, model.heads=1"),
        ("model=wide_resnet model.widen_factor=1000000", "model.widen_factor=1000000"),
        ("data.image_size=300000", "data.image_size=300000, data.train_size=20, data.test_size=20"),
        ("data.channels=99999999999999999999",
         "data.channels=99999999999999999999, data.train_size=20, data.test_size=20"),
        ("data.train_size=99999999999999999999", "data.train_size=99999999999999999999, data.test_size=20"),
        ("augment=flip_crop augment.pad=1000000000000", "augment.pad=1000000000000"),
        ("augment=trivial augment.pad=99999999999999999999", "augment.pad=99999999999999999999"),
    ],
)  # fmt: skip
def test_sizes_beyond_memory(refused, sizes, key):
    (problem,) = refused(f"{SMALL} {sizes}")
    assert problem.startswith(f"{key}: too large for this machine (")


def test_augmentation_that_images_are_too_small_for(refused):
    problem = "augment.cutout=33: the images have 32 x 32 pixels"
    assert without_menu(refused(f"{SMALL} augment=flip_crop augment.cutout=33")) == [problem]


def test_sizes_that_a_system_would_give_and_does_not_have(refused):
    units = psutil.virtual_memory().total // (3 * 32 * 32 * 4)  # weights as large as the memory
    (problem,) = refused(f"{SMALL} model=mlp model.hidden=[{units}]")
    assert problem.startswith(f"model.hidden=[{units}]: too large for this machine (")


def test_images_beyond_the_disk_of_the_cache(refused):
    (problem,) = refused("data=digits data.image_size=30000000 tracking=none")
    assert problem.startswith("data.image_size=30000000: 1,797 such images take more than the ")


@pytest.mark.parametrize("link", ["own", "own/train", "own/train/a", "own/train/a/image.png"])
def test_links_that_point_to_themselves(refused, tmp_path, link):
    path = tmp_path / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        with suppress(OSError):
            (tmp_path / "own" / folder).mkdir(parents=True)
    (problem,) = refused("data=folder data.root=own tracking=none")
    assert problem.startswith("data.root=own: ")
    assert problem.endswith("(accepted: a folder that holds train/CLASS/IMAGE and test/CLASS/IMAGE)")


@pytest.mark.parametrize(
    "command",
    ["resume ./{}", "compare {}", "compare --store sqlite:///{}", "--config-dir {}", "model.weights={} " + SMALL],
)
def test_names_that_are_too_long_for_a_file(refused, command):
    (problem,) = refused(command.format("x" * 5000))
    assert problem.endswith(f"{'x' * 19}: File name too long")
    assert len(problem) < 500


# A store that cannot be used

BAD_STORES = [
    "ftp://x",
    "sqlite:///missing/mlflow.db",
    "sqlite:///notes.txt",
    "sqlite:///folder",
    "./mlruns",
    "http://[::1",
]
VERBS_WITH_A_STORE = [verb for verb in VERBS.commands if any(o.name == "uri" for o in VERBS.commands[verb].params)]


@pytest.mark.parametrize("store", BAD_STORES)
@pytest.mark.parametrize("verb", VERBS_WITH_A_STORE)
def test_no_verb_ends_in_a_traceback_on_a_bad_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, store: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("not a database\n")
    Path("folder").mkdir()
    needed = [p for p in VERBS.commands[verb].params if isinstance(p, click.Argument) and p.required]
    ended = shell.blitz(verb, *("0123abcd" for _ in needed), "--store", store)
    assert ended.code in (1, 2)  # 1 where only a library finds the mistake
    assert ended.output == ""
    assert len(shell.problems(ended.told)) == 1


# As a user runs it


@pytest.mark.slow
def test_a_process_of_its_own(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "blitz", "optimizer.lrr=1", "epochs=0"],
        cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stdout == ""
    assert shell.problems(process.stderr.splitlines()) == [
        "optimizer.lrr: no such option of sgd; did you mean optimizer.lr?",
        "epochs=0: accepted: integer >= 1",
    ]
    assert everything(tmp_path) == []

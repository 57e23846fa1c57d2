"""blitz.cli and blitz.commands: pages and listings, what they import, and the public API. See also test_bad_input."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from omegaconf import OmegaConf
from support import packages, shell
from support.processes import PATIENCE
from torch import nn

import blitz
import blitz.runner.result
import blitz.runner.run
from blitz import cli
from blitz.commands import VERBS
from blitz.config.settings import all_menus, check
from blitz.errors import BadInput, RunFailed, SweepFailed
from blitz.parts.registry import Registry
from blitz.terminal.signals import Terminated

ROOT = Path(blitz.__file__).parents[1]
Blitz = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blitz:
    """Run a command line in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> tuple[int, str, str]:
        code, output, errors = shell.blitz(*shlex.split(command))
        return code, output, "".join(f"{line}\n" for line in errors)

    return run


@pytest.fixture
def mine(models: Registry) -> str:
    """The name of a model that was added in Python."""

    class Mine(nn.Module):
        """A model of one's own."""

        def __init__(self, num_classes: int, input_shape: Any, *, width: int, depth: int = 3) -> None:
            super().__init__()

    models.add("mine", Mine)
    return "mine"


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process


# Pages


@pytest.mark.parametrize("flag", ["-h", "--help", "help"])
def test_help_is_a_page_of_our_own(run, flag):
    assert run(flag) == (0, cli.HELP, "")


def test_help_names_every_verb_and_fits_a_terminal():
    assert [verb for verb in VERBS.commands if f"\n  blitz {verb} " not in cli.HELP] == []
    assert max(map(len, cli.HELP.splitlines())) <= 80


def test_version(run):
    assert run("--version") == (0, f"blitz {blitz.__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS.commands)
def test_every_verb_has_a_help_page(run, verb):
    code, out, err = run(f"{verb} --help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: blitz {verb} ")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("--hydra-help", "Use '--cfg hydra' to Show the Hydra config."),
        ("--info defaults", "optimizer/sgd"),
        ("--info searchpath", "command-line"),
        ("--cfg hydra", "output_subdir: null"),
        ("--cfg hydra hydra.mode=RUN hydra/launcher=joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("-sc install=bash", "hydra_bash_completion"),
    ],
)
def test_hydras_own_flags_work(run, tmp_path, command, shown):
    extra = f" --config-dir {tmp_path}" if "searchpath" in command else ""
    code, out, err = run(command + extra)
    assert (code, err) == (0, "")
    assert shown in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("blitz optimizer=ad", {"optimizer=adam", "optimizer=adamw"}),
        ("blitz epo", {"epochs="}),
        ("blitz optimizer.moment", {"optimizer.momentum="}),
        ("blitz experiment=quick", {"experiment=quickstart"}),
        ("blitz model=resnet1", {"model=resnet110", "model=resnet18"}),  # of which one has no YAML
        ("blitz model=resnet20 model.sh", {"model.shortcut="}),
    ],
)
def test_completion(run, monkeypatch, line, words):
    monkeypatch.setenv("COMP_LINE", line)
    code, out, err = run("-sc query=bash")
    assert (code, err) == (0, "")
    assert set(out.split()) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("blitz rep", {"reproduce", "report_every="}),
        ("blitz opti", {"options", "optimizer=", "optimizer."}),
        ("blitz compare --fo", {"--format"}),
        ("blitz compare --format ", {"table", "csv", "json", "md"}),
        ("blitz resume ", set()),  # then the shell completes names of files
        ("blitz -m optimizer=ad", {"optimizer=adam", "optimizer=adamw"}),
    ],
)
def test_completion_of_verbs(run, monkeypatch, line, words):
    monkeypatch.setenv("COMP_LINE", line)
    code, out, err = run("-sc query=bash")
    assert (code, err) == (0, "")
    assert set(out.split()) == words


@pytest.mark.parametrize(
    "line",
    [
        "",
        "'model=[",
        "model=nope opt",
        "--nope mod",
        "model=[a=",
        "+hydra.callbacks.x={",
        "\x1b",
        "options a b c ",
        "-m",
    ],
)
def test_completion_of_what_cannot_be_completed_is_silent(run, monkeypatch, line):
    monkeypatch.setenv("COMP_LINE", f"blitz {line}")
    code, out, err = run("-sc query=bash")
    assert (code, err) == (0, "")
    assert {word for word in out.split() if not word.endswith(("=", "/", "."))} <= {*VERBS.commands, "hydra"}


@pytest.mark.slow
def test_completion_in_bash(tmp_path):
    script = tmp_path / "bin" / "blitz"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom blitz.cli import main\nmain()\n")
    script.chmod(0o755)
    (tmp_path / "$(touch owned)").mkdir()
    ask = """
        eval "$(blitz -sc install=bash)"
        while IFS= read -r COMP_LINE; do
            COMP_POINT=${#COMP_LINE} words=($COMP_LINE) COMP_CWORD=$((${#words[@]} - 1)) COMPREPLY=()
            [[ $COMP_LINE == *" " ]] && COMP_CWORD=$((COMP_CWORD + 1))
            hydra_bash_completion
            echo "${COMPREPLY[@]}"
        done
    """
    lines = ["blitz repr", "blitz model=resnet20 model.sh", "blitz compare --sw", "blitz data.root=./", "blitz 'a"]
    done = subprocess.run(
        ["bash", "-c", ask], cwd=tmp_path, input="\n".join([*lines, ""]), text=True, capture_output=True, check=True,
        env={**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["reproduce", "model.shortcut=", "--sweep", "data.root=./bin", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["$(touch owned)", "bin"]


# The config


@pytest.mark.parametrize("command", ["", "experiment=quickstart model=mlp epochs=3 tags.author=me"])
def test_the_shown_config_is_what_would_be_trained_with(run, command):
    code, out, err = run(f"--cfg job {command}")
    assert (code, err) == (0, "")
    container: Any = OmegaConf.to_container(OmegaConf.create(out), resolve=True)
    assert check(container) == blitz.compose(shlex.split(command))


def test_a_config_with_a_part_of_ones_own(run, mine):
    code, out, err = run(f"--cfg job model={mine} model.width=8")
    assert (code, err) == (0, "")
    assert OmegaConf.create(out).model == {"name": "mine", "width": 8, "depth": 3, "weights": None}


# options


def test_options_lists_every_group_and_every_name(run, mine):
    code, out, err = run("options")
    assert (code, err) == (0, "")
    listed = " ".join(out.split())
    for group, registry in all_menus().items():
        assert f"{group} {', '.join(registry.names())}" in listed
    assert mine in all_menus()["model"].names()


@pytest.mark.parametrize("group", all_menus())
def test_options_of_a_group_lists_its_names(run, mine, group):
    code, out, err = run(f"options {group}")
    assert (code, err) == (0, "")
    listed = {line.split()[0] for line in out.splitlines() if line[:1].strip()}
    assert listed == {group, *all_menus()[group].names()}


@pytest.mark.parametrize(("group", "name"), [(group, registry.names()[0]) for group, registry in all_menus().items()])
def test_options_of_a_name_lists_its_options(run, group, name):
    code, out, err = run(f"options {group} {name}")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(f"{group}.")}
    options = all_menus()[group].options(name)
    assert list(rows) == [f"{group}.{option.name}" for option in options]
    assert [option.name for option in options if option.accepted not in rows[f"{group}.{option.name}"]] == []


def test_options_lists_which_values_are_required(run, mine):
    _, out, _ = run(f"options model {mine}")
    assert [line.split()[:3] for line in out.splitlines()[1:3]] == [
        ["model.width", "(required)", "integer"],
        ["model.depth", "3", "integer"],
    ]


@pytest.mark.slow
def test_options_lists_what_an_installed_package_adds(tmp_path):
    source = 'def tuba(num_classes, input_shape):\n    """A tuba."""\n'
    packages.install(tmp_path, "blitz.models", {"tuba": "tuba"}, source)
    listed = python("-m", "blitz", "options", "model", cwd=tmp_path, PYTHONPATH=packages.path(tmp_path)).stdout
    assert ["tuba", "A", "tuba."] in [line.split() for line in listed.splitlines()]


# How a run ends


MEMORY = "out of memory\nat\thttp://me:secret-word@host " + 400 * "and so on "
LINES = [
    (BadInput("lr=a: accepted: number", "seed=b: accepted: integer"), 2,
     "blitz: lr=a: accepted: number\nblitz: seed=b: accepted: integer\n"),
    (RunFailed("runs: No space left on device"), 1, "blitz: the run failed: runs: No space left on device\n"),
    (SweepFailed("2 of 4 jobs failed"), 1, "blitz: 2 of 4 jobs failed\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "blitz: VERB failed: the output: No space left on device\n"),
    (PermissionError(errno.EACCES, "Permission denied", "runs"), 1, "blitz: VERB failed: runs: Permission denied\n"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    (KeyError("x"), 1, "blitz: VERB failed: KeyError: 'x'; BLITZ_TRACEBACK=1 prints the traceback\n"),
    (KeyboardInterrupt(), 130, ""),
    (Terminated(), 143, ""),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "printed"), LINES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("verb", VERBS.commands)
def test_every_verb_turns_an_exception_into_a_line_and_an_exit_code(run, monkeypatch, verb, error, code, printed):
    raise_in(monkeypatch, verb, error)
    assert run(verb) == (code, "", printed.replace("VERB", verb))


def test_a_long_message_of_a_library_is_one_short_line_without_credentials(run, monkeypatch):
    raise_in(monkeypatch, "evaluate", MemoryError(MEMORY))
    code, out, err = run("evaluate")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("blitz: evaluate failed: MemoryError: out of memory at http://***@host and so on and")
    assert len(err) < 600


def test_blitz_traceback_prints_the_traceback_without_credentials(run, monkeypatch):
    monkeypatch.setenv("BLITZ_TRACEBACK", "1")
    raise_in(monkeypatch, "compare", MemoryError(MEMORY))
    code, _, err = run("compare")
    assert code == 1
    assert err.startswith("Traceback (most recent call last):\n")
    assert "secret-word" not in err
    assert err.splitlines()[-1].startswith("blitz: compare failed: MemoryError: ")


def raise_in(monkeypatch: pytest.MonkeyPatch, verb: str, error: BaseException) -> None:
    """Make the command `blitz VERB` raise this."""

    def fail() -> None:
        raise error

    monkeypatch.setitem(VERBS.commands, verb, click.Command(verb, callback=fail))


def test_the_exit_code_of_a_verb(run, monkeypatch):
    monkeypatch.setitem(VERBS.commands, "ui", click.Command("ui", callback=lambda: 1))
    assert run("ui") == (1, "", "")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_ctrl_c_and_sigterm_in_a_run(run, monkeypatch, error, code):
    def interrupted(*unused: object) -> None:
        raise error

    monkeypatch.setattr(blitz.runner.run, "run", interrupted)
    assert run("data=digits") == (code, "", "")


def test_a_failed_run_prints_one_line_with_its_log(run, monkeypatch):
    def fail(*unused: object) -> None:
        error = RuntimeError("no more\nmemory")
        error.add_note("its log: runs/x/run.log")
        raise error

    monkeypatch.setattr(blitz.runner.run, "run", fail)
    line = "blitz: the run failed: RuntimeError: no more memory; its log: runs/x/run.log\n"
    assert run("data=digits") == (1, "", line)


def test_a_run_gets_the_settings_and_the_overrides_as_they_were_typed(run, monkeypatch):
    calls: list[Any] = []
    real = blitz.runner.run.new_run

    def recorded(settings: Any, overrides: Any, *, job: Any) -> Any:
        calls.append((settings, overrides, job))
        return real(settings, overrides, job=job)

    monkeypatch.setattr(blitz.runner.run, "new_run", recorded)
    short = ["epochs=1", "data=digits", "data.limit=60", "batch_size=20", "tracking=none", "eval_every=1"]
    code, output, errors = run(f"{short[0]} -m {' '.join(short[1:])} seed=1,2 --config-dir .")
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"best     seed=[12]: \d+\.\d\d% on the validation images", output.splitlines()[-1])
    assert [settings.seed for settings, *_ in calls] == [1, 2]
    assert [overrides for _, overrides, _ in calls] == [[*short, f"seed={seed}"] for seed in (1, 2)]
    assert (calls[0][2].number, calls[0][2].label) == (0, "seed=1")
    alone = blitz.compose([*short, "seed=1"])
    assert calls[0][0] == alone


# What is imported

HEAVY = ["hydra", "mlflow", "omegaconf", "pydantic", "rich", "torch"]
SHORT_RUN = "data=synthetic data.train_size=32 data.test_size=10 epochs=1 tracking=none"
OF_A_COMPILER = ["sympy", "torch._dynamo", "torch._inductor", "torchvision"]  # each takes a second or more


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("--help", HEAVY),
        ("--cfg job", ["mlflow", "rich", "torch"]),
        (SHORT_RUN, ["mlflow", *OF_A_COMPILER]),
        (None, HEAVY),
    ],
    ids=["--help", "--cfg job", "a run", "import blitz"],
)
def test_what_must_be_quick_imports_little(tmp_path, command, spared):
    start = ["import sys, blitz"]
    if command is not None:
        start = ["import sys", "from blitz.cli import main", f"sys.argv[1:] = {command.split()!r}", "try: main()"]
        start += ["except SystemExit: pass"]
    found = python("-c", "\n".join([*start, f"print('imported', *({set(spared)!r} & set(sys.modules)))"]), cwd=tmp_path)
    assert found.stdout.splitlines()[-1] == "imported"


def test_python_m_blitz_is_the_same_program(tmp_path):
    assert python("-m", "blitz", "--help", cwd=tmp_path).stdout == cli.HELP


# The public API


def test_every_public_name_resolves():
    assert len(blitz.__all__) == len(set(blitz.__all__)) > len(all_menus())
    for name in blitz.__all__:
        assert getattr(blitz, name) is not None, name


def test_every_menu_is_public():
    public = [getattr(blitz, name) for name in blitz.__all__]
    assert [group for group, registry in all_menus().items() if not any(registry is value for value in public)] == []


def test_an_unknown_attribute():
    with pytest.raises(AttributeError, match=r"^module 'blitz' has no attribute 'trian'$"):
        blitz.trian  # noqa: B018


def test_run_stays_a_function_after_its_module_was_imported():
    assert blitz.run is blitz.runner.run.run

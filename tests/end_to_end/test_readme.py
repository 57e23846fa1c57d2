"""The README's commands, run as they are written; those that take long or download run on less data."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.pictures import make_images
from support.shell import blitz as command_line

import blitz
from blitz import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SHORT = ["epochs=1", "data.limit=60", "tracking.figures=false", "device.threads=1"]
# Replacements for images that tests do not have.
LOCAL = {
    "data=cifar10": "data=synthetic",
    "data.root=DIR": "data.root={images}",
    "IMAGE": "{images}/test/dark/0.png",
}
# What a command about a recorded run prints.
OF_A_RUN = {
    "resume": "test     accuracy", "reproduce": "verdict  ", "evaluate": "as recorded", "predict": "confidence",
    "sync": "complete already",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found
    return found


SLOW = ("joblib", "resnet18", "vit", "lr_sweep", "search=", "speedrun_90")  # seconds even on a few images
OF_CIFAR10 = {f"experiment={recipe}" for recipe in ("tutorial", "resnet20", "speedrun_55", "speedrun_90")}
OF_A_SWEEP = ("blitz compare", "blitz ls", "blitz show", "blitz -m sweep.resume", "blitz reproduce --sweep")
COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all commands, with a folder of images in it."""
    folder = tmp_path_factory.mktemp("readme")
    make_images(folder / "images", train=80, test=20, size=(40, 30))
    (points,) = [block for block in blocks("text") if block.startswith("$ cat points.csv\n")]
    (folder / "points.csv").write_text(points.partition("\n")[2])
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        asked = ["data=digits", *SHORT, "batch_size=20", "optimizer.lr=0.1,0.01", "seed=0,1"]
        assert command_line("-m", *asked).code == 0
    return folder


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_make_commands_name_targets(command: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr  # .ci/run runs them for real


@pytest.mark.slow
def test_command_that_continues_more_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = [line for line in COMMANDS if "search.keep" in line]
    monkeypatch.chdir(tmp_path)
    asked = ["data=digits", *SHORT, "batch_size=20", "optimizer.lr=0.1,0.05,0.01", "search=halving"]
    assert command_line("-m", *asked).output.count(" PAUSED ") == 2
    ended = command_line(*shlex.split(command)[1:])
    assert (ended.code, ended.told) == (0, [])
    assert ended.output.count(" PAUSED ") < 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [line for line in COMMANDS if line.startswith(OF_A_SWEEP) and "search.keep" not in line]
)
def test_commands_about_a_sweep(command: str, swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(swept)
    ended = command_line(*shlex.split(command)[1:])
    assert (ended.code, ended.told) == (0, [])
    assert ended.output.count("skipped  job") == (4 if "sweep.resume" in command else 0)
    expected = {"csv": "test/accuracy,test/accuracy ±", "reproduce": "2 of 2 identical; no decision of search=grid"}
    assert next((text for word, text in expected.items() if word in command), "objective") in ended.output
    if "--plot" in command:
        assert (swept / "sweep.png").stat().st_size > 0
    if "--html" in command:
        assert "best: lr=" in (swept / "sweep.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(line, marks=pytest.mark.slow) if any(word in line for word in SLOW) else line
        for line in COMMANDS
        if line.startswith("blitz ") and line != "blitz ui" and not line.startswith(OF_A_SWEEP)
    ],
)
def test_blitz_commands(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLITZ_DATA", str(here / "images"))
    arguments = [LOCAL.get(word, word).format(images=here / "images") for word in shlex.split(command)[1:]]
    if arguments[0] in OF_A_RUN:
        check_a_command_about_a_run(arguments, here, monkeypatch, capfd)
        return
    trains = any("=" in word for word in arguments)
    if OF_CIFAR10 & set(arguments):
        arguments += ["data=synthetic"]
    if any(word.startswith("data=synthetic") for word in arguments):
        arguments += ["data.train_size=300", "data.test_size=50"]
    arguments += [*SHORT, "batch_size=20"] if trains else []
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["blitz", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capfd.readouterr()  # a sweep's jobs may be other processes
    assert ended.value.code == 0, output.err
    expected = (
        "none was started" if "sweep.dry_run=true" in arguments else "test     accuracy" if trains else "optimizer"
    )
    assert expected in output.out


def check_a_command_about_a_run(
    arguments: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    asked = ["data=digits", *SHORT, "data.limit=100", "epochs=2", "batch_size=20"]
    blitz.run(blitz.compose(asked), asked)
    ended = command_line(*arguments)
    changed = any(word.startswith("optimizer.") for word in arguments)
    assert ended.code in ((0, 1) if changed else (0,)), ended.told
    flags = {"--check": "nothing differs", "json": '"accuracy": ', "--split": "result   accuracy"}
    expected = next((text for flag, text in flags.items() if flag in arguments), OF_A_RUN[arguments[0]])
    if expected == "verdict  " and not changed:
        expected = "verdict  identical: the same bits"
    assert expected in ended.output


def test_commands_are_all_of_a_kind_that_is_tested() -> None:
    others = [line for line in COMMANDS if not line.startswith(("make ", "blitz "))]
    page = (ROOT / "experiments" / "sixty_minute_blitz" / "README.md").read_text()
    assert [line for line in others if f"\n{line}\n" not in page] == []  # whose commands have a test of their own


@pytest.mark.slow
def test_python_examples(here: Path) -> None:
    script = "\n".join(block.replace('"batch_size=32"]', '"batch_size=32", "epochs=1"]') for block in blocks("python"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script.replace('"epochs=2", ', "")],
        cwd=here, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test     accuracy") == 4


def test_the_example_of_mistakes_is_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = [block for block in blocks("text") if block.startswith("$ blitz") and "\nblitz: " in block]
    command, _, expected = example.partition("\n")
    monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == expected


def test_every_choice_that_the_readme_makes_is_on_a_menu() -> None:
    for line in COMMANDS:
        words = [
            word for word in shlex.split(line)[1:] if "," not in word and word.partition("=")[0] in ("data", "model")
        ]
        if words:
            assert blitz.compose(words).model["name"]

"""The four chapters, run as a reader runs them; and that they report where PyTorch behaves otherwise than they say."""

from __future__ import annotations

import ast
import builtins
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from support.recorded import runs

from blitz import DATASETS, BadInput

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "sixty_minute_blitz"
CHAPTERS = sorted(path.stem for path in FOLDER.glob("chapter*.py"))
PAGE = (FOLDER / "README.md").read_text()
COMMANDS = re.findall(r"^python (\S+)((?: \S+)*)$", PAGE, re.MULTILINE)
# What one section of a chapter hands to the next.
SHARED = {"device", "job", "folder", "by_hand"}
GREY = "'data.mean=[0.5]' 'data.std=[0.5]'"


class Printed(NamedTuple):
    code: int
    output: str
    errors: str

    @property
    def lines_of_code(self) -> list[str]:
        """Each with the lines of its block."""
        shown = re.findall(r"^    >>> (.*(?:\n    \.\.\. .*)*)", self.output, re.MULTILINE)
        return [line.replace("\n    ... ", "\n") for line in shown]

    def names_from_nowhere(self, chapter: str) -> set[str]:
        """What the code that is printed reads and neither makes, in its section or as SHARED, nor imports."""
        source = ast.parse((FOLDER / f"{chapter}.py").read_text())
        defined = {node.name for node in source.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        imports = [node for node in source.body if isinstance(node, ast.Import | ast.ImportFrom)]
        always = {"lesson", *dir(builtins), *defined, *(a.asname or a.name for node in imports for a in node.names)}
        missing: set[str] = set()
        for section in re.split(r"^-+$", self.output, flags=re.MULTILINE):
            made = set(always)
            for line in self._replace(output=section).lines_of_code:
                statements = ast.parse(line)
                nodes = [node for node in ast.walk(statements) if isinstance(node, ast.Name)]
                arguments = {node.arg for node in ast.walk(statements) if isinstance(node, ast.arg)}
                targets = [
                    target for node in statements.body if isinstance(node, ast.Assign) for target in node.targets
                ]
                outer = {id(node) for target in targets for node in ast.walk(target)}
                stored = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
                inner = {node.id for node in nodes if isinstance(node.ctx, ast.Store) and id(node) not in outer}
                missing |= {node.id for node in nodes if isinstance(node.ctx, ast.Load)} - made - inner - arguments
                made |= stored
                always |= stored & SHARED
        return missing


RunChapter = Callable[..., Printed]


@pytest.fixture
def run_chapter(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> RunChapter:
    """Run a chapter in this process."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    options = torch._tensor_str.PRINT_OPTS
    monkeypatch.setattr(torch._tensor_str, "PRINT_OPTS", type(options)(**vars(options)))

    def run(chapter: str, *overrides: str) -> Printed:
        monkeypatch.setattr(sys, "argv", [f"{chapter}.py", *overrides])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(FOLDER / f"{chapter}.py"), run_name="__main__")
        return Printed(int(ended.value.code or 0), *capfd.readouterr())

    return run


def test_page_lists_the_four_chapters_and_their_commands() -> None:
    assert len(CHAPTERS) == 4
    assert [Path(path) for path, _ in COMMANDS][:4] == [FOLDER.relative_to(ROOT) / f"{name}.py" for name in CHAPTERS]
    (first, *_) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert first.startswith(". .venv/bin/activate\npython ")


@pytest.mark.parametrize("chapter", CHAPTERS[:3])
def test_chapter_shows_what_it_says(chapter: str, run_chapter: RunChapter) -> None:
    printed = run_chapter(chapter)
    assert (printed.code, printed.errors) == (0, "")
    assert re.search(r"^All \d\d results are as the text says\.$", printed.output, re.MULTILINE)
    assert len(printed.lines_of_code) > 40
    assert printed.names_from_nowhere(chapter) == set()


def test_chapter_3_says_what_it_says_of_images_of_any_scale_that_it_takes(run_chapter: RunChapter) -> None:
    printed = run_chapter("chapter3_neural_networks", "data.mean=[0.5]", "data.std=[0.04]")
    assert (printed.code, printed.errors) == (0, "")
    printed = run_chapter("chapter3_neural_networks", "data.mean=[0.5]", "data.std=[0.001]")
    assert printed.code == 2
    assert printed.errors == (
        "chapter3_neural_networks.py: data.mean=[0.5], data.std=[0.001]: the images come to a scale of 377; this "
        "chapter can do up to 10, and 1 is usual\n"
    )


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when chapter 4 comes to its command, which takes long."""

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen", stop)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["data=digits", "data.limit=20"],
            f"blitz experiment=tutorial {GREY} epochs=6 optimizer.lr=0.005 data=digits ",
        ),
        (["data.limit=6", "epochs=1"], f"data=digits {GREY} epochs=6 "),  # no image of most classes
        (["data=synthetic", "data.channels=1", "epochs=1"], f"blitz experiment=tutorial {GREY} data=synthetic "),
        pytest.param(
            ["data=synthetic", "epochs=1"], "blitz experiment=tutorial data=synthetic ", marks=pytest.mark.slow
        ),
        pytest.param(  # diverges after its only loss
            ["data.limit=4", "epochs=1", "optimizer.lr=1e30"], "optimizer.lr=1e30", marks=pytest.mark.slow
        ),
        pytest.param(["data.limit=20", "epochs=1", "data.std=[0.25]"], "data.std=[0.25]", marks=pytest.mark.slow),
    ],
)
def test_chapter_4_prints_its_command(overrides: list[str], expected: str, run_chapter: RunChapter) -> None:
    small = ["data.train_size=20", "data.test_size=20"] if "data=synthetic" in overrides else []
    printed = run_chapter("chapter4_training", *overrides, *small)
    assert (printed.code, printed.errors) == (130, "")
    (command,) = re.findall(r"^    \$ (.*)$", printed.output, re.MULTILINE)
    assert expected in command
    assert printed.names_from_nowhere("chapter4_training") == set()


def test_the_page_shows_what_chapter_1_prints(run_chapter: RunChapter) -> None:
    (shown,) = re.findall(r"^```text\n\$ python \S*chapter1_tensors.py\n…\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    output = run_chapter("chapter1_tensors").output
    assert "It is x itself where the device is the CPU, on which x was already." in output  # it may be another
    assert [part for part in shown.split("…\n") if part not in output] == []


@pytest.mark.slow
@pytest.mark.parametrize(("path", "overrides"), COMMANDS)
def test_page_commands_work(path: str, overrides: str, tmp_path: Path) -> None:
    root = os.environ.get("BLITZ_CIFAR10", "")
    if "PATH" in overrides and not root:
        pytest.skip("needs the images of CIFAR-10 in a folder: BLITZ_CIFAR10=DIR")
    arguments = [word.replace("PATH", root) for word in shlex.split(overrides)]
    less = []
    if "data=cifar10" in arguments:  # nothing is downloaded by a test
        arguments[arguments.index("data=cifar10")] = "data=synthetic"
        less = ["data.train_size=300", "data.test_size=60", "epochs=1"]
    elif root and "PATH" in overrides:
        less = ["data.limit=300", "epochs=1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / path), *arguments, *less], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if "device=cuda" in arguments and not torch.cuda.is_available():
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(
            "device=cuda: this machine (or this build of PyTorch) has no CUDA device; use device=cpu\n"
        )
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert "results are as the text says." in done.stdout
    assert Printed(0, done.stdout, "").names_from_nowhere(Path(path).stem) == set()
    if "chapter4" in path:
        (run,) = runs(f"sqlite:///{tmp_path}/mlflow.db")
        accuracy = run.data.metrics["test/accuracy"]
        assert f">>> accuracy = correct / len(truth)\n    {accuracy!r}\n" in done.stdout
        assert less or accuracy > 0.9
        for picture in ("training_images", "predictions"):
            with Image.open(tmp_path / "runs" / "sixty_minute_blitz" / f"{picture}.png") as image:
                assert min(image.size) > 200


@pytest.mark.slow
def test_an_encoding_without_arrows_is_enough_for_chapter_4(tmp_path: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "chapter4_training.py"), "data.limit=6", "epochs=1", "runs_dir=my runs"],
        cwd=tmp_path, capture_output=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"true ? predicted" in done.stdout


def test_an_encoding_without_superscripts_is_enough(run_chapter: RunChapter, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run_chapter("chapter2_autograd").code == 0
    assert b"The mean of 3 (x + 2)? over four ones:" in written.getvalue()


def test_texts_fit_into_a_narrow_terminal(run_chapter: RunChapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    output = run_chapter("chapter3_neural_networks").output
    texts = [line for line in output.splitlines() if not line.startswith("    ")]
    assert len(texts) > 200
    assert [line for line in texts if len(line) > 40] == []


# ---- where PyTorch does otherwise

ones, numpy, backward = torch.ones, torch.Tensor.numpy, torch.Tensor.backward
convolve, cross_entropy = torch.nn.Conv2d.forward, torch.nn.CrossEntropyLoss.forward


def refusing_gradients(tensor: torch.Tensor) -> object:
    if tensor.requires_grad:
        raise RuntimeError("no")
    return numpy(tensor)


def taking_batches_alone(layer: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    if images.ndim == 3:
        raise RuntimeError("Expected 4D\ninput")
    return convolve(layer, images)


def refusing_two_devices(one: torch.Tensor, other: Any) -> torch.Tensor:
    if isinstance(other, torch.Tensor) and one.device != other.device:
        raise RuntimeError("another device")
    return torch.add(one, other)


def multiplying_copies(one: torch.Tensor, other: Any) -> torch.Tensor:
    return torch.mul(one, other.clone() if isinstance(other, torch.Tensor) else other)


def unasked(*sides: int, requires_grad: bool = False, **options: Any) -> torch.Tensor:
    return ones(*sides, **options)


def passing_over_retained(tensor: torch.Tensor, gradient: Any = None, retain_graph: bool = False) -> None:
    if not retain_graph:
        backward(tensor, gradient)


def asking_for_gradients(layer: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    return convolve(layer, images if images.requires_grad else images.clone().requires_grad_())


def scaling_exactly(*types: object, **options: object) -> object:
    return lambda image: image / 255


def tripled(loss: Any, *values: torch.Tensor) -> torch.Tensor:
    return 3 * cross_entropy(loss, *values)


def refusing(*values: object) -> object:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("chapter", "name", "does", "expected"),
    [
        (1, "torch.ones_like", torch.zeros_like, "torch.ones_like(x, device=device) is tensor([0., 0., 0.]), where the "
         "text says tensor([1., 1., 1.]): With one, it is made there."),
        (1, "torch.Tensor.fill_", lambda tensor, value: tensor, "x is tensor([[ 0, 1, 2, 3], [ 4, 5, 6, 7], [ 8, "
         "9, 10, 11]]), where the text says [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]: The first column of x is "
         "zero now."),
        (1, "torch.Tensor.view", torch.Tensor.reshape, "turned.view(-1) is tensor([ 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, "
         "11]), where the text says that it "
         "raises RuntimeError: view() refuses then: no steps through this memory give all numbers in a row."),
        (1, "torch.Tensor.numpy", refusing_gradients, "weights.numpy() raises RuntimeError: no, where the text says "
         "RuntimeError: … detach().numpy() …: Otherwise numpy() refuses."),
        (1, "torch.from_numpy", refusing, "line N: torch.from_numpy(c) raises RuntimeError: no, where the text says: "
         "from_numpy() shares memory as well."),
        (1, "torch.Tensor.__add__", refusing_two_devices, "line N: two + elsewhere raises RuntimeError: another "
         "device, where the text says: The sum is where the other one is."),
        (2, "torch.ones", unasked, "x.requires_grad is False, where the text says True: Of this one they are."),
        (2, "torch.Tensor.__mul__", multiplying_copies, "[type(function).__name__ for function, _ in "
         "z.grad_fn.next_functions] is ['MulBackward0', 'CloneBackward0'], where the text says ['MulBackward0', "
         "'AddBackward0']: It leads to those of both factors: the product 3 y, and the sum y."),
        (2, "torch.Tensor.backward", passing_over_retained, "x.grad is tensor([[4.5000, 4.5000], [4.5000, 4.5000]]), "
         "where the text says tensor([[9., 9.], [9., 9.]]): Both times have added 4.5."),
        (3, "torch.nn.Conv2d.forward", taking_batches_alone, "line N: net.conv1(image) raises RuntimeError: Expected "
         "4D input, where the text says: Old notes say that torch.nn takes mini-batches alone. Today a convolution "
         "takes a single image."),
        (3, "torch.nn.CrossEntropyLoss.forward", tripled, "guessing is tensor(2.3026), where the text says Near(value="
         "tensor(X, grad_fn=<MulBackward0>), within=0.5): An untrained network is about as wrong."),
        (3, "torch.nn.Conv2d.forward", asking_for_gradients, "[f and type(f).__name__ for f, _ in "
         "functions[-1].next_functions] is ['AccumulateGrad', 'AccumulateGrad', 'AccumulateGrad'], where the text says "
         "[None, 'AccumulateGrad', 'AccumulateGrad']: That leads to its weight and its bias, and not to the images, "
         "which want no gradient."),
        (3, "torch.optim.Optimizer.zero_grad", lambda optimizer: None, "[name for name, p in "
         "by_optimizer.named_parameters() if p.grad is not None] is ['conv1.weight', 'conv1.bias', 'conv2.weight', "
         "'conv2.bias', 'fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias', 'fc3.weight', 'fc3.bias'], where the text "
         "says []: No parameter has one any more."),
        (4, "torchvision.transforms.v2.ToDtype", scaling_exactly, "(bits[0] - bits[1]).abs().max().item() is 0, where "
         "the text says 1: Where they differ, it is by one: in the last bit."),
        (4, "torch.nn.CrossEntropyLoss.forward", refusing, "line N: criterion(outputs, labels) raises RuntimeError: "
         "no, where the text says: Inputs, reset, forward, backward, step, statistics. item() once an epoch, not once "
         "a step."),
    ],
)  # fmt: skip
def test_pytorch_that_behaves_otherwise_is_reported_in_one_line(
    chapter: int,
    name: str,
    does: Callable[..., object],
    expected: str,
    run_chapter: RunChapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name, does)
    printed = run_chapter(CHAPTERS[chapter - 1])
    start = f"{CHAPTERS[chapter - 1]}.py: PyTorch {torch.__version__} does not do what this chapter says: "
    assert printed.code == 1
    assert printed.errors.startswith(start)
    line = re.sub(r"^line \d+:", "line N:", printed.errors.removeprefix(start))
    assert re.sub(r"(value=tensor\()[\d.]+", r"\1X", line) == f"{expected}\n"


def test_what_is_near_has_the_shape_and_the_type_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from lesson import Near, _is_as_expected

    near = Near(torch.ones(2), within=1e-6)
    assert _is_as_expected(torch.ones(2) + 5e-7, near)
    assert not _is_as_expected(torch.ones(2) + 5e-6, near)
    assert not _is_as_expected(torch.ones(2, dtype=torch.float64), near)
    assert not _is_as_expected(torch.ones(1), near)
    assert not _is_as_expected(torch.ones(2, 2), near)
    assert not _is_as_expected([1.0], Near([1.0, 1.0], within=1e-6))
    nan = float("nan")
    assert _is_as_expected([1.0, nan], Near([1.0, nan], within=1e-6))
    assert not _is_as_expected([1.0, nan], Near([1.0, 0.0], within=1e-6))


@pytest.mark.parametrize("model", ["model=resnet20", "model=torchvision model.arch=mobilenet_v2"])
def test_chapter_2_shows_any_model(model: str, run_chapter: RunChapter) -> None:
    printed = run_chapter("chapter2_autograd", *model.split())
    assert (printed.code, printed.errors) == (0, "")
    assert f"of data=digits before {model.split()[0]}." in printed.output


# ---- what a user can do wrong, and what can fail


@pytest.mark.parametrize(
    ("chapter", "arguments", "expected"),
    [
        (1, ["seeed=1"], "seeed: no such key of a config; did you mean seed?"),
        (1, ["-m", "seed=1,2"], "-m: a chapter is one run, and takes overrides but no flags; blitz -m is for sweeps"),
        (2, ["data=digit"], "data=digit: "),
        (3, ["model=mlp"], "model=mlp, model.hidden=[512, 256]: not what this chapter can do; accepted: data, device."),
        (3, ["loss=focal"], "loss=focal: not what this chapter can do; accepted: data, "),
        (3, ["loss.label_smoothing=0.1"], "loss.label_smoothing=0.1: not what this chapter can do; accepted: data, "),
        (3, ["device.compile=true"], "device.compile=True: not what this chapter can do; accepted: data, "),
        (4, ["ema=0.9"], "ema=0.9: not what this chapter can do; accepted: data, "),
        (4, ["mix=cutmix"], "mix=cutmix: not what this chapter can do; accepted: data, "),
        (4, ["device.deterministic=false"], "device.deterministic=False: not what this chapter can do; accepted: data"),
        (4, ["data=synthetic", "data.channels=2"], "data=synthetic: this chapter draws images of 1 or 3 channels, not"),
        (4, ["runs_dir=file"], "runs_dir=file: cannot be written to (Not a directory); name another with runs_dir="),
        (4, ["runs_dir=/proc/x"], "runs_dir=/proc/x: cannot be written to (No such file or directory); name another"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_in_one_line(
    chapter: int, arguments: list[str], expected: str, run_chapter: RunChapter, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    printed = run_chapter(CHAPTERS[chapter - 1], *arguments)
    assert printed.code == 2
    (line,) = printed.errors.splitlines()
    assert line.startswith(f"{CHAPTERS[chapter - 1]}.py: {expected}")
    assert "Training, by hand" not in printed.output


def test_divergence_is_reported(run_chapter: RunChapter) -> None:
    printed = run_chapter("chapter4_training", "data.limit=40", "optimizer.lr=1000")
    assert printed.code == 1
    expected = r"chapter4_training.py: training diverged: the loss of step \d+ is not finite; a smaller optimizer.lr "
    assert re.fullmatch(f"{expected}may help\n", printed.errors)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_full_disk_is_reported_in_one_line(
    arguments: list[str], run_chapter: RunChapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        printed = run_chapter("chapter1_tensors", *arguments)
    assert (printed.code, printed.errors) == (1, "chapter1_tensors.py: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_the_usage_of_a_chapter(chapter: str, flag: str, run_chapter: RunChapter) -> None:
    printed = run_chapter(chapter, "epochs=3", flag)
    assert (printed.code, printed.errors) == (0, "")
    assert printed.output.startswith(f"Chapter {chapter[7]} of 4: ")
    assert f"\npython experiments/sixty_minute_blitz/{chapter}.py [OVERRIDE…]\n" in printed.output


def test_experiment_chooses_the_data_of_a_chapter(run_chapter: RunChapter, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(choice: dict[str, Any]) -> None:
        raise BadInput(f"asked for {choice['name']}")

    monkeypatch.setattr(DATASETS, "build", refuse)
    assert run_chapter("chapter1_tensors", "experiment=resnet20").errors == "chapter1_tensors.py: asked for cifar10\n"
    assert run_chapter("chapter1_tensors").errors == "chapter1_tensors.py: asked for digits\n"


@pytest.mark.parametrize("overrides", [["eval_batch_size=2"], ["data.limit=2", "batch_size=2"]])
def test_fewer_than_four_images_are_enough_for_chapter_3(overrides: list[str], run_chapter: RunChapter) -> None:
    printed = run_chapter("chapter3_neural_networks", *overrides)
    assert (printed.code, printed.errors) == (0, "")


def test_data_and_device_are_chosen_like_everywhere(run_chapter: RunChapter) -> None:
    printed = run_chapter(
        "chapter3_neural_networks", "data=synthetic", "data.train_size=40", "data.test_size=40", "device=cpu"
    )
    assert printed.code == 0, printed.errors
    assert "62006" in printed.output

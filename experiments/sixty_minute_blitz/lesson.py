"""How the chapters print: each point is stated, its code is shown with its result, and the result is checked.

The code that is printed is the code that ran: it is cut out of the chapter's own file.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from shown_code import call_under_way, caller, parsed, statements_after, text_of

import blitz
from blitz.config.settings import Settings
from blitz.errors import BadInput, RunFailed, in_one_line
from blitz.parts.devices import Device
from blitz.runner.build import device_of

T = TypeVar("T")

HELP = """\
OVERRIDE is what blitz takes: data=cifar10, device=cpu, seed=1 (blitz options lists what can be chosen).
Where neither data= nor experiment= is given, the images are scikit-learn's digits.\
"""


class Surprise(RunFailed):
    """PyTorch does something else than the text says."""

    def __init__(self, came_out: str, says: str) -> None:
        version = torch.__version__
        super().__init__(f"PyTorch {version} does not do what this chapter says: {came_out}, where the text {says}")


@dataclass(frozen=True)
class Near:
    """A value that is computed in another way, and may differ by rounding."""

    value: Any
    within: float


class Lesson:
    """A chapter that is being printed, with the settings and the device that `overrides` choose."""

    def __init__(self, overrides: Sequence[str], settings: Settings, device: Device) -> None:
        self.overrides = overrides
        self.settings = settings
        self.device = device
        self.num_checked = 0
        self.last_said = ""

    def heading(self, title: str, text: str = "") -> None:
        """A new section, with some words to begin with."""
        print(f"\n\n{title}\n{'-' * len(title)}")
        if text:
            self.say(text)

    def say(self, text: str) -> None:
        """A remark."""
        print(f"\n{_wrapped(text)}")

    def does(self, what: str, statements: int = 1) -> None:
        """Show the next statement, or so many of them, before they run."""
        self._print(what, "\n    >>> ".join(statements_after(caller(), statements)))

    def prints(self, what: str, value: T) -> T:
        """Show an expression whose value depends on the machine."""
        call, target = call_under_way(caller())
        self._print(what, f"{target}{text_of(call.args[1], caller())}", repr(value))
        return value

    def shows(self, what: str, value: T, expected: object) -> T:
        """Show the expression that `value` was given as, and what came out. Raises Surprise if that is not `expected`.

        `expected` may be a tensor, what a tensor's or an array's `tolist` gives, a `Near`, or any other value.
        """
        call, target = call_under_way(caller())
        code = text_of(call.args[1], caller())
        if not _is_as_expected(value, expected):
            raise Surprise(f"{code} is {value!r}", f"says {expected!r}: {what}")
        self.num_checked += 1
        self._print(what, f"{target}{code}", repr(value))
        return value

    def refuses(self, what: str, action: Callable[[], object], error: type[Exception], words: str) -> None:
        """Show the body of a lambda and the error that it ends with. Raises Surprise if it is another one, or none."""
        call, _ = call_under_way(caller())
        assert isinstance(call.args[1], ast.Lambda)
        code = text_of(call.args[1].body, caller())
        try:
            value = action()
        except Exception as raised:
            message = _message(raised)
            if not isinstance(raised, error) or words not in message:
                says = f"says {error.__name__}: … {words} …: {what}"
                raise Surprise(f"{code} raises {message}", says) from None
            self.num_checked += 1
            self._print(what, code, textwrap.shorten(message, 200, placeholder=" …"))
            return
        raise Surprise(f"{code} is {value!r}", f"says that it raises {error.__name__}: {what}")

    def _print(self, what: str, code: str, result: str | None = None) -> None:
        self.last_said = what
        print(f"\n{_wrapped(what, '  ')}\n    >>> {code}")
        if result is not None:
            print(textwrap.indent(result, "    "))


def chapter(
    title: str,
    present: Callable[[Lesson], None],
    recipe: Sequence[str] = (),
    known: Sequence[str] = ("",),
    fitted: Callable[[Settings], Sequence[str]] = lambda settings: (),
) -> NoReturn:
    """Print a chapter with `recipe`, what `fitted` adds to it for the data, and the overrides of the command line.

    `known` is how the keys begin that may be other than the recipe's.

    Exit codes: 0 all is as the text says, 1 PyTorch does not do this or a run failed, 2 a mistake in the overrides,
    130 Ctrl-C, 141 a closed pipe.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every encoding has "²" and "→"
    code = 0
    problems: Sequence[str] = ()
    try:
        if {"-h", "--help"}.intersection(sys.argv):
            print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\n{HELP}")
        else:
            _present(title, present, recipe, known, fitted)
        print(end="", flush=True)
    except BadInput as error:
        code, problems = 2, error.problems
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # of `| head`
        code = 141
    except (RunFailed, OSError) as error:
        code, problems = 1, [in_one_line(error)]
    try:
        print(end="", flush=True)
    except OSError:  # Python would report it once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for problem in problems:
        print(f"{Path(sys.argv[0]).name}: {problem}", file=sys.stderr)
    sys.exit(code)


def _present(
    title: str,
    present: Callable[[Lesson], None],
    recipe: Sequence[str],
    known: Sequence[str],
    fitted: Callable[[Settings], Sequence[str]],
) -> None:
    asked = sys.argv[1:]
    if flags := [argument for argument in asked if argument.startswith("-")]:
        raise BadInput(f"{flags[0]}: a chapter is one run, and takes overrides but no flags; blitz -m is for sweeps")
    if not any(override.startswith(("data=", "experiment=")) for override in asked):
        recipe = [*recipe, "data=digits"]
    settings = blitz.compose([*recipe, *asked])
    _refuse_unknown(settings, blitz.compose(recipe), known)
    device = device_of(settings.device, settings.images_at_once)
    overrides = [*recipe, *fitted(settings), *asked]
    lesson = Lesson(overrides, blitz.compose(overrides), device)
    torch.set_printoptions(threshold=50, edgeitems=1)  # images are large
    print(f"{title}\n{'=' * len(title)}\nPyTorch {torch.__version__} on {device.torch} ({device.name})")
    lesson.say("In the code, lesson.settings is the config made of the overrides, lesson.device its device.")
    try:
        present(lesson)
    except (BadInput, RunFailed, OSError):
        raise
    except Exception as error:
        raise _surprise(error, lesson, present.__code__.co_filename) from None
    print(f"\nAll {lesson.num_checked} results are as the text says.")


def _refuse_unknown(settings: Settings, usual: Settings, known: Sequence[str]) -> None:
    """Raises BadInput for what a chapter's own code does not do."""
    values = usual.notable()
    unknown = [
        f"{key.removesuffix('.name')}={value}"
        for key, value in settings.notable().items()
        if value != values.get(key) and not key.startswith(tuple(known))
    ]
    if unknown:
        accepted = ", ".join(key.rstrip(".") for key in known)
        raise BadInput(f"{', '.join(unknown)}: not what this chapter can do; accepted: {accepted}")


def _message(error: Exception) -> str:
    """In one line, without PyTorch's colours."""
    words = re.sub(r"\x1b\[\d*m", "", str(error)).split()
    return " ".join([f"{type(error).__name__}:", *words])


def _wrapped(text: str, indent: str = "") -> str:
    """In the terminal's width; paths stay whole."""
    return textwrap.fill(
        " ".join(text.split()), min(100, shutil.get_terminal_size((100, 24)).columns),
        initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _is_as_expected(value: object, expected: object) -> bool:
    """NaN is as expected where NaN is."""
    within = 0.0
    if isinstance(expected, Near):
        within, expected, value = expected.within, torch.as_tensor(expected.value), torch.as_tensor(value)
    if isinstance(expected, torch.Tensor):
        if not isinstance(value, torch.Tensor) or (value.dtype, value.shape) != (expected.dtype, expected.shape):
            return False
        return torch.allclose(value.cpu(), expected.cpu(), rtol=0, atol=within, equal_nan=True)
    return _plain(value) == expected


def _plain(value: object) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().tolist()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _surprise(error: Exception, lesson: Lesson, path: str) -> Surprise:
    """An error where the text has none: the expression of the chapter that was under way, and what is said of it."""
    assert error.__traceback__ is not None
    here = [info for info in inspect.getinnerframes(error.__traceback__) if info.frame.f_code.co_filename == path][-1]
    assert here.positions is not None
    code = text_of(ast.Pass(**here.positions._asdict()), here.frame)
    under_way = [
        node
        for node in ast.walk(parsed(path)[1])
        if isinstance(node, ast.Call) and node.lineno <= here.lineno <= (node.end_lineno or 0)
        if ast.unparse(node.func) in ("lesson.shows", "lesson.prints")
    ]  # what is said of an expression is printed with its value, and not yet
    says = ast.literal_eval(under_way[0].args[0]) if under_way else lesson.last_said
    return Surprise(f"line {here.lineno}: {code} raises {_message(error)}", f"says: {says}")

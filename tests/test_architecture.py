"""Which part of blitz imports which: every arrow points one way, and slow or foreign packages stay in their rooms.

Parsed from the source of every file that there is, so that a new one is held to the same rules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import blitz

PACKAGE = Path(blitz.__file__).parent
# A part imports from its own row and from those above it.
LAYERS = [
    {"errors", "redaction", "intervals", "allocator", "openmp", "version", "terminal"},
    {"training", "run_folder", "figures"},
    {"parts", "tracking"},
    {"config", "comparison"},
    {"runner"},
    {"sweeps", "reproduction", "evaluation"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, row in enumerate(LAYERS) for part in row}
# What a part imports nowhere, not even late; and what it does not import at its start, which would cost seconds.
NEVER = {
    "training": {"hydra", "omegaconf", "mlflow"},
    "parts": {"hydra", "omegaconf", "mlflow"},
    "run_folder": {"hydra", "mlflow"},
    "figures": {"hydra", "mlflow"},
}
NOT_AT_ONCE = {
    "run_folder": {"torch"},
    "figures": {"torch"},
    "cli": {"torch", "mlflow"},
    "commands": {"torch", "mlflow"},
    "config": {"torch", "mlflow"},
}


class Import(NamedTuple):
    """One import statement."""

    file: Path
    line: int
    module: str
    at_once: bool  # when the file is imported
    for_types: bool  # for a type checker alone

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}:{self.line} imports {self.module}"


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_in(file: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, at_once: bool, for_types: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_once = False
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types = True
        elif isinstance(node, ast.Import):
            found.extend(Import(file, node.lineno, name.name, at_once, for_types) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            assert node.module is not None
            names = [f"{node.module}.{name.name}" for name in node.names]
            found.extend(Import(file, node.lineno, name, at_once, for_types) for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child, at_once, for_types)

    visit(ast.parse(file.read_text()), at_once=True, for_types=False)
    return found


def imports() -> Iterator[Import]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if file != PACKAGE / "__init__.py":  # the public names, from everywhere, each imported when it is first used
            yield from imports_in(file)


def test_every_part_has_a_layer():
    assert {part_of(file) for file in PACKAGE.rglob("*.py")} - {"__init__"} == LEVEL.keys()


def test_no_part_imports_from_a_layer_above_it():
    upwards = [
        str(found)
        for found in imports()
        if (parts := found.module.split("."))[0] == "blitz" and len(parts) > 1
        if LEVEL[parts[1]] > LEVEL[part_of(found.file)]
    ]
    assert upwards == []


def test_what_a_part_never_imports():
    wrong = [str(found) for found in imports() if found.module.split(".")[0] in NEVER.get(part_of(found.file), ())]
    assert wrong == []


def test_only_tracking_imports_mlflow():
    wrong = [
        str(found)
        for found in imports()
        if found.module.split(".")[0] == "mlflow" and part_of(found.file) != "tracking" and not found.for_types
    ]
    assert wrong == []


def test_what_takes_seconds_is_not_imported_at_once():
    wrong = [
        str(found)
        for found in imports()
        if found.at_once and not found.for_types
        if found.module.split(".")[0] in NOT_AT_ONCE.get(part_of(found.file), ())
    ]
    assert wrong == []


def test_the_public_names_are_imported_when_they_are_used():
    at_once = {found.module for found in imports_in(PACKAGE / "__init__.py") if found.at_once and not found.for_types}
    assert at_once == {
        "importlib.import_module", "typing.TYPE_CHECKING", "typing.Any",
        "blitz.openmp.bound_waiting", "blitz.version.__version__",
    }  # fmt: skip

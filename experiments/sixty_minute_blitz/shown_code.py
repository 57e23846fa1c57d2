"""A chapter's own code, as it stands in its file: what is printed is what runs."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path
from types import FrameType

OURS = (__file__, str(Path(__file__).with_name("lesson.py")))  # which chapters call


def caller() -> FrameType:
    """The chapter's frame."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in OURS:
        frame = frame.f_back
    assert frame is not None
    return frame


@cache
def parsed(path: str) -> tuple[str, ast.Module]:
    """The source of a file, and its syntax tree."""
    source = Path(path).read_text(encoding="utf-8")
    return source, ast.parse(source)


def call_under_way(frame: FrameType) -> tuple[ast.Call, str]:
    """The call under way, and `name = ` where its value gets a name."""
    positions = inspect.getframeinfo(frame).positions
    assert positions is not None
    place = (positions.lineno, positions.col_offset, positions.end_lineno, positions.end_col_offset)
    _, tree = parsed(frame.f_code.co_filename)
    target = ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _place(node.value) == place:
            target = f"{ast.unparse(node.targets[0])} = "
        if isinstance(node, ast.Call) and _place(node) == place:
            call = node
    return call, target


def statements_after(frame: FrameType, number: int) -> list[str]:
    """The texts of so many statements that follow the one under way."""
    _, tree = parsed(frame.f_code.co_filename)
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]  # type: ignore[attr-defined]
    for body in bodies:
        for place, statement in enumerate(body):
            if statement.lineno == frame.f_lineno:
                return [text_of(after, frame) for after in body[place + 1 : place + 1 + number]]
    raise AssertionError("there is no statement after this one")


def _place(node: ast.expr) -> tuple[int, int, int | None, int | None]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def text_of(node: ast.AST, frame: FrameType) -> str:
    """In one line."""
    source, _ = parsed(frame.f_code.co_filename)
    text = ast.get_source_segment(source, node, padded=True)
    assert text is not None
    lines = [line.partition("  # ")[0] for line in textwrap.dedent(text).splitlines()]
    if isinstance(node, ast.AnnAssign):  # a type is for the type checker
        assert node.value is not None
        return f"{ast.unparse(node.target)} = {text_of(node.value, frame)}"
    if isinstance(node, ast.For | ast.While | ast.With):  # a block stays one
        return "\n    ... ".join(lines)
    joined = " ".join(line.strip() for line in lines)
    return re.sub(r",? ?([)\]}])", r"\1", re.sub(r"([(\[{]) ", r"\1", joined)) if len(lines) > 1 else joined

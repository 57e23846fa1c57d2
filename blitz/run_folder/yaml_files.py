"""YAML files that anybody may have written: what is wrong with one, in a line."""

from __future__ import annotations

from pathlib import Path

from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, Node, ScalarNode, YAMLError, compose

from blitz.errors import in_one_line

# What reading one raises.
UNREADABLE = (OSError, YAMLError, OmegaConfBaseException, ValueError, LookupError, AttributeError, RecursionError)
MOST = 100_000  # values of a file, where each alias is written out


def refuse_bomb(path: Path) -> None:
    """Raises ValueError for a few lines whose aliases make millions of values, besides what reading raises."""
    text = path.read_text(encoding="utf-8-sig")
    if "&" in text and (root := compose(text)) is not None and _values(root, {}) > MOST:
        raise ValueError(f"its aliases make more than {MOST:,} values")


def reason(error: Exception) -> str:
    """Why a file cannot be read, without its name."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return "is no UTF-8 text"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, LookupError | AttributeError):  # of !!bool, say
        return "a value does not fit its tag"
    if isinstance(error, OmegaConfBaseException):
        return str(error).splitlines()[0].replace("'NoneType'", "null")
    return in_one_line(error).partition(' in "')[0]  # without the name and the position that YAML's reader appends


def _values(node: Node, known: dict[int, int]) -> int:
    """`known`: of nodes that were counted, which aliases come back to."""
    if isinstance(node, ScalarNode):
        return 1
    if id(node) not in known:
        inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]

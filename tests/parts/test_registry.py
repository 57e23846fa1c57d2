"""blitz.parts.registry: menus of builders, and their signatures as the schema of their options."""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt, Le
from pydantic import BaseModel
from support import packages

from blitz.config.settings import all_menus
from blitz.errors import BadInput
from blitz.parts.registry import (
    STRICT,
    Count,
    Fraction,
    Index,
    NonNegative,
    Positive,
    Probability,
    Registry,
    accepted,
    meanings,
    validate,
)

MENUS = all_menus()
CHOICES = [(group, name) for group, registry in MENUS.items() for name in registry.names()]


def drum(material: str, *, skin: Literal["calf", "plastic"] = "calf", tension: Positive = 2.0) -> tuple[Any, ...]:
    """A drum."""
    return "drum", material, skin, tension


class Horn:
    """A horn.

    Args:
        length: in metres,
            unrolled
        valves: how many
    """

    def __init__(self, material: str, *, length: Positive, valves: Index = 3) -> None:
        self.made_of, self.length, self.valves = material, length, valves


def tuning(part: object, *, pitch: float = 440.0, notes: list[Count] = [1, 2], fixed: bool = False) -> None:  # noqa: B006
    """How all of them are tuned.

    Args:
        pitch: of A, in hertz
    """


@pytest.fixture
def toys() -> Registry:
    return Registry("toy", "blitz.toys", tuning, drum=drum, horn=Horn)


def problems(act: Callable[[], Any]) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        act()
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem and "\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


# The menu


def test_names_come_in_the_order_of_the_menu(toys):
    assert toys.names() == ["drum", "horn"]


def test_add_takes_new_names_only(toys):
    toys.add("flute", drum)
    assert toys.names() == ["drum", "horn", "flute"]
    with pytest.raises(ValueError, match=r"^toy=drum exists already; choose another name$"):
        toys.add("drum", Horn)
    assert toys.builder("drum") is drum


def test_an_unknown_name_is_refused_with_the_nearest_and_the_menu(toys):
    assert problems(lambda: toys.builder("drun")) == (
        "toy=drun: no such toy; did you mean drum? (accepted: drum, horn)",
    )
    assert problems(lambda: toys.check({"name": "xylophone"})) == ("toy=xylophone: no such toy (accepted: drum, horn)",)
    assert problems(lambda: toys.check({"name": ["drum"]}))
    assert problems(lambda: toys.check({"name": 3}))


@pytest.mark.parametrize("choice", [{}, {"name": None}, {"skin": "calf"}])
def test_a_choice_must_be_made(toys, choice):
    assert problems(lambda: toys.check(choice)) == ("toy: no choice made (accepted: drum, horn)",)


def test_options_are_the_builders_own_and_then_the_groups(toys):
    options = toys.options("horn")
    assert [option.name for option in options] == ["length", "valves", "pitch", "notes", "fixed"]
    assert [option.accepted for option in options] == [
        "number > 0", "integer >= 0", "number", "list of: integer >= 1", "true or false",
    ]  # fmt: skip
    assert [option.meaning for option in options[:3]] == ["in metres, unrolled", "how many", "of A, in hertz"]
    assert options[1].default == 3


# check, build, shared


def test_check_fills_in_every_default_in_the_order_of_the_options(toys):
    checked = toys.check({"name": "horn", "length": 2})
    assert checked == {"name": "horn", "length": 2.0, "valves": 3, "pitch": 440.0, "notes": [1, 2], "fixed": False}
    assert list(checked) == ["name", "length", "valves", "pitch", "notes", "fixed"]
    assert type(checked["length"]) is float


def test_check_leaves_its_input_alone_and_accepts_its_own_answer(toys):
    choice = {"name": "drum"}
    checked = toys.check(choice)
    assert choice == {"name": "drum"}
    assert toys.check(checked) == checked


def test_build_hands_a_builder_its_own_options_and_what_the_run_supplies(toys):
    assert toys.build(toys.check({"name": "drum", "tension": 3, "pitch": 442}), "oak") == ("drum", "oak", "calf", 3.0)
    horn = toys.build(toys.check({"name": "horn", "length": 1.5}), "brass")
    assert (horn.made_of, horn.length, horn.valves) == ("brass", 1.5, 3)


def test_shared_are_the_options_of_the_group(toys):
    assert toys.shared(toys.check({"name": "drum", "pitch": 442})) == {"pitch": 442.0, "notes": [1, 2], "fixed": False}
    assert Registry("toy", "blitz.toys", drum=drum).shared({"name": "drum"}) == {}


# Strictness


def takes(annotation: Any, value: Any) -> Any:
    def one(*, x: Any) -> None: ...

    one.__annotations__["x"] = annotation
    return Registry("toy", "blitz.toys", one=one).check({"name": "one", "x": value})["x"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, "0.1"), (float, True), (float, math.inf), (float, -math.inf), (float, math.nan), (float, None),
        (float, [1.0]), (float, ".inf"), (float | None, "null"),
        (int, "1"), (int, 1.0), (int, 1.5), (int, True), (int, math.nan), (int, None),
        (bool, 1), (bool, 0), (bool, "true"), (bool, None),
        (str, None), (str, ["a"]), (list[str], [1]), (list[str] | str, 1),
        (list[float], "12"), (list[float], 1.0), (list[float], [1.0, "2"]), (list[float], [math.inf]),
        (tuple[float, float], [1.0]), (tuple[float, float], [1.0, 2.0, 3.0]), (dict[str, str], {"a": None}),
        (Literal["a", "b"], "c"), (Literal["a", "b"], "A"), (Literal["auto"] | Count, 0),
        (Literal["auto"] | Count, "2"), (Positive, 0), (NonNegative, -1e-9), (Fraction, 1), (Fraction, -0.1),
        (Probability, 1.1), (Count, 0), (Index, -1), (Annotated[float, Gt(0), Le(1)], 1.5),
        (list[Positive] | None, [1.0, 0.0]),
    ],
)  # fmt: skip
def test_refuses(annotation, value):
    (message,) = problems(lambda: takes(annotation, value))
    assert message.startswith("toy.x=")
    assert message.endswith(f": accepted: {accepted(annotation)}")


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (str, 1, "toy.x=1: accepted: text, such as 'toy.x=\"1\"'"),
        (str | None, True, "toy.x=true: accepted: text, such as 'toy.x=\"true\"'"),
        (dict[str, str], {"a": 1.5}, "toy.x.a=1.5: accepted: text, such as 'toy.x.a=\"1.5\"'"),
    ],
)
def test_a_text_that_looks_like_a_number_needs_quotes(annotation, value, message):
    assert problems(lambda: takes(annotation, value)) == (message,)


@pytest.mark.parametrize(
    ("annotation", "value", "seen"),
    [
        (float, 1, 1.0), (float, -0.5, -0.5), (float | None, None, None), (int, 3, 3), (bool, False, False),
        (str, "3", "3"), (list[float], [1, 2.5], [1.0, 2.5]), (tuple[float, float], [1, 2], [1.0, 2.0]),
        (dict[str, str], {"a": "b"}, {"a": "b"}), (Literal["a", "b"], "b", "b"),
        (Literal["auto"] | Count, "auto", "auto"), (Literal["auto"] | Count, 2, 2), (Positive, 1e-30, 1e-30),
        (NonNegative, 0, 0.0), (Fraction, 0, 0.0), (Probability, 1, 1.0), (Count, 1, 1), (Index, 0, 0),
        (Annotated[float, Gt(0), Le(1)], 1, 1.0),
    ],
)  # fmt: skip
def test_takes(annotation, value, seen):
    taken = takes(annotation, value)
    assert taken == seen
    assert type(taken) is type(seen)
    assert json.loads(json.dumps(taken)) == taken  # plain values, fit for a record


def test_what_cannot_be_recorded_is_refused():
    (message,) = problems(lambda: takes(Any, object()))
    assert message.startswith("toy.x: only plain values can be recorded: ")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Positive, "number > 0"), (Fraction, "number >= 0 and < 1"), (Count | None, "integer >= 1 or null"),
        (Literal["A", "B"], "A or B"), (Literal["auto"] | Count, "auto or integer >= 1"), (bool, "true or false"),
        (list[Positive], "list of: number > 0"), (dict[str, str], "mapping of text to text"), (dict, "mapping"),
        (tuple[float, float], "list of 2: number"), (tuple[int, ...], "list of: integer"),
        (Any, "any value"), (Path, "Path"),
    ],
)  # fmt: skip
def test_types_in_words(annotation, words):
    assert accepted(annotation) == words


# Messages


def test_all_mistakes_are_reported_together_each_in_one_line(toys):
    choice = {"name": "horn", "lenght": 2.0, "valves": -1, "pitch": "440", "notes": [1, 0], "colour": "red"}
    assert set(problems(lambda: toys.check(choice))) == {
        "toy.length: a value is needed (accepted: number > 0)",
        "toy.lenght: no such option of horn; did you mean toy.length?",
        "toy.valves=-1: accepted: integer >= 0",
        'toy.pitch="440": accepted: number',
        "toy.notes=[1, 0]: accepted: list of: integer >= 1",
        "toy.colour: no such option of horn",
    }


def test_the_mark_for_no_value_is_a_missing_value_whatever_the_type(toys):
    found = problems(lambda: toys.check({"name": "drum", "skin": "???", "tension": "???", "pitch": 440.0}))
    assert found == (
        "toy.skin: a value is needed (accepted: calf or plastic)",
        "toy.tension: a value is needed (accepted: number > 0)",
    )
    (text_message,) = problems(lambda: takes(str, "???"))
    assert text_message == "toy.x: a value is needed (accepted: text)"


def test_a_key_without_a_group_is_named_without_a_dot():
    class Shape(BaseModel):
        model_config = STRICT
        epochs: Count = 1

    assert problems(lambda: validate(Shape, {"epohcs": 2, "epochs": 0}, "", "key of a config")) == (
        "epochs=0: accepted: integer >= 1",
        "epohcs: no such key of a config; did you mean epochs?",
    )


def test_meanings_are_read_from_the_docstring():
    assert meanings(Horn) == {"length": "in metres, unrolled", "valves": "how many"}
    assert meanings(drum) == {}


ROAD_DRUM = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from somewhere import Material, Skin
def drum(material: Material, *, size: int = 3) -> Material: ...
def other(material: Material, *, skin: Skin | None = None) -> Material: ...
"""


def test_types_under_type_checking_are_no_obstacle_but_for_an_options_own(toys):
    module: dict[str, Any] = {"__name__": "brass_band"}
    exec(ROAD_DRUM, module)
    toys.add("road", module["drum"])
    toys.add("other", module["other"])
    assert toys.check({"name": "road"})["size"] == 3
    expected = (
        "brass_band.other: the type Skin of its option skin cannot be found; "
        "import it where it is imported at run time, not under TYPE_CHECKING",
    )
    assert problems(lambda: toys.check({"name": "other"})) == expected
    assert problems(lambda: toys.options("other")) == expected


# Every choice on every menu


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_option_has_a_meaning_and_is_an_option_once(group, name):
    options = MENUS[group].options(name)
    assert [option.name for option in options if not option.meaning] == []
    keys = ["name", *(option.name for option in options)]
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_docstrings_explain_no_option_that_is_not_there(group, name):
    registry = MENUS[group]
    explained = set(meanings(registry.builder(name))) | set(meanings(registry.common) if registry.common else {})
    assert explained <= {option.name for option in registry.options(name)}


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_says_what_it_is_and_refuses_unknown_options(group, name):
    assert inspect.getdoc(MENUS[group].builder(name))
    assert f"{group}.nope: no such option of {name}" in "".join(
        problems(lambda: MENUS[group].check({"name": name, "nope": 1}))
    )


# Plug-ins


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str], str], None]:
    """Install a package with these entry points of blitz.toys, and this source."""

    def install(points: Mapping[str, str], source: str) -> None:
        packages.install(tmp_path, "blitz.toys", points, source)
        monkeypatch.syspath_prepend(tmp_path)

    monkeypatch.delitem(sys.modules, "brass_band", raising=False)
    return install


def test_an_installed_package_adds_names(toys, install):
    install({"tuba": "tuba"}, 'def tuba(material, *, length: float = 5.0):\n    return "tuba", material, length\n')
    assert toys.names() == ["drum", "horn", "tuba"]
    assert toys.build(toys.check({"name": "tuba", "length": 6}), "brass") == ("tuba", "brass", 6.0)
    with pytest.raises(ValueError, match="exists already"):
        toys.add("tuba", drum)


def test_a_plug_in_is_imported_only_when_the_menu_is_read(install):
    install({"tuba": "tuba"}, "def tuba(material): ...\n")
    toys = Registry("toy", "blitz.toys", drum=drum)
    assert "brass_band" not in sys.modules
    assert "tuba" in toys.names()
    assert "brass_band" in sys.modules


@pytest.mark.parametrize(
    ("points", "source", "reason"),
    [
        ({"drum": "drum"}, "def drum(material): ...", "ValueError: toy=drum exists already; choose another name"),
        ({"tuba": "tuba"}, "import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ({"tuba": "tuba"}, "raise RuntimeError('out of\\nbreath')", "RuntimeError: out of breath"),
        ({"tuba": "tuba"}, "raise SystemExit(3)", "SystemExit: 3"),
        ({"tuba": "tuba"}, "trumpet = 1", "AttributeError: module 'brass_band' has no attribute 'tuba'"),
        ({"tuba": "tuba"}, "tuba = 1", "TypeError: toy=tuba: 1 cannot be called"),
    ],
)
def test_a_broken_plug_in_is_left_out_with_one_warning(toys, install, capsys, points, source, reason):
    install(points, source)
    (name,) = points
    for _ in range(2):
        assert toys.names() == ["drum", "horn"]
    assert toys.build(toys.check({"name": "drum"}), "wood")[:2] == ("drum", "wood")
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        f"blitz: toy={name}: left out: the installed package brass-band offers it as brass_band:{name}, "
    )
    assert reason in warning
    assert warning.endswith("; repair or uninstall brass-band")


def test_broken_plug_ins_leave_the_others_of_their_package(toys, install, capsys):
    install({"drum": "drum", "tuba": "nothing", "gong": "drum"}, "def drum(material): ...")
    assert toys.names() == ["drum", "horn", "gong"]
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["toy=drum:", "toy=tuba:"]

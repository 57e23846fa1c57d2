"""Combinations of a sweep that are no products: those of a file, and those that are drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from blitz.config.hydra_internals import parse_overrides
from blitz.errors import BadInput
from blitz.sweeps.points import Point, draw, read


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def value(text: str) -> object:
    """As Hydra reads what stands behind `KEY=`."""
    return parse_overrides([f"x={text}"])[0].value()


def drawn(*overrides: str, number: int = 200, seed: int = 0) -> list[Point]:
    return draw(parse_overrides(overrides), number, seed)


def test_a_csv_file_has_a_key_a_column_and_an_empty_cell_leaves_it_out(tmp_path: Path) -> None:
    text = "\ufeffoptimizer.lr, model ,notes\n0.1,net,\"'a, b'\"\n\n1e-2,,\n"
    assert read(written(tmp_path, "points.csv", text)) == [
        {"optimizer.lr": "0.1", "model": "net", "notes": "'a, b'"},
        {"optimizer.lr": "1e-2"},
    ]


def test_a_yaml_file_has_points_of_dotted_or_nested_keys(tmp_path: Path) -> None:
    text = "- {optimizer.lr: 1e-3, epochs: 3}\n- optimizer: {lr: 0.5}\n  model: mlp\n"
    assert read(written(tmp_path, "points.yaml", text)) == [
        {"optimizer.lr": "0.001", "epochs": "3"},
        {"optimizer.lr": "0.5", "model": "mlp"},
    ]


@pytest.mark.parametrize(
    "given",
    [
        "plain", "two words", "a,b", "it's", 'say "so"', "null", "true", "0.1", "1e3", "[1]", "${seed}",
        "back\\slash\\", "x=y",
        "", 0.25, 3, None, True, False, [1, 2], ["a,b", "c"], 1e-12,
    ],
)  # fmt: skip
def test_a_value_of_a_yaml_file_reaches_the_config_as_it_is(tmp_path: Path, given: object) -> None:
    (point,) = read(written(tmp_path, "points.yml", f"- notes: {json.dumps(given)}\n"))
    found = value(point["notes"])
    assert (found, type(found)) == (given, type(given))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("points.txt", "x", "accepted: a file .yaml, .yml or .csv"),
        ("points.csv", "", "holds no points"),
        ("points.csv", "optimizer.lr\n", "optimizer.lr: no cell of this column holds a value"),
        ("points.csv", "optimizer.lrr,seed\n,1\n,2\n", "optimizer.lrr: no cell of this column holds a value"),
        ("points.yaml", "- {optimizer.lr: 0.1, optimizer: {lr: 0.2}}", "optimizer.lr stands twice in a point"),
        ("points.yaml", "", "holds no points"),
        ("points.yaml", "optimizer.lr: 0.1\n", "accepted: a list of points"),
        ("points.yaml", "- 0.1\n", "accepted: a list of points"),
        ("points.yaml", "- {a: [\n", "cannot be read"),
        ("points.csv", "optimizer.lr;model\n0.1;mlp\n", "accepted: commas between columns, not semicolons"),
        ("points.csv", "optimizer.lr,optimizer.lr\n0.1,0.2\n", "more than one column optimizer.lr"),
        ("points.csv", "optimizer.lr\n0.1,0.2\n", "line 2: 2 cells, but 1 columns"),
        ("points.csv", 'optimizer.lr\n"0.1,0.2"\n', "line 2: optimizer.lr=0.1,0.2: accepted: one value a cell"),
        ("points.csv", "optimizer.lr\n[1\n", "line 2: optimizer.lr=[1: accepted: one value a cell"),
        ("points.csv", "hydra.sweep.dir\nx\n", "hydra.sweep.dir: accepted: the dotted key of a value"),
        ("points.csv", "sweep.id\nx\n", "sweep.id: accepted: the dotted key of a value"),
        ("points.csv", "learning rate\n0.1\n", "learning rate: accepted: the dotted key of a value"),
    ],
)  # fmt: skip
def test_a_file_of_anything_else_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read(written(tmp_path, name, text))
    assert told in str(refusal.value)
    assert name in str(refusal.value)


def test_a_missing_file_and_one_of_other_characters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.csv: No such file"):
        read(str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes("optimizer.lr\nü\n".encode("latin-1"))
    with pytest.raises(BadInput, match="cannot be read"):
        read(str(tmp_path / "latin.csv"))


def test_values_are_drawn_evenly_from_their_interval() -> None:
    found = [float(point["augment.p"]) for point in drawn("augment.p=interval(2,4)", number=2000)]
    assert 2 <= min(found) < 2.01
    assert 3.99 < max(found) < 4
    assert max(float(point["ema"]) for point in drawn("ema=interval(0.9999,1)", number=20_000)) < 1  # rounded or not
    for low in (2.0, 2.5, 3.0, 3.5):  # 500 expected; five standard deviations of a binomial count
        assert sum(low <= one < low + 0.5 for one in found) == pytest.approx(500, abs=5 * math.sqrt(500 * 0.75))


def test_a_logarithmic_scale_has_as_many_values_in_each_decade() -> None:
    points = drawn("optimizer.lr=tag(log,interval(1e-4,1))", number=2000)
    decades = [math.floor(math.log10(float(point["optimizer.lr"]))) for point in points]
    for decade in (-4, -3, -2, -1):
        assert decades.count(decade) == pytest.approx(500, abs=5 * math.sqrt(500 * 0.75))


@pytest.mark.parametrize("interval", [
    "interval(0.999,0.9999)", "interval(1000,1001)", "interval(-1000.001,-1000)", "interval(1,1.000001)",
    "tag(log,interval(0.99,0.999))", "tag(log,interval(10,10.001))", "tag(log,interval(1e-4,1))", "interval(0,1)",
])  # fmt: skip
def test_values_of_a_narrow_interval_are_told_apart(interval: str) -> None:
    found = [point["x"] for point in drawn(f"x={interval}", number=1000)]
    assert len(set(found)) > 550  # of 1000 steps, the fewest that an interval has, 632 are met
    low, high = [float(end) for end in interval.rstrip(")").rpartition("(")[2].split(",")]
    assert all(low <= float(one) < high for one in found)
    assert max(map(len, found)) <= len("0.0001234567")


@pytest.mark.parametrize(("interval", "first"), [
    ("interval(0,1)", ["0.4837", "0.05216"]), ("interval(0.9,1)", ["0.9484", "0.9052"]),
    ("interval(2,4)", ["2.967", "2.104"]), ("tag(log,interval(1e-3,1))", ["0.02826", "0.001434"]),
    ("interval(0.9,0.99)", ["0.94354", "0.90469"]), ("interval(0.999,0.9999)", ["0.9994354", "0.9990469"]),
])  # fmt: skip
def test_four_digits_are_told_and_more_where_the_interval_is_narrow(interval: str, first: list[str]) -> None:
    assert [point["x"] for point in drawn(f"x={interval}", number=2)] == first


def test_whole_numbers_are_those_of_the_interval_each_as_often() -> None:
    found = [point["epochs"] for point in drawn("epochs=tag(int,interval(0.5,3.5))", number=1500)]
    assert set(found) == {"1", "2", "3"}
    for one in set(found):  # 500 expected; five standard deviations of a binomial count
        assert found.count(one) == pytest.approx(500, abs=5 * math.sqrt(500 * 2 / 3))


@pytest.mark.parametrize("interval", ["int(interval(2,5))", "tag(int,interval(2,5))", "tag(int,log,interval(2,5))"])
def test_whole_numbers_are_below_the_end(interval: str) -> None:
    assert {point["epochs"] for point in drawn(f"epochs={interval}")} == {"2", "3", "4"}


def test_what_is_drawn_follows_from_seed_and_key_alone() -> None:
    lr, momentum = "optimizer.lr=tag(log,interval(1e-4,1))", "optimizer.momentum=interval(0,1)"
    first = drawn(lr, number=5)
    assert drawn(lr, number=9)[:5] == first
    assert [point["optimizer.lr"] for point in drawn(momentum, lr, number=5)] == [p["optimizer.lr"] for p in first]
    assert drawn(lr, number=5, seed=1) != first
    assert first[0] == {"optimizer.lr": "0.006505"}  # on every machine, and in every version from now on


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("x=interval(1,1)", "accepted: interval(A,B) with A below B"),
        ("x=interval(2,1)", "accepted: interval(A,B) with A below B"),
        ("x=interval(0,inf)", "accepted: interval(A,B) with A below B"),
        ("x=tag(log,interval(0,1))", "accepted: A above 0"),
        ("x=tag(int,interval(0.2,0.8))", "accepted: interval(A,B) with a whole number in it"),
        ("x=interval(-1e308,1e308)", "accepted: interval(A,B) with A below B"),
        ("x=tag(lgo,interval(1,2))", "no such tag as lgo (accepted: log, int)"),
    ],
)
def test_an_interval_that_nothing_can_be_drawn_from_is_refused(override: str, told: str) -> None:
    with pytest.raises(BadInput) as refusal:
        drawn(override)
    assert str(refusal.value).startswith(f"{override}: {told}")

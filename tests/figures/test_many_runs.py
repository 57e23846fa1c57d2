"""What the figures of many runs say, read back from matplotlib's objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from scipy import stats

from blitz.comparison.plot import plot_rows
from blitz.comparison.rows import ComparedRun, compare
from blitz.figures import many_runs, objective, style
from blitz.figures.canvas import BARS, save
from blitz.figures.space import PlotRow
from blitz.run_folder.journal import OBJECTIVE
from blitz.run_folder.run_info import FINISHED

NAN = math.nan
LABEL = "Validation accuracy"
CURVES: dict[str, list[tuple[int, float]]] = {}  # by run id


def named(name: str, values: Mapping[str, str], score: float, curve: Sequence[float]) -> ComparedRun:
    """With a seed of its own."""
    number = str(len(CURVES))
    CURVES[number] = list(enumerate(curve, 1))
    return ComparedRun(number, name, number, values, {OBJECTIVE: score}, 1.0, FINISHED)


def run(values: Mapping[str, object], score: float, seed: int = 0, curve: Sequence[float] = (0.1, 0.5)) -> ComparedRun:
    texts = {key: str(value) for key, value in values.items()}
    return named(" ".join(f"{key}={value}" for key, value in {**texts, "seed": seed}.items()), texts, score, curve)


def rows(runs: Sequence[ComparedRun]) -> list[PlotRow]:
    return plot_rows(compare(runs, [OBJECTIVE]), lambda run: CURVES[run.run_id or ""])


def figures(runs: Sequence[ComparedRun], label: str = LABEL) -> dict[str, Figure]:
    return many_runs.figures(rows(runs), label)


def overview(runs: Sequence[ComparedRun], label: str = LABEL) -> Figure:
    return many_runs.overview(rows(runs), label)


def product(keys: Mapping[str, Iterable[object]], num_seeds: int = 1) -> list[ComparedRun]:
    """All combinations; each run is a bit better than the one before."""
    combinations: list[dict[str, object]] = [{}]
    for key, values in keys.items():
        values = list(values)
        combinations = [{**one, key: value} for one in combinations for value in values]
    jobs = [(one, seed) for one in combinations for seed in range(num_seeds)]
    return [run(one, (n + 1) / (len(jobs) + 1), seed) for n, (one, seed) in enumerate(jobs)]


# Means 31, 50, 60 and 20, 30; the last with a single run.
MODEL_LR = [
    *[run({"model": "net", "optimizer.lr": "0.1"}, score, seed) for seed, score in enumerate((0.28, 0.31, 0.34))],
    *[run({"model": "net", "optimizer.lr": "0.001"}, score, seed) for seed, score in enumerate((0.5, 0.5, NAN))],
    *[run({"model": "net", "optimizer.lr": "1e-2"}, score, seed) for seed, score in enumerate((0.55, 0.65))],
    *[run({"model": "mlp", "optimizer.lr": "0.1"}, score, seed) for seed, score in enumerate((0.15, 0.25))],
    run({"model": "mlp", "optimizer.lr": "0.01"}, 0.3),
]


def axes_of(trials: Sequence[ComparedRun], stem: str) -> Axes:
    return figures(trials, LABEL)[stem].axes[0]


def bars(axes: Axes) -> list[ErrorbarContainer]:
    return [found for found in axes.containers if isinstance(found, ErrorbarContainer)]


def means(bar: ErrorbarContainer) -> list[tuple[float, float]]:
    assert bar.lines[0] is not None
    return [(float(x), round(float(y), 6)) for x, y in np.asarray(bar.lines[0].get_xydata())]


def margins(bar: ErrorbarContainer, axis: int = 1) -> list[float]:
    """nan: no bar."""
    segments = bar.lines[2][0].get_segments()
    return [(s[1, axis] - s[0, axis]) / 2 if len(s) == 2 else NAN for s in map(np.asarray, segments)]


def dots(axes: Axes) -> list[tuple[float, float]]:
    """The single runs."""
    return sorted(
        (float(x), round(float(y), 6))
        for line in axes.lines
        if line.get_alpha() is not None
        for x, y in np.asarray(line.get_xydata())
    )


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


def handles(axes: Axes) -> list[Line2D]:
    found = axes.get_legend()
    return list(found.get_lines()) if found else []


def legend_title(axes: Axes) -> str:
    found = axes.get_legend()
    assert found is not None
    return found.get_title().get_text()


def title(axes: Axes) -> str:
    return axes.get_title(loc="left")


def ticks(axes: Axes, axis: str) -> list[str]:
    return [label.get_text() for label in (axes.get_xticklabels() if axis == "x" else axes.get_yticklabels())]


def cells(axes: Axes) -> np.ma.MaskedArray[Any, Any]:
    values = axes.images[0].get_array()
    assert isinstance(values, np.ma.MaskedArray)
    return values


def written(axes: Axes) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text() for text in axes.texts}


# ---- which figures there are


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([], []),
        ([run({"lr": 1}, 0.5)], ["learning_curves"]),
        ([run({"lr": 1}, 0.5, curve=[])], []),
        (product({"lr": [1, 2]}, 2), ["learning_curves", "objective_by_lr"]),
        (product({"model.name": "ab"}), ["learning_curves", "objective_by_model_name"]),
        (product({"a": "xy", "b": "xy"}), ["learning_curves", "objective_by_a", "objective_by_b"]),
        (product({"a": "xy", "b": [1, 2]}), ["learning_curves", "objective_by_b"]),
        (product({"o.a": [1, 2], "b": [1, 2]}), ["learning_curves", "objective_by_o_a", "objective_by_b", "heat_map"]),
        ([run({"lr": n, "b": n}, NAN) for n in range(3)], ["learning_curves"]),
        ([run({"m": "a"}, 0.1, curve=[NAN]), run({"m": "b"}, NAN, curve=[])], []),
    ],
)
def test_what_is_drawn_and_what_is_not(trials: list[ComparedRun], expected: list[str]) -> None:
    assert list(figures(trials, LABEL)) == expected


def test_pairs_of_three_numbers_and_three_pairs_of_more() -> None:
    three = figures(product({"o.a": [1, 2], "b": [1, 2], "c": [1, 2]}), LABEL)
    assert [stem for stem in three if stem.startswith("heat")] == ["heat_map_o_a_b", "heat_map_o_a_c", "heat_map_b_c"]
    assert "not drawn" not in title(three["heat_map_b_c"].axes[0])
    four = figures(product({"a": [1, 2], "b": [1, 2, 3], "c": [1, 2], "d": [1, 2, 3]}), LABEL)
    maps = {stem: figure for stem, figure in four.items() if stem.startswith("heat")}
    assert list(maps) == ["heat_map_b_d", "heat_map_a_b", "heat_map_b_c"]  # those with the most values
    assert all(title(figure.axes[0]).endswith("; 3 pairs more not drawn") for figure in maps.values())


def test_file_stems_are_fit_for_files_and_never_the_same() -> None:
    keys = ["a.b", "a_b", "a/../b", "x" * 300]
    found = figures([run({key: n for key in keys}, 0.5) for n in range(3)], LABEL)
    stems = [stem for stem in found if stem.startswith("objective")]
    assert stems == ["objective_by_a_b", "objective_by_a_b_2", "objective_by_a_b_3", "objective_by_" + "x" * 60]
    assert len(found) == 1 + 4 + 3


# ---- the objective by a number


def test_a_line_for_each_category_through_the_means_over_seeds() -> None:
    axes = axes_of(MODEL_LR, "objective_by_optimizer_lr")
    net, mlp = bars(axes)
    assert means(net) == [(0.001, 50), (0.01, 60), (0.1, 31)]
    assert means(mlp) == [(0.01, 30), (0.1, 20)]
    assert (legend_title(axes), legend(axes)) == ("model", ["net", "mlp"])
    shapes = [line.get_marker() for line in handles(axes)]
    assert shapes == [bar.lines[0].get_marker() for bar in (net, mlp)] == ["o", "s"]
    assert [bar.lines[0].get_linestyle() for bar in (net, mlp)] == ["-", "-"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "Validation accuracy (%)")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert ticks(axes, "x") == ["0.001", "0.01", "0.1"]
    counted = "n = 10 runs; 1 without a result; 1 to 3 seeds each, mean and 95 % interval of three or more"
    assert title(axes) == f"Validation accuracy by lr\n{counted}"


def test_intervals_are_students_and_fewer_than_three_runs_have_none() -> None:
    net, mlp = bars(axes_of(MODEL_LR, "objective_by_optimizer_lr"))
    low, high = stats.t.interval(0.95, 2, loc=0, scale=stats.sem([28, 31, 34]))
    assert margins(net) == pytest.approx([NAN, NAN, (high - low) / 2], nan_ok=True)
    assert margins(mlp) == pytest.approx([NAN, NAN], nan_ok=True)


@pytest.mark.parametrize("sizes", [(1, 2), (2, 2)])
def test_two_seeds_are_called_too_few_for_an_interval(sizes: Sequence[int]) -> None:
    trials = [run({"lr": lr}, 0.5, seed) for lr, size in enumerate(sizes) for seed in range(size)]
    assert title(axes_of(trials, "objective_by_lr")).endswith(" each, too few for an interval")


def test_each_run_is_a_dot_of_its_lines_colour_and_a_single_one_is_its_own_mean() -> None:
    axes = axes_of(MODEL_LR, "objective_by_optimizer_lr")
    assert dots(axes) == [(0.001, 50), (0.001, 50), (0.01, 55), (0.01, 65),
                          (0.1, 15), (0.1, 25), (0.1, 28), (0.1, 31), (0.1, 34)]  # fmt: skip
    faint = {to_hex(line.get_color()) for line in axes.lines if line.get_alpha() is not None}
    assert faint == {colour.lower() for colour in style.COLOURS[:2]}


@pytest.mark.parametrize("key", ["lr", "model"])
def test_an_accuracy_axis_follows_the_runs(key: str) -> None:
    """Intervals have as much room beyond the runs as these span, and none beyond 0 and 100 %."""

    def limits(*scores: Sequence[float]) -> tuple[float, float]:
        values = [str(number) if key == "lr" else f"m{number}" for number in range(len(scores))]
        trials = [run({key: value}, score, seed) for value, row in zip(values, scores, strict=True)
                  for seed, score in enumerate(row)]  # fmt: skip
        axes = axes_of(trials, f"objective_by_{key}")
        return axes.get_ylim() if key == "lr" else axes.get_xlim()

    assert limits([0.217, 0.3], [0.25, 0.26]) == pytest.approx((21.2, 30.5))
    assert limits([0.50, 0.51, 0.52], [0.4, 0.41, 0.42]) == pytest.approx((38.0, 54.0), abs=1)
    assert limits([0.2, 0.5, 0.8], [0.5, 0.5, 0.5]) == pytest.approx((-4, 104), abs=2)
    assert limits([0.5, 0.5], [0.5, 0.5]) == pytest.approx((49, 51), abs=1)


def test_a_linear_axis_and_numbers_without_room_for_their_labels() -> None:
    axes = axes_of(product({"momentum": [0, 0.8, 0.9, 0.91]}), "objective_by_momentum")
    assert axes.get_xscale() == "linear"
    assert ticks(axes, "x") == ["0", "0.8", "0.9", ""]
    assert list(axes.get_xticks()) == [0, 0.8, 0.9, 0.91]


def test_other_numbers_with_few_values_have_lines_in_their_order() -> None:
    axes = axes_of(product({"lr": [0.1, 0.01, 0.001], "momentum": [0.9, 0, 0.5], "same": [3]}, 2), "objective_by_lr")
    assert (legend_title(axes), legend(axes)) == ("momentum", ["0", "0.5", "0.9"])
    both = axes_of(product({"o.lr": [1, 2], "m.lr": [1, 2], "model": "ab"}), "objective_by_o_lr")
    assert both.get_xlabel() == "o.lr"  # the last word alone would be ambiguous
    assert legend(both) == ["m.lr=1 model=b", "m.lr=1 model=a", "m.lr=2 model=b", "m.lr=2 model=a"]


def test_more_lines_than_colours_are_drawn_pale_and_counted() -> None:
    trials = product({"model": [f"m{n:02}" for n in range(11)], "lr": [1, 2]})  # the later, the better
    axes = axes_of(trials, "objective_by_lr")
    assert legend(axes) == [*[f"m{n:02}" for n in range(10, 2, -1)], "3 others, none of them better"]
    named = [bar for bar in bars(axes) if bar.lines[0].get_color() != style.PALE["color"]]
    assert len(named) == 8
    assert len({bar.lines[0].get_color() for bar in named}) == 8
    assert len({bar.lines[0].get_marker() for bar in named}) == 8
    drawn = [point for bar in bars(axes) for point in means(bar) if not math.isnan(point[1])]
    assert sorted(y for _, y in drawn) == pytest.approx(sorted(100 * one.metrics[OBJECTIVE] for one in trials))


def random_search(number: int) -> list[ComparedRun]:
    rng = np.random.default_rng(0)
    return [
        run({"lr": 10 ** rng.uniform(-4, 0), "dropout": rng.uniform(), "model": "ab"[n % 2]}, rng.uniform())
        for n in range(number)
    ]


def test_a_random_search_is_points_without_lines() -> None:
    trials = random_search(20)
    axes = axes_of(trials, "objective_by_lr")
    assert [bar.lines[0].get_linestyle() for bar in bars(axes)] == ["None", "None"]
    assert [line.get_linestyle() for line in handles(axes)] == ["None", "None"]
    assert legend(axes) == ["a", "b"]
    drawn = sorted(point for bar in bars(axes) for point in means(bar))
    assert drawn == sorted((float(one.values["lr"]), round(100 * one.metrics[OBJECTIVE], 6)) for one in trials)
    assert axes.get_xscale() == "log"
    assert dots(axes) == []
    assert title(axes).endswith("n = 20 runs; 1 seed each")


def test_a_random_search_with_few_runs_has_no_lines_of_single_points() -> None:
    axes = axes_of(random_search(5), "objective_by_lr")
    assert legend(axes) == ["b", "a"]  # the best first
    assert [bar.lines[0].get_linestyle() for bar in bars(axes)] == ["None", "None"]


@pytest.mark.parametrize(("number", "num_seeds", "style"), [(12, 1, "-"), (13, 1, "None"), (13, 2, "-")])
def test_many_single_runs_in_a_row_are_not_joined(number: int, num_seeds: int, style: str) -> None:
    (bar,) = bars(axes_of(product({"lr": range(number)}, num_seeds), "objective_by_lr"))
    assert bar.lines[0].get_linestyle() == style


def test_runs_that_lack_the_number_are_counted() -> None:
    axes = axes_of([*product({"lr": [1, 2, 3]}), run({}, 0.7)], "objective_by_lr")
    assert title(axes).endswith("n = 3 runs; 1 without lr; 1 seed each")


# ---- the objective by a category


def test_categories_are_ranked_by_their_means() -> None:
    scores = {"mlp": [0.3, 0.5], "net": [0.9], "a$b$": [0.6, 0.62, 0.64], "lost": [NAN]}
    trials = [run({"model": name}, score, n) for name, found in scores.items() for n, score in enumerate(found)]
    axes = axes_of(trials, "objective_by_model")
    assert ticks(axes, "y") == ["net", r"a\$b\$", "mlp"]
    low, high = axes.get_ylim()
    assert low > high  # the first row is on top
    (bar,) = bars(axes)
    assert sorted(means(bar), key=lambda point: point[1]) == [(90, 0), (62, 1), (40, 2)]
    wide = {place: margin for (_, place), margin in zip(means(bar), margins(bar, axis=0), strict=True)}
    assert wide[1] == pytest.approx(2 / math.sqrt(3) * stats.t.ppf(0.975, 2))
    assert math.isnan(wide[0])
    expected = ["90.00 %  (n = 1)", f"62.00 ± {wide[1]:.2f} %  (n = 3)", "40.00 %  (30.00, 50.00)"]
    assert [text.get_text() for text in axes.texts] == expected
    assert [text.get_position()[1] for text in axes.texts] == [0, 1, 2]
    assert dots(axes) == [(30, 2), (50, 2), (60, 1), (62, 1), (64, 1)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Validation accuracy (%)", "model")
    assert title(axes).endswith(
        "n = 6 runs; 1 without a result; 1 to 3 seeds each, mean and 95 % interval of three or more"
    )


def test_other_categories_have_colours_and_lanes_of_their_own() -> None:
    axes = axes_of(product({"model": "ab", "crop": ["yes", "no", "some"]}, 2), "objective_by_model")
    assert (legend_title(axes), legend(axes)) == ("crop", ["some", "no", "yes"])
    places = np.array([[place for _, place in means(bar)] for bar in bars(axes)])
    assert np.round(places).tolist() == [[0, 1]] * 3
    assert (np.diff(places, axis=0) > 0.1).all()
    assert axes.texts[:] == []


def test_of_very_many_categories_the_best_are_drawn_and_more_combinations_than_colours() -> None:
    axes = axes_of(product({"model": [f"m{n}" for n in range(BARS + 5)]}), "objective_by_model")
    assert ticks(axes, "y")[0] == f"m{BARS + 4}"
    assert len(means(bars(axes)[0])) == len(ticks(axes, "y")) == BARS
    assert title(axes).endswith(f"; the {BARS} best of {BARS + 5} are drawn")
    axes = axes_of(product({"model": "ab", "crop": "abcdefghijk"}), "objective_by_model")
    assert legend(axes)[-1] == "3 others, none of them better"
    assert sum(not math.isnan(x) for bar in bars(axes) for x, _ in means(bar)) == 22


# ---- the objective by two numbers


def test_cells_are_means_in_percent_and_missing_ones_are_blank() -> None:
    trials = [
        run({"lr": lr, "momentum": momentum, "model": model}, score)
        for lr, momentum, model, score in [
            (0.1, 0, "a", 0.2), (0.1, 0, "b", 0.3), (0.1, 0.9, "a", 0.5), (0.01, 0.9, "a", 0.6), (0.01, 0, "a", NAN),
            (1, 0, "a", 0.1), (1, 0.9, "a", 0.4),
        ]
    ]  # fmt: skip
    axes, bar = figures(trials, LABEL)["heat_map"].axes
    assert cells(axes).mask.tolist() == [[True, False, False], [False, False, False]]
    assert cells(axes).filled(-1).tolist() == [[-1, 25, 10], [60, 50, 40]]
    expected = {(1, 0): "25.0", (2, 0): "10.0", (0, 1): "60.0", (1, 1): "50.0", (2, 1): "40.0"}
    assert written(axes) == expected
    assert axes.patch.get_hatch() == "///"
    assert (ticks(axes, "x"), ticks(axes, "y")) == (["0.01", "0.1", "1"], ["0", "0.9"])
    low, high = axes.get_ylim()
    assert low < high
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == ("lr", "momentum", "Validation accuracy (%)")
    counted = "n = 6 runs; 1 without a result; mean of all runs of each cell; hatched: no result"
    assert title(axes) == f"Validation accuracy by lr and momentum\n{counted}"


@pytest.mark.slow
@pytest.mark.parametrize(("size", "number"), [(12, 12 * 2), (13, 0)])
def test_numbers_are_written_where_there_is_room(size: int, number: int) -> None:
    axes = axes_of(product({"a": range(size), "b": range(2)}), "heat_map")
    assert len(axes.texts) == number
    assert "hatched" not in title(axes)


def test_runs_that_diverged_take_no_colours_from_the_others() -> None:
    trials = product({"a": range(4), "b": range(4)})
    usual = axes_of(trials, "heat_map").images[0]
    assert usual.get_clim() == pytest.approx((100 / 17, 1600 / 17))
    trials = [run(one.values, 0.9 + one.metrics[OBJECTIVE] / 100) for one in trials[1:]] + [run({"a": 0, "b": 0}, 0.1)]
    low, high = axes_of(trials, "heat_map").images[0].get_clim()
    assert 89 < low < 90.2
    assert high == pytest.approx(90 + 16 / 17)


def test_random_samples_of_two_numbers_are_coloured_points() -> None:
    trials = random_search(20)
    axes, bar = figures(trials, LABEL)["heat_map"].axes
    assert list(axes.images) == []
    (points,) = axes.collections
    expected = sorted(
        (float(one.values["lr"]), float(one.values["dropout"]), 100 * one.metrics[OBJECTIVE]) for one in trials
    )
    drawn = np.column_stack([np.asarray(points.get_offsets()), np.asarray(points.get_array())])
    assert np.allclose(sorted(drawn.tolist()), expected)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    best = max(expected, key=lambda point: point[2])
    (star,) = axes.lines
    assert np.asarray(star.get_xydata()).tolist() == [pytest.approx(list(best[:2]))]
    assert f"best: {best[2]:.2f} % at lr={best[0]:.6g} dropout={best[1]:.6g}" in title(axes)
    assert bar.get_ylabel() == "Validation accuracy (%)"


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(0, 0), (0, 1), (1, 0)], True),
        ([(0, 0), (1, 1)], False),
        ([(n, n) for n in range(20)], False),
        ([(n % 3, n) for n in range(20)], False),
        ([(0, n) for n in range(4)], True),
        ([(n % 10, n * 7 % 11) for n in range(22)], False),  # a fifth of the cells
        ([(n % 10, n * 7 % 11) for n in range(55)], True),
    ],
)
def test_what_is_a_grid(places: list[tuple[float, float]], expected: bool) -> None:
    assert objective.is_grid(places) is expected


# ---- learning curves


def curve_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() != "*"]


def test_seeds_of_a_combination_have_one_colour_and_the_best_run_is_marked() -> None:
    trials = [
        run({"lr": 1}, 0.5, 0, [0.1, 0.5, 0.4]),
        run({"lr": 1}, 0.7, 1, [0.2, 0.6, 0.7]),
        run({"lr": 2}, 0.6, 0, [0.3, NAN, 0.6]),
        run({"lr": 2}, NAN, 1, []),
    ]
    axes = axes_of(trials, "learning_curves")
    first, second, third = curve_lines(axes)
    assert np.round(np.asarray(second.get_xydata()), 6).tolist() == [[1, 20], [2, 60], [3, 70]]
    assert np.isnan(np.asarray(third.get_ydata())).tolist() == [False, True, False]
    assert first.get_color() == second.get_color() != third.get_color()
    assert second.get_linewidth() > 2 > first.get_linewidth() == third.get_linewidth()
    (star,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert np.asarray(star.get_xydata()).tolist() == [[3, pytest.approx(70)]]
    assert (legend_title(axes), legend(axes)) == ("lr", ["1", "2", "best with 70.00 %: lr=1 seed=1"])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", "Validation accuracy (%)")
    assert title(axes) == "Validation accuracy over the epochs\nn = 3 runs of 2 combinations; 1 without a curve"


def test_up_to_eight_combinations_have_a_look_each() -> None:
    axes = axes_of(product({"model": "abcdefgh"}, 2), "learning_curves")
    assert legend(axes)[:-1] == list("hgfedcba")
    looks = [(line.get_color(), line.get_marker()) for line in curve_lines(axes)]
    assert len(looks) == 16
    assert looks[::2] == looks[1::2]
    assert len(set(looks)) == 8


def test_of_more_combinations_the_best_are_named_and_the_others_get_paler_with_their_rank() -> None:
    axes = axes_of(product({"lr": range(1, 31), "model": "ab"}), "learning_curves")
    num_others = 60 - 5
    names = [f"lr={lr} model={model}" for lr in (30, 29, 28) for model in "ba"][:5]
    others = f"{num_others} others, the better the darker"
    assert legend(axes) == [*names, others, "best with 98.36 %: lr=30 model=b seed=0"]
    assert [line.get_color() for line in curve_lines(axes)[:5]] == list(style.COLOURS[:5])
    greys = [float(str(line.get_color())) for line in curve_lines(axes)[5:]]
    assert greys == sorted(greys)
    assert len(set(greys)) == num_others


def test_seeds_alone_and_curves_of_one_point() -> None:
    alone = [run({"lr": 1}, NAN, n, [0.5]) for n in range(3)]
    assert figures(alone) == {}
    axes = axes_of([*alone, run({"lr": 1}, NAN, 3, [0.5, 0.6])], "learning_curves")
    assert legend(axes) == []  # one combination, and no run is the best
    assert [line.get_marker() for line in axes.lines] == ["o"] * 4  # a line of one point would be invisible
    assert all(tick == int(tick) for tick in axes.get_xticks())
    crowd = curve_lines(axes_of([run({"lr": n}, 0.5, 0, [0.5, NAN, 0.6]) for n in range(20)], "learning_curves"))
    assert {line.get_marker() for line in crowd[5:]} == {"."}


def test_long_curves_are_drawn_without_markers() -> None:
    axes = axes_of([run({"lr": n}, 0.5, 0, [0.5] * 31) for n in range(2)], "learning_curves")
    assert {line.get_marker() for line in curve_lines(axes)} <= {"", "None"}


# ---- all of them


def awkward(number: int) -> list[ComparedRun]:
    """Names that matplotlib would take for formulas, keep from the legend, or has no letters for; very long ones."""
    return [
        named(
            "_$x$ " + "n" * 300,
            {"a." + "k" * 90: "_$v$" + "w" * 90 + str(n), "b." + "k" * 90: str(n % 7), "c": "猫\n\0$" + "^{" * (n % 2)},
            NAN if n % 3 == 0 else 0.3,
            [] if n % 2 else [0.3],
        )
        for n in range(number)
    ]


CASES = {
    "nothing": [],
    "a single run": [run({"lr": 1}, 0.5)],
    "no scores": [run({"lr": n, "b": n}, NAN) for n in range(3)],
    "all scores the same": [run({"lr": lr, "b": b}, 1.0, s, []) for lr in (1, 2) for b in (0, 1) for s in range(2)],
    "scores for one number": [run({"lr": lr}, 0.5 if lr == 1 else NAN, 0, []) for lr in (1, 2)],
    "far apart": [run({"lr": lr}, 0.5, 0, []) for lr in ("1e-99", "1e99", "1")],
    "far apart about zero": [run({"lr": lr}, 0.5, 0, []) for lr in ("-1e99", "1e99", "0")],
    "close together": [run({"lr": lr}, 0.5, 0, []) for lr in ("1", "1.0000000000000002", "1.0000000000000004")],
    "awkward categories": [run({"$k": value}, 0.5, n, []) for n, value in enumerate(["_", "", "$^{", "\n", "猫"])],
}
CROWDS = {
    "many jobs": product({"o.lr": [0.1, 0.03, 0.01], "momentum": [0, 0.9, 0.95], "model": "abcd"}, 3),
    "thirty categories": product({"a." + "k" * 60: ["long " * 30 + str(n) for n in range(30)]}, 2),
    "awkward": awkward(30),
}


@pytest.mark.parametrize("name", CASES)
def test_png_of_whatever_there_is(name: str, tmp_path: Path) -> None:
    figure = overview(CASES[name], "val/$accuracy$")
    figure.dpi = 30  # quick; what warnings would come of is laid out all the same
    save(figure, tmp_path / "overview.png")
    assert len(list(tmp_path.iterdir())) == 1
    assert not _pylab_helpers.Gcf.figs  # pyplot knows of none of them


def test_awkward_names_are_escaped_and_cut() -> None:
    found = {stem: figure.axes[0] for stem, figure in figures(awkward(8), LABEL).items()}
    axes = found["objective_by_" + "k" * 60]
    assert axes.get_xlabel() == "b." + "k" * 37 + "…"
    entries = legend(axes)
    assert len(entries) == len(set(entries)) == 5  # three of eight have no score
    assert [entry[0] for entry in entries] == list("01234")  # else they would look alike
    short = axes_of(
        [run({"lr": n, "c": "_猫"}, 0.5, 0, []) for n in range(2)] + product({"lr": [3]}), "objective_by_lr"
    )
    assert legend(short) == [" _?", "(not set)"]


def texts_in_sight(axes: Axes) -> list[Text]:
    found = [*axes.texts, axes.xaxis.label, axes.yaxis.label, *axes.findobj(Text, include_self=False)]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        far = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        found = [text for text in found if all(text not in (tick.label1, tick.label2) for tick in far)]
    return [text for text in found if text.get_visible() and text.get_text()]


@pytest.mark.parametrize("name", CROWDS)
def test_no_text_is_cut_off_and_the_axes_keep_their_room(name: str) -> None:
    for figure in figures(CROWDS[name], LABEL).values():
        figure.canvas.draw()
        for axes in figure.axes:
            for text in texts_in_sight(axes):
                box = text.get_window_extent()
                assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
                assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1, text
        assert figure.axes[0].bbox.width > 0.4 * figure.bbox.width


def test_the_overview_has_all_panels_in_one_figure() -> None:
    figure = overview(MODEL_LR, LABEL)
    assert [title(axes).partition("\n")[0] for axes in figure.axes] == [f"{LABEL} over the epochs", f"{LABEL} by lr"]
    assert figure.get_suptitle() == "11 runs of 5 combinations; best with 65.00 %: model=net optimizer.lr=1e-2 seed=1"
    assert [text.get_text() for text in overview([], LABEL).texts] == ["There is nothing to draw."]


def test_an_overview_of_too_many_panels_says_so() -> None:
    runs = [run({key: 1 + (key == varied) for key in "abcdefg"}, 0.5) for varied in "abcdefg"]
    figure = overview(runs, LABEL)  # 7 numbers, 3 pairs, the curves
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(panels) == many_runs.PANELS
    assert figure.get_suptitle().endswith("; 3 figures more not drawn here")

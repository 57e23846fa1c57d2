"""What the figures of a run say, read back from matplotlib's objects and from the PNG."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from blitz.figures import canvas
from blitz.figures.canvas import blank, labels, put_name, save
from blitz.figures.one_run import confusion, curves, per_class_accuracy, worst_mistakes

RATES = [(0.1, 0.02), (0.5, 0.1), (1.0, 0.1), (6.0, 0.01)]
CONSTANT = [(0.1, 0.1), (6.0, 0.1)]
CLASSES = ["cat", "dog", "a$b$c"]
COUNTS = np.array([[6, 3, 1], [0, 20, 0], [0, 0, 0]])
HISTORY: list[dict[str, float]] = [
    {"epoch": 1, "train/loss": 2.0, "train/accuracy": 0.3},
    {"epoch": 2, "train/loss": 1.5, "train/accuracy": 0.5, "val/loss": 1.4, "val/accuracy": 0.55},
    {"epoch": 3, "train/loss": 1.2, "train/accuracy": 0.6},
    {"epoch": 4, "train/loss": 1.0, "train/accuracy": 0.7, "val/loss": 1.1, "val/accuracy": 0.65},
    {"epoch": 6, "train/loss": 0.9, "train/accuracy": 0.8, "train/lr": 0.0, "val/loss": 1.0, "val/accuracy": 0.65},
]


def line(axes: Axes, label: str) -> list[tuple[float, float]]:
    (found,) = [line for line in axes.lines if str(line.get_label()).startswith(label)]
    return [(float(x), round(float(y), 6)) for x, y in np.asarray(found.get_xydata())]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def mistakes(number: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image k is k everywhere, is a cat, was taken for a dog, with a confidence of k percent."""
    images = np.ones((number, channels, 8, 8), np.uint8) * np.arange(number, dtype=np.uint8)[:, None, None, None]
    true = np.zeros(number, int)
    return images, true, true + 1, np.arange(number) / 100


# ---- curves


def drawn(history: Sequence[Mapping[str, float]], rates: Sequence[tuple[float, float]] = RATES) -> Figure:
    figure = curves(history, rates)
    assert figure is not None
    return figure


def test_three_panels_with_units() -> None:
    loss, accuracy, rate = drawn(HISTORY).axes
    assert [axes.get_ylabel() for axes in (loss, accuracy, rate)] == ["Loss", "Accuracy (%)", "Learning rate"]
    assert [axes.get_xlabel() for axes in (loss, accuracy, rate)] == ["Epoch"] * 3
    assert line(loss, "train") == [(1, 2.0), (2, 1.5), (3, 1.2), (4, 1.0), (6, 0.9)]
    assert line(accuracy, "validation") == [(2, 55.0), (4, 65.0), (6, 65.0)]
    (only,) = rate.lines
    assert np.asarray(only.get_xydata()).tolist() == [list(pair) for pair in RATES]  # a warm-up within the first epoch


def test_the_first_best_epoch_is_marked() -> None:
    loss, accuracy, _ = drawn(HISTORY).axes
    assert line(accuracy, "best: 65.00 % (epoch 4)") == [(4, 65.0)]
    assert [line.get_xdata() for line in loss.lines if line.get_linestyle() == ":"] == [[4, 4]]
    assert accuracy.get_legend() is not None


def test_without_accuracies_the_lowest_loss_is_the_best() -> None:
    loss, _ = drawn([{k: v for k, v in row.items() if "accuracy" not in k} for row in HISTORY]).axes
    assert line(loss, "best: 1 (epoch 6)") == [(6, 1.0)]


def test_without_validation_nothing_is_marked(tmp_path: Path) -> None:
    rows = [{"epoch": n, "train/loss": 1.0 / n, "train/accuracy": 0.5} for n in (1, 2)]
    figure = drawn(rows, CONSTANT)
    for axes in figure.axes:
        (only,) = axes.lines
        assert only.get_marker() == "o"
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())  # there is no epoch 0.98
    save(figure, tmp_path / "curves.png")


def test_panels_that_say_nothing_are_left_out() -> None:
    titles = [axes.get_title() for axes in drawn(HISTORY, CONSTANT).axes]
    assert titles == ["Loss", "Accuracy (%)"]
    assert [axes.get_title() for axes in drawn(HISTORY[1:2]).axes] == ["Learning rate"]  # after one epoch
    assert curves(HISTORY[1:2], CONSTANT) is None
    assert curves([], []) is None


def test_a_loss_that_diverged(tmp_path: Path) -> None:
    rows = [HISTORY[1], {"epoch": 2, "train/loss": float("inf"), "val/accuracy": float("nan")}]
    figure = drawn(rows)
    loss, accuracy, _ = figure.axes
    assert np.isnan(line(loss, "train")[-1][1])
    assert line(accuracy, "best: 55.00 % (epoch 2)")
    save(figure, tmp_path / "curves.png")


def test_a_long_training_is_drawn_without_markers() -> None:
    (only,) = drawn([{"epoch": n, "train/loss": 0.1} for n in range(1, 100)], CONSTANT).axes[0].lines
    assert only.get_marker() in ("", "None")


# ---- confusion


def test_rows_are_normalised_and_counts_are_written() -> None:
    axes, bar = confusion(COUNTS, CLASSES).axes
    assert np.asarray(axes.images[0].get_array()).tolist() == [[60, 30, 10], [0, 100, 0], [0, 0, 0]]
    assert texts(axes) == ["6", "3", "1", "0", "20", "0", "0", "0", "0"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")
    assert bar.get_ylabel() == "Share of the true class (%)"
    assert axes.get_title() == "Confusion matrix: 26 of 30 correct (86.67 %)\nmost often: cat → dog, 3 of 10"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", r"a\$b\$c"]


def test_no_images_and_no_mistakes() -> None:
    assert confusion(np.zeros((2, 2), int), ["a", "b"]).axes[0].get_title() == "Confusion matrix: no images"
    title = confusion(np.eye(2, dtype=int), ["a", "b"]).axes[0].get_title()
    assert title == "Confusion matrix: 2 of 2 correct (100.00 %)"


def test_a_hundred_classes_have_thinned_labels_and_no_counts() -> None:
    axes = confusion(np.eye(100, dtype=int), [f"class {n}" for n in range(100)]).axes[0]
    assert texts(axes) == []
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"class {n}" for n in range(0, 100, 3)]
    assert list(axes.get_xticks()) == list(range(0, 100, 3))


def test_long_names_are_cut_and_stay_apart() -> None:
    names = ["x" * 40 + "a", "x" * 40 + "b", "y" * 40]
    axes = confusion(COUNTS, names).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["0: " + "x" * 18 + "…", "1: " + "x" * 18 + "…", "y" * 21 + "…"]


# ---- accuracy by class


def test_bars_are_sorted_and_labelled() -> None:
    (axes,) = per_class_accuracy(COUNTS, CLASSES).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dog", "cat", r"a\$b\$c"]
    assert [bar.get_width() for bar in axes.patches] == [100, 60, 0]  # type: ignore[attr-defined]
    (bars,) = [found for found in axes.containers if isinstance(found, ErrorbarContainer)]
    ends = [sorted(x for x, _ in segment) for segment in bars.lines[2][0].get_segments()]
    assert ends[:2] == [pytest.approx([83.89, 100], abs=0.01), pytest.approx([31.27, 83.18], abs=0.01)]  # Wilson's
    assert np.isnan(ends[2]).all()
    assert texts(axes) == ["100.0 %  (n = 20)", "60.0 %  (n = 10)", "no images  (n = 0)"]
    low, high = axes.get_ylim()
    assert low > high  # the first bar is on top
    assert axes.lines[-1].get_label() == "all images: 86.67 %"


def test_of_very_many_classes_the_lowest_are_drawn() -> None:
    counts = np.diag(np.arange(300)) + np.eye(300, k=1, dtype=int)  # the higher the number, the better
    (axes,) = per_class_accuracy(counts, [str(n) for n in range(300)]).axes
    assert axes.get_title() == "Accuracy by class, with 95 % intervals: the 100 lowest of 300"
    assert axes.get_yticklabels()[-1].get_text() == "0"
    assert len(axes.patches) == 100


# ---- worst mistakes


@pytest.mark.parametrize("channels", [1, 3])
def test_the_most_confident_mistakes_come_first(channels: int) -> None:
    images, true, predicted, confidence = mistakes(60, channels)
    predicted[59] = 0  # the most confident one is right
    figure = worst_mistakes(images, true, predicted, confidence, CLASSES)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [f"cat → dog, {k} %" for k in range(58, 28, -1)]
    for shown, k in zip(axes.images, range(58, 28, -1), strict=True):
        picture = np.asarray(shown.get_array())
        assert picture.shape == ((8, 8, 3) if channels == 3 else (8, 8))
        assert (picture == k).all()
        assert shown.get_clim() == (0, 255)  # a dark image stays dark


def test_each_mistake_stands_under_its_own_label() -> None:
    (axes,) = worst_mistakes(*mistakes(7, 3), classes=CLASSES).axes
    for shown, text in zip(axes.images, axes.texts, strict=True):
        left, right, _, top = shown.get_extent()
        x, y = text.get_position()
        assert left < x < right
        assert 0 < top - y < 0.1


def test_long_names_take_two_lines() -> None:
    figure = worst_mistakes(*mistakes(7, 3), classes=["a rather long name", "another long name"])
    assert figure.axes[0].texts[0].get_text() == "a rather long name →\nanother long name, 6 %"


@pytest.mark.parametrize("number", [0, 3])
def test_no_mistakes(number: int) -> None:
    images, true, _, confidence = mistakes(number, 3)
    figure = worst_mistakes(images, true, true, confidence, CLASSES)
    assert [text.get_text() for text in figure.texts] == ["There were no mistakes."]
    assert figure.axes == []


# ---- names


def test_names_are_wrapped_before_dollars_are_escaped() -> None:
    assert labels(["abc$ef", "a b"], 10, 4) == ["abc\\$\nef", "a b"]


def test_what_no_font_can_draw_is_no_warning(tmp_path: Path) -> None:
    names = labels(["a\tb\n\0", "猫 é → 😀", "犬 é → 😀"], 22)
    assert names == ["a b ?", "1: ? é → 😀", "2: ? é → 😀"]
    figure = blank(3, 2)
    figure.text(0, 0.5, " ".join(names))
    expect_png(figure, tmp_path / "names.png")  # a warning is an error here


# ---- files


def test_names_of_runs_stand_above_all(tmp_path: Path) -> None:
    figure = worst_mistakes(*mistakes(2, 1), classes=CLASSES)
    put_name(figure, "lr=0.01 $x " + "word " * 60)
    name, _, title = figure.get_suptitle().rpartition("\n")
    assert name.startswith(r"lr=0.01 \$x word")
    assert name.endswith("…")
    assert title.startswith("The most confident mistakes")
    figure = drawn(HISTORY)
    put_name(figure, "net on digits")
    assert figure.get_suptitle() == "net on digits"
    expect_png(figure, tmp_path / "curves.png")


def expect_png(figure: Figure, path: Path) -> None:
    save(figure, path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        width, height = figure.get_size_inches() * canvas.DPI
        assert image.size == (int(width), int(height))
        assert len(image.convert("L").getcolors() or []) > 5


@pytest.mark.slow
def test_png_of_each_figure_from_a_thread(tmp_path: Path) -> None:
    problems: list[BaseException] = []

    def draw() -> None:
        try:
            for number, figure in enumerate(
                [
                    drawn(HISTORY),
                    confusion(COUNTS, CLASSES),
                    per_class_accuracy(COUNTS, CLASSES),
                    worst_mistakes(*mistakes(2, 1), classes=CLASSES),
                ]
            ):
                expect_png(figure, tmp_path / "new" / f"{number}.png")
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert problems == []
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"{number}.png" for number in range(4)]
    assert not _pylab_helpers.Gcf.figs  # pyplot knows of none of them


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def half(figure: Figure, file: BinaryIO, **options: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="No space left"):
        save(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

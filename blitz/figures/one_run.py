"""Figures of a run: its curves, its confusion matrix, its accuracy by class and its worst mistakes.

Drawn with matplotlib's objects on the Agg canvas and never through pyplot, whose global state no thread but the main
one may touch. Colours are Okabe and Ito's, which colour-blind people can distinguish.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from blitz.figures import canvas
from blitz.figures.canvas import BARS, GREY, TICKS, TRAIN, VAL, blank, labels
from blitz.intervals import interval_of_share
from blitz.run_folder.journal import TRAIN_ACCURACY, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS

LOSS, ACCURACY = "Loss", "Accuracy (%)"
PANELS = {LOSS: (TRAIN_LOSS, VAL_LOSS), ACCURACY: (TRAIN_ACCURACY, VAL_ACCURACY)}
LOOKS: list[dict[str, Any]] = [
    {"label": "train", "color": TRAIN, "marker": "o"},
    {"label": "validation", "color": VAL, "marker": "s"},
]
COUNTED = 20  # classes up to which each cell of a confusion matrix has its count written in
SHOWN = 30  # most mistakes that are shown


def curves(history: Sequence[Mapping[str, float]], rates: Sequence[tuple[float, float]]) -> Figure | None:
    """Loss, accuracy (a fraction in `history`, drawn in percent) and learning rate over the epochs, side by side.

    `rates` are the learning rates after so many epochs, which need not be whole. What would be single points, and a
    rate that never changes, are left out; None where nothing remains.

    The best epoch is the first with the highest `val/accuracy`, or where that was never measured the lowest `val/loss`.
    """
    drawn = {title: keys for title, keys in PANELS.items() if any(len(_course(history, key)) > 1 for key in keys)}
    titles = [*drawn, *(["Learning rate"] if len({rate for _, rate in rates}) > 1 else [])]
    if not titles:
        return None
    figure = blank(4.33 * len(titles), 4.2)
    panels = dict(zip(titles, figure.subplots(1, len(titles), squeeze=False)[0], strict=True))
    for title, axes in panels.items():
        axes.set(title=title, ylabel=title)
        canvas.epoch_axis(axes)
        canvas.dress(axes)
    for title, keys in drawn.items():
        for key, look in zip(keys, LOOKS, strict=True):
            if course := _course(history, key):
                canvas.draw_course(panels[title], course, scale=100 if title == ACCURACY else 1, markersize=4, **look)
    if "Learning rate" in panels:
        axes = panels.pop("Learning rate")
        canvas.draw_course(axes, rates, marker="", color=GREY)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    _mark_best(panels, history)
    for axes in panels.values():
        axes.legend(frameon=False)
    return figure


def _course(history: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    """Where `key` was measured."""
    return [(row["epoch"], row[key]) for row in history if row.get(key) is not None]


def _mark_best(panels: Mapping[str, Axes], history: Sequence[Mapping[str, float]]) -> None:
    finite = {
        key: [(epoch, value) for epoch, value in _course(history, key) if math.isfinite(value)]
        for key in (VAL_ACCURACY, VAL_LOSS)
    }
    if finite[VAL_ACCURACY]:
        epoch, share = max(finite[VAL_ACCURACY], key=lambda point: point[1])
        title, value, text = ACCURACY, 100 * share, f"{100 * share:.2f} %"
    elif finite[VAL_LOSS]:
        epoch, value = min(finite[VAL_LOSS], key=lambda point: point[1])
        title, text = LOSS, f"{value:.4g}"
    else:
        return
    for axes in panels.values():
        axes.axvline(epoch, color=GREY, linewidth=1, linestyle=":", zorder=1)
    label = f"best: {text} (epoch {epoch:.0f})"
    if title in panels:
        panels[title].plot(epoch, value, "*", markersize=14, color=VAL, markeredgecolor="black", label=label, zorder=5)


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """`counts[true, predicted]`; the colour is the share of the true class, on a scale that shows small shares."""
    num_classes = len(classes)
    assert counts.shape == (num_classes, num_classes), (counts.shape, num_classes)
    side = min(max(0.5 * num_classes, 2.8), 8.6)
    figure = blank(side + 2.9, side + 2.1)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(100 * shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100), interpolation="nearest")
    figure.colorbar(image, ax=axes, label="Share of the true class (%)", shrink=0.8, ticks=[0, 1, 5, 20, 50, 100])
    step = math.ceil(num_classes / TICKS)
    names = labels(classes, 22)[::step]
    size = 9 if num_classes <= COUNTED else 7
    axes.set_xticks(range(0, num_classes, step), names, rotation=90 if num_classes > 3 else 0, fontsize=size)
    axes.set_yticks(range(0, num_classes, step), names, fontsize=size)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.set_title(_confusion_title(counts, classes), fontsize=10)
    if num_classes <= COUNTED:
        for (true, predicted), count in np.ndenumerate(counts):
            colour = "white" if shares[true, predicted] > 0.35 else "black" if count else "#8c8c8c"
            size = 9 if num_classes <= 12 else 7
            axes.text(
                predicted, true, _short(int(count)), ha="center", va="center", color=colour, fontsize=size,
                in_layout=False,  # it lies inside the axes; asking all 400 would take a second
            )  # fmt: skip
    return figure


def _confusion_title(counts: np.ndarray, classes: Sequence[str]) -> str:
    right, total = int(np.trace(counts)), int(counts.sum())
    if not total:
        return "Confusion matrix: no images"
    title = f"Confusion matrix: {right:,} of {total:,} correct ({100 * right / total:.2f} %)"
    wrong = counts - np.diag(np.diag(counts))
    true, predicted = divmod(int(wrong.argmax()), len(classes))
    if wrong[true, predicted]:
        names = labels(classes, 30)
        title += (
            f"\nmost often: {names[true]} → {names[predicted]}, {wrong[true, predicted]:,} of {counts[true].sum():,}"
        )
    return title


def per_class_accuracy(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """`counts[true, predicted]`, the best class on top; of more than `BARS` classes the lowest ones."""
    totals = counts.sum(axis=1)
    accuracy = 100 * np.diag(counts) / np.maximum(totals, 1)
    order = np.argsort(-np.where(totals > 0, accuracy, -1.0), kind="stable")[-BARS:]
    height = 0.17 if len(order) > 30 else 0.3
    figure = blank(8.5, height * len(order) + 1.5)
    axes = figure.subplots()
    places = np.arange(len(order))
    ends = np.array([interval_of_share(counts[n, n], totals[n]) if totals[n] else (math.nan, math.nan) for n in order])
    beyond = np.abs(100 * ends.T - accuracy[order])
    axes.barh(places, accuracy[order], color=TRAIN, height=0.75)
    axes.errorbar(accuracy[order], places, xerr=beyond, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    size = 7.5 if len(order) > 30 else 9
    texts = [f"{accuracy[n]:.1f} %  (n = {totals[n]:,})" if totals[n] else "no images  (n = 0)" for n in order]
    canvas.write_beside(axes, texts, size)
    names = labels(classes, 34)
    axes.set_yticks(places, [names[number] for number in order], fontsize=size)
    axes.set(xlabel="Accuracy (%)", ylabel="True class", xlim=(0, 100), ylim=(len(order) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    title = "Accuracy by class, with 95 % intervals"
    if totals.sum():
        overall = 100 * np.trace(counts) / totals.sum()
        axes.axvline(overall, color=VAL, linestyle="--", linewidth=1.2, label=f"all images: {overall:.2f} %")
        figure.legend(loc="outside lower right", frameon=False, fontsize=9)
    if len(classes) > len(order):
        title += f": the {len(order)} lowest of {len(classes):,}"
    axes.set_title(title)
    return figure


def worst_mistakes(
    images: np.ndarray, true: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, classes: Sequence[str]
) -> Figure:
    """The wrong ones among `images` (N, C, H, W; uint8; C 1 or 3), the most confident first; `confidence` in 0 … 1.

    Images that were classified rightly are passed over, and so are mistakes beyond the first `SHOWN`.
    """
    wrong = np.flatnonzero(true != predicted)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    if not order.size:
        return canvas.notice("There were no mistakes.")
    names = labels(classes, 20)
    captions = [f"{names[true[n]]} → {names[predicted[n]]}, {100 * confidence[n]:.0f} %" for n in order]
    return image_grid(images[order], captions, "The most confident mistakes: true → predicted, confidence")


def image_grid(images: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    """Images (N, C, H, W; uint8; C 1 or 3), six in a row, each with its caption above it."""
    num_columns = min(6, len(images))
    num_rows = math.ceil(len(images) / num_columns)
    figure = blank(max(1.85 * num_columns, 4.5), 2.15 * num_rows + 0.6)
    figure.suptitle(title, fontsize=11)
    axes = figure.add_subplot()  # one for all pictures: thirty of them would take a second to lay out
    axes.set_axis_off()
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(place, num_columns)
        picture = image.transpose(1, 2, 0)
        # imshow repeats a grey image's values in no colour map of its own choice only with an explicit range.
        axes.imshow(
            picture if picture.shape[2] == 3 else picture[:, :, 0],
            cmap="gray", vmin=0, vmax=255, extent=(column, column + 0.88, 1.2 * row + 0.88, 1.2 * row),
        )  # fmt: skip
        caption = caption if len(caption) <= 25 else caption.replace("→ ", "→\n", 1)
        axes.text(column + 0.44, 1.2 * row - 0.03, caption, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-0.06, num_columns - 0.06), ylim=(1.2 * num_rows - 0.3, -0.3))
    return figure


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"

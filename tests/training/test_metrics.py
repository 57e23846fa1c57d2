"""Sums and evaluations against slow references: one image at a time, in Python numbers."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from blitz.parts.losses import LOSSES
from blitz.training.batches import Batches
from blitz.training.loop import Learner
from blitz.training.metrics import Evaluation, Sums, WindowMeans

CPU = torch.device("cpu")


class Table(nn.Module):
    """An image is the number of its row of logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images.flatten(1)[:, 0].long()]


def evaluation(logits: Tensor, labels: Tensor, batch_size: int = 4) -> Evaluation:
    model = Table(logits)
    loss = LOSSES.build({"name": "cross_entropy"}, logits.shape[1])
    optimizer = torch.optim.SGD(model.parameters())
    learner = Learner(model, loss, optimizer, lambda step: 1.0, GradScaler(enabled=False), contextlib.nullcontext)
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return learner.evaluate(Batches(images, labels, batch_size, CPU, Tensor.float))


def random_logits(count: int, num_classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, num_classes, generator=generator)
    return logits, torch.randint(num_classes, (count,), generator=generator)


def cross_entropy(row: list[float], label: int) -> float:
    return math.log(sum(math.exp(logit) for logit in row)) - row[label]


@pytest.mark.parametrize("num_classes", [2, 5, 7])
def test_an_evaluation_is_what_counting_one_image_at_a_time_gives(num_classes: int) -> None:
    count = 43
    logits, labels = random_logits(count, num_classes)
    rows, truth = logits.tolist(), labels.tolist()
    confusion = [[0] * num_classes for _ in range(num_classes)]
    losses, hits = [], 0
    for row, label in zip(rows, truth, strict=True):
        ranked = sorted(range(num_classes), key=lambda k, row=row: -row[k])  # type: ignore[misc]
        confusion[label][ranked[0]] += 1
        hits += label in ranked[:5]
        losses.append(cross_entropy(row, label))
    found = evaluation(logits, labels)
    assert found.confusion.tolist() == confusion
    assert found.loss == pytest.approx(sum(losses) / count, rel=1e-6)
    assert found.accuracy == sum(confusion[k][k] for k in range(num_classes)) / count
    assert found.top5 == hits / count
    assert (found.top5 == 1) == (num_classes <= 5)
    assert found.per_class == pytest.approx([confusion[k][k] / sum(confusion[k]) for k in range(num_classes)])
    assert found.predicted.tolist() == [row.index(max(row)) for row in rows]
    shares = [math.exp(max(row)) / sum(math.exp(logit) for logit in row) for row in rows]
    assert found.confidence.tolist() == pytest.approx(shares, rel=1e-5)


def test_a_class_without_images_has_no_accuracy() -> None:
    logits, labels = random_logits(20, 4)
    labels[labels == 2] = 3
    found = evaluation(logits, labels)
    assert [math.isnan(accuracy) for accuracy in found.per_class] == [False, False, True, False]
    assert found.confusion[2].tolist() == [0, 0, 0, 0]
    assert found.confusion[:, 2].sum() > 0  # it was predicted all the same


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_reported_as_not_a_number(broken: float) -> None:
    logits, labels = random_logits(6, 4)
    logits[3, labels[3]] = broken
    found = evaluation(logits, labels)
    assert math.isnan(found.loss)
    assert int(found.confusion.sum()) == 6


def test_sums_are_means_over_weights_and_images_whatever_the_batches() -> None:
    logits, labels = random_logits(11, 5)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])
    loss = LOSSES.build({"name": "cross_entropy", "class_weights": weights.tolist()}, 5)
    sums = Sums(CPU)
    for some, wanted in zip(logits.split(4), labels.split(4), strict=True):
        total, weight = loss(some, wanted)
        sums.add(total, weight, some, wanted)
    rows, truth = logits.tolist(), labels.tolist()
    terms = [float(weights[label]) * cross_entropy(row, label) for row, label in zip(rows, truth, strict=True)]
    assert sums.loss == pytest.approx(sum(terms) / sum(float(weights[label]) for label in truth), rel=1e-6)
    right = sum(row.index(max(row)) == label for row, label in zip(rows, truth, strict=True))
    assert 0 < right < 11
    assert sums.accuracy == right / 11
    assert sums.count == 11


def test_soft_targets_count_as_their_largest_share() -> None:
    sums = Sums(CPU)
    targets = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.3, 0.7, 0.0]])
    sums.add(torch.tensor(3.0), torch.tensor(3.0), torch.eye(3), targets)
    assert sums.accuracy == 1 / 3
    assert sums.count == 3


def test_sums_lose_nothing_beside_a_large_total() -> None:
    """In float32 each of these losses would vanish beside the first."""
    sums = Sums(CPU)
    logits, labels = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
    sums.add(torch.tensor(2.0**25), torch.tensor(1.0), logits, labels)
    for _ in range(63):
        sums.add(torch.tensor(1.0), torch.tensor(1.0), logits, labels)
    assert sums.loss == (2**25 + 63) / 64


def test_sums_resume_from_their_state_with_the_same_bits() -> None:
    logits, labels = random_logits(40, 5)
    losses = torch.rand(40) / 3
    whole, first, second = Sums(CPU), Sums(CPU), Sums(CPU)

    def add(sums: Sums, rows: range) -> None:
        for row in rows:
            sums.add(losses[row], torch.tensor(0.7), logits[row : row + 1], labels[row : row + 1])

    add(whole, range(40))
    add(first, range(17))
    stood = first.loss, first.accuracy, first.count
    second.load_state_dict(first.state_dict())
    add(second, range(17, 40))
    assert second.state_dict() == whole.state_dict()
    assert (second.loss, second.accuracy, second.count) == (whole.loss, whole.accuracy, 40)
    assert (first.loss, first.accuracy, first.count) == stood  # the state was copied, not shared


@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 1, 6], [4, 4, 4]])
def test_window_means_do_not_depend_on_where_reports_end(sizes: list[int]) -> None:
    values = [float(2**number) for number in range(12)]
    means, windows, last = WindowMeans(5), [], 0
    for size in sizes:
        part = values[last : last + size]
        last += size
        windows += means.add(last, {"a": part, "b": [-value for value in part]})
        state, means = means.state_dict(), WindowMeans(5)
        means.load_state_dict(state)
    expected = [sum(values[:5]) / 5, sum(values[5:10]) / 5]
    assert windows == [(5, {"a": expected[0], "b": -expected[0]}), (10, {"a": expected[1], "b": -expected[1]})]
    assert means.state_dict() == {"a": values[10:], "b": [-value for value in values[10:]]}


def test_flush_ends_the_open_window_and_only_that() -> None:
    means = WindowMeans(5)
    assert means.flush(0) == []
    assert means.add(7, {"a": [1.0] * 5 + [2.0, 4.0]}) == [(5, {"a": 1.0})]
    assert means.flush(7) == [(7, {"a": 3.0})]
    assert means.flush(7) == []
    assert means.state_dict() == {}

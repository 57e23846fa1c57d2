"""The loop: the textbook's bits, one step of the optimizer a batch, exact sums, and streams that nothing shifts."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from blitz.parts.losses import LOSSES
from blitz.parts.models.net import Net
from blitz.parts.optimizers import OPTIMIZERS
from blitz.training.batches import Batches
from blitz.training.loop import EpochResult, Learner, NonFiniteLoss, Progress, fit, predict, train_epoch, train_step
from blitz.training.metrics import Evaluation

CPU = torch.device("cpu")
K = 5
CLASS_WEIGHTS = [0.5, 2.0, 0.0, 1.0, 3.0]
LOSS_CHOICES: list[dict[str, Any]] = [
    {"name": "cross_entropy"},
    {"name": "cross_entropy", "class_weights": CLASS_WEIGHTS},
]


def as_is(images: Tensor, generator: Generator) -> Tensor:
    return images


def unmixed(images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    return images, labels


def normalise(images: Tensor) -> Tensor:
    return images.float().sub_(120.0).mul_(1 / 64)


def pictures(count: int, side: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    return images, torch.randint(K, (count,), generator=generator)


def batches(count: int = 10, batch_size: int = 4, side: int = 6) -> Batches:
    return Batches(*pictures(count, side), batch_size, CPU, normalise)


def small_model(*extra: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *extra, nn.Flatten(), nn.Linear(64, K))


def make_learner(model: nn.Module | None = None, choice: dict[str, Any] | None = None, **options: Any) -> Learner:
    """A small convolution, cross-entropy, SGD with momentum and a constant rate; `options` as Learner's."""
    model = model or small_model()
    given: dict[str, Any] = {
        "model": model,
        "loss": LOSSES.build(choice or LOSS_CHOICES[0], K),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        "schedule": lambda step: 1.0,
        "scaler": GradScaler("cpu", enabled=False),
        "autocast": contextlib.nullcontext,
    }
    return Learner(**{**given, **options})


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def reports(learner: Learner, train: Batches, validation: Batches | None = None, **options: Any) -> list[Any]:
    return list(fit(learner, train, validation, as_is, unmixed, **{"epochs": 1, **options}))


def step_losses(found: list[Progress | EpochResult]) -> Tensor:
    return torch.cat([report.losses for report in found if isinstance(report, Progress)])


def untimed(report: Progress | EpochResult) -> Any:
    """A report without times and tensors."""
    if isinstance(report, Progress):
        return report.epoch, report.step, report.epoch_step, report.accuracy
    return report.epoch, report.step, {name: value for name, value in report.metrics.items() if "time/" not in name}


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def gradients_at_each_step(learner: Learner) -> list[list[Tensor]]:
    """Filled as the optimizer is about to step."""
    seen: list[list[Tensor]] = []

    def look(*_: object) -> None:
        seen.append([p.grad.clone() for p in learner.model.parameters() if p.grad is not None])

    learner.optimizer.register_step_pre_hook(look)
    return seen


# A textbook loop


@pytest.mark.parametrize(("batch_size", "count", "epochs"), [(4, 399, 2), (128, 500, 3)])
def test_training_has_the_bits_of_a_textbook_loop(batch_size: int, count: int, epochs: int) -> None:
    images, labels = pictures(count, side=16)
    torch.manual_seed(0)
    net, model = Net(K, (3, 16, 16)), Net(K, (3, 16, 16))
    model.load_state_dict(net.state_dict())

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    numbers = Batches(images, torch.arange(count), batch_size, CPU, normalise)  # whose labels are the order
    expected = []
    for epoch in range(epochs):
        for _, chosen in numbers.shuffled(0, epoch, as_is, unmixed):
            inputs = normalise(images[chosen])
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels[chosen])
            loss.backward()
            optimizer.step()
            expected.append(loss.item())

    sgd = OPTIMIZERS.build(OPTIMIZERS.check({"name": "sgd", "lr": 0.001, "momentum": 0.9}), model.parameters())
    train = Batches(images, labels, batch_size, CPU, normalise)
    found = reports(make_learner(model, optimizer=sgd), train, train, epochs=epochs)
    assert step_losses(found).tolist() == expected
    assert same(model, net)


# One step of the optimizer


@pytest.mark.parametrize("micro_batch_size", [None, 2])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_optimizer_steps_once_a_batch(scaled: bool, clip_norm: float | None, micro_batch_size: int | None) -> None:
    learner = make_learner(
        scaler=GradScaler("cpu", enabled=scaled), clip_norm=clip_norm, micro_batch_size=micro_batch_size
    )
    seen = gradients_at_each_step(learner)
    reports(learner, batches(10, 4), epochs=2)
    assert len(seen) == learner.step == 2 * 3
    assert all(parameter.grad is None for parameter in learner.model.parameters())  # nothing is left for the next one


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(10, 4, 3), (8, 4, 2), (3, 4, 1), (1, 1, 1)])
def test_an_epoch_has_as_many_steps_as_batches(count: int, batch_size: int, steps: int) -> None:
    learner = make_learner()
    found = reports(learner, batches(count, batch_size))
    assert learner.step == found[-1].step == found[-2].epoch_step == len(step_losses(found)) == steps


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("clip_norm", [0.1, 1e6])
def test_gradients_are_clipped_after_unscaling_and_before_the_step(
    clip_norm: float, scaled: bool, micro_batch_size: int | None
) -> None:
    images, labels = pictures(10)
    reference = small_model()
    F.cross_entropy(reference(normalise(images)), labels).backward()
    gradients = [p.grad.clone() for p in reference.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    assert 0.2 < norm < 1e3  # clipped by the one, left alone by the other
    learner = make_learner(
        scaler=GradScaler("cpu", enabled=scaled), clip_norm=clip_norm, micro_batch_size=micro_batch_size
    )
    seen = gradients_at_each_step(learner)
    *_, found_norm = train_step(learner, normalise(images), labels)
    assert found_norm is not None
    assert float(found_norm) == pytest.approx(norm, rel=1e-5)  # before clipping
    for found, gradient in zip(seen[0], gradients, strict=True):
        assert torch.allclose(found, gradient * min(1.0, clip_norm / norm), rtol=1e-4, atol=1e-7)


def test_a_step_whose_scaled_gradients_overflow_is_left_out_and_the_scale_halved() -> None:
    learner = make_learner(scaler=GradScaler("cpu", init_scale=2.0**127))
    learner.loss = lambda logits, targets: (100 * logits.square().sum(), torch.tensor(1.0))
    before = small_model()
    images, labels = pictures(4)
    train_step(learner, normalise(images), labels)
    assert same(learner.model, before)
    assert learner.scaler.get_scale() == 2.0**126
    assert learner.step == 1
    for _ in range(20):
        train_step(learner, normalise(images), labels)
    assert not same(learner.model, before)


@pytest.mark.parametrize(("clip_norm", "scaled"), [(None, False), (None, True), (0.05, False), (0.05, True)])
@pytest.mark.parametrize("choice", LOSS_CHOICES, ids=["mean", "class_weights"])
@pytest.mark.parametrize("micro_batch_size", [1, 4, 9])
def test_micro_batches_add_up_to_the_whole_batch(
    micro_batch_size: int, choice: dict[str, Any], clip_norm: float | None, scaled: bool
) -> None:
    images, labels = pictures(10)
    labels[:4] = 2  # a first micro-batch without any weight
    outcomes = []
    for size in (None, micro_batch_size):
        scaler = GradScaler("cpu", enabled=scaled)
        learner = make_learner(
            small_model().double(), choice, scaler=scaler, clip_norm=clip_norm, micro_batch_size=size
        )
        assert isinstance(learner.loss, nn.Module)
        learner.loss.double()
        seen, sums = gradients_at_each_step(learner), learner.sums
        loss, weight, norm = train_step(learner, normalise(images).double(), labels)
        returned = torch.stack([loss, weight, loss if norm is None else norm])
        outcomes.append([*seen[0], returned, torch.tensor([sums.loss, sums.accuracy, sums.count])])
    for whole, added in zip(*outcomes, strict=True):
        assert whole.abs().max() > 1e-3
        assert torch.allclose(whole, added, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_a_batch_whose_class_weights_sum_to_zero_has_no_gradient_and_no_loss(
    micro_batch_size: int | None, smoothing: float
) -> None:
    choice = {"name": "cross_entropy", "class_weights": [1.0, 2.0, *[0.0] * (K - 2)], "label_smoothing": smoothing}
    images, labels = pictures(12)
    labels[:] = torch.arange(12) % 2
    labels[4:8] = 2
    learner = make_learner(choice=choice, micro_batch_size=micro_batch_size)
    seen = gradients_at_each_step(learner)
    unshuffled = Batches(images, labels, 4, CPU, normalise)
    unshuffled.shuffled = lambda *_: unshuffled.in_order()  # type: ignore[method-assign]
    found = reports(learner, unshuffled)
    losses = step_losses(found).tolist()
    assert losses[1] == 0
    assert min(losses[0], losses[2]) > 0.1
    assert [any(bool(gradient.any()) for gradient in gradients) for gradients in seen] == [True, False, True]
    assert math.isfinite(found[-1].metrics["train/loss"])


def test_every_group_follows_the_schedule_and_keeps_its_ratio() -> None:
    model = small_model()
    weights, biases = ([p for p in model.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
    optimizer = torch.optim.SGD([{"params": weights, "lr": 0.1}, {"params": biases, "lr": 0.02}])
    rates: list[list[float]] = []
    optimizer.register_step_pre_hook(lambda *_: rates.append([group["lr"] for group in optimizer.param_groups]))
    learner = make_learner(model, optimizer=optimizer, schedule=lambda step: 1 / (1 + step))
    found = reports(learner, batches(10, 4), epochs=2)
    assert rates == [[0.1 * (1 / (1 + step)), 0.02 * (1 / (1 + step))] for step in range(6)]
    assert [report.metrics["train/lr"] for report in found if isinstance(report, EpochResult)] == [
        rates[2][0],
        rates[5][0],
    ]


# Averaged weights


def test_averaged_weights_are_the_running_mean_of_weights_and_buffers_and_are_what_is_evaluated() -> None:
    decay = 0.7
    model = small_model(nn.BatchNorm2d(4))
    learner = make_learner(model, average=averaged(model, decay))
    data = batches(22, 4)
    expected: dict[str, Tensor] = {}
    for _ in train_epoch(learner, data, as_is, unmixed, report_every=1, stop=lambda: False):
        for name, value in model.state_dict().items():
            before = expected.get(name, value)  # the first step's weights are the first average
            expected[name] = (before * decay + value * (1 - decay)).to(value.dtype)
    average = learner.evaluated.state_dict()
    assert "2.running_var" in expected
    for name, value in expected.items():
        assert average[name].dtype == value.dtype
        assert torch.allclose(average[name].double(), value.double(), rtol=1e-5, atol=1e-7), name
    slow = small_model(nn.BatchNorm2d(4))
    slow.load_state_dict(average)
    assert learner.evaluate(data).loss == make_learner(slow).evaluate(data).loss
    assert learner.evaluate(data).loss != make_learner(model).evaluate(data).loss


# Means over images


@pytest.mark.parametrize("choice", LOSS_CHOICES, ids=["mean", "class_weights"])
def test_the_loss_of_an_epoch_and_of_an_evaluation_is_the_mean_over_images(choice: dict[str, Any]) -> None:
    """Not the mean of the batches' means: the last batch is smaller, and classes weigh differently."""
    model = small_model()
    learner = make_learner(model, choice, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    data = batches(10, 4)
    weights = torch.tensor(choice["class_weights"]) if "class_weights" in choice else None
    with torch.no_grad():
        logits = model(normalise(data.images))
        expected = float(F.cross_entropy(logits, data.labels, weights))
    found = reports(learner, data, data)
    accuracy = float((logits.argmax(1) == data.labels).double().mean())
    metrics = found[-1].metrics
    assert metrics["train/loss"] == pytest.approx(expected, rel=1e-6)
    assert metrics["val/loss"] == pytest.approx(expected, rel=1e-6)
    assert metrics["train/accuracy"] == metrics["val/accuracy"] == accuracy
    assert float(step_losses(found).mean()) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_an_evaluation_sees_every_image_once_in_the_order_of_the_split(batch_size: int) -> None:
    learner, data = make_learner(), batches(10, batch_size)
    found = learner.evaluate(data)
    assert int(found.confusion.sum()) == len(found.predicted) == len(found.confidence) == 10
    with torch.no_grad():
        expected = learner.model(normalise(data.images)).softmax(1).max(1)
    assert torch.equal(found.predicted, expected.indices)
    assert torch.allclose(found.confidence, expected.values)


def test_an_evaluation_changes_nothing_and_goes_without_dropout() -> None:
    model = small_model(nn.BatchNorm2d(4), nn.Dropout(0.9))
    learner, data = make_learner(model), batches(10, 4)
    reports(learner, data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert learner.evaluate(data).loss == learner.evaluate(data).loss
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_with_flip_the_logits_are_the_mean_over_the_image_and_its_mirror_image() -> None:
    learner, data = make_learner(), batches(10, 4)
    inputs = normalise(data.images)
    with torch.no_grad():
        logits = (learner.model(inputs) + learner.model(torch.flip(inputs, dims=[3]))) / 2
    plain = learner.evaluate(data)
    learner.flip = True
    found = learner.evaluate(data)
    assert torch.equal(found.predicted, logits.argmax(1))
    assert torch.allclose(found.confidence, logits.softmax(1).amax(1))
    assert found.loss == pytest.approx(float(F.cross_entropy(logits, data.labels)), rel=1e-6)
    assert found.loss != pytest.approx(plain.loss, rel=1e-4)


def test_flip_changes_nothing_for_symmetric_images() -> None:
    images, labels = pictures(10)
    symmetric = Batches(torch.maximum(images, images.flip(-1)), labels, 4, CPU, normalise)
    learner = make_learner()
    plain = learner.evaluate(symmetric)
    learner.flip = True
    flipped = learner.evaluate(symmetric)
    assert plain.loss == flipped.loss
    assert torch.equal(plain.confidence, flipped.confidence)


def test_with_shift_half_of_the_logits_is_that_of_the_image_moved_two_ways() -> None:
    """Written as rows and columns of the image, whose border is reflected: the first row is the second one, too."""
    model, images = small_model(), normalise(pictures(10)[0])
    size = images.shape[-1]
    down = [*range(1, size), size - 2]  # the lower right part, seen at the upper left
    up = [1, *range(size - 1)]
    views = [images, *(images[..., rows, :][..., rows] for rows in (down, up))]
    with torch.no_grad():
        plain, *moved = (model(view) for view in views)
        torch.testing.assert_close(predict(model, images, shift=1), plain / 2 + sum(moved) / 4)
        plain, *moved = ((model(view) + model(view.flip(-1))) / 2 for view in views)
        torch.testing.assert_close(predict(model, images, shift=1, flip=True), plain / 2 + sum(moved) / 4)


# Random numbers


class Drawing(nn.Module):
    """Keeps one number of the default generator for each forward pass in training."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(float(torch.rand(())))
        return x


def draws(seed: int, first_epoch: int, epochs: int) -> list[float]:
    drawing = Drawing()
    learner = make_learner(small_model(drawing), seed=seed, epoch=first_epoch)
    torch.manual_seed(first_epoch + 77)  # wherever the default generator stood
    reports(learner, batches(10, 4), epochs=epochs)
    return drawing.drawn


def test_what_a_model_draws_follows_from_seed_epoch_and_step() -> None:
    whole = draws(seed=0, first_epoch=0, epochs=3)
    assert draws(seed=0, first_epoch=1, epochs=3) == whole[3:]
    assert len(set(whole + draws(seed=1, first_epoch=0, epochs=3))) == 2 * 3 * 3


def test_what_an_augmentation_draws_from_the_default_generator_does_so_too() -> None:
    """As augmentations of other packages do."""

    def drawn(first_epoch: int, epoch_step: int = 0) -> list[float]:
        numbers: list[float] = []

        def augment(images: Tensor, generator: Generator) -> Tensor:
            numbers.append(float(torch.rand(())))
            return images

        torch.manual_seed(first_epoch + 77)
        learner = make_learner(epoch=first_epoch, epoch_step=epoch_step)
        for _ in fit(learner, batches(130, 4), None, augment, unmixed, epochs=2):  # portions of 64, 64 and 2
            torch.rand(5)  # the caller's own draws shift nothing
        return numbers

    assert drawn(1) == drawn(0)[3:]
    assert len(set(drawn(0))) == 6
    assert drawn(1, epoch_step=20) == drawn(0)[4:]  # in the middle of the second portion, which is made again


@pytest.mark.parametrize("averaging", [False, True])
def test_evaluating_more_or_less_often_leaves_training_bit_identical(averaging: bool) -> None:
    data, outcomes = batches(10, 4), []
    for validation, eval_every in [(data, 1), (data, 3), (None, 1)]:
        model = small_model(nn.BatchNorm2d(4), nn.Dropout(0.5))
        learner = make_learner(model, average=averaged(model, 0.9) if averaging else None)
        found = reports(learner, data, validation, epochs=4, eval_every=eval_every)
        evaluated = [report.epoch for report in found if isinstance(report, EpochResult) and report.validation]
        outcomes.append((step_losses(found), learner, evaluated))
    (often, first, epochs), *others = outcomes
    assert epochs == [1, 2, 3, 4]
    assert [evaluated for *_, evaluated in others] == [[3, 4], []]  # the last epoch always, where there is a split
    for losses, learner, _ in others:
        assert torch.equal(losses, often)
        assert same(learner.model, first.model)
        assert same(learner.evaluated, first.evaluated)


# What the generator yields


@pytest.mark.parametrize(("report_every", "sizes"), [(1, [1] * 11), (3, [3, 3, 3, 2]), (11, [11]), (50, [11])])
def test_reports_cover_each_step_once_and_the_last_may_be_short(report_every: int, sizes: list[int]) -> None:
    learner = make_learner(clip_norm=1.0)
    expected = step_losses(reports(make_learner(clip_norm=1.0), batches(11, 1), report_every=1, epochs=2))
    found = reports(learner, batches(11, 1), report_every=report_every, epochs=2)
    progress = [report for report in found if isinstance(report, Progress)]
    assert [len(report.losses) for report in progress] == 2 * sizes
    assert [len(report.grad_norms) for report in progress if report.grad_norms is not None] == 2 * sizes
    assert [report.step for report in progress] == list(itertools.accumulate(2 * sizes))
    assert [report.epoch_step for report in progress] == 2 * list(itertools.accumulate(sizes))
    assert [report.epoch for report in progress] == [1] * len(sizes) + [2] * len(sizes)
    assert torch.equal(step_losses(found), expected)
    assert [(report.epoch, report.step) for report in found if isinstance(report, EpochResult)] == [(1, 11), (2, 22)]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (4, 4), (6, 8), (11, 11), (12, 13)])
def test_a_step_after_which_it_is_to_stop_is_reported_at_once_and_training_continues(first: int, last: int) -> None:
    """For as long as it is to stop; the reports after that come when they would have come."""
    expected = step_losses(reports(make_learner(), batches(11, 1), epochs=2))
    learner, asked = make_learner(), itertools.count(1)
    found = reports(learner, batches(11, 1), epochs=2, report_every=5, stop=lambda: first <= next(asked) <= last)
    assert next(asked) == 2 * 11 + 1  # once a step
    progress = [report for report in found if isinstance(report, Progress)]
    ends = sorted({5, 10, 11, 16, 21, 22, *range(first, last + 1)})
    assert [report.step for report in progress] == ends
    assert [len(report.losses) for report in progress] == [b - a for a, b in itertools.pairwise([0, *ends])]
    assert torch.equal(step_losses(found), expected)


def test_where_it_is_to_stop_the_learner_knows_where_it_stands() -> None:
    learner, data = make_learner(), batches(40, 4)
    for report in fit(learner, data, data, as_is, unmixed, epochs=3, stop=lambda: learner.step in (4, 20)):
        if isinstance(report, Progress):
            assert (learner.epoch + 1, learner.step, learner.epoch_step) == (
                report.epoch, report.step, report.epoch_step
            )  # fmt: skip
            assert learner.sums.count == 4 * learner.epoch_step
            assert learner.sums.accuracy == report.accuracy
        else:
            assert (learner.epoch, learner.step) == (report.epoch, report.step)
            assert learner.epoch_step == learner.sums.count == 0


def test_a_loss_that_is_not_finite_is_refused_where_it_is_to_stop_too() -> None:
    learner = make_learner(loss=breaking_at(3, math.nan))
    with pytest.raises(NonFiniteLoss, match="step 3 "):
        reports(learner, batches(40, 4), stop=lambda: learner.step == 4)


def test_gradient_norms_are_reported_where_clipping_is_on_only() -> None:
    assert reports(make_learner(), batches(10, 4))[0].grad_norms is None


def test_an_epoch_reports_its_metrics() -> None:
    data = batches(10, 4)
    trained, evaluated = (reports(make_learner(), data, split)[-1] for split in (None, data))
    training = {"train/loss", "train/accuracy", "train/lr", "time/train", "time/images_per_second", "time/epoch"}
    assert set(trained.metrics) == training
    assert set(evaluated.metrics) == training | {"val/loss", "val/accuracy", "val/top5", "time/validation"}
    assert trained.validation is None
    assert isinstance(evaluated.validation, Evaluation)
    assert evaluated.validation.accuracy == evaluated.metrics["val/accuracy"]
    rate = 10 / trained.metrics["time/train"]
    assert trained.metrics["time/images_per_second"] == pytest.approx(rate)
    assert trained.metrics["time/epoch"] >= trained.metrics["time/train"] > 0


def breaking_at(step: int, broken: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    loss, calls = LOSSES.build(LOSS_CHOICES[0], K), itertools.count(1)

    def planted(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        total, weight = loss(logits, targets)
        return (total * broken if next(calls) == step else total), weight

    return planted


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("count", "report_every", "reported", "message"),
    [
        (48, 5, [5, 6], r"the loss of step 7 \(epoch 1\) is not finite"),  # found at step 10
        (28, 50, [6], r"the loss of step 7 \(epoch 1\) is not finite"),  # by the last report of an epoch
        (20, 50, [5, 5, 6], r"the loss of step 7 \(epoch 2\) is not finite"),  # epochs of five steps
        (28, 7, [6], r"the loss of step 7 \(epoch 1\) is not finite"),
    ],
)
def test_a_loss_that_is_not_finite_ends_training_at_the_next_report_and_is_named_with_its_step(
    count: int, report_every: int, reported: list[int], message: str, broken: float
) -> None:
    learner = make_learner(loss=breaking_at(7, broken))
    training = fit(learner, batches(count, 4), None, as_is, unmixed, epochs=3, report_every=report_every)
    found: list[Progress | EpochResult] = []
    with pytest.raises(NonFiniteLoss, match=message):
        found.extend(training)
    assert [report.step for report in found] == reported  # all steps before it, and each once
    assert step_losses(found).isfinite().all()
    assert len(step_losses(found)) == 6


def test_leaving_in_the_middle_of_an_epoch_and_resuming_gives_the_bits_of_not_leaving() -> None:
    data = batches(40, 4)
    left, whole = (make_learner(small_model(nn.Dropout(0.5))) for _ in range(2))
    expected = reports(whole, data, data, epochs=2, report_every=3)
    found = [next(fit(left, data, data, as_is, unmixed, epochs=2, report_every=3))]
    assert (left.epoch, left.step, left.epoch_step) == (0, 3, 3)
    assert all(parameter.grad is None for parameter in left.model.parameters())
    found += reports(left, data, data, epochs=2, report_every=3)
    assert (left.epoch, left.step, left.epoch_step) == (whole.epoch, whole.step, whole.epoch_step) == (2, 20, 0)
    assert same(left.model, whole.model)
    assert step_losses(found).tolist() == step_losses(expected).tolist()
    assert [untimed(report) for report in found] == [untimed(report) for report in expected]


@pytest.mark.parametrize("leave_at", [7, 10])
def test_an_epoch_that_was_left_counts_as_a_whole_and_is_timed_from_there(leave_at: int) -> None:
    learner, data = make_learner(), batches(40, 4)
    training = fit(learner, data, None, as_is, unmixed, epochs=1, report_every=1)
    assert next(report for report in training if report.step == leave_at)
    *steps, result = reports(learner, data, epochs=1, report_every=1)
    assert len(steps) == 10 - leave_at
    assert learner.sums.count == 0
    rate = (40 - 4 * leave_at) / result.metrics["time/train"]
    assert result.metrics["time/images_per_second"] == pytest.approx(rate)
    whole = reports(make_learner(), data, epochs=1)[-1]
    assert untimed(result) == untimed(whole)


def test_leaving_after_an_epoch_and_resuming_gives_the_bits_of_not_leaving() -> None:
    data = batches(10, 4)
    left, whole = (make_learner(small_model(nn.Dropout(0.5))) for _ in range(2))
    for report in fit(left, data, data, as_is, unmixed, epochs=3):
        if isinstance(report, EpochResult):
            break
    reports(left, data, data, epochs=3)
    reports(whole, data, data, epochs=3)
    assert (left.epoch, left.step) == (whole.epoch, whole.step) == (3, 9)
    assert same(left.model, whole.model)


def test_a_learner_that_has_all_its_epochs_is_left_as_it_is() -> None:
    learner = make_learner(epoch=2)
    assert reports(learner, batches(), epochs=2) == []
    assert same(learner.model, small_model())

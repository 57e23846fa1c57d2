"""Losses: torch's own means, sums that add up over ragged micro-batches, and what a training loop relies on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from blitz.errors import BadInput
from blitz.parts.losses import LOSSES

NAMES = LOSSES.names()
K = 5
WEIGHTS = [0.5, 2.0, 0.0, 1.0, 3.0]
# Every choice as it comes, and every option away from its default.
CHOICES: list[dict[str, Any]] = [
    *({"name": name} for name in NAMES),
    {"name": "cross_entropy", "label_smoothing": 0.2},
    {"name": "cross_entropy", "class_weights": WEIGHTS},
    {"name": "cross_entropy", "label_smoothing": 0.2, "class_weights": WEIGHTS},
    {"name": "focal", "gamma": 0.5},
    {"name": "focal", "gamma": 3, "class_weights": WEIGHTS},
    {"name": "mse", "label_smoothing": 0.2},
    {"name": "bce", "label_smoothing": 0.2},
    {"name": "multi_margin", "p": 2, "margin": 0.4},
]
SOFT = [choice for choice in CHOICES if getattr(LOSSES.builder(choice["name"]), "takes_soft_targets", False)]


def build(choice: dict[str, Any], num_classes: int = K) -> Any:
    return LOSSES.build(LOSSES.check(choice), num_classes)


def batch(size: int, seed: int = 0, num_classes: int = K) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels, soft labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(size, num_classes, generator=generator)
    labels = torch.randint(num_classes, (size,), generator=generator)
    return logits, labels, torch.rand(size, num_classes, generator=generator).softmax(1)


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    soft = F.one_hot(targets, K).float() if targets.ndim == 1 else targets
    return soft * (1 - smoothing) + smoothing / K


def focal(logits: Tensor, targets: Tensor, gamma: float, alpha: list[float] | None) -> Tensor:
    """Image by image, FL(p_t) = -α_t (1 - p_t)^γ log(p_t)."""
    total, weight = 0.0, 0.0
    for p, target in zip(logits.double().softmax(1), targets, strict=True):
        shares = {int(target): 1.0} if targets.ndim == 1 else dict(enumerate(target.tolist()))
        for t, share in shares.items():
            alpha_t = alpha[t] if alpha else 1.0
            total -= share * alpha_t * (1 - p[t].item()) ** gamma * p[t].log().item()
        weight += alpha[int(target)] if alpha and targets.ndim == 1 else 1.0
    return torch.tensor(total / weight)


def reference(choice: dict[str, Any], logits: Tensor, targets: Tensor) -> Tensor:
    """The mean, as torch's functional forms (and a slow focal loss) give it."""
    options = LOSSES.check(choice)
    match options.pop("name"):
        case "cross_entropy":
            weights = options["class_weights"] and torch.tensor(options["class_weights"])
            return F.cross_entropy(logits, targets, weights, label_smoothing=options["label_smoothing"])
        case "focal":
            return focal(logits, targets, options["gamma"], options["class_weights"])
        case "mse":
            return F.mse_loss(logits, smooth(targets, options["label_smoothing"]))
        case "bce":
            return F.binary_cross_entropy_with_logits(logits, smooth(targets, options["label_smoothing"]))
        case "multi_margin":
            return F.multi_margin_loss(logits, targets, options["p"], options["margin"])
    raise AssertionError(f"{choice} has no reference here")


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_meaning(name: str) -> None:
    assert [option.name for option in LOSSES.options(name) if not option.meaning] == []


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_is_torchs_mean(choice: dict[str, Any]) -> None:
    for size in (1, 4, 33):
        logits, labels, _ = batch(size, seed=size)
        loss_sum, weight = build(choice)(logits, labels)
        assert (loss_sum.ndim, weight.ndim) == (0, 0)
        torch.testing.assert_close(loss_sum / weight, reference(choice, logits, labels), check_dtype=False)


@pytest.mark.parametrize("choice", SOFT, ids=str)
def test_is_torchs_mean_with_soft_labels(choice: dict[str, Any]) -> None:
    logits, _, soft = batch(7)
    loss_sum, weight = build(choice)(logits, soft)
    assert weight == 7
    torch.testing.assert_close(loss_sum / weight, reference(choice, logits, soft), check_dtype=False)


@pytest.mark.parametrize("size", [1, 4, 128, 1000])
def test_plain_cross_entropy_has_torchs_bits(size: int) -> None:
    loss, plain = build({"name": "cross_entropy"}, 10), nn.CrossEntropyLoss()
    for seed in range(20):
        logits, labels, _ = batch(size, seed, num_classes=10)
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        loss_sum, weight = loss(ours, labels)
        mean = loss_sum / weight
        mean.backward()
        expected = plain(theirs, labels)
        expected.backward()
        assert torch.equal(mean, expected)
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("choice", "soft"), [*((choice, False) for choice in CHOICES), *((choice, True) for choice in SOFT)], ids=str
)
def test_micro_batches_of_any_size_add_up(choice: dict[str, Any], soft: bool) -> None:
    logits, labels, soft_labels = batch(20)
    logits, targets = logits.double().requires_grad_(), soft_labels.double() if soft else labels
    loss = build(choice).double()
    whole, whole_weight = loss(logits, targets)
    (expected,) = torch.autograd.grad(whole / whole_weight, logits)
    pieces = [loss(*piece) for piece in zip(logits.split([1, 9, 3, 7]), targets.split([1, 9, 3, 7]), strict=True)]
    total, weight = (torch.stack(column).sum() for column in zip(*pieces, strict=True))
    assert weight == whole_weight
    torch.testing.assert_close(total, whole, rtol=1e-13, atol=0)
    (found,) = torch.autograd.grad(total / weight, logits)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_gradient_is_that_of_the_value(choice: dict[str, Any]) -> None:
    logits, labels, soft = batch(4)
    loss = build(choice).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], logits.double().requires_grad_())
    if choice in SOFT:
        assert torch.autograd.gradcheck(lambda x: loss(x, soft.double())[0], logits.double().requires_grad_())


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_sums_in_float32_under_autocast(choice: dict[str, Any]) -> None:
    logits, labels, soft = batch(9)
    loss = build(choice)
    for targets in [labels, soft] if choice in SOFT else [labels]:
        expected = loss(logits.bfloat16().float(), targets)
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(logits.bfloat16(), targets)
        assert [value.dtype for value in found] == [torch.float32] * 2
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class HostReads(TorchDispatchMode):
    """Counts what would stop a GPU's queue: a value read from the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_reads_nothing_on_the_host(choice: dict[str, Any]) -> None:
    logits, labels, soft = batch(4)
    loss = build(choice)
    logits.requires_grad_()
    with HostReads() as reads:
        for targets in [labels, soft] if choice in SOFT else [labels]:
            loss_sum, weight = loss(logits, targets)
            (loss_sum / weight).backward()
        assert reads.count == 0
        loss_sum.item()
        assert reads.count == 1  # the counter counts


@pytest.mark.parametrize("name", NAMES)
def test_trains_after_an_evaluation_saw_the_batch_size_first(name: str) -> None:
    loss = build({"name": name})
    logits, labels, _ = batch(4)
    with torch.inference_mode():
        loss(logits, labels)
    logits.requires_grad_()
    loss_sum, weight = loss(logits, labels)
    (loss_sum / weight).backward()
    assert logits.grad is not None
    assert logits.grad.any()


@pytest.mark.parametrize("choice", [choice for choice in SOFT if "class_weights" not in choice], ids=str)
def test_one_hot_soft_labels_are_hard_labels(choice: dict[str, Any]) -> None:
    logits, labels, _ = batch(6)
    loss = build(choice)
    hard, soft = loss(logits, labels), loss(logits, F.one_hot(labels, K).float())
    torch.testing.assert_close(hard, soft)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_without_focus_is_cross_entropy(weights: list[float] | None) -> None:
    logits, labels, soft = batch(50)
    for targets in (labels, soft):
        focal_loss = build({"name": "focal", "gamma": 0, "class_weights": weights})(logits, targets)
        cross_entropy = build({"name": "cross_entropy", "class_weights": weights})(logits, targets)
        torch.testing.assert_close(focal_loss, cross_entropy)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_is_finite_where_the_right_class_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0, 0, 0, 0], [0, 200.0, 0, 0, 0]], requires_grad=True)
    loss_sum, _ = build({"name": "focal", "gamma": gamma})(logits, torch.tensor([0, 0]))
    loss_sum.backward()
    assert loss_sum.item() == pytest.approx(200)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(logits.grad[1, :2], torch.tensor([-1.0, 1.0]))


def test_class_weights_are_a_buffer_that_follows_the_module() -> None:
    loss = build({"name": "cross_entropy", "class_weights": WEIGHTS})
    assert dict(loss.named_buffers())["class_weights"].tolist() == WEIGHTS
    assert loss.to("meta").class_weights.is_meta


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "loss.class_weights=[1.0, 2.0]: 2 weights for 5 classes"),
        ([0] * 5, "loss.class_weights=[0.0, 0.0, 0.0, 0.0, 0.0]: at least one weight must be above 0"),
    ],
)
@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_class_weights_that_do_not_fit_are_refused(name: str, weights: list[float], message: str) -> None:
    with pytest.raises(BadInput) as error:
        build({"name": name, "class_weights": weights})
    assert str(error.value) == message


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in SOFT], ids=str)
def test_hard_labels_only(choice: dict[str, Any]) -> None:
    logits, _, soft = batch(4)
    loss: Callable[..., Any] = build(choice)
    with pytest.raises((RuntimeError, ValueError)):
        loss(logits, soft)

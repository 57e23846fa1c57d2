"""The losses: a sum and its weight, so that ragged batches, accumulation and several workers add up exactly.

    loss_sum, weight = loss(logits, targets)

Both are 0-d tensors, in float32 also under autocast. loss_sum / weight is the mean that torch's reduction="mean" gives,
and over micro-batches of any size sum(loss_sum) / sum(weight) is that of the whole batch. `weight` is often the same
tensor from call to call: read it, never write into it.

Shapes: B batch, K classes. `targets` is (B,) int64 labels, or (B, K) soft labels where `takes_soft_targets` is true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blitz.errors import BadInput
from blitz.parts.registry import Fraction, NonNegative, Positive, Registry


class LossModule(nn.Module):
    """What all losses share. A loss adds `total`; one that weights classes passes `class_weights`.

    Raises BadInput for class weights that do not fit the classes.
    """

    takes_soft_targets: ClassVar[bool] = True
    class_weights: Tensor | None

    def __init__(self, num_classes: int, class_weights: list[float] | None = None) -> None:
        super().__init__()
        if class_weights is None:
            self.class_weights = None  # not a buffer of None, which takes nn.Module 1 µs to look up
        else:
            self.register_buffer("class_weights", _checked(class_weights, num_classes))
        self._counts: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if logits.dtype.itemsize < 4:  # autocast leaves bfloat16 or float16, too coarse for a sum over the batch
            logits = logits.float()
        return self.total(logits, targets), self.weight(logits, targets)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def weight(self, logits: Tensor, targets: Tensor) -> Tensor:
        # torch divides by B for soft labels, class weights or not.
        if self.class_weights is not None and targets.ndim == 1:
            return self.class_weights[targets].sum()
        size = (logits.shape[0], logits.device)
        count = self._counts.get(size)
        if count is None:
            # Kept, as making it anew costs more than all else here; and made outside inference mode, as evaluation
            # may be first to see a batch size that training then divides by.
            with torch.inference_mode(False):
                count = self._counts[size] = torch.full((), float(size[0]), device=size[1])
        return count


class CrossEntropy(LossModule):
    """`nn.CrossEntropyLoss`: the same bits for loss_sum / weight and its gradients where no option is set.

    Args:
        label_smoothing: share of the target that is spread over all classes
        class_weights: one weight a class; null weights all classes alike
    """

    def __init__(
        self, num_classes: int, *, label_smoothing: Fraction = 0.0, class_weights: list[NonNegative] | None = None
    ) -> None:
        super().__init__(num_classes, class_weights)
        self.label_smoothing = label_smoothing

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets, self.class_weights, reduction="sum", label_smoothing=self.label_smoothing
        )


class Focal(LossModule):
    """Focal loss over a softmax (arXiv:1708.02002): -(1 - p)^gamma log p, which is cross-entropy at gamma 0.

    Soft labels q weight each class's term. loss_sum / weight is a mean over images, weighted as cross-entropy's.

    Args:
        gamma: how much less images count that are classified correctly already
        class_weights: one weight a class, the paper's alpha; null weights all classes alike
    """

    def __init__(
        self, num_classes: int, *, gamma: NonNegative = 2.0, class_weights: list[NonNegative] | None = None
    ) -> None:
        super().__init__(num_classes, class_weights)
        self.gamma = gamma

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, dim=1)
        hard = targets.ndim == 1
        if hard:
            log_p = log_p.gather(1, targets[:, None])
        # expm1 keeps the digits of 1 - p near p = 1. At p = 1 a gamma below 1 has an infinite slope, times log p = 0.
        missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        terms = -(missing**self.gamma) * log_p
        if self.class_weights is not None:
            terms = terms * (self.class_weights[targets][:, None] if hard else self.class_weights)
        return terms.sum() if hard else (terms * targets).sum()


class PerClass(LossModule):
    """What losses share that compare logits with targets class by class: a mean over classes and images.

    Args:
        label_smoothing: share of the target that is spread over all classes
    """

    compare: ClassVar[Callable[..., Tensor]]

    def __init__(self, num_classes: int, *, label_smoothing: Fraction = 0.0) -> None:
        super().__init__(num_classes)
        self.label_smoothing = label_smoothing

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        num_classes, kept = logits.shape[1], 1 - self.label_smoothing
        share = self.label_smoothing / num_classes
        if targets.ndim == 1:
            # Not F.one_hot: it reads the smallest and the largest label.
            soft = logits.new_full(logits.shape, share).scatter_(1, targets[:, None], kept + share)
        else:
            soft = targets.to(logits.dtype)
            soft = soft * kept + share if share else soft
        return self.compare(logits, soft, reduction="sum") / num_classes


class MeanSquaredError(PerClass):
    """Square loss between logits and one-hot targets (arXiv:2006.07322)."""

    compare = staticmethod(F.mse_loss)


class BinaryCrossEntropy(PerClass):
    """One yes-or-no question a class (arXiv:2110.00476)."""

    compare = staticmethod(F.binary_cross_entropy_with_logits)


class MultiMargin(LossModule):
    """`nn.MultiMarginLoss`: each wrong class's logit should stay `margin` below the correct one's. Hard labels only.

    Args:
        p: power of each violation
        margin: distance, in logits, from which on a wrong class costs nothing
    """

    takes_soft_targets = False

    def __init__(self, num_classes: int, *, p: Literal[1, 2] = 1, margin: Positive = 1.0) -> None:
        super().__init__(num_classes)
        self.p = p
        self.margin = margin

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.multi_margin_loss(logits, targets, self.p, self.margin, reduction="sum")


def _checked(class_weights: list[float], num_classes: int) -> Tensor:
    if len(class_weights) != num_classes:
        raise BadInput(f"loss.class_weights={class_weights}: {len(class_weights)} weights for {num_classes} classes")
    if not any(class_weights):
        raise BadInput(f"loss.class_weights={class_weights}: at least one weight must be above 0")
    return torch.tensor(class_weights, dtype=torch.float32)


LOSSES = Registry(
    "loss",
    "blitz.losses",
    cross_entropy=CrossEntropy,
    focal=Focal,
    mse=MeanSquaredError,
    multi_margin=MultiMargin,
    bce=BinaryCrossEntropy,
)

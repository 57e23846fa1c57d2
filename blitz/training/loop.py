"""The loop: one step, one epoch, an evaluation, and all epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.functional import pad
from torch.optim.swa_utils import AveragedModel

from blitz.run_folder.journal import TRAIN_ACCURACY, TRAIN_LOSS, TRAIN_LR, VAL_ACCURACY, VAL_LOSS, VAL_TOP5
from blitz.training.batches import Augment, Batches, Mix, stream
from blitz.training.metrics import Evaluation, Sums

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (logits, targets) -> (sum, weight)


class NonFiniteLoss(ArithmeticError):
    """The loss of a step was infinite or not a number."""


@dataclass
class Learner:
    """A model and everything that changes with it, and how a step is made of a batch."""

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]  # step -> multiplier of the optimizer's rates
    scaler: GradScaler  # disabled but for fp16
    autocast: Callable[[], AbstractContextManager[object]]
    seed: int = 0
    micro_batch_size: int | None = None
    clip_norm: float | None = None
    average: AveragedModel | None = None  # its `module` is evaluated and kept in the model's place
    flip: bool = False  # of evaluations, see `predict`
    shift: int = 0
    epoch: int = 0  # finished ones
    step: int = 0
    epoch_step: int = 0  # steps taken in the epoch under way; 0 between epochs
    sums: Sums = field(init=False)  # of the epoch under way
    rates: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = Sums(self.device)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def evaluated(self) -> nn.Module:
        """The model that counts: the averaged one where averaging is on."""
        return self.model if self.average is None else self.average.module

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1, for the optimizer's first group."""
        return self.rates[0] * self.schedule(step - 1)

    def evaluate(self, batches: Batches) -> Evaluation:
        """The same as `evaluate`; afterwards the model is in training mode again."""
        found = evaluate(self.evaluated, self.loss, batches, autocast=self.autocast, flip=self.flip, shift=self.shift)
        self.model.train()
        return found


@dataclass(frozen=True)
class Progress:
    """Where training stands within an epoch."""

    epoch: int  # under way, counted from 1
    step: int  # steps taken since the start of training
    epoch_step: int  # steps taken in this epoch
    losses: Tensor  # (n,) mean loss of each step since the last report, on the device
    grad_norms: Tensor | None  # (n,) of each of these steps before clipping, where clipping is on
    accuracy: float  # on the batches of this epoch so far


@dataclass(frozen=True)
class EpochResult:
    """What came out of an epoch."""

    epoch: int  # counted from 1
    step: int
    metrics: dict[str, float]
    validation: Evaluation | None  # in an epoch that was evaluated


def train_step(learner: Learner, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """One step of the optimizer. Returns the batch's loss sum and its weight, and the gradient's norm where it clips.

    In micro-batches the gradients add up to the whole batch's, however its images and class weights divide. A batch
    whose class weights sum to 0 has gradients of 0.
    """
    for group, rate in zip(learner.optimizer.param_groups, learner.rates, strict=True):
        group["lr"] = rate * learner.schedule(learner.step)
    size = learner.micro_batch_size
    if size is None or size >= len(images):
        loss, weight = _backward(learner, images, targets)
    else:
        # The weight of the whole batch is known after its last part: until then, its number of images stands in.
        parts = zip(images.split(size), targets.split(size), strict=True)
        outcomes = [_backward(learner, *part, divisor=len(images)) for part in parts]
        loss, weight = (torch.stack(column).sum() for column in zip(*outcomes, strict=True))
        scale = (len(images) / weight).nan_to_num_(posinf=0.0)
        torch._foreach_mul_([p.grad for p in learner.model.parameters() if p.grad is not None], scale)
    norm = None
    if learner.clip_norm is not None:
        learner.scaler.unscale_(learner.optimizer)
        norm = nn.utils.clip_grad_norm_(learner.model.parameters(), learner.clip_norm)
    with learner.autocast():  # Muon multiplies matrices
        learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    learner.optimizer.zero_grad()
    if learner.average is not None:
        learner.average.update_parameters(learner.model)
    learner.step += 1
    learner.epoch_step += 1
    return loss, weight, norm


def _backward(learner: Learner, images: Tensor, targets: Tensor, divisor: int | None = None) -> tuple[Tensor, Tensor]:
    """Add the gradients of the loss sum over `divisor`, or over its own weight. Returns sum and weight."""
    with learner.autocast():
        logits = learner.model(images)
    loss, weight = learner.loss(logits, targets)
    share = weight.reciprocal().nan_to_num_(posinf=0.0) if divisor is None else torch.full_like(weight, 1 / divisor)
    # Handed to `backward` as a gradient, the share would save 17 µs a step, and cost each start the second in which
    # PyTorch imports what it compares symbolic shapes with.
    (loss * learner.scaler.scale(share)).backward()
    loss = loss.detach()
    learner.sums.add(loss, weight, logits.detach(), targets)
    return loss, weight


def train_epoch(
    learner: Learner, batches: Batches, augment: Augment, mix: Mix, report_every: int, stop: Callable[[], bool]
) -> Iterator[Progress]:
    """The steps that are left of an epoch; yields every `report_every` steps, after the last and where `stop` says so.

    Resumed in the middle of an epoch, it has the bits of an epoch that was never left.
    """
    learner.model.train()
    outcomes: list[tuple[Tensor, Tensor, Tensor | None]] = []
    first = batches.portion_start(learner.epoch_step)
    shuffled = batches.shuffled(learner.seed, learner.epoch, augment, mix, first)
    device, first_seed = learner.device, stream(learner.seed, "step", learner.epoch)
    for step in range(first + 1, len(batches) + 1):
        # Before the batch is made: augmentations of other packages may draw from the default generators.
        _seed_default_generators(first_seed + step, device)
        images, targets = next(shuffled)
        if step <= learner.epoch_step:
            continue  # trained on before; made again for the numbers that are drawn on the way
        outcomes.append(train_step(learner, images, targets))
        if stop() or step % report_every == 0 or step == len(batches):
            yield from _report(learner, outcomes)
            outcomes = []


def _report(learner: Learner, outcomes: list[tuple[Tensor, Tensor, Tensor | None]]) -> Iterator[Progress]:
    """The steps since the last report, each as `train_step` returned it. Raises NonFiniteLoss after those before it."""
    losses, weights, norms = zip(*outcomes, strict=True)
    # A batch without any weight has a mean of 0; a sum that is not finite shows nevertheless.
    weight = torch.stack(weights)
    means = torch.stack(losses) / weight.masked_fill(weight == 0, math.inf)
    finite = torch.isfinite(means).tolist()  # waits for the device, once a report
    count = len(finite) if all(finite) else finite.index(False)
    missing = len(finite) - count
    step, epoch = learner.step - missing, learner.epoch + 1
    if count:
        grad_norms = torch.stack(norms)[:count] if learner.clip_norm is not None else None
        yield Progress(epoch, step, learner.epoch_step - missing, means[:count], grad_norms, learner.sums.accuracy)
    if missing:
        raise NonFiniteLoss(
            f"the loss of step {step + 1} (epoch {epoch}) is not finite; "
            "a smaller optimizer.lr, a warm-up or clip_norm=1 may help"
        )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    flip: bool = False,
    shift: int = 0,
) -> Evaluation:
    """Every image of a split once, none dropped, with the logits of `predict`.

    Leaves the model in evaluation mode. Draws no random numbers that training would miss: each step seeds its own.
    """
    model.eval()
    sums = Sums(batches.device)
    logits_of: list[Tensor] = []
    labels_of: list[Tensor] = []
    for images, labels in batches.in_order():
        logits = predict(model, images, autocast=autocast, flip=flip, shift=shift)
        sums.add(*loss(logits, labels), logits, labels)
        logits_of.append(logits)
        labels_of.append(labels)
    logits, labels = torch.cat(logits_of).cpu(), torch.cat(labels_of).cpu()
    num_classes = logits.shape[1]
    confidence, predicted = logits.softmax(1).max(1)
    likeliest = logits.topk(min(5, num_classes)).indices
    confusion = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return Evaluation(
        loss=sums.loss if math.isfinite(sums.loss) else math.nan,
        top5=int((likeliest == labels[:, None]).any(1).sum()) / len(labels),
        confusion=confusion.view(num_classes, num_classes),
        predicted=predicted,
        confidence=confidence,
    )


def predict(
    model: nn.Module,
    images: Tensor,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    flip: bool = False,
    shift: int = 0,
) -> Tensor:
    """Logits (B, K) in float32 of normalised images (B, C, H, W).

    With `flip`, they are the mean over each image and its mirror image. With `shift`, half of them comes from the image
    moved by so many pixels, fewer than its side, to the upper left and to the lower right, reflected at its border.
    """

    def seen(images: Tensor) -> Tensor:
        logits: Tensor = model(images)
        return (logits + model(images.flip(-1))) / 2 if flip else logits

    with autocast():
        logits = seen(images)
        if shift:
            height, width = images.shape[2:]
            padded = pad(images, (shift,) * 4, mode="reflect")
            moved = seen(padded[..., 2 * shift :, 2 * shift :]), seen(padded[..., :height, :width])
            logits = (logits + sum(moved) / 2) / 2
    return logits.float()


def fit(
    learner: Learner,
    train: Batches,
    validation: Batches | None,
    augment: Augment,
    mix: Mix,
    *,
    epochs: int,
    eval_every: int = 1,
    report_every: int = 50,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Progress | EpochResult]:
    """Train up to `epochs` finished epochs, evaluating every `eval_every` of them and after the last.

    The caller draws, records, saves, or stops by leaving the loop. `stop` is called after each step: as long as it
    returns true, each step is reported at once, so that the caller can save and leave there. Raises NonFiniteLoss at
    the report that finds one, after a report of the steps before it: the learner is then beyond that report's `step`,
    and not worth saving.

    A learner that was left, or saved, in the middle of an epoch continues there. Losses and accuracies of that epoch
    are over all of it; times and images per second only over the part since.
    """
    while learner.epoch < epochs:
        started, count = time.perf_counter(), learner.sums.count
        yield from train_epoch(learner, train, augment, mix, report_every, stop)
        sums = learner.sums
        learner.epoch, learner.epoch_step, learner.sums = learner.epoch + 1, 0, Sums(learner.device)
        metrics = {TRAIN_LOSS: sums.loss, TRAIN_ACCURACY: sums.accuracy}
        trained = time.perf_counter()  # after reading the sums, which waits for the device
        metrics |= {TRAIN_LR: learner.rate(learner.step), "time/train": trained - started}
        metrics["time/images_per_second"] = (sums.count - count) / metrics["time/train"]
        evaluation = None
        if validation is not None and (learner.epoch % eval_every == 0 or learner.epoch == epochs):
            evaluation = learner.evaluate(validation)
            metrics |= {VAL_LOSS: evaluation.loss, VAL_ACCURACY: evaluation.accuracy, VAL_TOP5: evaluation.top5}
            metrics["time/validation"] = time.perf_counter() - trained
        metrics["time/epoch"] = time.perf_counter() - started
        yield EpochResult(learner.epoch, learner.step, metrics, evaluation)


def _seed_default_generators(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds every device and takes a hundred times as long
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)

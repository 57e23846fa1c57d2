"""Images in memory to seeded batches on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PORTION = 64  # images that are prepared together at least

Augment = Callable[[Tensor, torch.Generator], Tensor]
Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def stream(*key: int | str) -> int:
    """The seed of the random stream with this key, such as (seed, "order", epoch): unrelated for any two keys."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2  # room to count steps up from it within 63 bits


class Batches:
    """One split as batches on the device.

    `images` (N, C, H, W) uint8 and `labels` (N,) int64 stay where they are when they are large, and are moved to the
    device once when they fit into half of its free memory.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        device: torch.device,
        normalise: Callable[[Tensor], Tensor],
        channels_last: bool = False,
    ) -> None:
        self.images = images.to(device) if _fits(images, device) else images
        self.labels = labels.to(self.images.device)
        self.batch_size = max(1, min(batch_size, len(labels)))
        self.device = device
        self.normalise = normalise
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def portion_start(self, step: int) -> int:
        """The latest step, up to this one, at which `shuffled` can begin. Steps are counted from 0."""
        return step - step % self._batches_per_portion

    def shuffled(
        self, seed: int, epoch: int, augment: Augment, mix: Mix, first_step: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in the order of this seed and epoch; the last batch may be smaller.

        Small batches are prepared several at a time, since an operation on four images costs hardly less than one on
        sixty-four. Each such portion draws from a random stream of its own, so that it can be repeated alone: an epoch
        can begin at the `portion_start` of any step, at no cost for what lies before it.
        """
        assert first_step == self.portion_start(first_step)
        generator = torch.Generator().manual_seed(stream(seed, "order", epoch))
        order = torch.randperm(len(self.labels), generator=generator).to(self.images.device)
        first_seed = stream(seed, "augment", epoch)
        portions = order.split(self.batch_size * self._batches_per_portion)
        for portion in range(first_step // self._batches_per_portion, len(portions)):
            chosen = portions[portion]
            generator.manual_seed(first_seed + portion)
            # index_select, because indexing with [chosen] takes five to twenty times as long on a CPU.
            images, labels = self._moved(self.images.index_select(0, chosen), self.labels.index_select(0, chosen))
            images = self._prepared(augment(images, generator))
            for batch in zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True):
                yield mix(*batch, generator)

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, as they are stored."""
        for images, labels in zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True):
            images, labels = self._moved(images, labels)
            yield self._prepared(images), labels

    @property
    def _batches_per_portion(self) -> int:
        return -(-PORTION // self.batch_size)

    def _moved(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _prepared(self, images: Tensor) -> Tensor:
        return self.normalise(images).contiguous(memory_format=self.format)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return device.type != "cpu"  # on a CPU the images stay in the memory-mapped cache
    return images.nbytes < torch.cuda.mem_get_info(device)[0] / 2

"""Batches: every image once, in an order and with draws that follow from seed, epoch and step; and their normalisation.

Image i is all i and has label i, so that a label names the image it came with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from blitz.training.batches import Augment, Batches, Mix, stream
from blitz.training.classifier import Classifier

MEAN, STD = (0.5, 0.4, 0.1), (0.25, 0.2, 0.3)


def as_is(images: Tensor, generator: Generator) -> Tensor:
    return images


def unmixed(images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    return images, labels


def numbered(
    count: int, batch_size: int, normalise: Callable[[Tensor], Tensor] = Tensor.float, channels_last: bool = False
) -> Batches:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 4, 5)
    return Batches(images, torch.arange(count), batch_size, torch.device("cpu"), normalise, channels_last)


def shuffled(
    batches: Batches, seed: int = 0, epoch: int = 0, augment: Augment = as_is, mix: Mix = unmixed
) -> list[tuple[Tensor, Tensor]]:
    return list(batches.shuffled(seed, epoch, augment, mix))


def order(batches: Batches, seed: int = 0, epoch: int = 0) -> list[int]:
    return torch.cat([labels for _, labels in shuffled(batches, seed, epoch)]).tolist()


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (1, [1])])
def test_an_epoch_is_every_image_once_and_the_last_batch_is_what_remains(count: int, sizes: list[int]) -> None:
    batches = numbered(count, 4)
    assert len(batches) == len(sizes)
    for epoch in (shuffled(batches), list(batches.in_order())):
        assert [len(images) for images, _ in epoch] == sizes
        assert sorted(torch.cat([labels for _, labels in epoch]).tolist()) == list(range(count))
        for images, labels in epoch:
            assert torch.equal(images, labels.float().view(-1, 1, 1, 1).expand(-1, 3, 4, 5))


def test_in_order_is_the_order_of_the_store() -> None:
    assert [labels.tolist() for _, labels in numbered(10, 4).in_order()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    batches = numbered(50, 8)
    orders = [order(batches, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(one != other for one, other in itertools.combinations([*orders, list(range(50))], 2))
    torch.manual_seed(5)  # the default generator has no say
    assert [order(numbered(50, 20), seed, epoch) for seed in (0, 1) for epoch in (0, 1)] == orders


def test_batches_take_nothing_from_the_default_generator() -> None:
    before = torch.get_rng_state()
    shuffled(numbered(10, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_augment_gets_the_raw_images_and_mix_the_normalised_ones_with_the_same_generator() -> None:
    seen: list[tuple[torch.dtype, Generator]] = []

    def augment(images: Tensor, generator: Generator) -> Tensor:
        seen.append((images.dtype, generator))
        return images + 1

    def mix(images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        seen.append((images.dtype, generator))
        return -images, labels

    ((images, labels),) = shuffled(numbered(4, 4, lambda images: images.float() * 10), augment=augment, mix=mix)
    assert [dtype for dtype, _ in seen] == [torch.uint8, torch.float32]
    assert seen[0][1] is seen[1][1]
    assert images[:, 0, 0, 0].tolist() == [-10 * (label + 1) for label in labels.tolist()]


def test_an_augmentation_that_writes_into_its_input_leaves_the_stored_images_alone() -> None:
    batches = numbered(10, 4)
    before = batches.images.clone()
    shuffled(batches, augment=lambda images, generator: images.zero_())
    assert torch.equal(batches.images, before)


def test_each_portion_draws_from_a_stream_of_its_own() -> None:
    """However much the portions before it drew; two portions, two epochs or two seeds have nothing in common."""

    def draws(wasted: int, seed: int, epoch: int) -> list[tuple[float, float]]:
        drawn: list[tuple[float, float]] = []

        def augment(images: Tensor, generator: Generator) -> Tensor:
            first = float(torch.rand((), generator=generator))
            drawn.append((first, float(torch.rand((), generator=generator))))
            torch.rand(wasted, generator=generator)
            return images

        shuffled(numbered(130, 4), seed, epoch, augment)  # portions of 64, 64 and 2
        return drawn

    keys = [(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    drawn = [draws(0, *key) for key in keys]
    assert [draws(100, *key) for key in keys] == drawn
    numbers = [number for epoch in drawn for portion in epoch for number in portion]
    assert len(set(numbers)) == len(keys) * 3 * 2


@pytest.mark.parametrize(("batch_size", "per_portion"), [(4, 16), (48, 2), (64, 1), (100, 1)])
def test_an_epoch_can_begin_at_any_portion_and_prepares_none_before_it(batch_size: int, per_portion: int) -> None:
    batches = numbered(250, batch_size)
    prepared: list[int] = []

    def augment(images: Tensor, generator: Generator) -> Tensor:
        prepared.append(len(images))
        return images + torch.randint(5, (len(images), 1, 1, 1), dtype=torch.uint8, generator=generator)

    def mix(images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return images * torch.rand((), generator=generator), labels

    whole = shuffled(batches, 3, 2, augment, mix)
    for step in range(len(batches) + 1):
        first = batches.portion_start(step)
        assert first <= step < first + per_portion
        assert first % per_portion == 0
        prepared.clear()
        rest = list(batches.shuffled(3, 2, augment, mix, first))
        assert sum(prepared) == sum(len(labels) for _, labels in whole[first:])
        assert len(rest) == len(whole) - first
        for (images, labels), (expected, truth) in zip(rest, whole[first:], strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(labels, truth)


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_come_in_the_memory_format_that_was_asked_for(channels_last: bool) -> None:
    batches = numbered(10, 4, channels_last=channels_last)
    strides = (60, 1, 15, 3) if channels_last else (60, 20, 5, 1)
    assert {images.stride() for images, _ in [*shuffled(batches), *batches.in_order()]} == {strides}


def test_streams_differ_for_any_two_keys_and_stay_what_they_were_in_recorded_runs() -> None:
    keys: list[tuple[int | str, ...]] = [
        (0, "order", 0),
        (0, "order", 1),
        (1, "order", 0),
        (0, "augment", 0),
        (0, "augment", 0, 0),
    ]
    keys += [(0, "order", 1, 11), (0, "order", 11, 1), (0, "1"), (0, 1)]
    seeds = [stream(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream(0, "order", 0) == 2409924628639680590
    assert order(numbered(10, 4)) == [4, 2, 3, 6, 1, 7, 0, 8, 5, 9]


# The normalisation that a model is taken along with


def classifier() -> Classifier:
    return Classifier(nn.Flatten(), MEAN, STD, ["cat", "dog"])


def test_a_classifier_normalises_each_channel_by_its_own_mean_and_std() -> None:
    images = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8)
    mean, std = (torch.tensor(numbers, dtype=torch.float64).view(1, 3, 1, 1) for numbers in (MEAN, STD))
    by_hand = ((images.double() / 255 - mean) / std).flatten(1)
    logits = classifier()(images)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits.double(), by_hand, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_classifier_leaves_its_input_as_it_is(dtype: torch.dtype) -> None:
    images = torch.full((2, 3, 4, 4), 200, dtype=dtype)
    classifier()(images)
    assert (images == 200).all()


def test_a_classifier_keeps_its_normalisation_with_its_weights() -> None:
    other = Classifier(nn.Flatten(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ["cat", "dog"])
    other.load_state_dict(classifier().state_dict())
    images = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(other(images), classifier()(images))
    assert classifier().classes == ("cat", "dog")


def test_more_images_a_batch_than_there_are_is_all_of_them() -> None:
    ((images, labels),) = numbered(3, 10**30).in_order()
    assert labels.tolist() == [0, 1, 2]
    assert len(images) == 3

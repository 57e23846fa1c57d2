"""blitz.parts.mixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from blitz.errors import BadInput
from blitz.parts.mixes import MIXES, SoftMix, Unmixed
from blitz.parts.registry import meanings

CLASSES = 10
SOFT = [name for name in MIXES.names() if name != "none"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: int = 10, height: int = 12, width: int = 9) -> tuple[Tensor, Tensor]:
    """Image i is all i, and so is its label as long as there are classes."""
    levels = torch.arange(size)
    return levels.float().view(-1, 1, 1, 1).expand(-1, 3, height, width).clone(), levels % CLASSES


def build(name: str, **options: object) -> SoftMix | Unmixed:
    mix: SoftMix | Unmixed = MIXES.build(MIXES.check({"name": name, **options}), CLASSES)
    return mix


@pytest.mark.parametrize("name", MIXES.names())
def test_every_option_is_documented(name: str) -> None:
    assert set(meanings(MIXES.builder(name))) == {option.name for option in MIXES.options(name)}


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("name", MIXES.names())
def test_keeps_shape_type_and_layout_and_leaves_its_input_alone(name: str, size: int) -> None:
    images, labels = batch(size)
    images = images.contiguous(memory_format=torch.channels_last)
    images_before, labels_before = images.clone(), labels.clone()
    mix = build(name)
    mixed, targets = mix(images, labels, seeded())
    assert mixed.shape == images.shape
    assert mixed.dtype == images.dtype
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, images_before)
    assert torch.equal(labels, labels_before)
    if mix.makes_soft_targets:
        assert targets.shape == (size, CLASSES)
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(size))
        assert targets.min() >= 0
    else:
        assert targets is labels
        assert mixed is images


@pytest.mark.parametrize("name", MIXES.names())
def test_the_generator_alone_decides(name: str) -> None:
    images, labels = batch()
    mix = build(name)
    torch.manual_seed(0)
    states = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    mixed, targets = mix(images, labels, seeded(0))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == states[1]
    again = mix(images, labels, seeded(0))
    assert torch.equal(again[0], mixed)
    assert torch.equal(again[1], targets)
    assert torch.equal(mix(images, labels, seeded(1))[0], mixed) == (name == "none")


@pytest.mark.parametrize("name", MIXES.names())
def test_nothing_is_read_from_the_device(name: str) -> None:
    # The meta device has shapes and no data: a read to the host, or a tensor left on the CPU, fails there.
    images = torch.empty(8, 3, 16, 16, device="meta")
    mixed, targets = build(name)(images, torch.empty(8, dtype=torch.int64, device="meta"), seeded())
    assert mixed.device.type == targets.device.type == "meta"


@pytest.mark.parametrize("seed", range(5))
def test_mixup_weighs_labels_like_pixels(seed: int) -> None:
    images, labels = batch()
    mixed, targets = build("mixup")(images, labels, seeded(seed))
    # Image i is all i: the shares of the classes, multiplied by the classes, give the level of every pixel.
    level = targets @ torch.arange(CLASSES).float()
    torch.testing.assert_close(mixed, level.view(-1, 1, 1, 1).expand_as(mixed))
    own = targets[labels, labels]
    assert torch.equal(own, own[:1].expand(len(own)))  # one weight for the batch
    assert 0 < own[0] < 1
    assert ((targets > 0).sum(1) == 2).all()


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_takes_a_box_and_weighs_labels_by_its_area(seed: int) -> None:
    images, labels = batch()
    mixed, targets = build("cutmix")(images, labels, seeded(seed))
    foreign = mixed[:, 0] != images[:, 0]
    assert torch.equal(foreign, foreign[:1].expand_as(foreign))  # one box for the batch
    rows, columns = foreign[0].any(1), foreign[0].any(0)
    assert torch.equal(foreign[0], rows[:, None] & columns)
    for sides in (rows, columns):
        assert sides.int().diff().abs().sum() <= 2  # in one piece
    for place in range(len(images)):
        levels = mixed[place].unique()
        assert len(levels) <= 2
        shares = torch.stack([(mixed[place] == level).float().mean() for level in range(CLASSES)])
        torch.testing.assert_close(targets[place], shares)


def test_cutmix_centres_reach_every_corner() -> None:
    images, labels = batch(2, 6, 6)
    touched = torch.zeros(6, 6)
    for seed in range(60):
        mixed, _ = build("cutmix")(images, labels, seeded(seed))
        touched += mixed[0, 0] != images[0, 0]
    assert (touched > 0).all()
    assert (touched < 60).all()


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 4.0])
def test_mixup_draws_its_weight_from_the_beta_distribution(alpha: float) -> None:
    images, labels = batch(2, 1, 1)
    mix, generator = build("mixup", alpha=alpha), seeded()
    weights = torch.stack([mix(images, labels, generator)[1][0, 0] for _ in range(2000)]).double()
    assert weights.isfinite().all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(weights.mean().item() - 0.5) < 4 * (variance / len(weights)) ** 0.5
    assert weights.var().item() == pytest.approx(variance, rel=0.12)


@pytest.mark.parametrize("name", SOFT)
def test_probability_is_the_share_of_mixed_batches(name: str) -> None:
    images, labels = batch(2, 8, 8)
    mix, generator = build(name, probability=0.25), seeded()
    plain = 0
    for _ in range(1000):
        mixed, targets = mix(images, labels, generator)
        assert targets.shape == (2, CLASSES)
        if torch.equal(mixed, images):
            plain += 1
            assert torch.equal(targets, torch.eye(CLASSES)[:2])
    # A box smaller than a pixel changes nothing either: about 1 in 60 of the boxes here.
    assert plain / 1000 == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("name", SOFT)
def test_probability_zero_never_mixes(name: str) -> None:
    images, labels = batch()
    mixed, targets = build(name, probability=0)(images, labels, seeded())
    assert mixed is images
    assert torch.equal(targets, torch.eye(CLASSES))


@pytest.mark.parametrize(("key", "value"), [("alpha", 0), ("probability", 1.1)])
@pytest.mark.parametrize("name", SOFT)
def test_values_out_of_range_are_refused(name: str, key: str, value: object) -> None:
    with pytest.raises(BadInput, match=f"mix.{key}"):
        MIXES.check({"name": name, key: value})

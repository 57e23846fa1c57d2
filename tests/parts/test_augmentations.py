"""blitz.parts.augmentations and blitz.parts.trivial_augment."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from blitz.errors import BadInput
from blitz.parts import trivial_augment
from blitz.parts.augmentations import AUGMENTATIONS, crop_back
from blitz.parts.registry import meanings
from blitz.training.batches import Augment

MEAN = (0.5, 0.25, 0.75)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> Tensor:
    """Images without a zero, so that a zero was filled in."""
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=seeded(1))


def photos(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth images with some noise, each with a range of brightness of its own."""
    draw = seeded(2)
    coarse = torch.rand(batch, channels, 4, 4, generator=draw) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    grain = 10 * torch.randn(smooth.shape, generator=draw)
    return (smooth * torch.rand(batch, 1, 1, 1, generator=draw) + grain).clamp(0, 255).byte()


def build(name: str, channels: int = 3, **options: Any) -> Augment:
    augment: Augment = AUGMENTATIONS.build(AUGMENTATIONS.check({"name": name, **options}), MEAN[:channels])
    return augment


@pytest.fixture(autouse=True)
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


# Every choice on the menu


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_every_option_is_documented(name: str) -> None:
    assert set(meanings(AUGMENTATIONS.builder(name))) == {option.name for option in AUGMENTATIONS.options(name)}


@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (64, 1, 8, 8), (1, 3, 20, 33), (0, 3, 16, 16)])
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_keeps_shape_type_and_layout_and_leaves_its_input_alone(name: str, shape: tuple[int, ...]) -> None:
    images = photos(*shape) if shape[0] else torch.zeros(shape, dtype=torch.uint8)
    before = images.clone()
    augmented = build(name, shape[1])(images, seeded())
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.uint8
    assert augmented.is_contiguous()
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_the_generator_alone_decides(name: str) -> None:
    images, augment = photos(64, 3, 32, 32), build(name)
    torch.manual_seed(0)
    global_state = torch.get_rng_state()
    first = augment(images, seeded(0))
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.manual_seed(1)
    assert torch.equal(augment(images, seeded(0)), first)
    assert torch.equal(augment(images, seeded(1)), first) == (name == "none")


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_nothing_is_read_from_the_device(name: str) -> None:
    # The meta device has shapes and no data: a read to the host, or a tensor left on the CPU, fails there.
    images = torch.empty(16, 3, 32, 32, dtype=torch.uint8, device="meta")
    options: dict[str, Any] = {"cutout": 8, "pad_mode": "reflect"} if name in ("flip_crop", "trivial") else {}
    assert build(name, **options)(images, seeded()).device.type == "meta"


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_images_in_another_memory_format_get_the_same_pixels(name: str) -> None:
    images, augment = photos(16, 3, 16, 16), build(name)
    other = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(other, seeded()), augment(images, seeded()))


@pytest.mark.parametrize(("name", "options"), [("none", {}), ("flip_crop", {"flip": 0, "pad": 0})])
def test_doing_nothing_costs_nothing(name: str, options: dict[str, Any]) -> None:
    images, generator = noise(4, 3, 8, 8), seeded()
    state = generator.get_state()
    assert build(name, **options)(images, generator) is images
    assert torch.equal(generator.get_state(), state)


# Crop and flip


@pytest.mark.parametrize("pad_mode", ["zero", "reflect"])
@pytest.mark.parametrize(("height", "width", "pad"), [(6, 5, 2), (5, 7, 4)])
def test_crop_is_a_window_of_the_padded_image(height: int, width: int, pad: int, pad_mode: str) -> None:
    images = noise(400, 2, height, width)
    augmented = build("flip_crop", 2, pad=pad, pad_mode=pad_mode)(images, seeded())
    mode = "constant" if pad_mode == "zero" else "reflect"
    padded = torch.nn.functional.pad(images.float(), (pad,) * 4, mode=mode).byte()
    seen = set()
    for image, source in zip(augmented, padded, strict=True):
        windows = [
            (top, left, mirrored)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for mirrored in (False, True)
            if torch.equal(image.flip(2) if mirrored else image, source[:, top : top + height, left : left + width])
        ]
        assert windows
        seen.update(windows)
    for place, values in enumerate((range(2 * pad + 1), range(2 * pad + 1), (False, True))):
        assert {window[place] for window in seen} == set(values)


def test_crop_back_takes_the_offsets_it_is_given() -> None:
    images = noise(2, 3, 4, 4)
    offsets, mirrored = torch.tensor([[0, 3], [2, 1]]), torch.tensor([False, True])
    cropped = crop_back(images, offsets, mirrored, 2, "zero")
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    assert torch.equal(cropped[0], padded[0, :, 0:4, 2:6])
    assert torch.equal(cropped[1], padded[1, :, 3:7, 1:5].flip(2))


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_share_of_mirrored_images(probability: float) -> None:
    images = noise(4000, 1, 4, 4)
    augmented = build("flip_crop", 1, flip=probability, pad=0)(images, seeded())
    mirrored = (augmented == images.flip(3)).flatten(1).all(1)
    assert ((augmented == images).flatten(1).all(1) | mirrored).all()
    deviation = math.sqrt(probability * (1 - probability) / len(images))
    assert abs(mirrored.float().mean().item() - probability) <= 4 * deviation


# Cutout


@pytest.mark.parametrize("side", [1, 4, 5, 6])
def test_cutout_is_a_square_of_the_mean_colour_around_any_pixel(side: int) -> None:
    height, width = 6, 8
    images = torch.zeros(2000, 3, height, width, dtype=torch.uint8)
    augmented = build("flip_crop", flip=0, pad=0, cutout=side)(images, seeded())
    colour = torch.tensor([round(255 * level) for level in MEAN], dtype=torch.uint8)
    holes = set()
    for top in range(-(side // 2), height - side // 2):
        for left in range(-(side // 2), width - side // 2):
            hole = torch.zeros(3, height, width, dtype=torch.uint8)
            inside = (slice(max(top, 0), top + side), slice(max(left, 0), left + side))
            hole[(slice(None), *inside)] = colour.view(3, 1, 1)
            holes.add(tuple(hole.flatten().tolist()))
    # As many kinds of holes as there are centres, except where two of them are clipped to the same.
    assert {tuple(image.flatten().tolist()) for image in augmented} == holes


def test_cutout_leaves_the_other_pixels() -> None:
    images = noise(100, 3, 8, 8)
    augmented = build("flip_crop", flip=0, pad=0, cutout=3)(images, seeded())
    changed = (augmented != images).any(1).flatten(1).sum(1)
    assert changed.max() == 9
    assert changed.min() >= 4  # the square's quarter, at a corner


# A user's mistakes


@pytest.mark.parametrize("name", ["flip_crop", "trivial"])
def test_images_too_small_are_refused_with_their_keys(name: str) -> None:
    augment = build(name, pad=8, pad_mode="reflect", cutout=9)
    with pytest.raises(BadInput) as caught:
        augment(noise(2, 3, 8, 10), seeded())
    pad, cutout = caught.value.problems
    assert "augment.pad=8" in pad
    assert "8 x 10" in pad
    assert "0 to 7" in pad
    assert "augment.cutout=9" in cutout
    assert "0 to 8" in cutout


def test_flip_shift_is_flip_crop_with_a_reflected_border() -> None:
    images = noise(20, 3, 8, 10)
    moved = build("flip_shift")(images, seeded())
    assert torch.equal(moved, build("flip_crop", pad=2, pad_mode="reflect")(images, seeded()))
    assert not torch.equal(moved, build("flip_shift", pad=1)(images, seeded()))


def test_the_largest_values_accepted_work() -> None:
    cases: list[dict[str, Any]] = [{"pad": 7, "pad_mode": "reflect", "cutout": 8}, {"pad": 20}]
    for options in cases:
        assert build("flip_crop", **options)(noise(2, 3, 8, 10), seeded()).shape == (2, 3, 8, 10)


def test_trivial_refuses_images_that_have_no_colour_model() -> None:
    with pytest.raises(BadInput, match=r"augment\.name=trivial.*1 or 3 channels; these have 2"):
        build("trivial", 2)(noise(2, 2, 8, 8), seeded())


@pytest.mark.parametrize(("key", "value"), [("pad", -1), ("flip", 1.5), ("pad_mode", "edge"), ("cutout", 2.5)])
def test_values_out_of_range_are_refused(key: str, value: object) -> None:
    with pytest.raises(BadInput, match=f"augment.{key}"):
        AUGMENTATIONS.check({"name": "flip_crop", key: value})


# TrivialAugment against torchvision, image by image


def torchvision_name(operation: str) -> str:
    spelled = {"colour": "Color", "autocontrast": "AutoContrast"}
    return spelled.get(operation, "".join(word.capitalize() for word in operation.split("_")))


def lies_between_pixels(operation: str, strength: float, height: int, width: int) -> Tensor:
    """(H, W): where a moved pixel comes from the border between two source pixels."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x, y = x.double(), y.double()
    if operation == "shear_x":
        x = x + strength * y
    elif operation == "shear_y":
        y = y + strength * x
    elif operation == "rotate":
        turn, x, y = math.radians(strength), x - width / 2, y - height / 2
        x, y = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
        x, y = x + width / 2, y + height / 2
    return ((x - x.round()).abs() < 1e-4) | ((y - y.round()).abs() < 1e-4)


def signed_strengths(operation: str) -> list[float]:
    place = trivial_augment.OPERATIONS.index(operation)
    strengths = trivial_augment.strengths()[place].unique().tolist()
    if place <= trivial_augment.LAST_SIGNED:
        strengths += [-strength for strength in strengths if strength]
    return strengths


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 32, 32), (3, 20, 27)])
@pytest.mark.parametrize("operation", trivial_augment.OPERATIONS)
def test_operation_equals_torchvisions_on_the_single_image(
    operation: str, channels: int, height: int, width: int
) -> None:
    from torchvision.transforms.v2 import InterpolationMode, TrivialAugmentWide

    reference = TrivialAugmentWide()
    photo, flat = photos(1, channels, height, width), torch.full((1, channels, height, width), 100, dtype=torch.uint8)
    spread = torch.arange(channels * height * width).view_as(photo).mul(7).byte()  # all levels
    strengths = signed_strengths(operation)
    place = torch.full((len(strengths),), trivial_augment.OPERATIONS.index(operation))
    for image in (photo, spread, flat):
        ours = trivial_augment.apply(image.expand(len(strengths), -1, -1, -1), place, torch.tensor(strengths))
        for strength, result in zip(strengths, ours, strict=True):
            theirs = reference._apply_image_or_video_transform(
                image[0], torchvision_name(operation), strength, InterpolationMode.NEAREST, {torch.Tensor: None}
            )
            off = (result.int() - theirs.int()).abs()
            if operation in trivial_augment.MOVES:
                off = off * ~lies_between_pixels(operation, strength, height, width)
            by_one = operation in ("colour", "contrast", "autocontrast")
            assert off.max() <= int(by_one), strength
            assert (off > 0).float().mean() <= 0.1 or image is flat, strength


def test_strengths_are_torchvisions() -> None:
    from torchvision.transforms.v2 import TrivialAugmentWide

    space = TrivialAugmentWide._AUGMENTATION_SPACE
    assert set(space) == set(map(torchvision_name, trivial_augment.OPERATIONS))
    for operation, ours in zip(trivial_augment.OPERATIONS, trivial_augment.strengths(), strict=True):
        values, signed = space[torchvision_name(operation)]
        theirs = values(trivial_augment.BINS, 32, 32)
        expected = torch.zeros_like(ours) if theirs is None else theirs.float()
        # torchvision takes whole pixels when it applies a translation.
        assert torch.equal(ours, expected.trunc() if operation.startswith("translate") else expected)
        place = trivial_augment.OPERATIONS.index(operation)
        assert signed == (1 <= place <= trivial_augment.LAST_SIGNED)


def test_each_image_gets_its_own_operation_and_strength() -> None:
    operation, strength = trivial_augment.draw(28000, seeded())
    assert operation.bincount(minlength=14).min() > 2000 - 6 * math.sqrt(2000)
    for place, name in enumerate(trivial_augment.OPERATIONS):
        drawn = strength[operation == place]
        assert set(drawn.unique().tolist()) == set(signed_strengths(name))
        if 1 <= place <= trivial_augment.LAST_SIGNED:
            assert abs((drawn < 0).float().mean() - 0.5 * (drawn != 0).float().mean()) < 0.07


def test_a_mixed_batch_equals_its_images_one_by_one() -> None:
    images, draw = photos(70, 3, 12, 10), seeded(5)
    operation = torch.arange(70) % len(trivial_augment.OPERATIONS)
    strength = trivial_augment.strengths()[operation, torch.randint(trivial_augment.BINS, (70,), generator=draw)]
    together = trivial_augment.apply(images, operation, strength)
    for place in range(70):
        only = slice(place, place + 1)
        assert torch.equal(together[only], trivial_augment.apply(images[only], operation[only], strength[only]))


def test_trivial_is_followed_by_crop_flip_and_cutout() -> None:
    images = photos(32, 3, 16, 16)
    one, other = seeded(3), seeded(3)
    options: dict[str, Any] = {"pad": 2, "pad_mode": "reflect", "flip": 0.3, "cutout": 5}
    in_two_steps = build("flip_crop", **options)(trivial_augment.augment(images, one), one)
    assert torch.equal(build("trivial", **options)(images, other), in_two_steps)

"""The 14 operations of TrivialAugment (Wide) (arXiv:2103.10158) on whole batches of uint8 images.

So that an image's result has the same bits on every device, the arithmetic is that of integers, or of float32 with one
rounding an operation. It equals torchvision's `v2.functional` on that image, except where torchvision's float32 rounds
another way: colour, contrast and autocontrast are off by one grey level (colour and autocontrast at 2 to 4 pixels in
1,000), and a rotated or sheared pixel from exactly between two source pixels takes the other one (rotate: 7 in 10,000).

Shapes: n images of one operation, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from blitz.errors import BadInput

BINS = 31
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def augment(images: Tensor, generator: Generator) -> Tensor:
    """One operation for each image, all alike in probability, at a strength of its own."""
    batch, channels = images.shape[:2]
    if channels not in (1, 3):
        raise BadInput(f"augment.name=trivial: made for images of 1 or 3 channels; these have {channels}")
    return apply(images, *draw(batch, generator))


def draw(batch: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """An operation, as its place among OPERATIONS, and a strength for each image: both (B,)."""
    operation = torch.randint(len(OPERATIONS), (batch,), generator=generator)
    strength = strengths()[operation, torch.randint(BINS, (batch,), generator=generator)]
    negative = torch.randint(2, (batch,), generator=generator).bool() & (operation <= LAST_SIGNED)
    return operation, torch.where(negative, -strength, strength)


def strengths() -> Tensor:
    """(14, 31): what each operation takes, in the unit of its own; the first ten are negated for half of the images."""
    unused = torch.zeros(BINS)
    shear_or_blend = torch.linspace(0.0, 0.99, BINS)
    translate_pixels = torch.linspace(0.0, 32.0, BINS).trunc()
    rotate_degrees = torch.linspace(0.0, 135.0, BINS)
    kept_bits = (8 - torch.arange(BINS) / ((BINS - 1) / 6)).round()
    threshold = torch.linspace(1.0, 0.0, BINS)
    moves = [shear_or_blend] * 2 + [translate_pixels] * 2 + [rotate_degrees]
    return torch.stack([unused, *moves, *[shear_or_blend] * 4, kept_bits, threshold, unused, unused])


def apply(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Image i changed by OPERATIONS[operation[i]]; `operation` and `strength` (B,) are on the CPU."""
    order = operation.argsort(stable=True)  # so that each operation's images are one slice
    counts = operation.bincount(minlength=len(OPERATIONS)).tolist()
    moved = slice(1, 1 + len(MOVES))
    sizes = [counts[0], sum(counts[moved]), *counts[moved.stop :]]
    groups = images.index_select(0, order.to(images.device, non_blocking=True)).split(sizes)
    ordered = strength[order]
    matrices = _matrices(operation[order].split(sizes)[1], ordered.split(sizes)[1], *images.shape[2:])
    amounts = [matrices, *ordered.view(-1, 1, 1, 1).split(sizes)[2:]]
    changed = [
        change(group, amount.to(images.device, non_blocking=True)) if len(group) else group
        for change, group, amount in zip((_move, *CHANGES.values()), groups[1:], amounts, strict=True)
    ]
    done = torch.cat([groups[0], *changed])
    return done.index_select(0, order.argsort().to(images.device, non_blocking=True))


FIXED_POINT = 24  # binary digits after the point of the source positions


def _matrices(operation: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """(n, 6) int64: source column = a x + b y + c, source row = d x + e y + f, in pixels from the top left corner."""
    # An image has one operation, so that at most one of these amounts is not zero.
    shear_x, shear_y, right, down, degrees = (
        torch.where(operation == 1 + place, strength.double(), 0.0) for place in range(len(MOVES))
    )
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    c = (width - cos * width + sin * height) / 2 - right  # rotated about the centre
    f = (height - sin * width - cos * height) / 2 - down
    matrix = torch.stack((cos, shear_x - sin, c, shear_y + sin, cos, f), dim=1)
    return (matrix * 2**FIXED_POINT).round().long()


def _move(images: Tensor, matrices: Tensor) -> Tensor:
    """Each pixel takes the source pixel that its centre falls into, black where that is outside of the image."""
    device, (count, channels, height, width) = images.device, images.shape
    a, b, c, d, e, f = matrices.T.reshape(6, count, 1, 1)
    # Twice the position of the pixels' centres, which is a whole number; the last shift halves again.
    x_W = 2 * torch.arange(width, device=device) + 1
    y_H1 = (2 * torch.arange(height, device=device) + 1).unsqueeze(1)
    column = (a * x_W + (b * y_H1 + 2 * c)) >> (FIXED_POINT + 1)
    row = (d * x_W + (e * y_H1 + 2 * f)) >> (FIXED_POINT + 1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = ((row * width + column) * inside).view(count, 1, height * width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view_as(images) * inside.unsqueeze(1)


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return (images * (1 + strength)).clamp_(0, 255).byte()


def _colour(images: Tensor, strength: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blend(images, _grey(images), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    total = _grey(images).long().sum(dim=(1, 2, 3), keepdim=True)  # of integers: no order of summation shows
    # Divided by a tensor: CUDA would multiply by the reciprocal of a number, which rounds twice.
    return _blend(images, total / torch.full_like(total, images.shape[2] * images.shape[3]), strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if min(height, width) <= 2:
        return images
    pixels = images.float()
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, :, 1:-1, 1:-1]
    # Weights of 1 around a 5, which sum to 13, rounded to the nearest; the border stays.
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = (total / 13).round_()
    return _blend(images, smooth, strength)


def _posterize(images: Tensor, kept_bits: Tensor) -> Tensor:
    return images & (255 << (8 - kept_bits.int())).byte()


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    return images ^ (images >= 255 * threshold).byte().mul_(255)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    darkest, brightest = images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float()
    span = brightest - darkest
    stretched = ((images - darkest).mul_(255).add_(NUDGE) / span.clamp(min=1)).byte()
    return torch.where(span > 0, stretched, images)


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Pillow's scheme: a level maps to the number of darker pixels over the step, 1/255 of all but the brightest."""
    pixels = images.flatten(2).long()
    one = pixels.new_ones(1)
    histogram = pixels.new_zeros((*pixels.shape[:2], 256)).scatter_add_(2, pixels, one.expand_as(pixels))
    darker = histogram.cumsum(2) - histogram
    not_brightest = (darker * (histogram > 0)).amax(2, keepdim=True)
    step = torch.div(not_brightest, 255, rounding_mode="floor")
    table = torch.div(darker + step // 2, step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.byte().gather(2, pixels).view_as(images)


# Added to a whole number before a division that is rounded down: a quotient that is whole must not end up below itself
# where the device multiplies by the reciprocal.
NUDGE = 0.5


def _grey(images: Tensor) -> Tensor:
    """(n, 1, H, W) float32, whole numbers from 0 to 255."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.float().split(1, dim=1)
    return (2989 * red + 5870 * green + 1140 * blue + NUDGE).div_(10000).floor_()


def _blend(images: Tensor, target: Tensor, strength: Tensor) -> Tensor:
    """At strength -1 the target, at 0 the images, beyond that away from the target."""
    # Three steps on purpose: a fused multiply-add rounds differently from device to device.
    return ((images - target) * (1 + strength)).add_(target).clamp_(0, 255).byte()


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brightness,
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
OPERATIONS = ("identity", *MOVES, *CHANGES)
LAST_SIGNED = OPERATIONS.index("sharpness")

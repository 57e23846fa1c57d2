"""The ResNets of He et al. 2015, arXiv:1512.03385: those of section 4.2 for CIFAR, and ResNet-18 with a small stem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from blitz.errors import BadInput
from blitz.parts.registry import Depth, meanings

Shortcut = Literal["A", "B"]


class ResNet(nn.Module):
    """A 3x3 stem, stages of residual blocks that halve the image from the second on, mean pooling, one linear layer."""

    def __init__(
        self, num_classes: int, num_channels: int, widths: Sequence[int], blocks_per_stage: int, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(num_channels, widths[0]), nn.ReLU(inplace=True))
        blocks = []
        for num_in, num_out in pairwise([widths[0], *widths]):
            stride = 1 if num_in == num_out else 2
            blocks.append(Block(num_in, num_out, stride, shortcut))
            blocks += [Block(num_out, num_out, 1, shortcut) for _ in range(blocks_per_stage - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(widths[-1], num_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, num_in: int, num_out: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(num_in, num_out, stride=stride)
        self.conv2, self.bn2 = conv_bn(num_out, num_out)
        self.shortcut: nn.Module = nn.Identity()
        if num_in != num_out:
            self.shortcut = (
                ZeroPadded(num_out - num_in, stride)
                if shortcut == "A"
                else nn.Sequential(*conv_bn(num_in, num_out, kernel=1, stride=stride))
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


class ZeroPadded(nn.Module):
    """The paper's option A, free of parameters: every `stride`-th pixel, zeros for the new channels."""

    def __init__(self, num_new: int, stride: int) -> None:
        super().__init__()
        self.num_new = num_new
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.num_new))


class CifarResNet(ResNet):
    """Three stages of 16, 32 and 64 channels, (depth - 2) / 6 blocks each.

    Parameters on 3x32x32 images in 10 classes, with shortcut A: depth 20 0.27M, 32 0.46M, 44 0.66M, 56 0.85M,
    110 1.7M. He et al. 2015, arXiv:1512.03385, section 4.2. Raises BadInput for a depth that is not 6n + 2.

    Args:
        depth: layers; 6n + 2, from 8
        shortcut: where shapes change; A: strided, zeros for new channels (the paper's); B: 1x1 convolution and norm
    """

    def __init__(
        self, num_classes: int, input_shape: tuple[int, int, int], *, depth: Depth = 20, shortcut: Shortcut = "A"
    ) -> None:
        num_blocks = blocks_per_stage(depth, 2, "a CIFAR ResNet")
        super().__init__(num_classes, input_shape[0], (16, 32, 64), num_blocks, shortcut)


def of_depth(depth: int) -> Callable[..., CifarResNet]:
    """The builder of a CIFAR ResNet that has its depth in its name, as in the paper: no option."""

    def build(num_classes: int, input_shape: tuple[int, int, int], *, shortcut: Shortcut = "A") -> CifarResNet:
        return CifarResNet(num_classes, input_shape, depth=depth, shortcut=shortcut)

    build.__doc__ = f"""cifar_resnet with depth={depth}, the ResNet-{depth} of He et al. 2015, arXiv:1512.03385.

    Args:
        shortcut: {meanings(CifarResNet)["shortcut"]}
    """
    return build


class ResNet18(ResNet):
    """Stages of 64, 128, 256 and 512 channels, two blocks each: 11.17M parameters on 3x32x32 images in 10 classes.

    He et al. 2015, arXiv:1512.03385, but with a 3x3 stem of stride 1 and no max-pooling: the ImageNet stem would leave
    8x8 of 32x32 pixels. Shortcuts where shapes change are 1x1 convolutions, as in the paper.
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__(num_classes, input_shape[0], (64, 128, 256, 512), blocks_per_stage=2, shortcut="B")


def blocks_per_stage(depth: int, others: int, noun: str) -> int:
    """Of three stages of two-layer blocks beside `others` layers. Raises BadInput for a depth that does not divide."""
    num_blocks, rest = divmod(depth - others, 6)
    if num_blocks < 1 or rest:
        below = depth - rest
        nearest = f"{below} and {below + 6} are the nearest" if num_blocks >= 1 else f"{6 + others} is the nearest"
        raise BadInput(f"model.depth={depth}: {noun} has 6n + {others} layers, from {6 + others} on; {nearest}")
    return num_blocks


def conv_bn(num_in: int, num_out: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution that keeps the image's size at stride 1, and its norm (whose shift makes a bias needless)."""
    return nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(num_out)


def he_normal(model: nn.Module) -> None:
    """Draw every convolution's weights as He et al. 2015 (arXiv:1502.01852) do, scaled by the outputs they feed."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

"""The wide ResNets of Zagoruyko & Komodakis 2016, arXiv:1605.07146."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from blitz.parts.models.cifar_resnet import blocks_per_stage, he_normal
from blitz.parts.registry import Count, Depth, Fraction


class WideResNet(nn.Module):
    """Three stages of 16k, 32k and 64k channels, k = widen_factor, (depth - 4) / 6 pre-activation blocks each.

    Parameters on 3x32x32 images in 10 classes: WRN-16-4 (the default) 2.7M, WRN-40-4 8.9M, WRN-16-8 11.0M,
    WRN-28-10 36.5M. Zagoruyko & Komodakis 2016, arXiv:1605.07146.

    Args:
        depth: layers; 6n + 4, from 10
        widen_factor: how many times the channels of a CIFAR ResNet
        dropout: share of the values between a block's convolutions that is dropped in training
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        *,
        depth: Depth = 16,
        widen_factor: Count = 4,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        num_blocks = blocks_per_stage(depth, 4, "a wide ResNet")
        blocks = []
        num_in = 16
        for stage, num_out in enumerate(width * widen_factor for width in (16, 32, 64)):
            for index in range(num_blocks):
                blocks.append(Block(num_in, num_out, 2 if stage and not index else 1, dropout))
                num_in = num_out
        self.stem = nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(num_in)
        self.fc = nn.Linear(num_in, num_classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.blocks(self.stem(x))), inplace=True)
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    """Norm and ReLU before each of two 3x3 convolutions; a 1x1 convolution as shortcut where shapes change."""

    def __init__(self, num_in: int, num_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        changes = num_in != num_out or stride != 1
        self.shortcut = nn.Conv2d(num_in, num_out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x), inplace=True)
        y = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(activated)), inplace=True)))
        # As in the authors' code, a shortcut with weights reads the activated input; the others must pass x untouched.
        return y + (x if self.shortcut is None else self.shortcut(activated))

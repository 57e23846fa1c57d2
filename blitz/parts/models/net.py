"""The Net of PyTorch's 60-minute blitz."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blitz.errors import BadInput


class Net(nn.Module):
    """Two 5x5 convolutions with max-pooling, three linear layers: 62,006 parameters on 3x32x32 images in 10 classes.

    The tutorial's operations in the tutorial's order, with the tutorial's initialisation (torch's defaults): the same
    seed gives the same bits. Images need 16 pixels a side.
    Source: https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        # Each side loses 4 pixels to a convolution, then half to a pooling; and so again.
        pooled_height, pooled_width = (((side - 4) // 2 - 4) // 2 for side in (height, width))
        if min(pooled_height, pooled_width) < 1:
            raise BadInput(f"data.image_size: net needs images of at least 16x16 pixels, not {height}x{width}")
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * pooled_height * pooled_width, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

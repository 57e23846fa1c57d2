"""A multi-layer perceptron on the flattened image."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from blitz.parts.registry import Count, Fraction


class MLP(nn.Sequential):
    """Linear layers with ReLU: 1.7M parameters by default on 3x32x32 images in 10 classes.

    Args:
        hidden: units of each hidden layer, first to last; empty: softmax regression
        dropout: share of each hidden layer's units that is dropped in training
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        *,
        hidden: tuple[Count, ...] = (512, 256),
        dropout: Fraction = 0.0,
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for num_in, num_out in pairwise([math.prod(input_shape), *hidden]):
            layers += [nn.Linear(num_in, num_out), nn.ReLU(inplace=True)]
            if dropout:
                layers.append(nn.Dropout(dropout))
        num_features = hidden[-1] if hidden else math.prod(input_shape)
        super().__init__(*layers, nn.Linear(num_features, num_classes))

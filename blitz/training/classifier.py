"""A trained model as a user takes it along: raw images in, logits out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """`model` behind its own normalisation: uint8 images (B, C, H, W) in, logits (B, K) out, K = len(classes)."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], classes: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.classes = tuple(classes)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """(image / 255 - mean) / std as float32, each channel by its own."""
        return images.to(torch.float32, copy=True).sub_(self.mean).mul_(self.scale)

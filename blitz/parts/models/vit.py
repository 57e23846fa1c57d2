"""A small vision transformer, Dosovitskiy et al. 2020, arXiv:2010.11929."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blitz.errors import refuse
from blitz.parts.registry import Count, Depth, Fraction, Positive


class ViT(nn.Module):
    """Patches, a class token, learned positions, pre-norm encoder layers: 2.7M parameters by default.

    ViT-Ti's width at half its depth, with the 4x4 patches that suit 32x32 images: 64 tokens.
    Dosovitskiy et al. 2020, arXiv:2010.11929. Unlike in the paper's code (vit_jax/models_vit.py of
    github.com/google-research/vision_transformer) LayerNorm's eps is PyTorch's 1e-5, not 1e-6; GELU is exact, not
    approximated by tanh; class token and head start at random, not at zero.

    Args:
        patch: side of a patch, pixels; must divide the image's sides
        width: size of a token; must be a multiple of heads
        depth: encoder layers
        heads: attention heads of a layer
        mlp_ratio: hidden units of a layer's perceptron, as a multiple of width
        dropout: share dropped in training, of the embedded patches, attention weights and layer outputs
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        *,
        patch: Count = 4,
        width: Count = 192,
        depth: Depth = 6,
        heads: Count = 3,
        mlp_ratio: Positive = 4.0,
        dropout: Fraction = 0.1,
    ) -> None:
        super().__init__()
        _check(input_shape, patch, width, heads)
        channels, image_height, image_width = input_shape
        num_patches = (image_height // patch) * (image_width // patch)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + num_patches, width))
        self.dropout = nn.Dropout(dropout)
        # Not nn.TransformerEncoder: it copies one layer, so that all layers would start with the same weights.
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width,
                    heads,
                    dim_feedforward=max(1, round(width * mlp_ratio)),
                    dropout=dropout,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)  # (B, tokens, width)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches], dim=1)
        tokens = self.layers(self.dropout(tokens + self.positions))
        return self.fc(self.norm(tokens[:, 0]))


def _check(input_shape: tuple[int, int, int], patch: int, width: int, heads: int) -> None:
    """Raises BadInput with both mistakes together."""
    _, image_height, image_width = input_shape
    problems = []
    if image_height % patch or image_width % patch:
        fitting = [side for side in range(1, image_height + 1) if image_height % side == 0 == image_width % side]
        problems.append(
            f"model.patch={patch}: does not divide images of {image_height}x{image_width} pixels; choose one of "
            f"{', '.join(map(str, fitting))}, or a data.image_size that is a multiple of {patch}"
        )
    if width % heads:
        below = width - width % heads
        nearest = f"{below} or {below + heads}" if below else str(heads)
        problems.append(
            f"model.width={width}: is not a multiple of model.heads={heads}; choose model.width={nearest}, "
            "or other model.heads"
        )
    refuse(problems)

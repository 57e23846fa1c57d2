"""The net of airbench94 (Jordan 2024, arXiv:2404.00498), which starts from whitened patches."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blitz.errors import BadInput
from blitz.parts.models.side_by_side import SideBySideConv2d
from blitz.parts.registry import Count

SMALLEST_VARIANCE = 5e-4  # added to each, so that the noise of flat patches is not blown up


class Airbench(nn.Module):
    """Whitened patches, blocks of two 3x3 convolutions that halve the image, the maximum over what is left of it.

    Filters of the first layer are not trained: they are the principal components of the training images' patches,
    scaled to unit variance, and the same negated. Norms have a shift and no scale; the other filters start as the
    identity as far as they can. Parameters on 3x32x32 images in 10 classes: 1.97M with the paper's widths, the default.
    Jordan 2024, arXiv:2404.00498. Raises BadInput for images that so many blocks cannot halve.

    Args:
        widths: channels of each block, first to last; empty: a linear classifier of the patches' maxima
        patch: side of a whitened patch, pixels
        stride: pixels between two patches; 2 quarters the work of every layer
        components: principal components of the patches that are kept, the largest first; null: all
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        *,
        widths: tuple[Count, ...] = (64, 256, 256),
        patch: Count = 2,
        stride: Count = 1,
        components: Count | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        if components is not None and components > channels * patch**2:
            raise BadInput(
                f"model.components={components}: accepted: 1 to {channels * patch**2}, the values of a patch; null: all"
            )
        sides = [((side - patch) // stride + 1) // 2 ** len(widths) for side in (height, width)]
        if min(sides) < 1:
            smallest = patch + (2 ** len(widths) - 1) * stride
            raise BadInput(
                f"data.image_size: airbench needs images of at least {smallest}x{smallest} pixels with "
                f"model.patch={patch} and model.stride={stride}, not {height}x{width}"
            )
        self.stride = stride
        num_filters = 2 * (components or channels * patch**2)
        filters = torch.empty(num_filters, channels, patch, patch)
        self.filters: Tensor
        self.register_buffer("filters", nn.init.kaiming_normal_(filters, nonlinearity="linear"))
        self.bias = nn.Parameter(torch.zeros(num_filters))
        self.blocks = nn.Sequential(*(Block(*sizes) for sizes in pairwise([num_filters, *widths])))
        self.fc = nn.Linear([num_filters, *widths][-1], num_classes, bias=False)

    @torch.no_grad()
    def initialise_from(self, images: Tensor) -> None:
        """Whiten the patches of these normalised images (N, C, H, W): the first filters become their components."""
        self.filters.copy_(whitening(images, self.filters.shape[2], len(self.filters) // 2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(F.conv2d(x, self.filters, self.bias, self.stride))
        x = self.blocks(x).amax((2, 3))
        return self.fc(x) / 9  # the paper's scale: logits start small


class Block(nn.Module):
    """Two convolutions, the first of which halves the image."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = identity_conv(num_in, num_out), Shift(num_out)
        self.conv2, self.norm2 = identity_conv(num_out, num_out), Shift(num_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Shift(nn.BatchNorm2d):
    """A batch norm with a trained shift and no scale, and statistics that follow within a few steps."""

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, momentum=0.4)
        self.register_parameter("weight", None)


def identity_conv(num_in: int, num_out: int) -> nn.Conv2d:
    """A 3x3 convolution whose first filters hand their channel on."""
    conv = SideBySideConv2d(num_in, num_out, bias=False)
    nn.init.dirac_(conv.weight[:num_in])
    return conv


def whitening(images: Tensor, patch: int, kept: int) -> Tensor:
    """Filters (2 * kept, C, patch, patch): the largest components of all patches in their order, and their negatives.

    Their answers to these images have a variance of nearly 1 and do not correlate.
    """
    channels = images.shape[1]
    patches = images.unfold(2, patch, 1).unfold(3, patch, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).double()
    variances, components = torch.linalg.eigh(torch.cov(patches.T))
    filters = (components / (variances + SMALLEST_VARIANCE).sqrt()).T.flip(0)[:kept]
    filters = filters.reshape(-1, channels, patch, patch).to(images.dtype)
    return torch.cat([filters, -filters])

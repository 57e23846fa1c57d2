"""A convolution that computes several small images of a batch as one wide image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

WIDTH = 32  # pixels: rows that fill the matrix tiles of a processor


class SideBySideConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 with a border of one pixel, fast where a CPU trains on small images in bfloat16.

    A processor's matrix units (Intel's AMX) work through an image row by row. Rows of 7 or 3 pixels leave most of a
    tile empty, so that the gradient of the filters costs as much as if they were 32 wide. There, images lie beside each
    other with a column of zeros between them, which is also the border of both. The outputs are the same bits; the
    gradient of the filters is the same sum in another order. Everywhere else this is `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        number, width = len(x), x.shape[3]
        together = WIDTH // (width + 1)
        if together < 3 or not _trains_in_bfloat16(x):  # two together gain nothing
            return super().forward(x)
        x_nhwc = pad(x, (0, 1, 0, 0, 0, 0, 0, -number % together)).permute(0, 2, 3, 1)
        wide_nhwc = x_nhwc.unflatten(0, (-1, together)).transpose(1, 2).flatten(2, 3)
        wide_nhwc = super().forward(wide_nhwc.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y_nhwc = wide_nhwc.unflatten(2, (together, width + 1))[:, :, :, :width].transpose(1, 2).flatten(0, 1)
        return y_nhwc[:number].permute(0, 3, 1, 2)


def _trains_in_bfloat16(x: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )

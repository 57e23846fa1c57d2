"""ResNet-18 with the stem that small images need."""

from __future__ import annotations

from blitz.parts.models.cifar_resnet import ResNet


class ResNet18(ResNet):
    """Stages of 64, 128, 256 and 512 channels, two blocks each: 11.17M parameters on 3x32x32 images in 10 classes.

    He et al. 2015, arXiv:1512.03385, but with a 3x3 stem of stride 1 and no max-pooling: the ImageNet stem would leave
    8x8 of 32x32 pixels. Shortcuts where shapes change are 1x1 convolutions, as in the paper.
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__(num_classes, input_shape[0], (64, 128, 256, 512), blocks_per_stage=2, shortcut="B")

"""The menu of models, and how any of them starts from weights that exist already."""

from blitz.parts.models.airbench import Airbench
from blitz.parts.models.cifar_resnet import CifarResNet, ResNet18, of_depth
from blitz.parts.models.mlp import MLP
from blitz.parts.models.net import Net
from blitz.parts.models.sizes import bytes_of_weights
from blitz.parts.models.vit import ViT
from blitz.parts.models.weights import load_weights, recorded_weights_follow, starting_weights
from blitz.parts.models.wide_resnet import WideResNet
from blitz.parts.models.zoo import from_timm, from_torchvision
from blitz.parts.registry import Registry

__all__ = ["MODELS", "bytes_of_weights", "load_weights", "recorded_weights_follow", "starting_weights"]

MODELS = Registry(
    "model",
    "blitz.models",
    starting_weights,
    net=Net,
    mlp=MLP,
    cifar_resnet=CifarResNet,
    resnet20=of_depth(20),
    resnet32=of_depth(32),
    resnet44=of_depth(44),
    resnet56=of_depth(56),
    resnet110=of_depth(110),
    resnet18=ResNet18,
    wide_resnet=WideResNet,
    vit=ViT,
    airbench=Airbench,
    torchvision=from_torchvision,
    timm=from_timm,
)

"""Architectures out of torchvision's and timm's zoos, made to fit the run's images and classes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blitz.errors import BadInput, did_you_mean
from blitz.parts.models.weights import reads_pretrained


def from_torchvision(
    num_classes: int, input_shape: tuple[int, int, int], *, arch: str = "resnet18", pretrained: bool = False
) -> nn.Module:
    """A classification model of torchvision.models, with a head for the run's classes.

    Inputs with other than three channels get a first convolution whose weights are those for colours, averaged: a grey
    image then gives what the same image in three equal channels would.

    Args:
        arch: name of the architecture, as torchvision.models.list_models() gives it
        pretrained: start from ImageNet weights, which must be on disk; nothing is downloaded
    """
    from torchvision import models

    _check_arch(arch, models.list_models(module=models), "torchvision")
    channels, height, width = input_shape
    arguments: dict[str, Any] = {}
    if arch.startswith("vit_"):
        arguments = {"image_size": height}
    elif arch.startswith("maxvit"):
        arguments = {"input_size": (height, width)}
    elif arch in ("inception_v3", "googlenet"):
        # Auxiliary heads would make training return tuples; torchvision warns unless `init_weights` is given.
        arguments = {"aux_logits": False, "init_weights": True, "transform_input": pretrained and channels == 3}
    state = _torchvision_state(arch) if reads_pretrained(pretrained) else None
    with _as_bad_input(f"model.arch={arch}: does not fit images of {height}x{width} pixels (data.image_size)"):
        model = models.get_model(arch, weights=None, num_classes=num_classes, **arguments)
        if state is not None:
            if arch.startswith("vit_"):
                patch = model.conv_proj.kernel_size[0]
                state = models.vision_transformer.interpolate_embeddings(height, patch, state)
            _load_backbone(model, state)
        if channels != 3:
            _change_channels(model, channels)
        _try_out(model, num_classes, input_shape)
    return model


def from_timm(
    num_classes: int, input_shape: tuple[int, int, int], *, arch: str = "resnet18", pretrained: bool = False
) -> nn.Module:
    """A model of timm's, with a head for the run's classes and a first layer for the image's channels.

    Needs the extra `blitz[timm]`.

    Args:
        arch: name of the architecture, as timm.list_models() gives it; NAME.TAG chooses among its pretrained weights
        pretrained: start from its pretrained weights, which must be on disk; nothing is downloaded
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise BadInput('model=timm: needs the extra: pip install "blitz[timm]"') from None

    name, _, tag = arch.partition(".")
    _check_arch(name, timm.list_models(), "timm")
    if tag:
        _check_arch(arch, timm.list_pretrained(f"{name}.*"), "timm")
    settings = timm.get_pretrained_cfg(arch) or timm.models.PretrainedCfg()
    channels, height, width = input_shape
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if settings.fixed_input_size:
        arguments["img_size"] = (height, width)
    file = _timm_file(arch, settings) if reads_pretrained(pretrained) else None
    with _as_bad_input(f"model.arch={arch}: does not fit images of {height}x{width} pixels (data.image_size)"):
        model = timm.create_model(arch, **arguments)
        _try_out(model, num_classes, input_shape)
    if file is not None:
        overlay = {"file": str(file), "custom_load": settings.custom_load and not settings.hf_hub_id}
        with _as_bad_input(f"model.pretrained=true: {file} cannot be loaded"):
            model = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    return model


def _check_arch(arch: str, known: Iterable[str], zoo: str) -> None:
    known = list(known)
    if arch not in known:
        near = did_you_mean(arch, known, "model.arch=")
        raise BadInput(f"model.arch={arch}: no classification model of this name in {zoo}{near}")


@contextmanager
def _as_bad_input(problem: str) -> Iterator[None]:
    # A zoo's builders and models raise AssertionError, TypeError, RuntimeError, …
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise BadInput(f"{problem}: {reason[0] if reason else type(error).__name__}") from error


def _try_out(model: nn.Module, num_classes: int, input_shape: tuple[int, int, int]) -> None:
    """One training step's forward on the meta device: shapes without arithmetic, so that nothing fails later on."""
    with torch.random.fork_rng(devices=[]):
        logits = copy.deepcopy(model).to("meta").train()(torch.zeros(2, *input_shape, device="meta"))
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (2, num_classes):
        raise ValueError(f"it gives {shape} for 2 images in {num_classes} classes")


def _change_channels(model: nn.Module, channels: int) -> None:
    # Every architecture of torchvision's begins with a plain convolution over three channels.
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != 3:
        raise ValueError(f"its first convolution reads {first.in_channels} channels, not 3")
    weight = first.weight.detach().sum(1, keepdim=True) / channels
    first.weight = nn.Parameter(weight.repeat(1, channels, 1, 1))
    first.in_channels = channels


def _torchvision_state(arch: str) -> dict[str, torch.Tensor]:
    """The ImageNet weights of an architecture, from the file that torch.hub would download."""
    from torchvision import models

    weights = models.get_model_weights(arch).DEFAULT
    file = _hub_file(weights.url)
    if not file.is_file():
        raise BadInput(
            f"model.pretrained=true: the weights of {arch} are not at {file}; put {weights.url} there, "
            "or choose model.pretrained=false"
        )
    with _as_bad_input(f"model.pretrained=true: {file} cannot be loaded"):
        state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    for key in list(state):
        # The files of the DenseNets are older than the ban on dots in module names.
        state[re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key)] = state.pop(key)
    return state


def _load_backbone(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load everything but a head of other classes, which stays fresh, and auxiliary heads."""
    fresh = model.state_dict()
    num_classes = 1000  # of ImageNet, in every file that torchvision offers
    # In place: the state carries the version of its modules as an attribute, and some of them ask for it.
    for key, value in list(state.items()):
        if key not in fresh:
            del state[key]
        elif value.shape != fresh[key].shape and value.shape[0] == num_classes:
            state[key] = fresh[key]
    model.load_state_dict(state)


def _timm_file(arch: str, settings: Any) -> Path:
    """The file of pretrained weights that timm would use: one that its settings name, or a cached download."""
    if settings.file:
        places = [Path(settings.file)]
    elif settings.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.constants import HF_HUB_CACHE

        repository, _, revision = settings.hf_hub_id.partition("@")
        names = [settings.hf_hub_filename] if settings.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        found = [try_to_load_from_cache(repository, name, revision=revision or None) for name in names]
        folder = Path(HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")
        places = [Path(file) for file in found if isinstance(file, str)] or [folder / names[0]]
    elif settings.url:
        places = [_hub_file(settings.url)]
    else:
        raise BadInput(f"model.pretrained=true: timm has no weights of {arch}; choose model.pretrained=false")
    if not places[0].is_file():
        raise BadInput(
            f"model.pretrained=true: the weights of {arch} are not at {places[0]}; download them first, with "
            f"timm.create_model('{arch}', pretrained=True), or choose model.pretrained=false"
        )
    return places[0]


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])

"""Every model on the menu, the papers' parameter counts, the zoos' refusals, weights from files."""

from __future__ import annotations

import os
import pickle
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision import models

from blitz.errors import BadInput
from blitz.parts.models import MODELS, bytes_of_weights, load_weights, recorded_weights_follow, starting_weights
from blitz.parts.models.side_by_side import SideBySideConv2d

RGB, GREY = (3, 32, 32), (1, 32, 32)
NUM_CLASSES = 10


def build(name: str, shape: tuple[int, int, int] = RGB, num_classes: int = NUM_CLASSES, **options: Any) -> Any:
    return MODELS.build(MODELS.check({"name": name, **options}), num_classes, shape)


@cache  # for tests that leave the model as it is
def built(name: str) -> Any:
    torch.manual_seed(0)
    return build(name)


def refusal(name: str, shape: tuple[int, int, int] = RGB, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        build(name, shape, **options)
    return str(caught.value)


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(params=MODELS.names())
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "timm":
        pytest.importorskip("timm")
    return request.param


# Every model on the menu


def test_gives_finite_logits_and_gradients_for_colour(name):
    model = build(name)
    with torch.no_grad():
        for parameter in model.parameters():  # a gate that starts at zero would hide what is behind it
            parameter.add_(0.01 * torch.randn_like(parameter))
    loss = F.cross_entropy(model(torch.randn(4, *RGB)), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@torch.inference_mode()
def test_takes_grey_images_one_at_a_time_and_in_batches(name):
    model = build(name, GREY, num_classes=7).eval()
    images = torch.randn(3, *GREY)
    logits = model(images)
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()
    assert_close(model(images[:1]), logits[:1], atol=1e-4, rtol=1e-3)


def test_same_seed_gives_the_same_weights_from_the_default_generator_alone(name):
    torch.manual_seed(0)
    again = build(name).state_dict()
    for key, value in built(name).state_dict().items():
        assert torch.equal(value, again[key]), key


def test_a_state_dict_round_trip_gives_the_same_logits(name, tmp_path):
    images = torch.randn(2, *RGB)
    torch.manual_seed(1)
    source, target = built(name).eval(), build(name).eval()
    assert not torch.equal(source(images), target(images))  # another seed
    torch.save({"model": source.state_dict(), "epoch": 3}, tmp_path / "last.pt")
    load_weights(target, tmp_path / "last.pt")
    with torch.inference_mode():
        assert torch.equal(source(images), target(images))


def test_every_option_is_documented_and_has_a_default(name):
    options = MODELS.options(name)
    assert [option.name for option in options if not option.meaning] == []
    assert options[-1].name == "weights"
    MODELS.check({"name": name})


# Architectures


def test_airbench_whitens_the_patches_of_training_images():
    model = build("airbench", patch=3)
    noise = torch.randn(200, 3, 32, 32)
    images = noise + 0.5 * noise.roll(1, 3) + 0.3 * noise.roll(1, 1)  # neighbours and channels correlate
    model.initialise_from(images)
    answers = F.conv2d(images, model.filters).transpose(0, 1).flatten(1).double()
    half = len(answers) // 2
    assert_close(answers[half:], -answers[:half])
    assert_close(torch.cov(answers[:half]), torch.eye(half, dtype=torch.float64), atol=0.05, rtol=0)
    lengths = model.filters[:half].flatten(1).norm(dim=1).tolist()
    assert lengths == sorted(lengths)  # the largest components come first


def test_airbench_keeps_the_largest_components():
    images = torch.randn(50, 3, 16, 16)
    all_of_them, some = build("airbench"), build("airbench", components=5)
    for model in (all_of_them, some):
        model.initialise_from(images)
    assert torch.equal(some.filters, torch.cat([all_of_them.filters[:5], all_of_them.filters[12:17]]))
    assert "model.components=13: accepted: 1 to 12" in refusal("airbench", components=13)


def test_airbench_trains_no_whitening_and_no_scale_of_a_norm():
    trained = {name for name, _ in built("airbench").named_parameters()}
    assert "filters" not in trained
    assert not any(name.endswith("norm1.weight") for name in trained)
    assert built("airbench").state_dict()["filters"].shape == (24, 3, 2, 2)


def test_airbench_hands_channels_on_at_the_start():
    conv = built("airbench").blocks[0].conv1
    images = torch.randn(1, 24, 5, 5)
    assert torch.equal(conv(images)[:, :24], images)


@pytest.mark.parametrize(("options", "smallest"), [({}, 9), ({"stride": 2}, 16), ({"patch": 4, "stride": 4}, 32)])
def test_airbench_names_the_smallest_image_it_takes(options, smallest):
    shape = (3, smallest, smallest)
    assert build("airbench", shape, **options).eval()(torch.randn(1, *shape)).shape == (1, 10)
    assert f"at least {smallest}x{smallest} pixels" in refusal("airbench", (3, smallest - 1, smallest - 1), **options)


@pytest.mark.parametrize(
    ("model", "options", "millions"),
    [
        ("resnet20", {}, "0.27"),
        ("resnet32", {}, "0.46"),
        ("resnet44", {}, "0.66"),
        ("resnet56", {}, "0.85"),
        ("resnet110", {}, "1.7"),
        ("cifar_resnet", {"depth": 56}, "0.85"),
        ("resnet18", {}, "11.17"),
        ("airbench", {}, "1.97"),
        ("wide_resnet", {}, "2.7"),
        ("wide_resnet", {"depth": 40}, "8.9"),
        ("wide_resnet", {"widen_factor": 8}, "11.0"),
        ("wide_resnet", {"depth": 28, "widen_factor": 10}, "36.5"),
        ("vit", {}, "2.7"),
        ("mlp", {}, "1.7"),
    ],
)
def test_parameter_counts_are_the_papers(model, options, millions):
    with torch.device("meta"):
        count = num_parameters(build(model, **options))
    decimals = len(millions.split(".")[1])
    assert f"{count / 1e6:.{decimals}f}" == millions


class TutorialNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x


def test_net_is_the_tutorials_bit_for_bit():
    torch.manual_seed(0)
    ours = build("net")
    torch.manual_seed(0)
    theirs = TutorialNet()
    assert num_parameters(ours) == 62_006
    images = torch.randn(4, *RGB)
    for model in (ours, theirs):
        model(images).square().sum().backward()
    assert torch.equal(ours(images), theirs(images))
    parameters = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        assert_close(parameter, parameters[key], rtol=0, atol=0)
        assert_close(parameter.grad, parameters[key].grad, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16), (3, 33, 47)])
def test_net_takes_other_shapes(shape):
    assert build("net", shape)(torch.randn(2, *shape)).shape == (2, NUM_CLASSES)


def test_net_refuses_images_that_nothing_is_left_of():
    assert refusal("net", (3, 32, 15)) == "data.image_size: net needs images of at least 16x16 pixels, not 32x15"


def test_mlp_without_hidden_layers_is_softmax_regression():
    assert num_parameters(build("mlp", hidden=[])) == 3 * 32 * 32 * 10 + 10


@pytest.mark.parametrize("model", ["mlp", "wide_resnet", "vit"])
def test_dropout_acts_in_training_alone(model):
    torch.manual_seed(0)
    images, dropping = torch.randn(2, *RGB), build(model, dropout=0.5)
    with torch.no_grad():
        dropping.train()
        assert not torch.equal(dropping(images), dropping(images))
        dropping.eval()
        assert torch.equal(dropping(images), dropping(images))


def test_resnets_named_by_their_depth_are_the_cifar_resnet_of_that_depth():
    named = [name for name in MODELS.names() if name.startswith("resnet") and name != "resnet18"]
    assert named == ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]
    for name in named:
        depth = int(name.removeprefix("resnet"))
        assert [option.name for option in MODELS.options(name)] == ["shortcut", "weights"]
        with torch.device("meta"):
            short, long = build(name, shortcut="B"), build("cifar_resnet", depth=depth, shortcut="B")
        assert short.state_dict().keys() == long.state_dict().keys()
        assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in short.modules()) == depth + 2  # 2 shortcuts


def test_shortcuts_a_and_b_differ_in_the_shortcuts_parameters_only():
    a, b = (build("resnet20", shortcut=shortcut).state_dict() for shortcut in "AB")
    assert set(a) < set(b)
    assert all("shortcut" in key for key in set(b) - set(a))
    assert [a[key].shape for key in a] == [b[key].shape for key in a]
    convolutions = 2 * (16 * 32 + 32 * 64 - 16 * 32) // 2 + 16 * 32
    assert sum(b[key].numel() for key in set(b) - set(a) if b[key].ndim == 4) == convolutions


def test_shortcut_a_is_every_other_pixel_and_zeros():
    block = next(block for block in build("resnet20").blocks if not isinstance(block.shortcut, nn.Identity))
    x = torch.randn(2, 16, 9, 9)
    y = block.shortcut(x)
    assert y.shape == (2, 32, 5, 5)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert not y[:, 16:].any()


@pytest.mark.parametrize(
    ("depth", "nearest"),
    [(18, "16 and 22 are the nearest"), (27, "22 and 28 are the nearest"), (4, "10 is the nearest")],
)
def test_wide_resnet_names_the_nearest_depths(depth, nearest):
    assert refusal("wide_resnet", depth=depth) == (
        f"model.depth={depth}: a wide ResNet has 6n + 4 layers, from 10 on; {nearest}"
    )


@pytest.mark.parametrize(("depth", "nearest"), [(18, "14 and 20 are the nearest"), (7, "8 is the nearest")])
def test_cifar_resnet_names_the_nearest_depths(depth, nearest):
    assert refusal("cifar_resnet", depth=depth) == (
        f"model.depth={depth}: a CIFAR ResNet has 6n + 2 layers, from 8 on; {nearest}"
    )


def test_vit_reports_both_mistakes_with_remedies():
    assert refusal("vit", patch=5, width=100, heads=3).splitlines() == [
        "model.patch=5: does not divide images of 32x32 pixels; choose one of 1, 2, 4, 8, 16, 32, "
        "or a data.image_size that is a multiple of 5",
        "model.width=100: is not a multiple of model.heads=3; choose model.width=99 or 102, or other model.heads",
    ]


def test_vit_offers_patches_that_divide_both_sides():
    assert "choose one of 1, 2, 4, 8," in refusal("vit", (3, 32, 24), patch=5)


def test_vit_differs_from_the_papers_code_as_its_docstring_says():
    model = build("vit", width=12, depth=2)
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}
    assert model.class_token.count_nonzero() == 12
    assert model.fc.weight.count_nonzero() == model.fc.weight.numel()


def test_vit_layers_do_not_start_alike():
    first, second = build("vit", width=12, depth=2).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


# The zoos


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch.hub folder, and no way to the network."""

    def no_download(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("zoo", ["torchvision", "timm"])
def test_a_mistyped_arch_gets_the_nearest_name(zoo):
    pytest.importorskip(zoo)
    assert refusal(zoo, arch="resnet181") == (
        f"model.arch=resnet181: no classification model of this name in {zoo}; did you mean model.arch=resnet18?"
    )


def test_torchvision_offers_no_detectors():
    assert "no classification model" in refusal("torchvision", arch="fasterrcnn_resnet50_fpn")


@pytest.mark.parametrize("arch", ["alexnet", "vit_h_14"])
def test_torchvision_refuses_images_that_an_arch_cannot_take(arch, monkeypatch):
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, **_: tensor)  # slow for what is refused anyway
    with torch.device("meta"):
        message = refusal("torchvision", arch=arch)
    assert message.startswith(f"model.arch={arch}: does not fit images of 32x32 pixels (data.image_size): ")


def test_torchvision_models_with_auxiliary_heads_give_plain_logits():
    model = build("torchvision", arch="googlenet").train()
    assert model(torch.randn(2, *RGB)).shape == (2, NUM_CLASSES)


def test_torchvision_pretrained_names_where_the_file_is_looked_for(hub):
    assert refusal("torchvision", pretrained=True) == (
        f"model.pretrained=true: the weights of resnet18 are not at {hub}/resnet18-f37072fd.pth; put "
        "https://download.pytorch.org/models/resnet18-f37072fd.pth there, or choose model.pretrained=false"
    )


def test_torchvision_pretrained_names_a_damaged_file(hub):
    file = hub / "resnet18-f37072fd.pth"
    file.write_bytes(b"damaged")
    assert f"model.pretrained=true: {file} cannot be loaded" in refusal("torchvision", pretrained=True)


def test_torchvision_pretrained_keeps_the_backbone_and_sums_colours_for_grey(hub):
    source = build("torchvision", num_classes=1000, arch="squeezenet1_1").eval()
    torch.save(source.state_dict(), hub / "squeezenet1_1-b8a52dc0.pth")
    colour = build("torchvision", arch="squeezenet1_1", pretrained=True).eval()
    grey = build("torchvision", GREY, arch="squeezenet1_1", pretrained=True).eval()
    image = torch.randn(1, *GREY)
    with torch.inference_mode():
        expected = source.features(image.expand(1, *RGB))
        assert torch.equal(colour.features(image.expand(1, *RGB)), expected)
        assert_close(grey.features(image), expected)
        assert colour(image.expand(1, *RGB)).shape == (1, NUM_CLASSES)


def test_torchvision_pretrained_needs_no_file_where_recorded_weights_follow(hub):
    torch.save(models.googlenet(init_weights=False).state_dict(), hub / "googlenet-1378be20.pth")
    source = build("torchvision", arch="googlenet", pretrained=True).eval()
    (hub / "googlenet-1378be20.pth").unlink()
    with recorded_weights_follow():
        empty = build("torchvision", arch="googlenet", pretrained=True).eval()
    empty.load_state_dict(source.state_dict())
    image = torch.randn(1, *RGB)
    with torch.inference_mode():  # also what only a pretrained model computes: it transforms its input
        assert torch.equal(empty(image), source(image))
    assert "are not at" in refusal("torchvision", arch="googlenet", pretrained=True)


def test_torchvision_pretrained_takes_old_files(hub):
    source = models.densenet121().state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
        for key, value in source.items()
        if "num_batches_tracked" not in key
    }
    torch.save(old, hub / "densenet121-a639ec97.pth")
    loaded = build("torchvision", arch="densenet121", pretrained=True).state_dict()
    assert all(torch.equal(loaded[key], source[key]) for key in source if not key.startswith("classifier"))


def test_torchvision_pretrained_keeps_what_depends_on_versions(hub):
    source = models.mnasnet0_5().state_dict()
    torch.save(source, hub / "mnasnet0.5_top1_67.823-3ffadce67e.pth")
    loaded = build("torchvision", GREY, arch="mnasnet0_5", pretrained=True).state_dict()
    assert torch.equal(loaded["layers.3.weight"], source["layers.3.weight"])


@pytest.mark.slow
def test_timm_pretrained_reads_the_cache_alone(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(file_download, "hf_hub_download", None)
    repository = tmp_path / "models--timm--resnet18.a1_in1k"
    assert refusal("timm", pretrained=True).startswith(
        f"model.pretrained=true: the weights of resnet18 are not at {repository}/model.safetensors; download them first"
    )
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    source = timm.create_model("resnet18").state_dict()
    torch.save(source, snapshot / "pytorch_model.bin")
    loaded = build("timm", pretrained=True).state_dict()
    assert loaded["fc.weight"].shape == (NUM_CLASSES, 512)
    assert all(torch.equal(loaded[key], source[key]) for key in source if not key.startswith("fc."))
    with recorded_weights_follow():
        assert build("timm", arch="resnet50", pretrained=True).state_dict().keys() > loaded.keys()
    (snapshot / "pytorch_model.bin").write_bytes(b"damaged")
    assert "pytorch_model.bin cannot be loaded: " in refusal("timm", pretrained=True)


def test_timm_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal("timm") == 'model=timm: needs the extra: pip install "blitz[timm]"'


def test_timm_fixes_the_image_size_where_an_arch_needs_one():
    pytest.importorskip("timm")
    model = build("timm", GREY, arch="deit_tiny_patch16_224").eval()
    assert model(torch.randn(2, *GREY)).shape == (2, NUM_CLASSES)


# Weights from files


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.save(built("net").state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def load_refusal(path: Path, model: str = "net") -> str:
    with pytest.raises(BadInput) as caught:
        load_weights(build(model), path)
    assert len(caught.value.problems) == 1
    return str(caught.value).removeprefix(f"model.weights={path}: ")


def test_starting_weights_are_those_of_the_file_that_is_found_or_none(saved):
    def find(weights: str) -> Path:
        assert weights == "c0ffee"
        return saved

    expected = built("net").state_dict()["fc3.bias"]
    model = build("net", weights="c0ffee")
    starting_weights(model, find, weights="c0ffee")
    assert torch.equal(model.state_dict()["fc3.bias"], expected)
    fresh = build("net")
    starting_weights(fresh, find, weights=None)
    assert not torch.equal(fresh.state_dict()["fc3.bias"], expected)


def test_a_missing_file_is_refused(tmp_path):
    assert load_refusal(tmp_path / "gone.pt") == "no such file"
    assert load_refusal(tmp_path) == "no such file"


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, part):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * part)])
    assert load_refusal(saved) == "is not a file that torch.save wrote, or only a part of one"


class Planted:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("zipped", [True, False])
def test_planted_code_is_refused_and_does_not_run(tmp_path, zipped):
    path, victim = tmp_path / "planted.pt", tmp_path / "victim"
    torch.save({"model": Planted(victim)}, path, _use_new_zipfile_serialization=zipped)
    message = f"holds code ({os.mkdir.__module__}.mkdir), which is never run; save the state_dict alone"
    assert load_refusal(path) == message
    path.write_bytes(pickle.dumps(Planted(victim)))
    load_refusal(path)
    assert not victim.exists()


def test_a_whole_model_instead_of_its_weights_is_refused(tmp_path):
    torch.save(build("net"), tmp_path / "model.pt")
    assert load_refusal(tmp_path / "model.pt") == (
        "holds code (blitz.parts.models.net.Net), which is never run; save the state_dict alone"
    )


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {}}, torch.zeros(2), {1: torch.zeros(2)}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    assert load_refusal(tmp_path / "other.pt") == 'holds no state_dict, neither itself nor under the key "model"'


def test_the_weights_of_another_model_are_refused(saved, tmp_path):
    assert load_refusal(saved, "mlp") == (
        "the weights of another model: 1.weight is missing, 1.bias is missing, 3.weight is missing and 13 more"
    )
    torch.save(build("net", num_classes=7).state_dict(), tmp_path / "seven.pt")
    assert load_refusal(tmp_path / "seven.pt") == (
        "the weights of another model: fc3.weight is 7x84, not 10x84, fc3.bias is 7, not 10"
    )


@pytest.mark.parametrize("name", ["net", "mlp", "cifar_resnet", "resnet18", "wide_resnet", "vit"])
def test_memory_that_weights_take_is_known_before_they_are_drawn(name):
    state = torch.get_rng_state()
    size = bytes_of_weights(lambda: build(name))
    assert torch.equal(torch.get_rng_state(), state)
    assert size == sum(weights.nbytes for weights in build(name).parameters())


def test_memory_of_a_model_that_cannot_be_built_without_any_is_unknown():
    assert bytes_of_weights(lambda: nn.Linear(int(torch.ones(1).item()), 2)) == 0


@pytest.mark.parametrize(("side", "number"), [(7, 12), (7, 13), (3, 5), (8, 3), (10, 4)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_images_that_lie_side_by_side_have_the_convolution_of_each(
    side: int, number: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    plain, beside = nn.Conv2d(24, 16, 3, padding=1), SideBySideConv2d(24, 16)
    beside.load_state_dict(plain.state_dict())
    images, upstream = torch.randn(number, 24, side, side), torch.randn(number, 16, side, side)
    found = []
    for conv in (plain, beside):
        x = images.to(memory_format=layout, copy=True).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        y.backward(upstream.to(y.dtype))
        assert x.grad is not None
        assert conv.weight.grad is not None
        assert conv.bias is not None
        found.append([y, x.grad, conv.weight.grad, conv.bias.grad])
    for expected, value in zip(*found, strict=True):
        assert value.shape == expected.shape
        assert (value - expected).abs().max() <= 0.01 * expected.abs().max()  # bfloat16 has 8 bits


def test_outside_of_training_in_bfloat16_they_are_convolved_as_ever() -> None:
    plain, beside = nn.Conv2d(3, 4, 3, padding=1), SideBySideConv2d(3, 4)
    beside.load_state_dict(plain.state_dict())
    images = torch.randn(6, 3, 7, 7)
    assert torch.equal(beside(images), plain(images))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(beside(images), plain(images))

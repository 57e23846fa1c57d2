"""Devices: the process is set up anew for each run, and what a device cannot do is refused before anything is set."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from blitz.errors import BadInput
from blitz.parts.devices import DEVICES, Device, auto, cpu, cuda, mps, prepare
from blitz.parts.losses import LOSSES
from blitz.parts.registry import meanings
from blitz.training.loop import Learner, train_step

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def state() -> dict[str, Any]:
    """All that `prepare` may set in the process."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn tf32": torch.backends.cudnn.allow_tf32,
        "matmul": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if this machine had two old GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Tesla {device.index}")
    return monkeypatch


@pytest.mark.parametrize("name", DEVICES.names())
def test_every_option_is_documented(name: str) -> None:
    documented = {**meanings(DEVICES.builder(name)), **meanings(prepare)}
    assert set(documented) == {option.name for option in DEVICES.options(name)}


# What is set


def test_a_run_is_not_affected_by_the_one_before_it_in_the_same_process() -> None:
    prepare(CPU, 4)
    alone = state()
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.set_num_threads(3)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    different = state()
    assert all(different[key] != alone[key] for key in alone if key not in ("warn only", "cublas"))
    prepare(CPU, 4)
    assert state() == alone


def test_the_defaults_are_deterministic_and_exact() -> None:
    device = prepare(CPU, 4)
    assert device == Device(CPU, "fp32", False, False, 1, True, "cpu")
    assert state() == {
        "threads": 1,
        "deterministic": True,
        "warn only": False,
        "fill": False,
        "benchmark": False,
        "cudnn tf32": False,
        "matmul": "highest",
        "dtype": torch.float32,
        "cublas": ":4096:8",
    }


@pytest.mark.parametrize("compile", [False, True])
def test_determinism_can_be_given_up_for_speed(compile: bool) -> None:
    prepare(CPU, 4, compile=compile)
    assert state()["deterministic"]
    device = prepare(CPU, 4, compile=compile, deterministic=False)
    found = state()
    assert (device.deterministic, found["deterministic"], found["benchmark"]) == (False, False, True)


def test_tf32_is_set_for_the_run_that_asks_for_it_alone(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    prepare(GPU, 4, precision="tf32")
    assert (state()["matmul"], state()["cudnn tf32"]) == ("high", True)
    prepare(GPU, 4)
    assert (state()["matmul"], state()["cudnn tf32"]) == ("highest", False)


@pytest.mark.parametrize(
    ("threads", "batch_size", "expected"), [("auto", 15, 1), ("auto", 16, 3), (2, 4, 2), (2, 64, 2), (1, 64, 1)]
)
def test_threads_are_one_for_few_images_and_else_every_core_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, threads: Any, batch_size: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    torch.set_num_threads(4)
    assert prepare(CPU, batch_size, threads=threads).threads == expected
    assert torch.get_num_threads() == expected


# What is refused


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        (CPU, "tf32", "device.precision=tf32: cpu has no TF32 units"),
        (GPU, "tf32", "device.precision=tf32: cuda:0 has no TF32 units"),
        (GPU, "bf16", "device.precision=bf16: cuda:0 cannot compute in bfloat16"),
        (CPU, "fp16", "device.precision=fp16: a CPU gains nothing from it; use bf16"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused_and_nothing_is_set(
    gpu: pytest.MonkeyPatch, device: torch.device, precision: Any, message: str
) -> None:
    torch.set_num_threads(2)
    before = state()
    with pytest.raises(BadInput) as refusal:
        prepare(device, 4, precision=precision, threads=3, deterministic=True)
    assert str(refusal.value).startswith(message)
    assert state() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^device=cuda: this machine .* use device=cpu$"):
        cuda()


def test_cuda_takes_the_gpu_of_its_index_and_refuses_one_too_many(gpu: pytest.MonkeyPatch) -> None:
    assert [cuda(index=index) for index in (0, 1)] == [torch.device("cuda:0"), torch.device("cuda:1")]
    with pytest.raises(BadInput, match=r"^device\.index=2: accepted: 0 to 1, "):
        cuda(index=2)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_mps_is_refused_where_there_is_none() -> None:
    with pytest.raises(BadInput, match=r"^device=mps: this machine .* use device=cpu$"):
        mps()


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "chosen"),
    [(True, True, "cuda:0"), (True, False, "cuda:0"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_first_gpu_else_apples_else_the_cpu(
    monkeypatch: pytest.MonkeyPatch, has_cuda: bool, has_mps: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert auto() == torch.device(chosen)
    assert cpu() == CPU


# Its description


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (Device(CPU, "fp32", False, False, 1, True, "cpu"), "cpu (cpu), fp32, 1 thread, deterministic"),
        (
            Device(GPU, "bf16", True, True, 8, False, "H200"),
            "cuda:0 (H200), bf16, 8 threads, channels_last, compiled, not deterministic",
        ),
    ],
)
def test_describe_names_all_that_speed_and_bits_depend_on(device: Device, message: str) -> None:
    assert device.describe() == message


def test_a_gpu_is_called_by_its_name(gpu: pytest.MonkeyPatch) -> None:
    assert prepare(torch.device("cuda", 1), 4).name == "Tesla 1"


# What a forward pass runs in


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_forward_pass_computes_in_the_precision_that_was_asked_for(precision: Any, dtype: torch.dtype) -> None:
    device = prepare(CPU, 4, precision=precision)
    for _ in range(2):  # the context is a new one each time
        with device.autocast():
            assert nn.Linear(3, 2)(torch.randn(4, 3)).dtype == dtype
    assert nn.Linear(3, 2)(torch.randn(4, 3)).dtype == torch.float32


def test_training_in_bf16_learns_with_weights_and_loss_in_float32() -> None:
    torch.manual_seed(0)
    device = prepare(CPU, 4, precision="bf16")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    computed: list[torch.dtype] = []
    model.register_forward_hook(lambda module, inputs, logits: computed.append(logits.dtype))
    learner = Learner(
        model,
        LOSSES.build({"name": "cross_entropy"}, 3),
        torch.optim.SGD(model.parameters(), lr=0.1),
        lambda step: 1.0,
        GradScaler("cpu", enabled=False),
        device.autocast,
    )
    images, labels = torch.randn(12, 1, 6, 6), torch.arange(12) % 3
    losses = [train_step(learner, images, labels)[0] for _ in range(20)]
    assert set(computed) == {torch.bfloat16}
    assert {loss.dtype for loss in losses} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert float(losses[-1]) < float(losses[0]) / 2

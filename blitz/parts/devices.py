"""Where a run computes, and every process-wide state that its result depends on."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from blitz.errors import BadInput
from blitz.parts.registry import Index, Registry

Threads = Annotated[int, Ge(1), Le(1024)]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]

# Net at batch 4 trains a fifth faster on one thread than on two; from a few dozen images on, every core pays.
FEW_IMAGES = 16


@dataclass(frozen=True)
class Device:
    """A torch device and how it computes, as it was set for this process."""

    torch: torch.device
    precision: Precision
    channels_last: bool
    compile: bool
    threads: int
    deterministic: bool
    name: str  # of the hardware

    def autocast(self) -> AbstractContextManager[object]:
        """The context that a forward pass runs in."""
        if self.precision in ("fp32", "tf32"):
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.torch.type, dtype=dtype)

    def memory(self) -> int | None:
        """Bytes of a CUDA GPU that this process has taken, which PyTorch knows without asking it; None elsewhere."""
        return torch.cuda.memory_reserved(self.torch) if self.torch.type == "cuda" else None

    def describe(self) -> str:
        extras = [self.precision, f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        extras += ["channels_last"] * self.channels_last + ["compiled"] * self.compile
        extras += ["deterministic"] if self.deterministic else ["not deterministic"]
        return f"{self.torch} ({self.name}), {', '.join(extras)}"


def available() -> list[str]:
    """The kinds of devices that are here, the fastest first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, is_here in found.items() if is_here]


def auto() -> torch.device:
    """The first GPU where there is one, else Apple's, else the CPU."""
    kind = available()[0]
    return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)


def cpu() -> torch.device:
    """The processor."""
    return torch.device("cpu")


def cuda(*, index: Index | None = None) -> torch.device:
    """An NVIDIA GPU.

    Args:
        index: which of the machine's GPUs, counted from 0; null: the first, in a parallel sweep each job another
    """
    index = index or 0
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        raise BadInput("device=cuda: this machine (or this build of PyTorch) has no CUDA device; use device=cpu")
    if index >= found:
        raise BadInput(f"device.index={index}: accepted: 0 to {found - 1}, the CUDA devices of this machine")
    return torch.device("cuda", index)


def mps() -> torch.device:
    """The GPU of an Apple machine."""
    if not torch.backends.mps.is_available():
        raise BadInput("device=mps: this machine (or this build of PyTorch) has none; use device=cpu")
    return torch.device("mps")


def prepare(
    device: torch.device,
    batch_size: int,
    cores: int | None = None,
    *,
    precision: Precision = "fp32",
    channels_last: bool = False,
    compile: bool = False,
    threads: Literal["auto"] | Threads = "auto",
    deterministic: bool = True,
) -> Device:
    """Set up this process for a device, every setting again: a sweep runs many jobs in one process.

    `cores`: how many it has for itself, where that is not every one.

    Raises BadInput, before anything is set, for what the device cannot do.

    Args:
        precision: fp32, tf32 (CUDA: matrix units, 10-bit mantissas), bf16 or fp16 (autocast; fp16 scales losses)
        channels_last: keep images as (N, H, W, C) in memory, often much faster for convolutions; changes bits
        compile: compile the model with torch.compile; the first step then takes a minute or so
        threads: processor threads that PyTorch computes with; auto takes 1 for batches under 16 images, else every core
        deterministic: refuse kernels that give other bits from run to run
    """
    _refuse(device, precision)
    number = threads if threads != "auto" else cores or usable_cores() if batch_size >= FEW_IMAGES else 1
    torch.set_num_threads(number)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA's matrix library starts
    if compile:
        torch.use_deterministic_algorithms(deterministic)
    else:  # the same, without importing the compiler, which takes two seconds
        torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Filling fresh memory would catch reads of what nothing wrote; it costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_default_dtype(torch.float32)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Device(device, precision, channels_last, compile, number, deterministic, name)


def _refuse(device: torch.device, precision: Precision) -> None:
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise BadInput(f"device.precision=tf32: {device} has no TF32 units (NVIDIA Ampere or newer); use fp32 or bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise BadInput(f"device.precision=bf16: {device} cannot compute in bfloat16; use fp16 or fp32")
    if precision == "fp16" and device.type == "cpu":
        raise BadInput("device.precision=fp16: a CPU gains nothing from it; use bf16 or fp32")


def usable_cores() -> int:
    """Those of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


DEVICES = Registry("device", "blitz.devices", prepare, auto=auto, cpu=cpu, cuda=cuda, mps=mps)

"""What a rerun must match: the code, the packages, the hardware and the command line, as plain JSON values.

Nothing here raises: a value that cannot be found out is `None`, and `unknown` says why under the value's dotted path.
Credentials are taken out of the command line and the environment.
"""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from blitz.redaction import redact, redact_command
from blitz.run_folder import git
from blitz.version import __version__

T = TypeVar("T")
DIGEST_LENGTH = 12  # digits of a hash that distinguish code and packages
PACKAGE = Path(__file__).resolve().parents[1]
# What changes numbers or speed from outside the config.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "DNNL_MAX_CPU_ISA", "KMP_AFFINITY",
    "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS",
    "OMP_PROC_BIND", "ONEDNN_MAX_CPU_ISA", "PYTHONHASHSEED", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NVFUSER_DISABLE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip


def collect(argv: Sequence[str]) -> dict[str, Any]:
    """Everything but the data, at the moment of the call: torch's flags and threads are read as they stand now."""
    unknown: dict[str, str] = {}
    names, unreadable = _packages()
    if unreadable:
        unknown["packages"] = f"no readable name and version in {', '.join(unreadable)}"
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "command": redact_command(argv),
        "host": platform.node(),
        "user": _ask(unknown, "user", getpass.getuser),
        "process": {"pid": os.getpid()},
        "code": _code(unknown),
        "python": platform.python_version(),
        "packages": dict(names),
        "os": platform.platform(),
        "cpu": _cpu(unknown),
        "gpu": _gpu(unknown),
        "torch": _torch(),
        "environment": {name: redact(os.environ[name]) for name in ENVIRONMENT if name in os.environ},
        "unknown": unknown,
    }


def tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """What a person filters runs by; "unknown" for what could not be found out."""
    code, gpus = provenance["code"], provenance["gpu"]["names"]
    packages = "\n".join(sorted(f"{name}=={version}" for name, version in provenance["packages"].items()))
    values = {
        "git.commit": code["commit"],
        "git.branch": code["branch"],
        "git.dirty": None if code["dirty"] is None else str(code["dirty"]).lower(),
        "git.diff": (code.get("diff_sha256") or "")[:DIGEST_LENGTH] if code["dirty"] else "none",
        "host": provenance["host"],
        "user": provenance["user"],
        "device.cpu": provenance["cpu"]["model"],
        "device.gpu": ", ".join(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)) or "none",
        "python": provenance["python"],
        "torch": provenance["torch"]["version"],
        "packages": hashlib.sha256(packages.encode()).hexdigest()[:DIGEST_LENGTH],
    }
    return {name: value or "unknown" for name, value in values.items()}


def _ask(unknown: dict[str, str], key: str, question: Callable[[], T]) -> T | None:
    """The answer, or `None` with the reason noted: no missing fact is worth a run."""
    try:
        return question()
    except Exception as error:
        own_words = isinstance(error, git.GitError | LookupError) and error.args
        unknown[key] = str(error.args[0]) if own_words else f"{type(error).__name__}: {error}"
        return None


# ---- the machine


@cache
def _packages() -> tuple[dict[str, str], list[str]]:
    """Versions by normalised name, and where neither could be read. The first one on the path is the one imported.

    Reads the two header lines itself: parsing each METADATA as an e-mail takes twenty times as long.
    """
    versions: dict[str, str] = {}
    unreadable: list[str] = []
    for package in importlib.metadata.distributions():
        text = package.read_text("METADATA") or package.read_text("PKG-INFO") or package.read_text("") or ""
        name, version = (re.search(rf"^{key}:\s*(\S+)", text, re.MULTILINE) for key in ("Name", "Version"))
        if name and version:
            versions.setdefault(re.sub(r"[-_.]+", "-", name[1]).lower(), version[1])
        else:
            unreadable.append(str(getattr(package, "_path", package)))
    return dict(sorted(versions.items())), unreadable


def _cpu(unknown: dict[str, str]) -> dict[str, Any]:
    import psutil
    import torch

    # A container or a batch system gives a process fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "model": _ask(unknown, "cpu.model", cpu_model),
        "machine": platform.machine(),
        "capability": _ask(unknown, "cpu.capability", torch.backends.cpu.get_cpu_capability),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def cpu_model() -> str:
    """The processor as the system names it. Raises LookupError where it does not."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    model = found[1].strip() if found else platform.processor()
    if not model:
        raise LookupError("the system does not name the processor")
    return model


def _gpu(unknown: dict[str, str]) -> dict[str, Any]:
    import torch

    def driver() -> str:
        text = Path("/proc/driver/nvidia/version").read_text()
        found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
        if not found:
            raise LookupError(f"no version in {text.splitlines()[0]!r}")
        return found[1]

    def cudnn() -> int:
        version = torch.backends.cudnn.version()
        if version is None:
            raise LookupError("torch finds no cuDNN")
        return version

    gpu: dict[str, Any] = {"names": [], "driver": None, "cuda": torch.version.cuda, "cudnn": None}
    if gpu["cuda"] is None:
        unknown["gpu.cuda"] = "this torch was built without CUDA"
    if torch.cuda.is_available():
        numbers = range(torch.cuda.device_count())
        gpu["names"] = _ask(unknown, "gpu.names", lambda: [*map(torch.cuda.get_device_name, numbers)]) or []
        gpu["driver"] = _ask(unknown, "gpu.driver", driver)
        gpu["cudnn"] = _ask(unknown, "gpu.cudnn", cudnn)
    else:
        unknown["gpu.driver"] = unknown["gpu.cudnn"] = "torch.cuda is not available"
    return gpu


def _torch() -> dict[str, Any]:
    import torch

    # The older torch.get_float32_matmul_precision() raises once anybody has set one of these.
    places = ("cuda.matmul", "cudnn.conv", "mkldnn.matmul", "mkldnn.conv")
    precisions = {name: str(attrgetter(f"{name}.fp32_precision")(torch.backends)) for name in places}
    return {
        "version": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "fp32_precision": {"all": str(attrgetter("fp32_precision")(torch.backends)), **precisions},
    }


# ---- the code


def _code(unknown: dict[str, str]) -> dict[str, Any]:
    root = _ask(unknown, "code.root", lambda: git.repository(PACKAGE))
    status = _ask(unknown, "code.commit", lambda: git.status(root)) if root else None
    code: dict[str, Any] = {key: getattr(status, key, None) for key in ("commit", "branch", "dirty")}
    code["branch"] = code["branch"] and redact(code["branch"])
    code["root"] = root and str(root)
    why = unknown.get("code.root") or unknown.get("code.commit")
    reasons = {"commit": why or "no commit yet", "branch": why or "detached HEAD", "dirty": why}
    unknown.update({f"code.{key}": str(reason) for key, reason in reasons.items() if code[key] is None})
    return code | {"version": __version__}

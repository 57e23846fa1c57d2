"""What the machine is doing while a run trains: `system/…` metrics, under the names that MLflow gives its own.

For the whole machine as the system reports it, in a container too; `system/process_…` is this process alone, without
its children, and one that keeps two cores busy is at 200 %. GPUs have the numbers of NVML, whatever
CUDA_VISIBLE_DEVICES says. Network traffic is counted from the start.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

logger = logging.getLogger("blitz")

FIRST = 1.0  # seconds to the first sample, so that a short run has one as well
LEAST_APART = 0.1  # seconds; in less than that, a percentage of CPU time means nothing
PATIENCE = 5.0  # seconds that a sample under way may delay the end of a run
NVIDIA = Path("/proc/driver/nvidia")  # there where a driver is loaded

Reading = Callable[[], Iterator[tuple[str, float]]]


class SystemMetrics:
    """Takes samples; CPU percentages are about the time since the one before, or since this was made.

    Make it in the thread that samples: psutil keeps the last CPU times for each thread.
    """

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._readings: dict[str, Reading] = {
            "cpu_utilization": _cpu,
            "system_memory": _memory,
            "disk": _disk,
            "network": _network(),
            "process": _process(),
            **_gpus(),
        }
        self.sample()

    def sample(self) -> dict[str, float]:
        """A value for each metric that can be read now; what cannot is left out, and logged once."""
        values: dict[str, float] = {}
        for what, read in self._readings.items():
            try:
                for name, value in read():
                    values[f"system/{name}"] = float(value)
            except Exception as error:
                if what not in self._logged:
                    self._logged.add(what)
                    logger.info("system metrics: %s cannot be read (%s: %s)", what, type(error).__name__, error)
        return values


def _cpu() -> Iterator[tuple[str, float]]:
    yield "cpu_utilization_percentage", psutil.cpu_percent()


def _memory() -> Iterator[tuple[str, float]]:
    memory = psutil.virtual_memory()
    yield "system_memory_usage_megabytes", memory.used / 1e6
    yield "system_memory_usage_percentage", memory.used / memory.total * 100


def _disk() -> Iterator[tuple[str, float]]:
    disk = psutil.disk_usage(os.sep)
    yield "disk_usage_percentage", disk.percent
    yield "disk_usage_megabytes", disk.used / 1e6
    yield "disk_available_megabytes", disk.free / 1e6


def _network() -> Reading:
    start: Any = None

    def read() -> Iterator[tuple[str, float]]:
        nonlocal start
        now = psutil.net_io_counters()
        if now is None:
            raise LookupError("no network interface")
        start = start or now
        yield "network_receive_megabytes", (now.bytes_recv - start.bytes_recv) / 1e6
        yield "network_transmit_megabytes", (now.bytes_sent - start.bytes_sent) / 1e6

    return read


def _process() -> Reading:
    process = psutil.Process()

    def read() -> Iterator[tuple[str, float]]:
        with process.oneshot():
            yield "process_memory_megabytes", process.memory_info().rss / 1e6
            yield "process_cpu_percentage", process.cpu_percent()

    return read


# ---- GPUs


def _gpus() -> dict[str, Reading]:
    """Readings of each GPU, through NVML; none where there is no GPU, or nothing to ask it with."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        number = nvml.nvmlDeviceGetCount()
    except Exception as error:
        missing = isinstance(error, ImportError)
        why = "pip install 'blitz[gpu]' brings what reads them" if missing else f"{type(error).__name__}: {error}"
        # Where there is no driver, nobody expects any.
        logger.log(logging.INFO if NVIDIA.exists() else logging.DEBUG, "system metrics: none of a GPU (%s)", why)
        return {}
    readings: dict[str, Reading] = {}
    for gpu in range(number):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
        except Exception as error:
            logger.info("system metrics: gpu_%d cannot be read (%s: %s)", gpu, type(error).__name__, error)
            continue
        for what, read in (("memory", _gpu_memory), ("utilization", _gpu_utilization), ("power", _gpu_power)):
            readings[f"gpu_{gpu}_{what}"] = partial(read, nvml, handle, f"gpu_{gpu}")
    return readings


def _gpu_memory(nvml: Any, handle: Any, gpu: str) -> Iterator[tuple[str, float]]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    yield f"{gpu}_memory_usage_percentage", memory.used / memory.total * 100
    yield f"{gpu}_memory_usage_megabytes", memory.used / 1e6


def _gpu_utilization(nvml: Any, handle: Any, gpu: str) -> Iterator[tuple[str, float]]:
    yield f"{gpu}_utilization_percentage", nvml.nvmlDeviceGetUtilizationRates(handle).gpu


def _gpu_power(nvml: Any, handle: Any, gpu: str) -> Iterator[tuple[str, float]]:
    milliwatts = nvml.nvmlDeviceGetPowerUsage(handle)
    yield f"{gpu}_power_usage_watts", milliwatts / 1000
    yield f"{gpu}_power_usage_percentage", milliwatts / nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 100


# ---- the thread


class Sampler:
    """A thread that passes a sample to `log` every so many seconds, and a last one at the end, counted from `first`.

    `with Sampler(recorder.log, every=10):` around the training. When it fails, it logs that once and ends.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int], None], every: float = 10.0, first: int = 0) -> None:
        self._log = log
        self._first = first
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)

    def __enter__(self) -> Sampler:
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user
            _log_the_end(error)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the last sample and end; a second call does nothing."""
        if self._stop.is_set() or self._thread.ident is None:
            return
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            logger.warning("system metrics: a sample takes longer than %g s; the run ends without it", PATIENCE)

    def _run(self) -> None:
        try:
            metrics = SystemMetrics()
            step, wait, taken = self._first, min(FIRST, self._every), time.monotonic()
            while not self._stop.wait(wait):
                self._log(metrics.sample(), step)
                step, wait, taken = step + 1, self._every, time.monotonic()
            if step == self._first or time.monotonic() - taken >= LEAST_APART:
                self._log(metrics.sample(), step)
        except Exception as error:
            _log_the_end(error)


def _log_the_end(error: Exception) -> None:
    logger.warning("no more system metrics (%s: %s)", type(error).__name__, error)

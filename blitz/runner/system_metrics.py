"""What the machine is doing while a run trains: `system/…` metrics, under the names that MLflow gives its own.

For the whole machine as the system reports it, in a container too; `system/process_…` is this process alone, without
its children, and one that keeps two cores busy is at 200 %. GPUs have the numbers of NVML, whatever
CUDA_VISIBLE_DEVICES says. Network traffic is counted from the start.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from blitz.errors import RunFailed

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
        self._process = psutil.Process()
        self._traffic: Any = None  # counters at the start
        self._logged: set[str] = set()
        self._readings: dict[str, Reading] = {
            "cpu_utilization": _cpu,
            "system_memory": _memory,
            "disk": _disk,
            "network": self._network,
            "process": self._own,
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

    def _network(self) -> Iterator[tuple[str, float]]:
        now = psutil.net_io_counters()
        if now is None:
            raise LookupError("no network interface")
        self._traffic = self._traffic or now
        yield "network_receive_megabytes", (now.bytes_recv - self._traffic.bytes_recv) / 1e6
        yield "network_transmit_megabytes", (now.bytes_sent - self._traffic.bytes_sent) / 1e6

    def _own(self) -> Iterator[tuple[str, float]]:
        yield "process_memory_megabytes", self._process.memory_info().rss / 1e6
        yield "process_cpu_percentage", self._process.cpu_percent()


class OtherPrograms:
    """How busy they keep the cores that this process may use, since this was made."""

    def __init__(self) -> None:
        self._began, (_, self._before) = time.monotonic(), _used_by_others()

    def report(self, threads: int) -> None:
        """Log a line where they take cores from so many threads."""
        cores, seconds = _used_by_others()
        busy = (seconds - self._before) / (time.monotonic() - self._began)
        if busy + threads > cores + 0.5:
            logger.info("busy     other programs keep %.1f of %d cores busy: training is slower", busy, cores)


def _used_by_others() -> tuple[int, float]:
    """How many cores this process may use, and the CPU time that others have used on them until now.

    NaN where that cannot be read, which `SystemMetrics` logs of the same figures.
    """
    try:
        times = psutil.cpu_times(percpu=True)
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(times))
        cores = [times[core] for core in allowed if core < len(times)]  # a container may show fewer
        unused = ("idle", "iowait", "guest", "guest_nice")  # the time of a guest is in that of users as well
        seconds = sum(sum(core) - sum(getattr(core, name, 0.0) for name in unused) for core in cores)
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.Error):  # it may have ended
                seconds -= sum(process.cpu_times()[:4])  # with that of its children that have ended
    except (OSError, psutil.Error):
        return 0, math.nan
    return len(cores), seconds


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
    kinds = {"memory": _gpu_memory, "utilization": _gpu_utilization, "power": _gpu_power}
    return {f"gpu_{gpu}_{kind}": partial(read, nvml, gpu) for gpu in range(number) for kind, read in kinds.items()}


def _gpu_memory(nvml: Any, gpu: int) -> Iterator[tuple[str, float]]:
    memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(gpu))
    yield f"gpu_{gpu}_memory_usage_percentage", memory.used / memory.total * 100
    yield f"gpu_{gpu}_memory_usage_megabytes", memory.used / 1e6


def _gpu_utilization(nvml: Any, gpu: int) -> Iterator[tuple[str, float]]:
    rates = nvml.nvmlDeviceGetUtilizationRates(nvml.nvmlDeviceGetHandleByIndex(gpu))
    yield f"gpu_{gpu}_utilization_percentage", rates.gpu


def _gpu_power(nvml: Any, gpu: int) -> Iterator[tuple[str, float]]:
    handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
    milliwatts = nvml.nvmlDeviceGetPowerUsage(handle)
    yield f"gpu_{gpu}_power_usage_watts", milliwatts / 1000
    yield f"gpu_{gpu}_power_usage_percentage", milliwatts / nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 100


@contextmanager
def sampling(
    log: Callable[[Mapping[str, float], int], None], every: float = 10.0, first: int = 0, threads: int = 0
) -> Iterator[None]:
    """Pass a sample to `log` every so many seconds, and a last one at the end, counted from `first`.

    From a thread. What fails in it is logged once and ends the sampling; what fails with an OSError, such as a full
    disk, only when the block ends, and not if that ends the run as well. Where other programs take cores from so many
    `threads` of training, a line says so after the first sample.
    """
    stop = threading.Event()
    trouble: list[OSError] = []

    def sample() -> None:
        try:
            metrics, others = SystemMetrics(), OtherPrograms() if threads else None
            step, wait, taken = first, min(FIRST, every), time.monotonic()
            while not stop.wait(wait):
                log(metrics.sample(), step)
                if step == first and others is not None:
                    others.report(threads)
                step, wait, taken = step + 1, every, time.monotonic()
            if step == first or time.monotonic() - taken >= LEAST_APART:
                log(metrics.sample(), step)
        except OSError as error:
            trouble.append(error)
        except Exception as error:
            _log_the_end(error)

    thread = threading.Thread(target=sample, name="system-metrics", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads for this user
        _log_the_end(error)
    try:
        yield
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join(PATIENCE)
        if thread.is_alive():
            logger.warning("system metrics: a sample takes longer than %g s; the run ends without it", PATIENCE)
        if trouble and not isinstance(sys.exception(), OSError | RunFailed):
            _log_the_end(trouble[0])


def _log_the_end(error: Exception) -> None:
    logger.warning("no more system metrics (%s: %s)", type(error).__name__, error)

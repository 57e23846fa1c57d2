"""System metrics: what is read, under MLflow's names, and the thread that reads it. NVML is a stand-in: no GPU here."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from blitz.runner import system_metrics
from blitz.runner.system_metrics import SystemMetrics, sampling

SOON = 600.0  # seconds in which a thread on a busy machine must have done its work
OWN = {"system/process_memory_megabytes", "system/process_cpu_percentage"}


class NVMLError(Exception):
    pass


class Nvml(ModuleType):
    """`pynvml` with GPUs that are alike; `failing` holds (function, GPU) for a failing call, GPU None for all."""

    NVMLError = NVMLError

    def __init__(self, number: int = 1) -> None:
        super().__init__("pynvml")
        self.number = number
        self.failing: set[tuple[str, int | None]] = set()
        answers: dict[str, Any] = {
            "nvmlDeviceGetHandleByIndex": None,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=20_000_000_000, total=80_000_000_000),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=40),
            "nvmlDeviceGetPowerUsage": 350_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        }
        for name, answer in answers.items():
            setattr(self, name, lambda gpu, name=name, answer=answer: self.answer(name, gpu, answer))

    def answer(self, name: str, gpu: int | None, answer: Any) -> Any:
        if {(name, gpu), (name, None)} & self.failing:
            raise NVMLError("Not Supported")
        return gpu if answer is None else answer

    def nvmlInit(self) -> None:
        self.answer("nvmlInit", None, 0)

    def nvmlDeviceGetCount(self) -> int:
        return self.number


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    monkeypatch.setattr(system_metrics, "NVIDIA", tmp_path / "no driver")


@pytest.fixture(autouse=True)
def _no_sample_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a block that is over at once, however slow the machine; other tests set what they wait for."""
    monkeypatch.setattr(system_metrics, "FIRST", SOON)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    stand_in = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="blitz")
    return caplog


# ---- one sample


def test_names_and_values_are_those_of_mlflow(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.system_metrics.metrics import gpu_monitor
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monkeypatch.setattr(gpu_monitor, "pynvml", nvml, raising=False)
    nvml.number = 2
    ours = SystemMetrics()
    theirs: dict[str, float] = {}
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor(), gpu_monitor.GPUMonitor()):
        monitor.collect_metrics()
        theirs |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
    sample = ours.sample()
    assert set(sample) == set(theirs) | OWN
    assert {type(value) for value in sample.values()} == {float}
    for name, value in theirs.items():
        if "cpu" not in name and "network" not in name:
            assert sample[name] == pytest.approx(value, rel=0.3), name
    assert sample["system/gpu_1_memory_usage_percentage"] == 25.0
    assert sample["system/gpu_1_power_usage_watts"] == 350.0
    assert sample["system/gpu_1_power_usage_percentage"] == 50.0


def test_this_process() -> None:
    metrics = SystemMetrics()
    busy_until = time.process_time() + 0.3
    while time.process_time() < busy_until:
        pass
    block = bytearray(os.urandom(1 << 20) * 64)
    first = metrics.sample()
    assert 0 < first["system/process_cpu_percentage"] <= 100 * (os.cpu_count() or 1)
    assert 0 < first["system/cpu_utilization_percentage"] <= 100
    assert first["system/process_memory_megabytes"] == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.05)
    assert first["system/process_memory_megabytes"] > len(block) / 1e6


def test_cpu_percentages_are_right_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil answers 0.0 to a thread's first question."""
    asked: list[int] = []

    def cpu_percent() -> float:
        asked.append(threading.get_ident())
        return 0.0 if asked.count(asked[-1]) == 1 else 50.0

    monkeypatch.setattr(psutil, "cpu_percent", cpu_percent)
    samples = Samples()
    with sampling(samples, every=60):
        pass
    assert samples.values[0]["system/cpu_utilization_percentage"] == 50.0


def test_network_traffic_is_counted_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = [SimpleNamespace(bytes_recv=n * 1_000_000, bytes_sent=n * 500_000) for n in (7000, 7003, 7010)]
    monkeypatch.setattr(psutil, "net_io_counters", lambda: counters.pop(0))
    metrics = SystemMetrics()
    samples = [metrics.sample(), metrics.sample()]
    assert [sample["system/network_receive_megabytes"] for sample in samples] == [3.0, 10.0]
    assert [sample["system/network_transmit_megabytes"] for sample in samples] == [1.5, 5.0]


@pytest.mark.parametrize(
    ("function", "answer", "missing", "line"),
    [
        ("net_io_counters", None, "network", "network cannot be read (LookupError: no network interface)"),
        ("disk_usage", PermissionError("/"), "disk", "disk cannot be read (PermissionError: /)"),
        (
            "cpu_percent",
            OSError("no /proc/stat"),
            "cpu_util",
            "cpu_utilization cannot be read (OSError: no /proc/stat)",
        ),
        ("virtual_memory", RuntimeError("x"), "system_memory", "system_memory cannot be read (RuntimeError: x)"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_logged_once(
    function: str,
    answer: Exception | None,
    missing: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
) -> None:
    everything = set(SystemMetrics().sample())
    assert not logged.messages

    def unreadable(*_: Any) -> None:
        if answer is not None:
            raise answer

    with monkeypatch.context() as patch:
        patch.setattr(psutil, function, unreadable)
        metrics = SystemMetrics()
        for _ in range(3):
            sample = metrics.sample()
            assert set(sample) == {name for name in everything if not name.startswith(f"system/{missing}")}
            assert len(sample) < len(everything)
        assert logged.messages == [f"system metrics: {line}"]
    assert set(metrics.sample()) == everything  # it may come back


# ---- GPUs


def gpu_metrics(metrics: SystemMetrics) -> set[str]:
    return {name.removeprefix("system/") for name in metrics.sample() if "gpu" in name}


ALL = ("memory_usage_percentage", "memory_usage_megabytes", "utilization_percentage", "power_usage_watts",
       "power_usage_percentage")  # fmt: skip


@pytest.mark.parametrize(
    ("call", "missing", "what"),
    [
        ("nvmlDeviceGetHandleByIndex", ALL, "memory utilization power"),
        ("nvmlDeviceGetMemoryInfo", ALL[:2], "memory"),
        ("nvmlDeviceGetUtilizationRates", ALL[2:3], "utilization"),
        ("nvmlDeviceGetPowerUsage", ALL[3:], "power"),
        ("nvmlDeviceGetEnforcedPowerLimit", ALL[4:], "power"),
    ],
)
def test_one_of_two_gpus_fails(
    call: str, missing: tuple[str, ...], what: str, nvml: Nvml, logged: pytest.LogCaptureFixture
) -> None:
    nvml.number = 2
    nvml.failing.add((call, 1))
    metrics = SystemMetrics()
    expected = {f"gpu_{gpu}_{name}" for gpu in (0, 1) for name in ALL} - {f"gpu_1_{name}" for name in missing}
    assert gpu_metrics(metrics) == gpu_metrics(metrics) == expected
    assert logged.messages == [
        f"system metrics: gpu_1_{kind} cannot be read (NVMLError: Not Supported)" for kind in what.split()
    ]


@pytest.mark.parametrize("driver", [True, False])
def test_nvml_without_an_answer(driver: bool, nvml: Nvml, tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    if driver:
        system_metrics.NVIDIA.mkdir()
    nvml.failing.add(("nvmlInit", None))
    assert gpu_metrics(SystemMetrics()) == set()
    assert logged.messages == ["system metrics: none of a GPU (NVMLError: Not Supported)"] * driver


@pytest.mark.parametrize("driver", [True, False])
def test_without_nvml(driver: bool, logged: pytest.LogCaptureFixture) -> None:
    if driver:
        system_metrics.NVIDIA.mkdir()
    assert gpu_metrics(SystemMetrics()) == set()
    assert (
        logged.messages == ["system metrics: none of a GPU (pip install 'blitz[gpu]' brings what reads them)"] * driver
    )


# ---- the thread


class Samples:
    """What samples are passed to; `enough` is set once `number` samples are there."""

    def __init__(self, number: int = 1, error: Exception | None = None) -> None:
        self.values: list[Mapping[str, float]] = []
        self.steps: list[int] = []
        self.enough = threading.Event()
        self._number = number
        self._error = error

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        self.values.append(metrics)
        self.steps.append(step)
        if len(self.steps) >= self._number:
            self.enough.set()
            if self._error:
                raise self._error


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "system-metrics"]


def test_a_sample_every_so_often() -> None:
    samples = Samples(5)
    began = time.monotonic()
    with sampling(samples, every=0.15):
        assert samples.enough.wait(SOON)
        assert time.monotonic() - began >= 5 * 0.15
        assert threads()
    assert samples.steps[:5] == [0, 1, 2, 3, 4]
    assert samples.steps == list(range(len(samples.steps)))
    assert all(set(values) > OWN for values in samples.values)
    assert not threads()


def test_the_first_sample_comes_soon_and_the_last_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "FIRST", 0.05)
    monkeypatch.setattr(system_metrics, "LEAST_APART", 0.0)
    samples = Samples(1)
    with sampling(samples, every=3600):
        assert samples.enough.wait(SOON)
        assert samples.steps == [0]
    assert samples.steps == [0, 1]


def test_a_run_that_is_over_at_once_has_a_sample_and_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "FIRST", SOON)
    samples = Samples()
    began = time.monotonic()
    with sampling(samples, every=3600):
        pass
    assert time.monotonic() - began < system_metrics.FIRST
    assert samples.steps == [0]
    assert len(samples.values[0]) >= 8


def test_no_last_sample_right_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "FIRST", 0.01)
    monkeypatch.setattr(system_metrics, "LEAST_APART", SOON)
    samples = Samples()
    with sampling(samples, every=3600):
        assert samples.enough.wait(SOON)
    assert samples.steps == [0]


def test_an_error_of_the_training_goes_through() -> None:
    samples = Samples()
    with pytest.raises(KeyError), sampling(samples):
        raise KeyError
    assert samples.steps == [0]
    assert not threads()


Times = namedtuple("Times", "user system idle iowait steal guest")  # of one core, as psutil has it on Linux


class Machine:
    """Stands in for psutil: from its second look on, much time has been used for `what` on each core, and by itself."""

    def __init__(self, what: str, own: float, child: float) -> None:
        self.what, self.seconds, self.looks = what, {"own": own, "child": child}, 0

    def cpu_times(self, percpu: bool) -> list[Any]:
        assert percpu
        self.looks += 1
        used = {self.what: 1e9 if self.looks > 1 else 0.0}
        return [Times(**dict.fromkeys(Times._fields, 0.0) | used)] * (os.cpu_count() or 1)

    def process(self, which: str = "own") -> SimpleNamespace:
        seconds = self.seconds[which] * len(os.sched_getaffinity(0)) if self.looks > 1 else 0.0
        return SimpleNamespace(
            cpu_times=lambda: (seconds, 0.0, 0.0, 0.0), children=lambda recursive: [self.process("child")]
        )


@pytest.mark.parametrize(
    ("what", "own", "child", "asked", "reported"),
    [
        ("user", 0.0, 0.0, True, True),
        ("system", 0.0, 0.0, True, True),
        ("steal", 0.0, 0.0, True, True),  # by another virtual machine
        ("idle", 0.0, 0.0, True, False),
        ("iowait", 0.0, 0.0, True, False),
        ("user", 1e9, 0.0, True, False),  # by training
        ("user", 0.5e9, 0.5e9, True, False),  # by training and the process that writes to MLflow
        ("user", 0.0, 0.0, False, False),  # nobody asked: a job beside those of its sweep
    ],
)
def test_cores_that_other_programs_keep_busy_are_reported_once(
    what: str,
    own: float,
    child: float,
    asked: bool,
    reported: bool,
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(SystemMetrics, "sample", lambda _: {"system/x": 1.0})
    machine = Machine(what, own, child)
    monkeypatch.setattr(psutil, "cpu_times", machine.cpu_times)
    monkeypatch.setattr(psutil, "Process", machine.process)
    samples = Samples(3)
    threads = len(os.sched_getaffinity(0)) if asked else 0
    with sampling(samples, every=0.01, threads=threads):
        assert samples.enough.wait(SOON)
    assert len(logged.messages) == reported
    if reported:
        assert re.fullmatch(r"busy     other programs keep [0-9.]+ of \d+ cores busy: .*", logged.messages[0])


def test_machine_that_hides_what_its_cores_do_reports_nothing(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    def refuse(percpu: bool) -> None:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(SystemMetrics, "sample", lambda _: {"system/x": 1.0})
    monkeypatch.setattr(psutil, "cpu_times", refuse)
    samples = Samples(3)
    with sampling(samples, every=0.01, threads=1000):
        assert samples.enough.wait(SOON)
    assert logged.messages == []


def test_a_failure_is_logged_once_and_ends_the_sampling(logged: pytest.LogCaptureFixture) -> None:
    samples = Samples(2, error=OSError("No space left on device"))
    with sampling(samples, every=0.01):
        assert samples.enough.wait(SOON)
        for thread in threads():
            thread.join(SOON)
        assert not threads()
    assert samples.steps == [0, 1]
    assert [(record.levelname, record.message) for record in logged.records] == [
        ("WARNING", "no more system metrics (OSError: No space left on device)")
    ]


def test_a_full_disk_that_ends_the_run_is_not_logged_twice(logged: pytest.LogCaptureFixture) -> None:
    samples = Samples(2, error=OSError("No space left on device"))
    with pytest.raises(OSError, match="of the run"), sampling(samples, every=0.01):  # noqa: PT012
        assert samples.enough.wait(SOON)
        raise OSError("of the run")
    assert logged.messages == []


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    samples = Samples()
    with sampling(samples):
        pass
    assert samples.steps == []
    assert logged.messages == ["no more system metrics (RuntimeError: can't start new thread)"]


def test_a_sample_that_hangs_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(system_metrics, "PATIENCE", 0.05)
    hanging, released = threading.Event(), threading.Event()

    def log(metrics: Mapping[str, float], step: int) -> None:
        hanging.set()
        released.wait(SOON)

    with sampling(log, every=0.01):
        assert hanging.wait(SOON)
    (thread,) = threads()
    assert thread.daemon
    assert logged.messages == ["system metrics: a sample takes longer than 0.05 s; the run ends without it"]
    released.set()
    thread.join(SOON)
    assert not threads()


def test_the_import_is_light() -> None:
    code = "import sys, blitz.runner.system_metrics; print({'torch', 'hydra', 'mlflow', 'pynvml'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"

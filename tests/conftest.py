"""Fixtures: for each test a cache folder of this session's own, no BLITZ_DATA; PyTorch's process-wide state restored.

On request `models`, a menu to add to; `plain_git`; `here`, a folder with a store; and `server`, a tracking server.
"""

from __future__ import annotations

import copy
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from support.cases import Forks
from support.processes import Server

from blitz.parts.models import MODELS
from blitz.parts.registry import Registry
from blitz.tracking import store


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLITZ_CACHE", str(tmp_path_factory.mktemp("blitz-cache")))
        patch.delenv("BLITZ_DATA", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_terminal_and_no_proxy() -> Iterator[None]:
    """A CI system may ask for colours where there is no terminal, or put a proxy before all servers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session", autouse=True)
def _ray_has_a_token() -> Iterator[None]:
    """Ray asks for one as soon as the user has one, and makes one in the home folder for its first local cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """A shell starts background jobs with SIGINT ignored, nohup with SIGHUP; what tests start would inherit that."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def _process_wide_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, since two processes of tests share two cores; all else as it was found."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    deterministic = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    matmul, dtype = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(generator)
    torch.set_deterministic_debug_mode(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = cudnn
    torch.set_float32_matmul_precision(matmul)
    torch.set_default_dtype(dtype)


@pytest.fixture
def models() -> Iterator[Registry]:
    """The menu of models, which is put back afterwards, as is Hydra's store."""
    MODELS.names(), Plugins.instance()  # which add to both
    builders, stored = dict(MODELS._builders), copy.deepcopy(ConfigStore.instance().repo)
    yield MODELS
    MODELS._builders, ConfigStore.instance().repo = builders, stored


@pytest.fixture
def plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give git settings of its own and make it blind to what lies around `tmp_path`."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))  # TMPDIR may lie in a repository
    (tmp_path / "gitconfig").write_text("[user]\nname = A\nemail = a@b.c\n[init]\ndefaultBranch = main\n")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.connect(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A folder with a fresh store, which the tests of a file share."""
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """The current folder, with a fresh store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def server(tmp_path: Path, empty_store: Path) -> Iterator[Server]:
    """A running `mlflow server` with a store of its own."""
    found = Server(tmp_path / "server")
    shutil.copy(empty_store, found.folder / "mlflow.db")
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """A process that forks one for each command of a table."""
    found = Forks(tmp_path_factory.mktemp("forks"))
    yield found
    found.close()

"""What every test gets: a cache folder of this session's own, and PyTorch's process-wide state, put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLITZ_CACHE", str(tmp_path_factory.mktemp("blitz-cache")))
        yield


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

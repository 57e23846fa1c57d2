"""The start of a run's record: what a store that does not answer means for it."""

from __future__ import annotations

import socket

import pytest

import blitz
from blitz.runner.build import JobInfo
from blitz.runner.start import tracking_store
from blitz.tracking.health import Unreachable


def test_outage_fails_a_run_and_no_job_of_a_sweep_that_has_begun(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as reserved:  # where nobody listens
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        settings = blitz.compose(["data=synthetic", f"tracking.uri={uri}"])
        with pytest.raises(Unreachable):
            tracking_store(settings)
        assert caplog.text == ""
        assert tracking_store(settings, job=JobInfo("s", 0)) == uri
    assert "no tracking store answers there" in caplog.text
    assert "the sweep has begun: training all the same; the record is sent when the store is back" in caplog.text

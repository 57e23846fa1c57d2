"""Jobs that have finished are known by their runs' folders, also where nothing else was written down of their end."""

from __future__ import annotations

import json
from pathlib import Path

from blitz.run_folder.journal import JOURNAL, OBJECTIVE, Journal
from blitz.run_folder.run_info import FAILED, FINISHED, RunInfo
from blitz.sweeps.finished import finished
from blitz.sweeps.folder import Outcome, folder_of, write_outcome


def test_jobs_whose_runs_have_finished_are_done_whether_or_not_that_was_noted(tmp_path: Path) -> None:
    sweep = folder_of(str(tmp_path), "s")
    sweep.mkdir(parents=True)
    for number, status in enumerate([FINISHED, FINISHED, FAILED]):
        run = tmp_path / str(number)
        run.mkdir()
        tags = {"sweep": "s", "sweep.job": str(number)}
        RunInfo(f"r{number}", "http://x", "e", "n", 1000, {}, tags, {}, status, 3500).save(run)
        journal = Journal(run / JOURNAL)
        journal.write([(1, {"train/loss": 1.0, OBJECTIVE: 0.5}), (2, {"train/loss": 0.5, OBJECTIVE: 0.75})])
        journal.write([(3, {"train/loss": 0.4})])  # was not evaluated
        journal.close()
        (run / "sent.json").write_text(json.dumps({"record": f"r{number}", "store": "http://x", "run_id": "ab"}))
    noted = Outcome(FINISHED, "", 0.1, 1.0, "elsewhere", "cd")
    write_outcome(sweep, 1, noted)
    write_outcome(sweep, 2, Outcome(FAILED, "why"))
    cut_off = Outcome(FINISHED, "", 0.75, 2.5, str(tmp_path / "0"), "ab")
    assert finished([], None, sweep) == {0: cut_off, 1: noted}
    assert finished([], None, None) == {}

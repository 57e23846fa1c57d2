"""experiments/faults: its tests exist, and it counts what they say."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "faults" / "faults.py"
FAULTS: dict[str, list[str]] = runpy.run_path(str(SCRIPT))["FAULTS"]


@pytest.mark.parametrize("test", [test for tests in FAULTS.values() for test in tests])
def test_each_fault_is_a_test(test: str) -> None:
    path, _, name = test.partition("::")
    assert (ROOT / path).is_file()
    assert not name or f"\ndef {name}(" in (ROOT / path).read_text()


def test_table_of_the_readme_has_each_fault() -> None:
    table = (SCRIPT.parent / "README.md").read_text()
    assert re.findall(r"^\| (.+?) \| [\d,]+ \| [\d,]+ \|$", table, re.MULTILINE) == list(FAULTS)


RESULTS = """<testsuites><testsuite>
<testcase classname="tests.end_to_end.test_bad_input" name="test_a[x]"/>
<testcase classname="tests.end_to_end.test_bad_input" name="test_b"><failure/></testcase>
<testcase classname="tests.tracking.test_sending" name="test_resume_after_a_power_cut_at_every_byte[True]">
  <properties><property name="tries" value="67"/></properties>
</testcase>
<testcase classname="tests.tracking.test_sending" name="test_resume_after_a_power_cut_at_every_byte[False]">
  <properties><property name="tries" value="67"/></properties><error/>
</testcase>
<testcase classname="tests.tracking.test_postgres" name="test_tables_of_another_mlflow_are_bad_input">
  <skipped/>
</testcase>
</testsuite></testsuites>"""


def test_tries_are_counted(tmp_path: Path) -> None:
    results = tmp_path / "results.xml"
    results.write_text(RESULTS)
    done = subprocess.run([sys.executable, SCRIPT, results], capture_output=True, text=True, check=True)
    rows = dict(re.findall(r"^\| (.+?) \| (\d+ \| \d+) \|$", done.stdout, re.MULTILINE))
    assert list(rows) == list(FAULTS)
    assert {fault: counts for fault, counts in rows.items() if counts != "0 | 0"} == {
        next(fault for fault in FAULTS if fault.startswith("a power cut")): "134 | 67",
        next(fault for fault in FAULTS if fault.startswith("bad values")): "2 | 1",
    }

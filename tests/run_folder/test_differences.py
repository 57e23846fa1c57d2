"""What differs between two provenances."""

from __future__ import annotations

import copy

from blitz.reproduction.report import rows
from blitz.run_folder import provenance
from blitz.run_folder.differences import Difference, differences


def test_two_looks_at_the_same_surroundings_do_not_differ() -> None:
    assert differences(provenance.collect(["blitz"]), provenance.collect(["blitz", "reproduce"])) == []


def test_what_can_change_a_result_is_told_and_what_cannot_is_not() -> None:
    then = provenance.collect(["blitz"])
    now = copy.deepcopy(then)
    now |= {"host": "elsewhere", "user": "somebody", "started_at": "later", "python": "3.99.0"}
    now["packages"]["torch"] = "9.9"
    del now["packages"]["numpy"]
    now["packages"]["zebra"] = "1.0"
    now["cpu"] = {**now["cpu"], "capability": "NONE", "memory_bytes": 1}
    now["environment"]["OMP_PROC_BIND"] = "true"
    found = {change.key: (change.then, change.now) for change in differences(then, now)}
    assert found == {
        "python": (then["python"], "3.99.0"),
        "packages.torch": (then["packages"]["torch"], "9.9"),
        "packages.numpy": (then["packages"]["numpy"], "-"),
        "packages.zebra": ("-", "1.0"),
        "cpu.capability": (then["cpu"]["capability"], "NONE"),
        "environment.OMP_PROC_BIND": ("-", "true"),
    }


def test_the_table_tells_packages_that_change_numbers_and_counts_the_others() -> None:
    changes = [Difference(f"packages.p{number}", "1", "2") for number in range(7)]
    changes.insert(3, Difference("packages.torch", "1", "2"))
    changes.append(Difference("code.commit", "a" * 40, "0123456789abcdef" * 3))
    assert rows(changes) == [
        ("packages.torch", "1", "2"),
        ("code.commit", "a" * 12, "0123456789ab"),
        ("other packages", "p0, p1, p2, p3, p4 and 2 more", ""),
    ]

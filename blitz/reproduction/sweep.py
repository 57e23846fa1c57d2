"""`blitz reproduce --sweep`: some jobs of a sweep again, and whether what was decided follows from what is recorded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from blitz.errors import BadInput
from blitz.reproduction.replay import Answer, Records, check, title
from blitz.reproduction.report import lines
from blitz.reproduction.reproduce import reproduce
from blitz.reproduction.sweep_records import find_records
from blitz.reproduction.verdict import EQUAL, IDENTICAL
from blitz.run_folder.run_info import RunInfo
from blitz.runner.find import is_path
from blitz.terminal.text import print_line, printable

NAMED = 5  # of what does not follow


def reproduce_sweep(
    wanted: str, overrides: Sequence[str] = (), *, jobs: int, epochs: int | None = None, uri: str | None = None
) -> int:
    """Check what a sweep has decided, and train so many of its finished jobs again, drawn at random; the exit code.

    Raises BadInput for a sweep that is not there or is damaged, and for more jobs than have finished.
    """
    records = find_records(wanted, uri)
    finished = records.finished
    if jobs > len(finished):
        raise BadInput(f"--jobs={jobs}: accepted: 0 to {len(finished)}, the finished jobs of sweep {records.sweep}")
    answer = check(records)
    drawn = sorted(random.SystemRandom().sample(sorted(finished), jobs))
    for number in drawn:
        run = finished[number].run
        if is_path(run) and RunInfo.load(Path(run)).store is None:
            why = "recorded with tracking=none, and so in no store; --jobs 0 checks the decisions alone"
            raise BadInput(f"--jobs={jobs}: the runs of sweep {records.sweep} are {why}")
    name = records.search.get("name")
    print_line(printable(f"sweep    {records.sweep}, search={name}: {len(finished)} of {len(records.jobs)} finished"))
    found = [*answer.wrong, *answer.contradictions]
    for text in found[:NAMED]:
        print_line(f"differs  {text}")
    if len(found) > NAMED:
        print_line(f"         and {len(found) - NAMED} more")
    titles = {job.number: title(job) for job in records.jobs if job.number in drawn}
    if drawn:
        print_line(f"drawn    {', '.join(titles.values())}")
    codes, words = [0 if answer.is_sound else 1], Counter[str]()
    for number in drawn:
        print_line(f"\n{titles[number]}")
        again = reproduce(finished[number].run, overrides, epochs=epochs, uri=uri)
        for line in lines(again):
            print_line(line)
        codes.append(again.exit_code)
        words[again.verdict.word] += 1
    trained = f"{words[IDENTICAL]} of {jobs} identical"
    trained += f", {words[EQUAL]} {EQUAL}" if words[EQUAL] else ""
    print_line("; ".join([*([trained] if drawn else []), _summary(answer, records)]))
    return max(codes)


def _summary(answer: Answer, records: Records) -> str:
    wrong, others = len(answer.wrong), len(answer.contradictions)
    if wrong:
        text = f"{wrong} of {wrong + answer.follow} decisions do not follow from the records"
    elif answer.follow:
        text = f"{answer.follow} decision{' follows' if answer.follow == 1 else 's follow'} from the records"
    else:
        text = f"no decision of search={printable(str(records.search.get('name')))} is recorded"
    return f"{text}; {others} contradiction{'s' * (others > 1)} between records" if others else text

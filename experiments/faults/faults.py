"""Count what the tests did to runs, stores and disks, and how often blitz held.

    make test ARGS=--junitxml=quick.xml
    make test-slow ARGS=--junitxml=slow.xml
    python experiments/faults/faults.py quick.xml slow.xml

Each fault is a test, or several. A test that tries a fault many times (a kill at every touch of a file, a cut at every
byte) says how often. Where a test fails, none of its tries counts as held; where it was skipped, there were none.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

E2E, TRACKING, SWEEPS, RUNNER = "tests/end_to_end/test_", "tests/tracking/test_", "tests/sweeps/test_", "tests/runner/"

FAULTS = {
    "kill -9 at every touch of a file, then resumed: the bits of a run that never stopped": [
        f"{E2E}kills.py::test_kill_9_at_every_touch_of_a_file",
    ],
    "kill -9 of a real run at random moments, resumed until it ends: the same bits, each point once in the store": [
        f"{E2E}kills.py::test_real_processes_that_are_killed_at_random_moments",
    ],
    "kill -9 of training alone: its writer records the end": [
        f"{E2E}processes.py::test_kill_9_of_training_alone_is_recorded_by_its_writer",
    ],
    "kill -9 of training and its writer: the next command marks the run": [
        f"{E2E}processes.py::test_orphaned_run_is_marked_as_killed_by_the_next_command",
    ],
    "an interrupt at every touch of a file before the record begins: no folder is left": [
        f"{E2E}kills.py::test_an_interrupt_at_every_touch_before_the_record_begins_leaves_no_folder",
    ],
    "Ctrl-C, SIGTERM, a closed terminal: a checkpoint, status KILLED": [
        f"{E2E}processes.py::test_signal_ends_a_run_as_killed",
        f"{E2E}processes.py::test_terminal_that_is_closed_ends_a_run_and_saves_a_checkpoint",
        f"{E2E}processes.py::test_ctrl_c_twice_ends_a_run_at_once",
        "tests/terminal/test_signals.py::test_a_run_is_saved_within_a_step_of_a_sigterm",
        "tests/terminal/test_signals.py::test_a_run_that_hangs_is_ended_by_the_second_ctrl_c",
    ],
    "a power cut at every byte that the disk may have lost: each point once in the store": [
        f"{TRACKING}sending.py::test_resume_after_a_power_cut_at_every_byte",
    ],
    "a disk that lost what it said it had: reported, and nothing more is lost": [
        f"{TRACKING}sending.py::test_resume_of_a_journal_that_lost_what_was_sent_loses_no_more",
        f"{RUNNER}test_resume.py::test_resume_refuses_a_journal_that_lost_its_end",
        f"{RUNNER}test_resume.py::test_a_damaged_line_of_the_journal_does_not_end_a_run",
    ],
    "a full disk at the start, during a run, behind stdout: one line, the checkpoint intact": [
        f"{E2E}processes.py::test_full_disk_ends_a_run_with_one_line_and_keeps_the_checkpoint",
        f"{E2E}processes.py::test_full_disk_at_the_start_is_reported_and_leaves_no_file",
        f"{E2E}processes.py::test_full_disk_behind_stdout_is_reported_in_one_line",
    ],
    "a tracking server that is killed, hangs, answers 500 or is away to the end: nothing lost or doubled": [
        f"{E2E}outages.py::test_a_server_that_is_killed_and_comes_back_gets_everything",
        f"{E2E}outages.py::test_what_a_server_missed_is_sent_by_sync",
        f"{E2E}outages.py::test_a_server_that_hangs_does_not_hold_training_up",
        f"{E2E}outages.py::test_a_server_that_answers_500_for_a_while",
    ],
    "a server that takes 2 s an answer: the end of a run waits aloud": [
        f"{E2E}outages.py::test_a_slow_server_gets_files_side_by_side_and_is_waited_for_aloud",
    ],
    "an outage while a sweep runs: no job fails": [
        f"{E2E}outages.py::test_an_outage_fails_no_job_of_a_sweep_that_has_begun",
    ],
    "eight processes that open an empty PostgreSQL together": [
        f"{TRACKING}postgres.py::test_empty_database_is_filled_once_by_eight_processes_that_open_it_together",
    ],
    "eight processes that open a new SQLite file together, and four runs that do": [
        f"{E2E}processes.py::test_store_is_created_once_by_eight_processes_that_open_it_together",
        f"{E2E}processes.py::test_store_that_is_created_by_runs_that_start_together_has_all_of_them",
    ],
    "a process that is killed while it makes a database: the next one completes it": [
        f"{TRACKING}sync.py::test_a_store_whose_maker_was_killed_half_way_is_made_anew",
        f"{TRACKING}postgres.py::test_database_whose_maker_was_killed_half_way_is_completed",
    ],
    "a store that is cut, overwritten, another program's or of another MLflow: refused, byte for byte as it was": [
        f"{TRACKING}health.py::test_damaged_store_is_refused",
        f"{TRACKING}health.py::test_database_of_another_program_is_refused",
        f"{TRACKING}health.py::test_commands_that_read_make_no_store",
        f"{TRACKING}health.py::test_tables_of_another_mlflow",
        f"{TRACKING}postgres.py::test_tables_of_another_mlflow_are_bad_input",
    ],
    "a run's folder with a damaged or lost file: one message, left as it is": [
        f"{RUNNER}test_resume.py::test_resume_refuses_a_damaged_run_in_one_message_and_leaves_it_as_it_is",
        f"{RUNNER}test_resume.py::test_resume_without_the_best_weights_continues_to_a_better_epoch",
        f"{RUNNER}test_resume.py::test_resume_without_a_checkpoint_starts_again_and_warns",
        "tests/evaluation/test_evaluate.py::test_a_damaged_record_is_refused",
    ],
    "a copy of a run that is trained or was resumed: refused": [
        f"{E2E}processes.py::test_copy_of_a_run_that_is_being_trained_is_not_resumed",
        f"{RUNNER}test_resume.py::test_of_copies_of_a_run_the_one_that_was_resumed_is_its_record",
    ],
    "kill -9 of a worker of a sweep, before and after a job's end: trained again or taken, never twice": [
        f"{SWEEPS}sweeper.py::test_retry_of_a_parallel_job_that_was_killed",
        f"{SWEEPS}sweeper.py::test_retry_takes_the_run_of_a_job_that_was_killed_after_its_end",
        f"{SWEEPS}sweeper.py::test_resume_takes_the_run_of_a_job_that_was_killed_after_its_end",
        f"{SWEEPS}search_faults.py::test_kill_of_a_worker_in_a_search",
    ],
    "kill -9, Ctrl-C or a closed terminal for a whole sweep: its workers end, resume trains the rest": [
        f"{SWEEPS}sweeper.py::test_resume_of_a_sweep_that_was_killed_continues_its_run",
        f"{SWEEPS}sweeper.py::test_workers_of_a_sweep_that_was_killed_begin_no_more_jobs",
        f"{SWEEPS}sweeper.py::test_terminal_that_is_closed_ends_the_sweep",
        f"{SWEEPS}sweeper.py::test_resume_of_a_sweep_that_a_signal_stopped",
        f"{SWEEPS}sweeper.py::test_ctrl_c_twice_ends_a_parallel_sweep_at_once",
    ],
    "kill -9 or Ctrl-C before and after changes of a file in a search's folder: resumed, the same decisions and bits": [
        f"{SWEEPS}search_faults.py::test_a_search_that_was_stopped_at_any_change_of_a_file_makes_the_same_decisions",
        f"{SWEEPS}search_faults.py::test_a_parallel_search_that_was_killed_makes_the_same_decisions",
    ],
    "a config, recipe or record that names code: refused, nothing is run": [
        "tests/config/test_targets.py",
        "tests/evaluation/test_evaluate.py::test_code_in_the_weights_is_never_run",
    ],
    "secrets in git, environment and overrides: in nothing that is printed or written": [
        f"{E2E}secrets.py",
        f"{E2E}processes.py::test_credentials_are_neither_written_nor_printed",
    ],
    "bad values, files, paths and addresses: one message, exit code 2, nothing left": [
        f"{E2E}bad_input.py",
        f"{E2E}bad_folders.py",
        f"{E2E}bad_values.py",
        f"{E2E}bad_runs.py",
    ],
}  # fmt: skip


def main(results: list[str]) -> None:
    tried, held = Counter[str](), Counter[str]()
    for path in results:
        for case in ElementTree.parse(Path(path)).iter("testcase"):
            if case.find("skipped") is not None:
                continue
            test = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
            number = case.find("properties/property[@name='tries']")
            tries = int(number.attrib["value"]) if number is not None else 1
            for fault, tests in FAULTS.items():
                if test in tests or test.partition("::")[0] in tests:
                    tried[fault] += tries
                    if case.find("failure") is None and case.find("error") is None:
                        held[fault] += tries
    print("| fault | tried | held |")
    print("|---|---|---|")
    for fault in FAULTS:
        print(f"| {fault} | {tried[fault]:,} | {held[fault]:,} |")


if __name__ == "__main__":
    main(sys.argv[1:])

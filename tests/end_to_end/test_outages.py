"""A real tracking server that goes away, hangs, or answers 500: training continues, and nothing is lost or doubled."""

from __future__ import annotations

import http.client
import re
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.processes import PATIENCE, QUICK, Server, finished, held, start, wait_for
from support.recorded import artifacts, assert_the_store_has_all_of, client, runs

pytestmark = pytest.mark.slow
ENDLESS = [*QUICK, "epochs=100000", "tracking.step_loss=1", "report_every=5"]


def the_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_a_server_that_is_killed_and_comes_back_gets_everything(tmp_path: Path, server: Server) -> None:
    run = start(tmp_path, *ENDLESS, f"tracking.uri={server.uri}")
    wait_for(run, "epoch 2/")
    server.signal(signal.SIGKILL)
    wait_for(run, "MLflow failed (")
    wait_for(run, "epoch ")  # training continues
    server.start()
    wait_for(run, "MLflow answers again and has everything so far")
    wait_for(run, "epoch ")
    run.send_signal(signal.SIGTERM)
    output, errors = run.communicate(timeout=PATIENCE)
    assert run.returncode == 143, errors
    assert "MLflow failed" not in output  # one warning was enough
    assert "Traceback" not in errors
    recorded = assert_the_store_has_all_of(the_folder(tmp_path), server.uri)
    assert recorded.info.status == "KILLED"
    assert len((the_folder(tmp_path) / "metrics.jsonl").read_text().splitlines()) > 100


def test_what_a_server_missed_is_sent_by_sync(tmp_path: Path, server: Server) -> None:
    run = start(tmp_path, *QUICK, "epochs=60", "tracking.step_loss=1", f"tracking.uri={server.uri}")
    wait_for(run, "epoch 1/")
    server.signal(signal.SIGKILL)
    output, errors = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, errors
    assert output.count("MLflow failed (") == 1
    assert "test     accuracy" in output
    folder = the_folder(tmp_path)
    lacking = re.search(rf"mlflow   {server.uri} lacks [^;]*; 'blitz sync (\S+)' sends it", output)
    assert lacking is not None
    assert lacking[1] == str(folder.relative_to(tmp_path))
    code, output, errors = finished(tmp_path, "sync")
    assert code == 1
    assert f"not sent: {server.uri} does not answer" in output
    server.start()
    for words in ("1 sent", "1 complete already"):
        code, output, errors = finished(tmp_path, "sync")
        assert (code, errors) == (0, "")
        assert output.splitlines()[-1].endswith(words)
    recorded = assert_the_store_has_all_of(folder, server.uri)
    assert recorded.info.status == "FINISHED"
    assert "checkpoints/best.pt" in artifacts(recorded.info.run_id, uri=server.uri)


def test_a_server_that_hangs_does_not_hold_training_up(tmp_path: Path, server: Server) -> None:
    run = start(tmp_path, *QUICK, "epochs=60", f"tracking.uri={server.uri}", MLFLOW_HTTP_REQUEST_TIMEOUT="2")
    wait_for(run, "epoch 1/")
    server.signal(signal.SIGSTOP)
    output, errors = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, errors
    assert "test     accuracy" in output
    assert "lacks" in output
    server.signal(signal.SIGCONT)
    code, output, errors = finished(tmp_path, "sync")
    assert (code, errors) == (0, "")
    assert_the_store_has_all_of(the_folder(tmp_path), server.uri)


def test_a_server_that_answers_500_for_a_while(tmp_path: Path, server: Server) -> None:
    with Faulty(server.port) as front:
        run = start(tmp_path, *ENDLESS, f"tracking.uri=http://127.0.0.1:{front.server_port}")
        wait_for(run, "epoch 2/")
        front.broken = True
        wait_for(run, "MLflow failed (")
        front.broken = False
        wait_for(run, "MLflow answers again")
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=PATIENCE)
        assert run.returncode == 130, errors
        assert front.refused > 0
    assert_the_store_has_all_of(the_folder(tmp_path), server.uri)


def test_a_slow_server_gets_files_side_by_side_and_is_waited_for_aloud(tmp_path: Path, server: Server) -> None:
    with Faulty(server.port) as front:
        other_is_on_its_way, was_said = threading.Barrier(2, timeout=PATIENCE), threading.Event()

        def hold(path: str) -> None:
            if path.endswith(("/run.log", "/checkpoints/best.pt")):
                other_is_on_its_way.wait()
                assert was_said.wait(PATIENCE)

        front.before = hold
        uri = f"tracking.uri=http://127.0.0.1:{front.server_port}"
        run = start(tmp_path, *QUICK, "epochs=1", uri, MLFLOW_HTTP_REQUEST_TIMEOUT="300")
        waiting = wait_for(run, "waiting for MLflow to take ")
        was_said.set()
        output, errors = run.communicate(timeout=PATIENCE)
        assert (run.returncode, errors) == (0, "")
        assert waiting.rstrip().endswith(f"(Ctrl-C: 'blitz sync runs/{the_folder(tmp_path).name}' sends it later)")
        assert "lacks" not in output
        assert "View run" not in output
    assert_the_store_has_all_of(the_folder(tmp_path), server.uri)


def test_an_outage_fails_no_job_of_a_sweep_that_has_begun(tmp_path: Path, server: Server) -> None:
    short = [*QUICK, "data.limit=100", "epochs=30", "seed=0,1,2"]
    sweep = start(tmp_path, "-m", *short, f"tracking.uri={server.uri}")
    with held(sweep, tmp_path, 1):
        server.signal(signal.SIGKILL)
    output, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert output.count("the sweep has begun: training all the same") == 2
    assert output.count("test     accuracy") == 3
    server.start()
    code, output, errors = finished(tmp_path, "sync")
    assert (code, errors) == (0, "")
    assert [run.info.status for run in runs(server.uri)] == ["FINISHED"] * 3


def test_a_deleted_experiment_is_refused_before_training(tmp_path: Path, server: Server) -> None:
    client(server.uri).delete_experiment(client(server.uri).create_experiment("old"))
    code, output, errors = finished(tmp_path, *QUICK, f"tracking.uri={server.uri}", "tracking.experiment=old")
    assert (code, output) == (2, "")
    assert errors.startswith("blitz: tracking.experiment=old: this experiment was deleted, and takes no runs")
    assert not (tmp_path / "runs").exists()


class Faulty(ThreadingHTTPServer):
    """Passes requests on to a port of this host; while `broken`, does what they ask and answers 500 all the same."""

    def __init__(self, port: int) -> None:
        self.broken, self.refused = False, 0
        self.before: Callable[[str], None] = lambda path: None  # is called with each request's
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":  # a file
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                headers = {
                    key: value for key, value in self.headers.items() if key not in ("Host", "Transfer-Encoding")
                }
                front.before(self.path)
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as behind:
                    behind.request(self.command, self.path, body, headers)
                    answer = behind.getresponse()
                    content = answer.read()
                front.refused += front.broken
                self.send_response(500 if front.broken else answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"] or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do

            def log_message(self, *unused: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Faulty:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.shutdown()
        self.server_close()


def test_a_run_without_a_server_is_recorded_locally_where_that_is_allowed(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")  # not started
    quick = [*QUICK, "epochs=1", f"tracking.uri={server.uri}"]
    code, output, errors = finished(tmp_path, *quick)
    assert code == 2
    assert output == ""
    assert errors.startswith(f"blitz: tracking.uri={server.uri}: no tracking store answers there (Connection refused)")
    assert not (tmp_path / "runs").exists()
    code, output, errors = finished(tmp_path, *quick, "tracking.offline=allow")
    assert (code, errors) == (0, "")
    assert "tracking.offline=allow: training all the same" in output
    assert "lacks the run itself" in output
    server.start()
    try:
        assert finished(tmp_path, "sync")[0] == 0
        recorded = assert_the_store_has_all_of(the_folder(tmp_path), server.uri)
        assert recorded.info.status == "FINISHED"
        assert len(runs(server.uri)) == 1
    finally:
        server.stop()

"""Downloads against a real server on loopback: resumed, checked, fetched once, and refused with a reason."""

import base64
import hashlib
import http.server
import logging
import multiprocessing
import re
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from blitz.errors import BadInput
from blitz.parts.datasets import DATASETS, downloads
from blitz.parts.datasets.downloads import DownloadFailed, fetch, md5_of, shown
from blitz.parts.datasets.published import cifar10, mnist

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT under any path, as its attributes say."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.knows_ranges = True
        self.status = 0  # answer with this error
        self.cuts: list[int] = []  # end the next answers after so many bytes
        self.ranges: list[str | None] = []  # of the requests that came
        self.authorization: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        server.authorization.append(self.headers.get("Authorization"))
        if server.status:
            return self.send_error(server.status)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.knows_ranges else 0
        if start >= len(server.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(server.content) - start))
        self.send_header("Content-Encoding", "x-gzip")  # as some servers call a .gz, which must stay as it is
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else None
        self.wfile.write(server.content[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("BLITZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.gz"
    assert fetch([f"{server.url}/file.gz"], target, MD5) == f"{server.url}/file.gz"
    fetch([f"{server.url}/file.gz"], target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert sorted(path.name for path in target.parent.iterdir()) == ["file.gz", "file.gz.lock"]


def test_a_transfer_that_is_cut_off_resumes_there(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    fetch([server.url], tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_start_resumes_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.cuts = [10_000] * downloads.ATTEMPTS
    with pytest.raises(DownloadFailed, match="cut off 5 times, at last after 50,000 bytes"):
        fetch([server.url], tmp_path / "file", MD5)
    assert not (tmp_path / "file").exists()
    server.ranges.clear()
    fetch([server.url], tmp_path / "file", MD5)
    assert server.ranges == ["bytes=50000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_sends_nothing_is_given_up_early(server: Server, tmp_path: Path) -> None:
    server.cuts = [0] * 100
    with pytest.raises(DownloadFailed, match="cut off 2 times"):
        fetch([server.url], tmp_path / "file", MD5)


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    server.cuts = [100_000]
    fetch([server.url], tmp_path / "file", MD5)
    assert server.ranges == [None, "bytes=100000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"and more", CONTENT])
def test_what_an_earlier_process_left_cannot_spoil_the_file(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.part").write_bytes(left)
    fetch([server.url], tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_wrong_checksum_deletes_the_file_and_says_so(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>log in first</html>"
    found = hashlib.md5(server.content).hexdigest()
    with pytest.raises(DownloadFailed, match=f"MD5 {found}, expected {MD5}; the file was deleted"):
        fetch([server.url], tmp_path / "file", MD5)
    assert [path.name for path in tmp_path.iterdir()] == ["file.lock"]


def test_a_downloaded_file_that_was_damaged_is_downloaded_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    fetch([server.url], tmp_path / "file", MD5)
    assert md5_of(tmp_path / "file") == MD5
    assert "is damaged; downloading it again" in caplog.text


def test_the_second_address_is_tried_and_all_reasons_are_reported(server: Server, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # it does not listen, and nobody else can
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        fetch([dead, server.url], tmp_path / "file", MD5)
        server.status = 404
        with pytest.raises(DownloadFailed) as failure:
            fetch([dead, server.url], tmp_path / "other", MD5)
    assert dead in str(failure.value)
    assert "Connection refused" in str(failure.value)
    assert f"{server.url}: HTTP 404 Not Found" in str(failure.value)


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(DownloadFailed, match=r"no answer within 0\.2 s"):
            fetch([url], tmp_path / "file", MD5)


def test_credentials_reach_the_server_and_nothing_else(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.url.replace("http://", "http://anna:s%40cret@") + "?token=s%40cret"
    with caplog.at_level(logging.INFO, logger="blitz"):
        source = fetch([url], tmp_path / "file", MD5)
    assert server.authorization == ["Basic " + base64.b64encode(b"anna:s@cret").decode()]
    assert source == shown(url) == server.url
    assert "cret" not in caplog.text
    assert downloads.beside("https://a:b@host/x/?sig=1", "f 1.gz") == "https://a:b@host/x/f%201.gz?sig=1"


def test_two_processes_download_once(server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = context.Barrier(2)

    def child() -> None:
        both.wait()
        fetch([server.url], tmp_path / "file", MD5)

    processes = [context.Process(target=child) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks beside a thread
        for process in processes:
            process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert server.ranges == [None]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist", "svhn"])
def test_without_network_one_message_names_three_alternatives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unresolved(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    monkeypatch.setenv("BLITZ_CACHE", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(BadInput) as failure:
        DATASETS.build(DATASETS.check({"name": name}))
    assert len(failure.value.problems) == 1
    message = str(failure.value)
    assert re.match(rf"data={name}: [\w.-]+ could not be downloaded: https?://\S+: the name of the server", message)
    assert "the name of the server cannot be resolved" in message
    for way in ("data=digits", "data.root=FOLDER", "data=folder"):
        assert way in message
    assert not [path for path in (tmp_path / "datasets").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [(404, CONTENT, "HTTP 404 Not Found"), (0, b"something else", "the file was deleted")],
)
def test_a_mirror_without_the_file_is_named_without_credentials(
    server: Server, status: int, content: bytes, reason: str
) -> None:
    server.status, server.content = status, content
    with pytest.raises(BadInput) as failure:
        mnist(url=server.url.replace("//", "//anna:secret@"))
    message = str(failure.value)
    assert message.startswith(f"data.url={server.url}: train-images-idx3-ubyte.gz could not be downloaded")
    assert reason in message
    assert "data=digits" in message
    assert "secret" not in message


@pytest.mark.parametrize("url", ["ftp://host/x", "/some/folder", "mirror", "http://[::1/x"])
def test_a_mirror_is_a_web_address(url: str) -> None:
    with pytest.raises(BadInput, match="accepted: the address of a web folder"):
        cifar10(url=url)


def test_a_mirror_beside_a_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data\.url=http://host/x: nothing is downloaded with data\.root="):
        cifar10(url="http://host/x", root=str(tmp_path))

"""One file from the web: resumed where it was cut off, checked, and downloaded once however many processes need it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from socket import gaierror
from urllib.parse import quote, urlsplit, urlunsplit

import requests
import urllib3

from blitz.parts.datasets.cache import LOG, locked, writing

TIMEOUT = 10  # seconds without an answer, or without a byte
ATTEMPTS = 5  # transfers of one file that may be cut off
BLOCK = 1 << 16  # bytes


class DownloadFailed(Exception):
    """Why a file could not be downloaded."""


class _CutOff(Exception):
    """A transfer that ended early; the next attempt continues there."""


def fetch(urls: Sequence[str], target: Path, md5: str) -> str:
    """Have `target`, from the first of `urls` that delivers it with this MD5; what was downloaded before is kept.

    A user and a password in a URL are sent to its host alone. Returns the URL without them. Raises DownloadFailed with
    the reason of each URL.
    """
    part = target.with_name(f"{target.name}.part")
    with locked(target, f"it downloads {target.name}"):
        if target.exists():
            if md5_of(target) == md5:
                return shown(urls[0])
            LOG.warning("%s is damaged; downloading it again", target)
            with writing():
                target.unlink()
        reasons = []
        for url in urls:
            try:
                LOG.info("downloading %s into %s", shown(url), target.parent)
                _complete(url, part, md5)
                with writing():
                    os.replace(part, target)
                return shown(url)
            except DownloadFailed as failure:
                reasons.append(f"{shown(url)}: {failure}")
        raise DownloadFailed("; ".join(reasons))


def beside(url: str, name: str) -> str:
    """The URL of the file `name` in the folder `url`; a query stays where it is."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}", fragment=""))


def shown(url: str) -> str:
    """Without what may be secret: user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _complete(url: str, part: Path, md5: str) -> None:
    """Download what `part` lacks, and check the whole of it."""
    resumed, stalled = part.exists(), 0
    for attempt in range(ATTEMPTS):
        if part.exists() and md5_of(part) == md5:  # a process was killed after the last byte
            return
        before = _size(part)
        try:
            _transfer(url, part, before)
            break
        except _CutOff as reason:
            size = _size(part)
            stalled = stalled + 1 if size == before else 0
            if stalled == 2 or attempt == ATTEMPTS - 1:
                times = f"cut off {attempt + 1} times, at last after {size:,} bytes"
                raise DownloadFailed(f"{times} ({reason}); what was received is kept") from None
            LOG.warning("%s was cut off after %s bytes (%s); trying again", shown(url), f"{size:,}", reason)
    found = md5_of(part)
    if found == md5:
        return
    with writing():
        part.unlink()
    if resumed:  # what lay there may be the beginning of another file: once more from the start
        LOG.warning("%s continued to a wrong checksum; downloading all of it", shown(url))
        return _complete(url, part, md5)
    raise DownloadFailed(f"wrong checksum: MD5 {found}, expected {md5}; the file was deleted")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _transfer(url: str, part: Path, size: int) -> None:
    """Append to `part` what comes after its first `size` bytes."""
    with _answer(url, size) as response:
        if response.status_code == 416 and size:  # more is here than there: another file
            with writing():
                part.unlink()
            raise _CutOff("what was kept is longer than the file; it was deleted")
        if not response.ok:
            raise DownloadFailed(f"HTTP {response.status_code} {response.reason}")
        found = response.headers.get("Content-Range", "")
        if response.status_code == 206 and not found.startswith(f"bytes {size}-"):
            raise DownloadFailed(f"answered with another range than that from byte {size:,}: {found}")
        if response.status_code == 200:
            size = 0  # the server does not know ranges and sends all of it
        reported = time.monotonic()
        with writing(), part.open("ab" if size else "wb") as file:
            for block in _blocks(response):
                file.write(block)
                size += len(block)
                if time.monotonic() - reported > TIMEOUT:
                    reported = time.monotonic()
                    LOG.info("%s bytes so far", f"{size:,}")


def _answer(url: str, start: int) -> requests.Response:
    """The head of the server's answer to a request for the bytes from `start` on."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "blitz"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        if isinstance(_root(error), ConnectionResetError):
            raise _CutOff("before the first byte") from None
        raise DownloadFailed(_reason(error)) from None


def _blocks(response: requests.Response) -> Iterator[bytes]:
    # Not iter_content: it unpacks what a server calls compressed, and loses what came of a block that is cut off.
    try:
        yield from response.raw.stream(BLOCK, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise _CutOff(_reason(error)) from None


def _reason(error: BaseException) -> str:
    # Not the words of requests, which hold the whole URL, with what is secret in it.
    root = _root(error)
    if isinstance(root, gaierror):
        return "the name of the server cannot be resolved"
    if isinstance(root, TimeoutError):
        return f"no answer within {TIMEOUT} s"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(root) or type(root).__name__


def _root(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error

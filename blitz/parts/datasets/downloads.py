"""One file from the web: resumed where it was cut off, checked, and fetched once however many processes ask for it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from socket import gaierror
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from blitz.parts.datasets.cache_home import LOG, locked, writing

TIMEOUT = 10  # seconds without an answer, or without a byte
ATTEMPTS = 5  # transfers of one file that may be cut off
BLOCK = 1 << 16


class DownloadFailed(Exception):
    """Why a file could not be had."""


class _CutOff(Exception):
    """A transfer that ended early; the next attempt goes on from there."""


def fetch(urls: Sequence[str], target: Path, md5: str) -> str:
    """Have `target`, from the first of `urls` that delivers it with this MD5; what was downloaded before is kept.

    Returns the URL, without credentials. Raises DownloadFailed with the reason of each URL.
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
    """`part` whole and checked."""
    resumed, stalled = part.exists(), 0
    for attempt in range(ATTEMPTS):
        if part.exists() and md5_of(part) == md5:  # a process was killed after the last byte
            return
        had = _size(part)
        try:
            _transfer(url, part)
            break
        except _CutOff as cut_off:
            stalled = stalled + 1 if _size(part) == had else 0
            if stalled == 2 or attempt == ATTEMPTS - 1:
                raise DownloadFailed(f"cut off {attempt + 1} times, at last {cut_off}; what came is kept") from None
            LOG.warning("%s was cut off (%s); trying again", shown(url), cut_off)
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


def _transfer(url: str, part: Path) -> None:
    """Append to `part` what is missing."""
    have = _size(part)
    with _answer(url, have, part) as response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise DownloadFailed(f"answered with another range than asked for: {response.headers.get('Content-Range')}")
        if response.status == 200:
            have = 0  # the server does not know ranges and sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with writing(), part.open("ab" if have else "wb") as file:
            have = _copy(response, file, have, total)
    if total is not None and have < total:
        raise _CutOff(f"after {have:,} of {total:,} bytes")


def _copy(response: http.client.HTTPResponse, file: IO[bytes], have: int, total: int | None) -> int:
    told = time.monotonic()
    while True:
        try:
            block = response.read(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _CutOff(f"after {have:,} bytes: {_words(error)}") from None
        if not block:
            return have
        file.write(block)
        have += len(block)
        if time.monotonic() - told > TIMEOUT:
            told = time.monotonic()
            LOG.info("%s bytes%s", f"{have:,}", f" of {total:,}" if total else "")


def _answer(url: str, have: int, part: Path) -> Any:
    """The server's answer to a request for the bytes from `have` on."""
    request = _request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # more is here than there: another file
                with writing():
                    part.unlink()
                raise _CutOff("what was kept is longer than the file; it was deleted") from None
            raise DownloadFailed(f"HTTP {error.code} {error.reason}") from None
    except http.client.RemoteDisconnected:
        raise _CutOff("before the first byte") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadFailed(_words(error)) from None


def _request(url: str) -> urllib.request.Request:
    parts = urlsplit(url)
    user_info, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))
    request.add_header("Accept-Encoding", "identity")
    request.add_header("User-Agent", "blitz")
    if user_info:
        token = base64.b64encode(unquote(user_info).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")  # never to another host
    return request


def _words(error: BaseException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, gaierror):
        return "the name of the server cannot be resolved"
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT} s"
    return str(reason) or type(reason).__name__

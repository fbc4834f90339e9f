"""Fetches one file over http or https: in pieces, as often as it takes, and never two versions mixed.

What came so far is ``<file>.part``; ``<file>.part.json`` beside it tells which version it belongs to.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from lesionseg import __version__
from lesionseg.data.catalogue import RemoteFile
from lesionseg.data.unzip import Progress, on_disk, require_space
from lesionseg.errors import DownloadError, LesionsegError
from lesionseg.io.reading import read_json
from lesionseg.io.writing import sync

__all__ = ["Patience", "Wire", "fetch", "notes_of", "opener"]

_CHUNK = 2**18
_AGAIN = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds without a byte after which a connection counts as lost.
        retries: further attempts after a lost connection or an overloaded server, per address.
        backoff: seconds before the first of them; doubled each time.
    """

    timeout: float = 60.0
    retries: int = 4
    backoff: float = 1.0


class _AttemptError(Exception):
    """One attempt failed; ``again`` tells whether a further one could help."""

    def __init__(self, reason: object, *, again: bool) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.again = again


@dataclass(slots=True)
class Wire:
    """What all files of one download share.

    Attributes:
        opener: opens addresses.
        patience: timeouts and retries.
        max_bytes: larger files are refused.
        progress: told of every chunk.
        received: bytes that came so far.
    """

    opener: urllib.request.OpenerDirector
    patience: Patience
    max_bytes: int
    progress: Progress
    received: int = 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            raise urllib.error.HTTPError(newurl, code, f"redirected to {newurl}, which is not https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener() -> urllib.request.OpenerDirector:
    """What opens addresses: http and https alone, never down from https to http."""
    # Not build_opener, which also opens file: and ftp: addresses.
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        director.add_handler(handler)
    return director


def fetch(file: RemoteFile, part: Path, wire: Wire, urls: tuple[str, ...]) -> None:
    """Completes ``part`` from the first address that has the file.

    Raises:
        DownloadError: none has it, it is too large, or the disk is full.
    """
    problems = []
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            problems.append(f"{url}: only http and https addresses are opened")
            continue
        begin = time.monotonic()
        for attempt in range(wire.patience.retries + 1):
            try:
                _attempt(url, file, part, wire)
                return
            except _AttemptError as error:
                reason, again = str(error), error.again
            if not again or attempt == wire.patience.retries:
                break
            time.sleep(wire.patience.backoff * 2**attempt)
        problems.append(f"{url}: {reason} (tried {attempt + 1} times in {time.monotonic() - begin:.0f} s)")
    raise DownloadError(
        f"{file.name} cannot be downloaded",
        problems=problems,
        fix="check the connection and start again: it goes on where it stopped; or fetch it by hand into "
        f"{part.parent} and use --offline",
    )


def notes_of(part: Path) -> Path:
    """Where it is noted which version of the file a part belongs to."""
    return part.with_suffix(".part.json")


def _resume_point(part: Path, file: RemoteFile) -> tuple[int, str, int | None]:
    """Bytes that are there, what identifies the version they belong to, and its size in bytes where known."""
    try:
        offset = part.stat().st_size
        notes = read_json(notes_of(part))
        validator, total = str(notes["validator"]), notes["total"]
    except (LesionsegError, OSError, KeyError, TypeError):
        return 0, "", None
    # Without anything to tell versions apart, halves of two could be put together.
    known = validator or file.sha256 or file.md5
    return (offset, validator, total if isinstance(total, int) else None) if known else (0, "", None)


def _attempt(url: str, file: RemoteFile, part: Path, wire: Wire) -> None:
    offset, validator, total = _resume_point(part, file)
    if offset and offset == total:
        return
    headers = {"User-Agent": f"lesionseg/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked
    with _open(request, part, wire) as response:
        if response.status == 206 and offset:
            total = _continued(response, part, offset, validator)
        else:
            # The whole file, because the server cannot do otherwise or has another version by now.
            offset, total = 0, response.length
        _require_fitting(url, file, part, offset, total, wire)
        if offset == 0:
            with on_disk(part):
                part.write_bytes(b"")
                # Only now: the notes of the new version must never stand beside bytes of the old one.
                notes = {"validator": _validator(response), "total": total}
                notes_of(part).write_text(json.dumps(notes), encoding="utf-8")
        done = _stream(response, file, part, offset, total, wire)
    if total is not None and done < total:
        raise _AttemptError(f"the connection ended after {done:,} of {total:,} bytes", again=True)


def _continued(response: http.client.HTTPResponse, part: Path, offset: int, validator: str) -> int:
    """The size of the file in bytes, if the response goes on where ``part`` ends and belongs to the same version."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != offset or (validator and _validator(response) not in ("", validator)):
        _discard(part)
        raise _AttemptError("the server sent another part than the one asked for", again=True)
    return int(found[2])


def _validator(response: http.client.HTTPResponse) -> str:
    """What If-Range may hold: a strong ETag, else the date."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _discard(part: Path) -> None:
    with on_disk(part):
        part.unlink(missing_ok=True)
        notes_of(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _open(request: urllib.request.Request, part: Path, wire: Wire) -> Iterator[http.client.HTTPResponse]:
    try:
        response = wire.opener.open(request, timeout=wire.patience.timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                # There is nothing after what is here, so it is not a piece of that file.
                _discard(part)
            reason = f"the server answered {error.code}: {error.reason}"
            raise _AttemptError(reason, again=error.code in _AGAIN) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        hopeless = isinstance(cause, ssl.SSLCertVerificationError | ValueError | http.client.InvalidURL)
        raise _AttemptError(f"no connection: {cause or type(cause).__name__}", again=not hopeless) from error
    with response:
        if response.status not in (200, 206) or response.headers.get("Content-Encoding", "identity") != "identity":
            raise _AttemptError(f"the server answered {response.status} in a form not asked for", again=False)
        yield response


def _require_fitting(url: str, file: RemoteFile, part: Path, offset: int, total: int | None, wire: Wire) -> None:
    if total is None:
        return
    if file.size is not None and total != file.size:
        raise _AttemptError(f"the server has {total:,} bytes, expected {file.size:,}: it was replaced", again=False)
    if total > wire.max_bytes:
        raise _too_large(url, f"has {total:,}", wire)
    # An archive of pictures unpacks to about as much again.
    require_space(part.parent, total - offset + (total if file.folder else 0), f"{file.name} with what it unpacks to")


def _too_large(url: str, has: str, wire: Wire) -> DownloadError:
    return DownloadError(f"{url} {has} bytes, over {wire.max_bytes:,}", fix="allow more with --max-gib (max_bytes)")


def _stream(
    response: http.client.HTTPResponse, file: RemoteFile, part: Path, offset: int, total: int | None, wire: Wire
) -> int:
    """Appends what comes to ``part``; returns its size then, in bytes."""
    done = offset
    with on_disk(part):
        # Unbuffered, so that whatever ends the process, all that came so far is in the file.
        sink = part.open("ab", buffering=0)
    with sink:
        while True:
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                reason = f"the connection broke after {done:,} bytes: {error or type(error).__name__}"
                raise _AttemptError(reason, again=True) from error
            if not chunk:
                break
            if done + len(chunk) > wire.max_bytes:
                raise _too_large(response.url, "sends more", wire)
            with on_disk(part):
                _write(sink, chunk)
            done += len(chunk)
            wire.received += len(chunk)
            wire.progress(file.name, done, total)
        with on_disk(part):
            sync(sink.fileno())
    return done


def _write(sink: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        # A nearly full disk takes a piece first and complains at the next.
        rest = rest[sink.write(rest) :]

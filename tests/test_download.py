"""Fetching from a server on this machine that breaks off, lies, stalls and redirects; unpacking hostile archives."""

import errno
import hashlib
import io
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lesionseg.data import download as module
from lesionseg.data import fetch, unzip
from lesionseg.data.catalogue import Dataset, RemoteFile
from lesionseg.data.download import DownloadResult, download
from lesionseg.data.fetch import Patience
from lesionseg.data.pairing import Folders, pair_folders
from lesionseg.data.synthetic import write_dataset
from lesionseg.data.unzip import Limits, safe_unzip
from lesionseg.errors import DownloadError, OutputError

HASTE = Patience(timeout=5.0, retries=2, backoff=0.001)
ONCE = replace(HASTE, retries=0)


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


# --- the server -------------------------------------------------------------------------------------------------------


@dataclass
class Page:
    """What one path answers with, and how it misbehaves."""

    body: bytes = b""
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    respects_if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    statuses: list[int] = field(default_factory=list)
    """Errors that the next answers are."""
    location: str = ""
    stalls: bool = False
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    path: str
    range: str | None
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Keeps the test's output clean."""

    def do_GET(self) -> None:
        self.close_connection = True
        page = self.server.pages.get(self.path)
        note = Request(self.path, self.headers.get("Range"))
        self.server.requests.append(note)
        if page is None:
            return self.plain(404)
        if page.stalls:
            self.server.over.wait(10)
            return None
        if page.statuses:
            return self.plain(page.statuses.pop(0))
        if page.location:
            return self.plain(302, Location=page.location)
        return self.serve(page, note)

    def plain(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def start(self, page: Page) -> int | None:
        """The first byte asked for, where a part is asked for and may be sent."""
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        stale = condition is not None and condition not in (page.etag, page.modified)
        if asked is None or not page.ranges or (stale and page.respects_if_range):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def serve(self, page: Page, note: Request) -> None:
        start = self.start(page)
        if start is not None and start >= len(page.body):
            return self.plain(416)
        body = page.body[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        length = {"Transfer-Encoding": "chunked"} if page.chunked else {"Content-Length": str(len(body))}
        validators = {"ETag": page.etag, "Last-Modified": page.modified}
        for name, value in {**length, **validators, **page.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        body = body[: page.cuts.pop(0)] if page.cuts else body
        # Noted first: the client may be done with it before this thread goes on.
        note.sent = len(body)
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n" if page.chunked else body)
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.requests: list[Request] = []
        self.over = threading.Event()

    def handle_error(self, *_args: object) -> None:
        """A client that hangs up is part of many tests."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


BODY = noise(300_000)


def dataset(server: Server, *files: RemoteFile) -> Dataset:
    default = RemoteFile("data.bin", (f"{server.address}/data.bin",), sha256=hashlib.sha256(BODY).hexdigest())
    return Dataset("toy", "A toy", "CC0-1.0", "nobody", "https://example.org", files or (default,))


def unknown(server: Server, name: str = "data.bin", **known: Any) -> RemoteFile:
    return RemoteFile(name, (f"{server.address}/{name}",), **known)


def get(server: Server, folder: Path, *files: RemoteFile, **options: Any) -> DownloadResult:
    return download(dataset(server, *files), folder, **{"patience": HASTE, **options})


def refusal(call: Callable[[], object]) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        call()
    assert caught.value.fix
    return caught.value


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    calls: list[tuple[str, int, int | None]] = []
    result = get(server, tmp_path / "new" / "folder", progress=lambda *call: calls.append(call))
    file = result.files[0]
    assert file.path.read_bytes() == BODY
    assert (file.size, file.received, file.verified, file.folder) == (len(BODY), len(BODY), True, None)
    assert file.sha256 == hashlib.sha256(BODY).hexdigest()
    assert (result.dataset.name, result.output) == ("toy", tmp_path / "new" / "folder")
    assert calls[-1] == ("data.bin", len(BODY), len(BODY))
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})
    assert leftovers(result.output) == ["data.bin", "data.bin.sha256"]
    assert (result.output / "data.bin.sha256").read_text() == f"{file.sha256}  data.bin\n"


def test_what_broke_off_goes_on_within_one_call(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY, cuts=[100_000, 50_000])
    assert get(server, tmp_path).files[0].received == len(BODY)
    assert [request.range for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert server.sent == len(BODY), "a byte was sent twice"
    assert (tmp_path / "data.bin").read_bytes() == BODY


@pytest.mark.parametrize("page", [Page(BODY), Page(BODY, etag=None, modified="Tue, 01 Jan 2019 00:00:00 GMT")])
@pytest.mark.parametrize("known", [True, False])
def test_what_broke_off_goes_on_in_the_next_call(server: Server, tmp_path: Path, page: Page, known: bool) -> None:
    files = () if known else (unknown(server),)
    server.pages["/data.bin"] = replace(page, cuts=[123_456])
    error = refusal(lambda: get(server, tmp_path, *files, patience=ONCE))
    assert "123,456 of 300,000" in error.problems[0]
    assert (tmp_path / "data.bin.part").read_bytes() == BODY[:123_456]
    assert not (tmp_path / "data.bin").exists()
    result = get(server, tmp_path, *files, patience=ONCE)
    assert result.files[0].received == len(BODY) - 123_456
    assert server.sent == len(BODY)
    assert result.files[0].path.read_bytes() == BODY


def test_without_ranges_it_starts_again(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY, ranges=False, cuts=[100_000])
    assert get(server, tmp_path).files[0].received == len(BODY) + 100_000
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, "bytes=100000-"]


@pytest.mark.parametrize("respects", [True, False])
def test_a_file_that_changed_meanwhile_starts_again(server: Server, tmp_path: Path, respects: bool) -> None:
    server.pages["/data.bin"] = Page(noise(200_000, 1), cuts=[150_000])
    refusal(lambda: get(server, tmp_path, unknown(server), patience=ONCE))
    server.pages["/data.bin"] = Page(BODY, etag='"two"', respects_if_range=respects)
    assert get(server, tmp_path, unknown(server)).files[0].path.read_bytes() == BODY
    assert server.requests[1].range == "bytes=150000-"


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_nothing_is_pieced_together_where_versions_cannot_be_told_apart(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.pages["/data.bin"] = Page(noise(200_000, 1), etag=etag, cuts=[150_000])
    refusal(lambda: get(server, tmp_path, unknown(server), patience=ONCE))
    server.pages["/data.bin"] = Page(BODY, etag=etag)
    assert get(server, tmp_path, unknown(server)).files[0].path.read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, None]


def test_a_known_digest_tells_versions_apart_too(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY, etag=None, cuts=[150_000])
    refusal(lambda: get(server, tmp_path, patience=ONCE))
    assert get(server, tmp_path).files[0].received == 150_000


@pytest.mark.parametrize("notes", [b"", b"[]", b"{", b'{"validator": 3}', b"\xff"])
def test_a_part_without_readable_notes_is_not_trusted(server: Server, tmp_path: Path, notes: bytes) -> None:
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "data.bin.part.json").write_bytes(notes)
    server.pages["/data.bin"] = Page(BODY)
    get(server, tmp_path, unknown(server))
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert server.requests[0].range is None


def test_a_part_longer_than_the_file_is_given_up(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY + b"more" * 1000, cuts=[len(BODY) + 10])
    refusal(lambda: get(server, tmp_path, unknown(server), patience=ONCE))
    server.pages["/data.bin"] = Page(BODY)
    assert get(server, tmp_path, unknown(server)).files[0].path.read_bytes() == BODY


def test_a_part_that_was_complete_needs_no_further_byte(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    get(server, tmp_path, unknown(server))
    # As if the process had ended between the last byte and the new name.
    (tmp_path / "data.bin").rename(tmp_path / "data.bin.part")
    (tmp_path / "data.bin.part.json").write_text(f'{{"validator": "\\"one\\"", "total": {len(BODY)}}}')
    assert get(server, tmp_path, unknown(server)).files[0].received == 0
    assert len(server.requests) == 1


def test_a_file_in_chunks_has_no_size_beforehand(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY, chunked=True)
    totals: set[int | None] = set()
    get(server, tmp_path, progress=lambda _name, _done, total: totals.add(total))
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert totals == {None}


def test_a_server_that_keeps_breaking_off_is_given_up(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY, ranges=False, cuts=[1000] * 10)
    error = refusal(lambda: get(server, tmp_path))
    assert len(server.requests) == 1 + HASTE.retries
    assert "the connection ended after 1,000 of 300,000 bytes (tried 3 times" in error.problems[0]
    assert (tmp_path / "data.bin.part").stat().st_size == 1000


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    server.pages["/data.bin"] = Page(BODY, statuses=[status, status])
    get(server, tmp_path)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_file_is_asked_for_once_at_every_address(server: Server, tmp_path: Path, status: int) -> None:
    for path in ("/old", "/older"):
        server.pages[path] = Page(statuses=[status] * 9)
    file = RemoteFile("data.bin", (f"{server.address}/old", f"{server.address}/older"))
    error = refusal(lambda: get(server, tmp_path, file))
    assert [request.path for request in server.requests] == ["/old", "/older"]
    assert [problem.split(": ")[0] for problem in error.problems] == list(file.urls)
    assert all(f"answered {status}" in problem for problem in error.problems)
    assert leftovers(tmp_path) == []


def test_the_second_address_helps_out(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    file = RemoteFile("data.bin", (f"{server.address}/gone", f"{server.address}/data.bin"))
    assert get(server, tmp_path, file).files[0].path.read_bytes() == BODY


def test_a_mirror_replaces_the_official_addresses(server: Server, tmp_path: Path) -> None:
    server.pages["/mirror/data.bin"] = Page(BODY)
    file = RemoteFile("data.bin", (f"{server.address}/official?id=3",))
    get(server, tmp_path, file, base=f"{server.address}/mirror/")
    assert [request.path for request in server.requests] == ["/mirror/data.bin"]


def test_a_server_that_stalls(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(stalls=True)
    begin = time.monotonic()
    error = refusal(lambda: get(server, tmp_path, patience=Patience(timeout=0.1, retries=1, backoff=0.001)))
    assert "timed out" in error.problems[0]
    assert len(server.requests) == 2
    assert time.monotonic() - begin < 3


def test_nobody_listens(server: Server, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        file = RemoteFile("data.bin", (f"http://127.0.0.1:{probe.getsockname()[1]}/data.bin",))
        error = refusal(lambda: get(server, tmp_path, file))
    assert "no connection: [Errno 111]" in error.problems[0]
    assert "tried 3 times" in error.problems[0]


def test_the_wait_doubles(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    server.pages["/data.bin"] = Page(statuses=[503] * 9)
    refusal(lambda: get(server, tmp_path, patience=Patience(timeout=5, retries=3, backoff=2)))
    assert waits == [2, 4, 8]


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,hello", "/etc/hostname"])
def test_other_schemes_are_never_opened(server: Server, tmp_path: Path, url: str) -> None:
    error = refusal(lambda: get(server, tmp_path, RemoteFile("data.bin", (url,))))
    assert error.problems == (f"{url}: only http and https addresses are opened",)


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,hello"])
def test_a_redirection_out_of_the_web_is_refused(server: Server, tmp_path: Path, location: str) -> None:
    server.pages["/data.bin"] = Page(location=location)
    error = refusal(lambda: get(server, tmp_path))
    assert location in error.problems[0]
    assert leftovers(tmp_path) == []


def test_a_redirection_is_followed_and_resumed(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(location="/elsewhere")
    server.pages["/elsewhere"] = Page(BODY, cuts=[100_000])
    get(server, tmp_path)
    assert [request.range for request in server.requests if request.path == "/elsewhere"] == [None, "bytes=100000-"]
    assert server.sent == len(BODY)


def test_redirections_in_a_circle(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(location="/other")
    server.pages["/other"] = Page(location="/data.bin")
    assert "infinite loop" in refusal(lambda: get(server, tmp_path)).problems[0]
    assert len(server.requests) < 10


def test_redirections_without_end(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(location="/0")
    server.pages |= {f"/{n}": Page(location=f"/{n + 1}") for n in range(50)}
    refusal(lambda: get(server, tmp_path))
    assert len(server.requests) <= 7


def test_no_redirection_gives_up_encryption() -> None:
    handler = fetch._Redirects()
    asked = urllib.request.Request("https://example.org/x")
    with pytest.raises(urllib.error.HTTPError, match="not https") as caught:
        handler.redirect_request(asked, io.BytesIO(), 302, "", {}, "http://example.org/x")
    caught.value.close()
    assert handler.redirect_request(asked, io.BytesIO(), 302, "", {}, "https://example.org/y") is not None


def test_compressed_answers_are_refused(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY, headers={"Content-Encoding": "gzip"})
    assert "in a form not asked for" in refusal(lambda: get(server, tmp_path)).problems[0]


@pytest.mark.parametrize("chunked", [True, False])
def test_too_large(server: Server, tmp_path: Path, chunked: bool) -> None:
    server.pages["/data.bin"] = Page(BODY, chunked=chunked)
    error = refusal(lambda: get(server, tmp_path, max_bytes=200_000))
    assert "over 200,000" in error.message
    assert ("sends more" in error.message) == chunked
    part = tmp_path / "data.bin.part"
    assert not part.exists() or part.stat().st_size <= 200_000
    get(server, tmp_path, max_bytes=len(BODY))


def test_another_size_than_the_catalogue_s(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    error = refusal(lambda: get(server, tmp_path, unknown(server, size=299_999)))
    assert "the server has 300,000 bytes, expected 299,999" in error.problems[0]
    assert len(server.requests) == 1


@pytest.mark.parametrize("archive", [True, False])
def test_too_little_space_is_told_beforehand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bool
) -> None:
    # An archive needs its own size twice.
    monkeypatch.setattr(unzip.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**6, 0, 299_999))  # type: ignore[attr-defined]
    server.pages["/data.bin"] = Page(BODY if not archive else BODY[:150_000])
    file = unknown(server, folder="photos" if archive else "")
    error = refusal(lambda: get(server, tmp_path, file))
    assert "has 299,999 bytes free" in error.message
    assert "needs 300,000" in error.message
    assert leftovers(tmp_path) == []


def test_ctrl_c_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)

    def interrupt(_name: str, _done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, progress=interrupt)
    kept = (tmp_path / "data.bin.part").read_bytes()
    assert kept
    assert kept == BODY[: len(kept)]
    assert get(server, tmp_path).files[0].received == len(BODY) - len(kept)


def limited(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs code in a process whose files cannot grow over 100,000 bytes."""
    pytest.importorskip("resource")
    head = """
        import resource, sys
        from pathlib import Path
        from lesionseg.data.catalogue import Dataset, RemoteFile
        from lesionseg.data.download import download
        from lesionseg.data.unzip import safe_unzip
        from lesionseg.errors import DownloadError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    """
    call = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)


def test_a_full_disk_while_fetching_keeps_the_part(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    code = """
        file = RemoteFile("data.bin", (sys.argv[1],))
        try:
            download(Dataset("toy", "", "", "", "", (file,)), sys.argv[2])
        except DownloadError as error:
            sys.exit(str(error))
    """
    done = limited(code, f"{server.address}/data.bin", tmp_path)
    assert "data.bin.part cannot be written: the disk or quota is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "data.bin.part").read_bytes() == BODY[:100_000]
    assert get(server, tmp_path, unknown(server)).files[0].received == len(BODY) - 100_000


def test_a_write_that_fails_otherwise(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_sink: object, _chunk: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fetch, "_write", broken)
    server.pages["/data.bin"] = Page(BODY)
    assert "data.bin.part cannot be used: Input/output error" in refusal(lambda: get(server, tmp_path)).message
    assert len(server.requests) == 1, "a broken disk is no reason to ask again"


def test_a_place_that_is_no_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be used" in refusal(lambda: get(server, tmp_path / "file" / "below")).message


# --- verifying --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_the_wrong_bytes_are_set_aside(server: Server, tmp_path: Path, algorithm: str) -> None:
    def digest(data: bytes) -> str:
        return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()

    server.pages["/data.bin"] = Page(noise(1000, 1))
    file = unknown(server, **{algorithm: digest(BODY).upper()})
    error = refusal(lambda: get(server, tmp_path, file))
    assert error.problems == (f"its {algorithm} is {digest(noise(1000, 1))}, expected {digest(BODY)}",)
    assert leftovers(tmp_path) == ["data.bin.rejected"]
    assert str(tmp_path / "data.bin.rejected") in error.fix
    server.pages["/data.bin"] = Page(BODY)
    result = get(server, tmp_path, file).files[0]
    assert result.verified
    assert server.requests[-1].range is None


def test_an_unknown_digest_is_recorded_and_then_held_to(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    first = get(server, tmp_path, unknown(server)).files[0]
    assert not first.verified
    assert first.sha256 == hashlib.sha256(BODY).hexdigest()
    (tmp_path / "data.bin").write_bytes(BODY[:-1] + b"?")
    error = refusal(lambda: get(server, tmp_path, unknown(server)))
    assert first.sha256 in error.problems[0]
    assert (tmp_path / "data.bin").exists(), "what the user has is not deleted"


@pytest.mark.parametrize("data", [b"", BODY])
def test_partial_downloads_and_digests_of_other_programs_are_not_replaced(
    server: Server, tmp_path: Path, data: bytes
) -> None:
    if data:
        (tmp_path / "data.bin").write_bytes(data)
    mine = {"data.bin.part": b"of a browser", "data.bin.sha256": b"checked by hand\n"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(OutputError) as refused:
        get(server, tmp_path, unknown(server))
    assert refused.value.problems == tuple(str(tmp_path / name) for name in mine)
    assert {name: (tmp_path / name).read_bytes() for name in mine} == mine
    assert server.requests == []


def test_a_part_without_bytes_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").touch()
    server.pages["/data.bin"] = Page(BODY)
    assert get(server, tmp_path, unknown(server)).files[0].path.read_bytes() == BODY


def test_an_empty_record_counts_as_none(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(BODY)
    (tmp_path / "data.bin.sha256").touch()
    digest = get(server, tmp_path, unknown(server)).files[0].sha256
    assert (tmp_path / "data.bin.sha256").read_text() == f"{digest}  data.bin\n"


def test_a_finished_data_set_is_not_written_to(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos.zip").write_bytes(zipped({"photos/a.jpg": b"a"}))
    file = unknown(server, "photos.zip", folder="photos")
    get(server, tmp_path, file)
    monkeypatch.setattr(module, "write_atomic", lambda *_args: pytest.fail("written"))
    monkeypatch.setattr(unzip, "_extract", lambda *_args: pytest.fail("unpacked"))
    get(server, tmp_path, file, offline=True)


def test_what_is_complete_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    first = get(server, tmp_path)
    again = get(server, tmp_path)
    assert len(server.requests) == 1
    assert again.files == (replace(first.files[0], received=0),)


def test_a_file_fetched_by_hand_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(BODY)
    assert get(server, tmp_path).files[0].verified
    assert server.requests == []
    assert (tmp_path / "data.bin.sha256").is_file()


def test_a_wrong_file_put_there_by_hand_is_left_and_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"wrong")
    error = refusal(lambda: get(server, tmp_path, unknown(server, size=300_000, md5="0" * 32)))
    assert [problem.split()[1] for problem in error.problems] == ["has", "md5"]
    assert (tmp_path / "data.bin").read_bytes() == b"wrong"
    assert server.requests == []


# --- offline ----------------------------------------------------------------------------------------------------------


def test_offline_lists_all_that_is_missing(server: Server, tmp_path: Path) -> None:
    files = [unknown(server, name) for name in ("a.bin", "b.bin", "c.bin")]
    (tmp_path / "b.bin").write_bytes(b"b")
    error = refusal(lambda: get(server, tmp_path, *files, offline=True))
    assert error.problems == tuple(f"{name}: {server.address}/{name}" for name in ("a.bin", "c.bin"))
    assert "lacks 2 of the 3 files" in error.message
    assert server.requests == []


def test_offline_uses_and_verifies_what_is_there(server: Server, tmp_path: Path) -> None:
    data = zipped({"photos/a.jpg": b"a"})
    (tmp_path / "photos.zip").write_bytes(data)
    file = unknown(server, "photos.zip", folder="photos", sha256=hashlib.sha256(data).hexdigest())
    result = get(server, tmp_path, file, offline=True)
    assert result.files[0].folder == tmp_path / "photos"
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"a"
    (tmp_path / "photos.zip").write_bytes(data + b" ")
    refusal(lambda: get(server, tmp_path, file, offline=True))
    assert server.requests == []


# --- whole data sets --------------------------------------------------------------------------------------------------


def test_two_files_of_one_data_set_one_of_them_interrupted(server: Server, tmp_path: Path) -> None:
    images, masks = zipped({"images/a.jpg": noise(50_000)}), zipped({"masks/a.png": noise(60_000)})
    server.pages = {"/images.zip": Page(images), "/masks.zip": Page(masks, cuts=[20_000])}
    files = [unknown(server, "images.zip", folder="images"), unknown(server, "masks.zip", folder="masks")]
    refusal(lambda: get(server, tmp_path, *files, patience=ONCE))
    assert (tmp_path / "images" / "a.jpg").is_file()
    result = get(server, tmp_path, *files)
    assert [file.received for file in result.files] == [0, len(masks) - 20_000]
    assert [request.path for request in server.requests] == ["/images.zip", "/masks.zip", "/masks.zip"]
    assert server.sent == len(images) + len(masks)
    assert (tmp_path / "masks" / "a.png").read_bytes() == noise(60_000)


def test_two_archives_of_one_folder(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/{n}.zip": Page(zipped({f"{n}.jpg": noise(100, n), f"._{n}.jpg": b"mac"})) for n in (1, 2)}
    files = [unknown(server, f"{n}.zip", folder="photos") for n in (1, 2)]
    for _ in range(2):
        get(server, tmp_path, *files)
        assert leftovers(tmp_path / "photos") == ["1.jpg", "2.jpg"]


def test_what_was_downloaded_can_be_paired(server: Server, tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "made", train=3, test=2, width=48, height=32)
    names = {
        "ISBI2016_ISIC_Part1_Training_Data": made.train_images,
        "ISBI2016_ISIC_Part1_Training_GroundTruth": made.train_masks,
        "ISBI2016_ISIC_Part1_Test_Data": made.test_images,
        "ISBI2016_ISIC_Part1_Test_GroundTruth": made.test_masks,
    }
    for name, folder in names.items():
        server.pages[f"/{name}.zip"] = Page(zipped({f"{name}/{p.name}": p.read_bytes() for p in folder.iterdir()}))
    files = [unknown(server, f"{name}.zip", folder=name) for name in names]
    folders = [file.folder or tmp_path for file in get(server, tmp_path / "data", *files).files]
    cases = pair_folders([Folders("train", *folders[:2]), Folders("test", *folders[2:])])
    assert [case.split for case in cases] == ["train"] * 3 + ["test"] * 2


def test_a_data_set_on_request_is_refused_politely(tmp_path: Path) -> None:
    error = refusal(lambda: download("ph2", tmp_path / "out"))
    assert "on request" in error.message
    assert "https://www.fc.up.pt/addi/ph2%20database.html" in error.fix
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    assert "isic2016" in refusal(lambda: download("isic1999", tmp_path)).fix


# --- unpacking --------------------------------------------------------------------------------------------------------


def archive(folder: Path, files: dict[str, bytes], name: str = "photos.zip") -> Path:
    with warnings.catch_warnings():
        # zipfile warns of the repeated names that some tests need.
        warnings.simplefilter("ignore", UserWarning)
        (folder / name).write_bytes(zipped(files))
    return folder / name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["", "photos/", "./photos/", "photos\\"])
def test_the_top_folder_is_not_doubled(tmp_path: Path, prefix: str) -> None:
    files = {"a.jpg": b"a", "deep/er/b.jpg": b"b", "naïve ☂ \u202e.jpg": b"c", "пример/照片.png": b"d"}
    source = archive(tmp_path, {prefix + name: data for name, data in files.items()})
    assert safe_unzip(source, tmp_path / "photos") == 4
    assert contents(tmp_path / "photos") == files
    assert leftovers(tmp_path) == ["photos", "photos.zip"]


def test_another_top_folder_stays(tmp_path: Path) -> None:
    safe_unzip(archive(tmp_path, {"other/a.jpg": b"a"}), tmp_path / "photos")
    assert contents(tmp_path / "photos") == {"other/a.jpg": b"a"}


def test_mac_leftovers_and_empty_folders_are_left_out(tmp_path: Path) -> None:
    files = {"photos/": b"", "photos/empty/": b"", "photos/a.jpg": b"a", "__MACOSX/photos/._a.jpg": b"x"}
    assert safe_unzip(archive(tmp_path, files), tmp_path / "photos") == 1
    assert contents(tmp_path / "photos") == {"a.jpg": b"a"}


ESCAPES = {
    "../x.jpg": "leads out of the folder",
    "a/../../x.jpg": "leads out of the folder",
    "..\\x.jpg": "leads out of the folder",
    "/tmp/x.jpg": "is an absolute path",  # noqa: S108
    "\\\\server\\x.jpg": "is an absolute path",
    "C:\\x.jpg": "names a drive",
    "c:x.jpg": "names a drive",
    "a/C:/x.jpg": "names a drive",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_no_entry_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    source = archive(tmp_path / "in", {"good.jpg": b"x", name: b"evil"})
    error = refusal(lambda: safe_unzip(source, tmp_path / "in" / "photos"))
    assert str(source) in error.message
    assert error.problems == (f"{name!r} {ESCAPES[name]}",)
    assert contents(tmp_path).keys() == {"in/photos.zip"}


def test_every_offender_is_listed(tmp_path: Path) -> None:
    error = refusal(lambda: safe_unzip(archive(tmp_path, dict.fromkeys(ESCAPES, b"x")), tmp_path / "photos"))
    assert error.problems == tuple(f"{name!r} {reason}" for name, reason in ESCAPES.items())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("photos/link.jpg")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as bundle:
        bundle.writestr(entry, "/etc/passwd")
    error = refusal(lambda: safe_unzip(tmp_path / "photos.zip", tmp_path / "photos"))
    assert error.problems == ("'photos/link.jpg' is a link or a device",)


def test_a_nul_in_a_name(tmp_path: Path) -> None:
    source = archive(tmp_path, {"photos/aQb.jpg": b"x"})
    source.write_bytes(source.read_bytes().replace(b"aQb", b"a\0b"))
    assert "has a NUL" in refusal(lambda: safe_unzip(source, tmp_path / "photos")).problems[0]


def test_an_encrypted_entry(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": b"x"})
    data = bytearray(source.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    source.write_bytes(data)
    assert "is encrypted" in refusal(lambda: safe_unzip(source, tmp_path / "photos")).problems[0]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", method) as bundle:
        bundle.writestr("a.jpg", b"a")
    error = refusal(lambda: safe_unzip(tmp_path / "photos.zip", tmp_path / "photos"))
    assert error.problems == ("'a.jpg' is packed in an unusual way",)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.jpg": b"", "A.JPG": b""}, "one name on many systems"),
        ({"\u00e9.jpg": b"", "e\u0301.jpg": b""}, "one name on many systems"),
        ({"a": b"", "a/b.jpg": b""}, "is a file and a folder"),
    ],
)
def test_names_that_collide(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    error = refusal(lambda: safe_unzip(archive(tmp_path, files), tmp_path / "photos"))
    assert len(error.problems) == 1
    assert words in error.problems[0]


def test_a_bomb_by_ratio(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": b"\0" * 5_000_000})
    assert source.stat().st_size < 10_000
    error = refusal(lambda: safe_unzip(source, tmp_path / "photos"))
    assert "'a.jpg' unpacks to over 200 times its size" in error.problems
    assert not (tmp_path / "photos").exists()


def test_a_bomb_hidden_among_ordinary_files(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": noise(1_000_000), "b.jpg": b"\0" * 5_000_000})
    assert refusal(lambda: safe_unzip(source, tmp_path / "photos")).problems == (
        "'b.jpg' unpacks to over 200 times its size",
    )


def test_a_bomb_of_many_ordinary_files(tmp_path: Path) -> None:
    # Entries that share their packed bytes: each is harmless, all together are not.
    source = archive(tmp_path, {"a.jpg": noise(100_000)})
    data = source.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry, tail = data[start:end], bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 500, 500, 500 * len(entry), start)
    source.write_bytes(data[:start] + entry * 500 + bytes(tail))
    error = refusal(lambda: safe_unzip(source, tmp_path / "photos"))
    assert any("times its size, over 200" in problem for problem in error.problems)


@pytest.mark.parametrize(
    ("limits", "words"),
    [(Limits(total_bytes=99), "100 bytes, over 99"), (Limits(files=1), "2 entries, over 1")],
)
def test_limits(tmp_path: Path, limits: Limits, words: str) -> None:
    source = archive(tmp_path, {"a.jpg": noise(50), "b.jpg": noise(50)})
    error = refusal(lambda: safe_unzip(source, tmp_path / "photos", limits))
    assert [words in problem for problem in error.problems] == [True]
    assert safe_unzip(source, tmp_path / "photos", Limits(total_bytes=100, files=2)) == 2


def test_a_damaged_entry(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_STORED) as bundle:
        bundle.writestr("photos/a.jpg", b"A" * 100)
        bundle.writestr("photos/b.jpg", b"B" * 100)
    source = tmp_path / "photos.zip"
    source.write_bytes(source.read_bytes().replace(b"B" * 100, b"B" * 99 + b"?"))
    error = refusal(lambda: safe_unzip(source, tmp_path / "photos"))
    assert "Bad CRC-32" in error.message
    assert "photos/b.jpg" in error.message
    assert leftovers(tmp_path) == ["photos.zip"]


@pytest.mark.parametrize("data", [b"", b"not a zip", zipped({"a.jpg": noise(1000)})[:-30]])
def test_no_archive_at_all(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "photos.zip").write_bytes(data)
    error = refusal(lambda: safe_unzip(tmp_path / "photos.zip", tmp_path / "photos"))
    assert "is a damaged archive" in error.message
    assert "photos.zip" in error.message


def test_a_missing_archive(tmp_path: Path) -> None:
    assert "No such file" in refusal(lambda: safe_unzip(tmp_path / "x.zip", tmp_path / "photos")).message


HEALTHY = zipped({"photos/a.jpg": noise(300), "photos/b/c.png": b"mask" * 50})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(HEALTHY) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_is_wrong_with_it_nothing_else_is_raised(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(HEALTHY)
    for place, value in changes:
        data[place] = value
    home = tmp_path / "in"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / "photos.zip").write_bytes(data)
    try:
        safe_unzip(home / "photos.zip", home / "photos")
    except DownloadError:
        assert leftovers(home) == ["photos.zip"]
    assert leftovers(tmp_path) == ["in"]
    assert set(leftovers(home)) <= {"photos.zip", "photos"}


names = st.lists(st.sampled_from(["a", "b", "..", ".", "", "C:", "ü", "\\", "a" * 300]), min_size=1, max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names.map("/".join))
def test_whatever_it_is_called_it_stays_inside(tmp_path: Path, name: str) -> None:
    home = tmp_path / "in"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    source = archive(home, {name: b"x"} if name else {"a": b"x"})
    try:
        count = safe_unzip(source, home / "photos")
    except DownloadError:
        assert leftovers(home) == ["photos.zip"]
    else:
        assert len(contents(home / "photos") if (home / "photos").exists() else ()) == count
    assert leftovers(tmp_path) == ["in"]


def test_again_changes_nothing(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": b"a", "b.jpg": b"b"})
    assert safe_unzip(source, tmp_path / "photos") == 2
    before = (tmp_path / "photos" / "a.jpg").stat().st_mtime_ns
    assert safe_unzip(source, tmp_path / "photos") == 0
    assert (tmp_path / "photos" / "a.jpg").stat().st_mtime_ns == before


def test_what_an_interrupted_run_left_is_mended(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": b"a", "deep/b.jpg": b"b"})
    (tmp_path / ".photos.unpacking").mkdir()
    (tmp_path / ".photos.unpacking" / "a.jpg").write_bytes(b"half")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    assert safe_unzip(source, tmp_path / "photos") == 1
    assert contents(tmp_path / "photos") == {"a.jpg": b"a", "deep/b.jpg": b"b"}
    assert leftovers(tmp_path) == ["photos", "photos.zip"]


def test_ctrl_c_while_unpacking_leaves_nothing_half_done(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": b"a", "b.jpg": b"b"})

    def interrupt(_name: str, done: int, total: int | None) -> None:
        assert (done, total) == (1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safe_unzip(source, tmp_path / "photos", progress=interrupt)
    assert leftovers(tmp_path) == ["photos.zip"]
    assert safe_unzip(source, tmp_path / "photos") == 2


def test_files_of_the_user_are_not_overwritten(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"})
    home = tmp_path / "photos"
    (home / "b.jpg").mkdir(parents=True)
    (home / "a.jpg").write_bytes(b"mine")
    (home / "c.jpg").symlink_to(source)
    error = refusal(lambda: safe_unzip(source, home))
    assert [Path(problem.split()[0]).name for problem in error.problems] == ["a.jpg", "b.jpg", "c.jpg"]
    assert (home / "a.jpg").read_bytes() == b"mine"


def test_a_link_on_disk_leads_nothing_elsewhere(tmp_path: Path) -> None:
    source = archive(tmp_path, {"deep/a.jpg": b"a"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "deep").symlink_to(tmp_path / "elsewhere")
    assert "deep is a link" in refusal(lambda: safe_unzip(source, tmp_path / "photos")).problems[0]
    assert leftovers(tmp_path / "elsewhere") == []


def test_the_folder_itself_may_be_the_users_link(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "photos").symlink_to(tmp_path / "large disk")
    safe_unzip(archive(tmp_path, {"a.jpg": b"a"}), tmp_path / "photos")
    assert contents(tmp_path / "large disk") == {"a.jpg": b"a"}


def test_a_full_disk_while_unpacking(tmp_path: Path) -> None:
    source = archive(tmp_path, {"a.jpg": noise(50_000), "b.jpg": noise(150_000)})
    code = """
        try:
            safe_unzip(Path(sys.argv[1]), Path(sys.argv[2]))
        except DownloadError as error:
            sys.exit(str(error))
    """
    done = limited(code, source, tmp_path / "photos")
    assert f"{tmp_path / 'photos'} cannot be written: the disk or quota is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(tmp_path) == ["photos.zip"]
    assert safe_unzip(source, tmp_path / "photos") == 2


def test_too_little_space_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unzip.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**6, 0, 99))  # type: ignore[attr-defined]
    error = refusal(lambda: safe_unzip(archive(tmp_path, {"a.jpg": noise(100)}), tmp_path / "photos"))
    assert "has 99 bytes free" in error.message


def test_a_record_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    server.pages["/data.bin"] = Page(BODY)
    (tmp_path / "data.bin.sha256").mkdir()
    with pytest.raises(OutputError, match=r"data\.bin\.sha256"):
        get(server, tmp_path)
    assert (tmp_path / "data.bin.part").stat().st_size == len(BODY)

"""Fetches published data sets: resumable, verified, and unpacked without trusting the archive.

A file grows as ``<file>.part`` and gets its name once it is complete and its digest right; ``<file>.sha256`` beside it
holds the digest in the format of ``sha256sum``. Nothing but http and https is ever opened.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import ssl
import stat
import struct
import time
import unicodedata
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from lesionseg import __version__
from lesionseg.data.catalogue import Dataset, RemoteFile, find_dataset
from lesionseg.data.images import write_atomic
from lesionseg.errors import DownloadError

__all__ = ["MAX_BYTES", "DownloadResult", "FetchedFile", "Limits", "Patience", "Progress", "download", "safe_unzip"]

MAX_BYTES = 20 * 2**30
"""Larger files are refused; the largest of the catalogue has 11.2 GB."""

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes done and the bytes in all, None when unknown."""

_CHUNK = 2**18
_AGAIN = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, NotImplementedError)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_RECORD = re.compile(rb"[0-9a-f]{64}\b")


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        total_bytes: of all its files together.
        files: how many.
        ratio: unpacked by packed bytes, of the archive and of every file of over 1 MiB.
    """

    total_bytes: int = 64 * 2**30
    files: int = 200_000
    ratio: float = 200.0


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A complete file.

    Attributes:
        path: where it lies.
        size: bytes.
        sha256: hex digest.
        verified: whether the catalogue knows its digest; if not, it was only recorded.
        received: bytes that came over the network this time; 0 when it was there already.
        folder: where it was unpacked to; None when it is no archive.
    """

    path: Path
    size: int
    sha256: str
    verified: bool
    received: int
    folder: Path | None


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A complete data set: the catalogue's entry, and its files in that order."""

    dataset: Dataset
    output: Path
    files: tuple[FetchedFile, ...]


class _AttemptError(Exception):
    """One attempt failed; ``again`` tells whether a further one could help."""

    def __init__(self, reason: object, *, again: bool) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.again = again


@dataclass(slots=True)
class _Wire:
    opener: urllib.request.OpenerDirector
    patience: Patience
    max_bytes: int
    progress: Progress
    received: int = 0


def download(
    name: str | Dataset,
    output: str | Path,
    *,
    offline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
    base: str | None = None,
    patience: Patience = Patience(),
) -> DownloadResult:
    """Brings a data set to a folder; goes on where an earlier call was interrupted, and fetches nothing twice.

    Args:
        name: of the catalogue, or an entry of one's own.
        output: the folder for the archives and the folders they unpack to.
        offline: use what is there, after verifying it.
        max_bytes: refuse larger files.
        progress: called while files are fetched and unpacked.
        base: address of a mirror that has the files side by side, instead of the official addresses.
        patience: timeouts and retries.

    Raises:
        DownloadError: naming the file or address, for everything that can go wrong on the way.
        OutputError: the record of a digest cannot be written.
    """
    dataset = name if isinstance(name, Dataset) else find_dataset(name)
    if not dataset.files:
        raise DownloadError(f"{dataset.name} is not open to downloads ({dataset.licence})", fix=dataset.request)
    folder = Path(output)
    missing = [f"{file.name}: {file.urls[0]}" for file in dataset.files if not (folder / file.name).is_file()]
    if offline and missing:
        raise DownloadError(
            f"{folder} lacks {len(missing)} of the {len(dataset.files)} files of {dataset.name}",
            problems=missing,
            fix="fetch them from there, or download without --offline",
        )
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda _name, _done, _total: None)
    wire = _Wire(_opener(), patience, max_bytes, report)
    return DownloadResult(dataset, folder, tuple(_obtain(file, folder, wire, base) for file in dataset.files))


def _obtain(file: RemoteFile, output: Path, wire: _Wire, base: str | None) -> FetchedFile:
    target = output / file.name
    record = output / f"{file.name}.sha256"
    before = wire.received
    if target.exists():
        with _disk(target):
            found = _RECORD.match(record.read_bytes()) if record.is_file() else None
            recorded = found[0].decode() if found else None
            sha256 = _verify(target, file, recorded)
    else:
        recorded = None
        part = output / f"{file.name}.part"
        _fetch(file, part, wire, (f"{base.rstrip('/')}/{file.name}",) if base else file.urls)
        sha256 = _accept(part, file)
    if recorded != sha256:
        # Otherwise nothing is written, so that a finished data set may lie on a read-only disk.
        write_atomic(record, f"{sha256}  {file.name}\n".encode())
    if not target.exists():
        with _disk(target):
            part.replace(target)
            _notes(part).unlink(missing_ok=True)
    unpacked = output / file.folder if file.folder else None
    if unpacked is not None:
        safe_unzip(target, unpacked, progress=wire.progress)
    known = bool(file.sha256 or file.md5)
    return FetchedFile(target, target.stat().st_size, sha256, known, wire.received - before, unpacked)


# --- verifying --------------------------------------------------------------------------------------------------------


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _verify(path: Path, file: RemoteFile, recorded: str | None = None) -> str:
    """The file's SHA-256, if all that is known of the file is true."""
    sha256, size = _digest(path, "sha256"), path.stat().st_size
    problems = [f"it has {size:,} bytes, expected {file.size:,}"] if file.size not in (None, size) else []
    for algorithm, wanted in (("sha256", file.sha256 or recorded), ("md5", file.md5)):
        found = sha256 if algorithm == "sha256" or wanted is None else _digest(path, algorithm)
        if wanted is not None and found != wanted.lower():
            problems.append(f"its {algorithm} is {found}, expected {wanted.lower()}")
    if problems:
        raise DownloadError(
            f"{path} is not the file that was published", problems=problems, fix="move it away and download again"
        )
    return sha256


def _accept(part: Path, file: RemoteFile) -> str:
    """Verifies a finished download; a wrong one is set aside, so that it is neither used nor resumed."""
    with _disk(part):
        try:
            return _verify(part, file)
        except DownloadError as error:
            aside = part.with_suffix(".rejected")
            part.replace(aside)
            _notes(part).unlink(missing_ok=True)
            raise DownloadError(
                f"what was downloaded as {file.name} is not the file that was published",
                problems=error.problems,
                fix=f"download again; if it stays so, the file was replaced: see {file.urls[0]}, set aside as {aside}",
            ) from error


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turns what the file system raises into a DownloadError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            fix = "free some space and start again: it goes on where it stopped"
            raise DownloadError(f"{path} cannot be written: the disk or quota is full", fix=fix) from error
        raise DownloadError(
            f"{error.filename or path} cannot be used: {error.strerror}", fix="choose another output folder"
        ) from error


def _require_space(folder: Path, needed: int, what: str) -> None:
    with _disk(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder} has {free:,} bytes free, {what} needs {needed:,}", fix="free some space or choose another folder"
        )


# --- fetching ---------------------------------------------------------------------------------------------------------


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


def _opener() -> urllib.request.OpenerDirector:
    # Not build_opener, which also opens file: and ftp: addresses.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _fetch(file: RemoteFile, part: Path, wire: _Wire, urls: tuple[str, ...]) -> None:
    """Completes ``part`` from the first address that has the file."""
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


def _notes(part: Path) -> Path:
    return part.with_suffix(".part.json")


def _resume_point(part: Path, file: RemoteFile) -> tuple[int, str, int | None]:
    """Bytes that are there, what identifies the version they belong to, and its size in bytes where known."""
    try:
        offset = part.stat().st_size
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        validator, total = str(notes["validator"]), notes["total"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0, "", None
    # Without anything to tell versions apart, halves of two could be put together.
    known = validator or file.sha256 or file.md5
    return (offset, validator, total if isinstance(total, int) else None) if known else (0, "", None)


def _attempt(url: str, file: RemoteFile, part: Path, wire: _Wire) -> None:
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
            with _disk(part):
                part.write_bytes(b"")
                # Only now: the notes of the new version must never stand beside bytes of the old one.
                notes = {"validator": _validator(response), "total": total}
                _notes(part).write_text(json.dumps(notes), encoding="utf-8")
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
    with _disk(part):
        part.unlink(missing_ok=True)
        _notes(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _open(request: urllib.request.Request, part: Path, wire: _Wire) -> Iterator[http.client.HTTPResponse]:
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


def _require_fitting(url: str, file: RemoteFile, part: Path, offset: int, total: int | None, wire: _Wire) -> None:
    if total is None:
        return
    if file.size is not None and total != file.size:
        raise _AttemptError(f"the server has {total:,} bytes, expected {file.size:,}: it was replaced", again=False)
    if total > wire.max_bytes:
        raise _too_large(url, f"has {total:,}", wire)
    # An archive of pictures unpacks to about as much again.
    _require_space(part.parent, total - offset + (total if file.folder else 0), f"{file.name} with what it unpacks to")


def _too_large(url: str, has: str, wire: _Wire) -> DownloadError:
    return DownloadError(f"{url} {has} bytes, over {wire.max_bytes:,}", fix="allow more with max_bytes")


def _stream(
    response: http.client.HTTPResponse, file: RemoteFile, part: Path, offset: int, total: int | None, wire: _Wire
) -> int:
    """Appends what comes to ``part``; returns its size then, in bytes."""
    done = offset
    with _disk(part):
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
            with _disk(part):
                _write(sink, chunk)
            done += len(chunk)
            wire.received += len(chunk)
            wire.progress(file.name, done, total)
        with _disk(part):
            os.fsync(sink.fileno())
    return done


def _write(sink: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        # A nearly full disk takes a piece first and complains at the next.
        rest = rest[sink.write(rest) :]


# --- unpacking --------------------------------------------------------------------------------------------------------


def safe_unzip(
    archive: Path,
    folder: Path,
    limits: Limits = Limits(),
    progress: Progress | None = None,
) -> int:
    """Unpacks an archive into a folder, all of it or nothing; what is there already is left as it is.

    A top folder that is called like ``folder`` is not doubled, and what macOS adds (``__MACOSX``, ``._*``) is left out.
    Files that already have the right size count as unpacked. Everything is first unpacked beside the folder and its
    CRC checked, then moved.

    Returns:
        how many files were unpacked; 0 when all were there.

    Raises:
        DownloadError: listing every entry that leads out of the folder, is a link or a device, unpacks to too much, or
            collides with another or with a file on disk; or the archive is damaged, or the disk full.
    """
    try:
        with _disk(folder), zipfile.ZipFile(archive) as bundle:
            home = folder.resolve()
            entries = _missing(_entries(bundle, archive, home.name, limits), home)
            if not entries:
                return 0
            home.parent.mkdir(parents=True, exist_ok=True)
            _require_space(home.parent, sum(info.file_size for info in entries.values()), f"unpacking {archive.name}")
            staging = home.with_name(f".{archive.stem}.unpacking")
            shutil.rmtree(staging, ignore_errors=True)
            try:
                _extract(bundle, entries, staging, progress)
                _move(staging, home, entries)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            return len(entries)
    except _DAMAGES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(f"{archive} is a damaged archive: {reason}", fix="delete it and download again") from error


def _entries(bundle: zipfile.ZipFile, archive: Path, top: str, limits: Limits) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The archive's files by their path below the folder, if every one of them is harmless."""
    infos = bundle.infolist()
    problems = [f"{info.orig_filename!r} {reason}" for info in infos if (reason := _refusal(info, limits))]
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    if not problems:
        files = [info for info in infos if _parts(info) and info.orig_filename[-1] not in "/\\"]
        paths = [(PurePosixPath(*_parts(info)), info) for info in files]
        paths = [(path, info) for path, info in paths if path.parts[0] != "__MACOSX" and path.name[:2] != "._"]
        nested = all(len(path.parts) > 1 and path.parts[0] == top for path, _ in paths)
        problems = _collisions([path for path, _ in paths])
        found = {PurePosixPath(*path.parts[1:]) if nested else path: info for path, info in paths}
    total, packed = sum(info.file_size for info in infos), max(1, archive.stat().st_size)
    if len(infos) > limits.files:
        problems.append(f"it has {len(infos):,} entries, over {limits.files:,}")
    if total > limits.total_bytes:
        problems.append(f"it unpacks to {total:,} bytes, over {limits.total_bytes:,}")
    if total > max(2**20, limits.ratio * packed):
        problems.append(f"it unpacks to {total / packed:,.0f} times its size, over {limits.ratio:,.0f}")
    if problems:
        raise DownloadError(
            f"{archive} is not safe to unpack", problems=problems, fix="delete it; get the file from its publisher"
        )
    return found


def _parts(info: zipfile.ZipInfo) -> list[str]:
    return [part for part in info.orig_filename.replace("\\", "/").split("/") if part not in ("", ".")]


def _refusal(info: zipfile.ZipInfo, limits: Limits) -> str:
    parts, kind = _parts(info), stat.S_IFMT(info.external_attr >> 16)
    checks = {
        "is an absolute path": info.orig_filename[:1] in ("/", "\\"),
        "leads out of the folder": ".." in parts,
        "names a drive": any(re.match("[A-Za-z]:", part) for part in parts),
        "has a NUL in its name": "\0" in info.orig_filename,
        "is a link or a device": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
        "is encrypted": bool(info.flag_bits & 1),
        "is packed in an unusual way": info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        f"unpacks to over {limits.ratio:,.0f} times its size": info.file_size
        > max(2**20, limits.ratio * info.compress_size),
    }
    return " and ".join(reason for reason, applies in checks.items() if applies)


def _collisions(paths: list[PurePosixPath]) -> list[str]:
    """Names that many file systems take for one (case, Unicode form), and files that are also folders."""
    seen: dict[str, PurePosixPath] = {}
    problems = []
    for path in paths:
        other = seen.setdefault(unicodedata.normalize("NFC", str(path)).casefold(), path)
        if other is not path:
            problems.append(f"{str(path)!r} and {str(other)!r} are one name on many systems")
    folders = {unicodedata.normalize("NFC", str(parent)).casefold() for path in paths for parent in path.parents}
    return problems + [f"{str(seen[name])!r} is a file and a folder" for name in sorted(folders & seen.keys())]


def _missing(entries: dict[PurePosixPath, zipfile.ZipInfo], home: Path) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The entries that are not on disk yet; what is there must look as if it came from the archive."""
    missing, problems = {}, []
    for path, info in entries.items():
        place = home / path
        if not os.path.lexists(place):
            missing[path] = info
        elif place.is_symlink() or not place.is_file() or place.stat().st_size != info.file_size:
            problems.append(f"{place} is there, and is not the archive's file of {info.file_size:,} bytes")
    # The folder itself may be a link of the user's; within it, one would lead what is written elsewhere.
    parents = sorted({home / parent for path in entries for parent in path.parents})
    problems += [f"{parent} is a link" for parent in parents if parent.is_symlink()]
    if problems:
        raise DownloadError(
            f"{home} holds files that are not the archive's", problems=problems, fix="move them away and start again"
        )
    return missing


def _extract(
    bundle: zipfile.ZipFile, entries: dict[PurePosixPath, zipfile.ZipInfo], staging: Path, progress: Progress | None
) -> None:
    done, total = 0, sum(info.file_size for info in entries.values())
    for path, info in entries.items():
        place = staging / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(info) as source, place.open("xb") as sink:
            # Stops at the size the entry declares, and checks the CRC there.
            shutil.copyfileobj(source, sink, _CHUNK)
        done += info.file_size
        if progress:
            progress(f"unpacking {Path(bundle.filename or '').name}", done, total)


def _move(staging: Path, home: Path, entries: dict[PurePosixPath, zipfile.ZipInfo]) -> None:
    if not home.exists():
        staging.replace(home)
        return
    for path in entries:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).replace(home / path)

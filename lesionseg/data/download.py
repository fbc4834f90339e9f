"""Fetches published data sets: resumable, verified, and unpacked without trusting the archive.

A file grows as ``<file>.part`` and gets its name once it is complete and its digest right; ``<file>.sha256`` beside it
holds the digest in the format of ``sha256sum``. Nothing but http and https is ever opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lesionseg.data.catalogue import Dataset, RemoteFile, find_dataset
from lesionseg.data.fetch import Patience, Wire, fetch, notes_of, opener
from lesionseg.data.unzip import Progress, on_disk, safe_unzip
from lesionseg.errors import DownloadError, OutputError
from lesionseg.io.reading import read_regular
from lesionseg.io.writing import write_atomic

__all__ = ["MAX_BYTES", "DownloadResult", "FetchedFile", "download"]

MAX_BYTES = 20 * 2**30
"""Larger files are refused; the largest of the catalogue has 11.2 GB."""

_PATIENCE = Patience()
_RECORD = re.compile(rb"[0-9a-f]{64}\b")
_RECORD_BYTES = 4096


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


def download(
    name: str | Dataset,
    output: str | Path,
    *,
    offline: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
    base: str | None = None,
    patience: Patience = _PATIENCE,
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
        OutputError: files of other origin have the names of those to write, or the digest cannot be recorded.
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
    _refuse_foreign(dataset.files, folder)
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda _name, _done, _total: None)
    wire = Wire(opener(), patience, max_bytes, report)
    return DownloadResult(dataset, folder, tuple(_obtain(file, folder, wire, base) for file in dataset.files))


def _refuse_foreign(files: Iterable[RemoteFile], folder: Path) -> None:
    """Refuse to replace partial downloads and digests that another program, or the user, wrote."""
    foreign = []
    for file in files:
        part, record = folder / f"{file.name}.part", folder / f"{file.name}.sha256"
        with on_disk(folder):
            # Notes are written while the part is still empty, so a part with bytes and without notes is not ours.
            started = os.path.lexists(part) and not os.path.lexists(notes_of(part))
            if started and not (part.is_file() and part.stat().st_size == 0):
                foreign.append(part)
            if record.is_file() and not _is_record(record):
                foreign.append(record)
    if foreign:
        raise OutputError(
            "these files were not written by lesionseg and would be replaced",
            problems=map(str, foreign),
            fix="choose another --output, or move them",
        )


def _is_record(path: Path) -> bool:
    # A power failure may leave an empty one.
    size = path.stat().st_size
    return size == 0 or (size <= _RECORD_BYTES and bool(_RECORD.match(read_regular(path, error=OutputError))))


def _obtain(file: RemoteFile, output: Path, wire: Wire, base: str | None) -> FetchedFile:
    target = output / file.name
    record = output / f"{file.name}.sha256"
    before = wire.received
    if target.exists():
        with on_disk(target):
            found = _RECORD.match(read_regular(record, error=DownloadError)) if record.is_file() else None
            recorded = found[0].decode() if found else None
            sha256 = _verify(target, file, recorded)
    else:
        recorded = None
        part = output / f"{file.name}.part"
        fetch(file, part, wire, (f"{base.rstrip('/')}/{file.name}",) if base else file.urls)
        sha256 = _accept(part, file)
    if recorded != sha256:
        # Otherwise nothing is written, so that a finished data set may lie on a read-only disk.
        write_atomic(record, f"{sha256}  {file.name}\n".encode())
    if not target.exists():
        with on_disk(target):
            part.replace(target)
            notes_of(part).unlink(missing_ok=True)
    unpacked = output / file.folder if file.folder else None
    if unpacked is not None:
        safe_unzip(target, unpacked, progress=wire.progress)
    known = bool(file.sha256 or file.md5)
    return FetchedFile(target, target.stat().st_size, sha256, known, wire.received - before, unpacked)


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
    with on_disk(part):
        try:
            return _verify(part, file)
        except DownloadError as error:
            aside = part.with_suffix(".rejected")
            part.replace(aside)
            notes_of(part).unlink(missing_ok=True)
            raise DownloadError(
                f"what was downloaded as {file.name} is not the file that was published",
                problems=error.problems,
                fix=f"download again; if it stays so, the file was replaced: see {file.urls[0]}, set aside as {aside}",
            ) from error

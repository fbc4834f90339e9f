"""Unpacks archives without trusting them; and turns what the file system raises into errors that name the file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lesionseg.errors import DownloadError

__all__ = ["Limits", "Progress", "on_disk", "require_space", "safe_unzip"]

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes done and the bytes in all, None when unknown."""

_CHUNK = 2**18
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, NotImplementedError)


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


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
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


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuses to start what the disk has no room for: ``needed`` bytes.

    Raises:
        DownloadError: there is less.
    """
    with on_disk(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder} has {free:,} bytes free, {what} needs {needed:,}", fix="free some space or choose another folder"
        )


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
        with on_disk(folder), zipfile.ZipFile(archive) as bundle:
            home = folder.resolve()
            entries = _missing(_entries(bundle, archive, home.name, limits), home)
            if not entries:
                return 0
            home.parent.mkdir(parents=True, exist_ok=True)
            require_space(home.parent, sum(info.file_size for info in entries.values()), f"unpacking {archive.name}")
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

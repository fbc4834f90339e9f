"""Bytes from disk: regular files of bounded size, whole, and never waited for."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lesionseg.data.containers import has_end
from lesionseg.errors import ImageError
from lesionseg.records import Case

__all__ = ["IMAGE_SUFFIXES", "MAX_BYTES", "files_digest", "is_companion", "read_bytes"]

_READ_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".mpo")
# Common among photos, and refused by name instead of passed over.
_REFUSED_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".dcm", ".jp2", ".jxl")
IMAGE_SUFFIXES = (*_READ_SUFFIXES, *_REFUSED_SUFFIXES)
"""What counts as a photo when a folder is listed; the bytes decide what a file really is and whether it is read."""

MAX_BYTES = 256 * 2**20
"""Larger files are refused before they are read."""

# Hidden files, what macOS and Windows leave in folders, and ISIC 2017's companion pictures.
_SYSTEM, _COMPANION = ("thumbs.db", "desktop.ini"), "_superpixels."

# Seconds without a change after which a file without an end no longer counts as one that is being copied. Counted from
# the change and not from the first look: of many files that were copied together, only the first is waited for.
_SETTLED = 0.5


def is_companion(name: str) -> bool:
    """Whether a file name says that it is no data: hidden, the system's, or a companion of a photo."""
    name = name.lower()
    return name.startswith(".") or _COMPANION in name or name in _SYSTEM


def files_digest(cases: Iterable[Case]) -> str:
    """Hex digest of the bytes of all photos and masks, with their cases' ids, in any order of the cases.

    Raises:
        ImageError: a file cannot be read, as ``read_bytes`` tells.
    """

    def line(case: Case) -> str:
        parts = [hashlib.sha256(read_bytes(path)).hexdigest() for path in (case.image, case.mask) if path is not None]
        return "\t".join((case.case_id, *parts))

    with ThreadPoolExecutor(4) as pool:
        lines = sorted(pool.map(line, cases))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most 256 MiB.

    A file that changes while it is read, or that changed less than half a second ago and has no end yet, is read once
    more a moment later.

    Raises:
        ImageError: it is missing, not a regular file, unreadable, empty, too large, or still being written.
    """
    data, age = _read_once(path)
    # A change in the future is a clock that is wrong, and says nothing.
    if age is None or (0 <= age < _SETTLED and not has_end(data)):
        time.sleep(_SETTLED - (age or 0))
        before = len(data)
        data, age = _read_once(path)
        if age is None or (len(data) != before and not has_end(data)):
            raise ImageError(f"{path} is still being written", fix="wait until it is complete")
    if not data:
        raise ImageError(f"{path} is empty (zero bytes)", fix="copy or download it again")
    return data


def _read_once(path: Path) -> tuple[bytes, float | None]:
    """The bytes, and how many seconds ago they were last changed: None when it happened meanwhile."""
    try:
        # Opening a FIFO for reading would wait for its writer, for ever perhaps.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise ImageError(f"{path} is not a regular file", fix="check the path")
            if before.st_size > MAX_BYTES:
                raise ImageError(
                    f"{path} has {before.st_size:,} bytes, over {MAX_BYTES:,}", fix="shrink it or leave it out"
                )
            # A buffer as large as the file, and not as the limit; what grows meanwhile is read again.
            data = file.read(before.st_size + 1)
            after = os.fstat(handle)
    except FileNotFoundError as error:
        reason = "is not a regular file but a link to nothing" if path.is_symlink() else "does not exist"
        raise ImageError(f"{path} {reason}", fix="check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path} is not a regular file but a folder", fix="check the path") from error
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise ImageError(f"{path} cannot be read: {reason}", fix="check the path and its permissions") from error
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return data, time.time() - after.st_mtime if same else None

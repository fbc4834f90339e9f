"""Temporary files and folders whose names say which process they belong to.

A process that is killed leaves them behind. By the name, the next one removes what its owner cannot use any more, and
nothing that another process is working on.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from lesionseg.errors import OutputError

__all__ = ["scratch", "sweep", "temporary_name"]

_OWNER = re.compile(r"([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]{12}(\..*)?")
_DAY = 24 * 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_swept: set[tuple[str, str]] = set()


def temporary_name(prefix: str, suffix: str = "") -> str:
    """Return a new name that says which process it belongs to."""
    process = os.getpid()
    return f"{prefix}{_machine()}-{process:x}-{_started(process) or 0:x}-{uuid.uuid4().hex[:12]}{suffix}"


def sweep(folder: Path, prefix: str, *, once: bool = False) -> None:
    """Remove what processes that have ended left in a folder under names of ``temporary_name``.

    Where it is unknown whether a process lives, because it ran on another machine, what has not changed for a day goes.

    Args:
        folder: which need not exist.
        prefix: of the names.
        once: do nothing if this process has done it before.
    """
    known = (str(folder.absolute()), prefix)
    if once and known in _swept:
        return
    _swept.add(known)
    # Whatever cannot be listed or removed does no harm.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and _is_left(entry, prefix):
                _remove(entry)


@contextlib.contextmanager
def scratch(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a private folder that is gone afterwards; those of processes that were killed go first.

    Args:
        prefix: of its name.
        parent: where to; by default the folder for temporary files.

    Raises:
        OSError: it cannot be made in the parent.
        OutputError: the folder for temporary files cannot be written to, or is full.
    """
    place = _temporary_place() if parent is None else parent
    sweep(place, prefix)
    folder = place / temporary_name(prefix)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    except OSError as error:
        if parent is not None or not _is_about(error, folder):
            raise
        raise _no_temporary_files(f"{place}, the folder for temporary files,", error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_place() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        # None of those that Python knows of is writable, nor is the working folder.
        raise _no_temporary_files("every folder for temporary files", error) from error


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether a folder could not be made, or a file in it not be written."""
    if not isinstance(error.filename, str | bytes):
        # Where a write fails, no name is given.
        return error.errno in _FULL
    return str(folder) in os.fsdecode(error.filename)


def _no_temporary_files(place: str, error: OSError) -> OutputError:
    return OutputError(
        f"{place} cannot be written to: {error.strerror}",
        fix="set TMPDIR to a writable folder with free space",
    )


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    elif entry.is_file(follow_symlinks=False):
        with contextlib.suppress(OSError):
            Path(entry.path).unlink()


def _is_left(entry: os.DirEntry[str], prefix: str) -> bool:
    owner = _OWNER.fullmatch(entry.name[len(prefix) :])
    if owner is None:
        return False
    machine, process, started = owner[1], int(owner[2], 16), int(owner[3], 16)
    lives = _lives(process, started) if machine == _machine() else None
    if lives is None:
        with contextlib.suppress(OSError):
            return time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY
    return lives is False


def _lives(process: int, started: int) -> bool | None:
    """Whether a process of this machine still runs; None if that is unknown."""
    if os.name == "nt":
        return None
    if started:
        # Another process may have the same number by now.
        return _started(process) == started
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(process: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None if it has ended, or where Linux is not."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19]) if fields[0] not in (b"Z", b"X") else None
    except (OSError, ValueError, IndexError):
        return None


@functools.cache
def _machine() -> str:
    """What tells apart machines, their restarts, and containers whose processes have numbers of their own."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with contextlib.suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\0".join(facts).encode(errors="replace")).hexdigest()[:8]

"""One process at a time on a folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lesionseg.errors import LesionsegError, OutputError, RunError
from lesionseg.io.reading import read_json
from lesionseg.io.writing import new_folder, write_atomic

__all__ = ["hold", "is_held"]

_TRAINING = "wait for it, stop it with Ctrl-C or SIGTERM, or choose another --name"

# What file systems without locks answer: NFS without its lock service, SMB, FUSE and object stores mounted as folders.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EIO, errno.EINVAL})
_without_locks: set[Path] = set()

_log = logging.getLogger("lesionseg")


@contextmanager
def hold(
    folder: Path, *, name: str = ".lock", what: str = "training", fix: str = _TRAINING, wait: float = 0
) -> Iterator[None]:
    """Keep others out of a folder, which is created if need be.

    After an error, the lock's files and the folders that were created for it are removed again, if they are empty.

    The operating system releases the lock when its process ends, however it ends; the file itself means nothing. Where
    the file system offers no locks, the folder is used without one, and a warning is logged once.

    Args:
        folder: what to hold.
        name: of the lock's file; locks of different names do not exclude each other.
        what: how messages call the holder.
        fix: what a message advises.
        wait: for so many seconds, if another holds it.

    Raises:
        RunError: another process holds it.
        OutputError: the folder cannot be written to.
    """
    path, holder = folder / name, folder / f"{name}.json"
    lock: BaseFileLock | None = None
    with ExitStack() as stack:
        try:
            stack.enter_context(new_folder(folder))
            is_new = not path.exists()
            lock = _file_lock(path)
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise RunError(f"{folder} is in use by another {what}: {_holder(holder)}", fix=fix) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS or lock is None:
                raise OutputError(
                    f"{folder} cannot be written: {error.strerror or error}",
                    fix="choose a writable folder with free space",
                ) from error
            lock = None
            _warn_once(folder, what, error)
        stack.enter_context(lock or nullcontext())
        stack.enter_context(_removed_after_errors(holder, *([path] if is_new else [])))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        write_atomic(holder, json.dumps(who).encode())
        yield


@contextmanager
def _removed_after_errors(*files: Path) -> Iterator[None]:
    """Remove the lock's files after an error, while it is held: who waits for it begins again with a new file."""
    try:
        yield
    except BaseException:
        for file in files:
            with suppress(OSError):
                file.unlink()
        raise


def is_held(folder: Path, name: str = ".lock") -> bool | None:
    """Whether a process holds a folder; None where that cannot be known.

    Args:
        folder: what may be held.
        name: of the lock's file.
    """
    if not (folder / name).is_file():
        return False
    try:
        with _file_lock(folder / name).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None


def _file_lock(path: Path) -> BaseFileLock:
    # A soft lock, which is a file that exists, would stay after a kill and keep its own program out.
    return FileLock(path, fallback_to_soft=False)


def _warn_once(folder: Path, what: str, error: OSError) -> None:
    if folder not in _without_locks:
        _without_locks.add(folder)
        _log.warning(
            "%s: its file system offers no locks (%s); make sure that no other %s uses this folder at the same time",
            folder,
            error.strerror or error,
            what,
        )


def _holder(path: Path) -> str:
    try:
        who = read_json(path)
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (LesionsegError, KeyError, TypeError):
        # The other process has the lock and has not written its name yet.
        return "process unknown"

"""Writing files as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lesionseg.errors import OutputError
from lesionseg.io.leftovers import sweep, temporary_name

__all__ = ["PART", "make_folder", "new_folder", "sync", "write_atomic", "write_whole"]

PART = ".part-"
"""What the names of files begin with that are not complete."""

# What FUSE and network file systems answer that know no fsync; the bytes are stored when they choose to.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES})


def make_folder(path: Path) -> None:
    """Create a folder with those above it, however many; an existing one is left as it is.

    Raises:
        OSError: it cannot be created.
    """
    missing = []
    # Path.mkdir and os.makedirs call themselves for each folder above, and end in a RecursionError.
    while True:
        try:
            path.mkdir(exist_ok=True)
            break
        except FileNotFoundError:
            if path.parent == path:
                raise
            missing.append(path)
            path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)


def write_atomic(
    path: Path, data: bytes | Iterable[bytes], *, before_replace: Callable[[], object] = lambda: None
) -> None:
    """Write a file as a whole or not at all: a unique temporary name in the same folder, fsync, replace.

    Args:
        path: the file; its folder is created if need be.
        data: its bytes, in one piece or in several.
        before_replace: called once the bytes are on disk, before they take the file's name.

    Raises:
        OutputError: the folder cannot be written to or the disk is full; an older file is left as it was.
    """
    with _output_errors(path):
        make_folder(path.parent)
        sweep(path.parent, PART, once=True)
        temporary = path.parent / temporary_name(PART, path.suffix[:16])
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines((data,) if isinstance(data, bytes) else data)
                file.flush()
                sync(file.fileno())
            # It is private so far; results are as readable as any other new file of the user. Network and
            # cloud mounts that know no permissions refuse to change them, and need no change.
            with contextlib.suppress(OSError):
                temporary.chmod(0o666 & ~_umask())
            before_replace()
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder, with its parents, for what is done within; what is still empty after an error is removed again.

    Raises:
        OSError: it cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        make_folder(folder)
        yield
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def write_whole(path: Path, data: bytes, scratch: Path) -> None:
    """Write a file as a whole or not at all, for a process that is killed; after a power cut it may be torn.

    For results whose hash is recorded elsewhere: waiting for the disk would take longer than everything else.

    Args:
        path: the file; its folder is created if need be.
        data: its bytes.
        scratch: a folder on the same file system, for this run alone; a kill leaves half a file there.

    Raises:
        OutputError: as ``write_atomic``.
    """
    temporary = scratch / f"{os.getpid()}-{threading.get_ident()}"
    with _output_errors(path):
        try:
            with temporary.open("wb", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
            try:
                temporary.replace(path)
            except FileNotFoundError:
                make_folder(path.parent)
                temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def sync(descriptor: int) -> None:
    """Wait until a file's bytes are on disk, where its file system can do that.

    Raises:
        OSError: the bytes could not be stored.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}", fix="choose a writable folder with free space"
        ) from error


def _umask() -> int:
    # The umask can only be read by setting it; /proc avoids the moment in which other threads see the wrong one.
    with contextlib.suppress(OSError, StopIteration), Path("/proc/self/status").open(encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("Umask")).split()[1], 8)
    return 0o022

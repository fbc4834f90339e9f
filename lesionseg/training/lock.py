"""One process at a time on a folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lesionseg.errors import OutputError, RunError
from lesionseg.io.writing import make_folder, write_atomic

__all__ = ["hold"]

_TRAINING = "wait for it, stop it with Ctrl-C or SIGTERM, or choose another --name"


@contextmanager
def hold(
    folder: Path, *, name: str = ".lock", what: str = "training", fix: str = _TRAINING, wait: float = 0
) -> Iterator[None]:
    """Keeps others out of a folder, which is made if need be.

    The operating system lets go of the lock when its process ends, however it ends; the file itself means nothing.

    Args:
        folder: what to hold.
        name: of the lock's file; locks of different names do not exclude each other.
        what: how messages call the holder.
        fix: what a message says can be done.
        wait: for so many seconds, if another holds it.

    Raises:
        RunError: another process holds it.
        OutputError: the folder cannot be written to.
    """
    path, holder = folder / name, folder / f"{name}.json"
    try:
        make_folder(folder)
        lock = FileLock(path).acquire(timeout=wait)
    except Timeout as error:
        raise RunError(f"{folder} is in use by another {what}: {_holder(holder)}", fix=fix) from error
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}", fix="choose a writable folder with free space"
        ) from error
    with lock:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        write_atomic(holder, json.dumps(who).encode())
        yield


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        # The other process has the lock and has not written its name yet.
        return "process unknown"

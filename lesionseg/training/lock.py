"""One training at a time on a run folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lesionseg.data.images import write_atomic
from lesionseg.errors import OutputError, RunError

__all__ = ["hold"]

_LOCK, _HOLDER = ".lock", ".lock.json"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other trainings out of a folder, which is made if need be.

    The operating system lets go of the lock when its process ends, however it ends; the file itself means nothing.

    Raises:
        RunError: another process holds it.
        OutputError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK).acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"{folder} is in use by another training: {_holder(folder)}",
            fix="wait for it, stop it with Ctrl-C or SIGTERM, or choose another --name",
        ) from error
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}", fix="choose a writable folder with free space"
        ) from error
    with lock:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        write_atomic(folder / _HOLDER, json.dumps(who).encode())
        yield


def _holder(folder: Path) -> str:
    try:
        who = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        # The other process has the lock and has not written its name yet.
        return "process unknown"

"""Standard output and error that never end the work: a reader that goes away, a full disk, a stream that is closed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

__all__ = ["finish_output", "lenient", "make_output_optional", "protect_output"]

_LOST = 2
_WAIT = 0.01
_optional = False


class _LenientRaw(io.RawIOBase):
    """Writes to another raw stream until that fails; drops everything after.

    Attributes:
        failure: what went wrong first, if anything did.
    """

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self.name = getattr(raw, "name", "")
        self.failure: OSError | ValueError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(self._raw.isatty())
        return False

    def write(self, data: Any, /) -> int:
        while self.failure is None:
            try:
                written: int | None = self._raw.write(data)
            except (OSError, ValueError) as error:
                self.failure = error
                break
            if written is not None:
                return written
            # A pipe or terminal that another program has made non-blocking, and that is full at the moment.
            time.sleep(_WAIT)
        return len(data)


def lenient(stream: TextIO | None) -> TextIO:
    """Return a stream like this one whose writes never raise, nor for characters that its encoding lacks.

    Args:
        stream: what ``sys.stdout`` or ``sys.stderr`` holds; None, as without a console, becomes a sink. One that is no
            file, such as a notebook's, is returned as it is.
    """
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return io.TextIOWrapper(
        io.BufferedWriter(_LenientRaw(raw)),
        encoding=stream.encoding,
        errors="replace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def protect_output() -> None:
    """Make standard output and error of this process lenient.

    Descriptors that are closed are opened on the null device first: the next file to be opened would have taken their
    place, and what a library prints would have gone there.
    """
    if sys.stdout is not sys.__stdout__:
        # Somebody reads it in this process: a test, a notebook.
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(number)
    sys.stdout, sys.stderr = lenient(sys.stdout), lenient(sys.stderr)


def make_output_optional() -> None:
    """Declare that this command has succeeded even where its standard output is lost."""
    global _optional
    _optional = True


def finish_output(code: int) -> int:
    """Return the exit code of a process that would end with ``code``; tell if its standard output is incomplete.

    A reader that has gone away wanted no more, which is no error.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = raw.failure if isinstance(raw, _LenientRaw) else None
    if failure is None or getattr(failure, "errno", None) in (errno.EPIPE, errno.EINVAL if os.name == "nt" else None):
        return code
    reason = getattr(failure, "strerror", None) or failure
    sys.stderr.write(
        f"Error standard output cannot be written: {reason}; the files of this command are complete\n"
        "Fix: free space, or send the output elsewhere\n"
    )
    sys.stderr.flush()
    return code if code or _optional else _LOST

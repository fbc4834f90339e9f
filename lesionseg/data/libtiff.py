"""What libtiff reports while Pillow decodes.

On damaged CCITT data, and on some other damage, libtiff reports an error, fills the rest up and goes on; Pillow returns
the pixels and leaves the report on stderr. Here reports are collected instead, for each thread its own.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import _imaging

__all__ = ["reports"]

# The arguments of the message are a va_list, which is passed on and not looked into.
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_collected = threading.local()
# Fax decoders report rows that end too early or too late as warnings.
_DAMAGE_IN_WARNINGS = b"Fax"


@contextmanager
def reports() -> Iterator[list[str]]:
    """Collect what libtiff reports as damage in this thread.

    Yields:
        a list that fills up; it stays empty where Pillow was built with libtiff inside (on Windows), as its reports
        cannot be caught there.
    """
    _install()
    found: list[str] = []
    _collected.found = found
    try:
        yield found
    finally:
        _collected.found = None


@cache
def _install() -> tuple[Any, ...]:
    """Set the handlers, once in a process; they have to stay alive as long as it."""
    try:
        library = ctypes.CDLL(_imaging.__file__)
        setters = (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler)
    except (OSError, AttributeError):
        return ()
    kept = []
    for setter, only in zip(setters, (b"", _DAMAGE_IN_WARNINGS), strict=True):
        handler = _Collector(only)
        setter.argtypes, setter.restype = [_Handler], ctypes.c_void_p
        callback = _Handler(handler)
        previous = setter(callback)
        handler.previous = _Handler(previous) if previous else None
        kept.append(callback)
    return tuple(kept)


class _Collector:
    """A handler that keeps reports of threads that collect them, and passes on those of others.

    Attributes:
        only: how the names of the modules begin whose reports are kept.
        previous: the handler that was set before.
    """

    def __init__(self, only: bytes) -> None:
        self.only = only
        self.previous: Any = None

    def __call__(self, module: bytes | None, text: bytes | None, arguments: Any) -> None:
        found: list[str] | None = getattr(_collected, "found", None)
        if found is None:
            if self.previous:
                self.previous(module, text, arguments)
        elif (module or b"").startswith(self.only):
            # Without its arguments, a message is whole up to the first of them.
            found.append((text or b"").decode("utf-8", "replace").partition("%")[0].strip(" :,") or "an error")

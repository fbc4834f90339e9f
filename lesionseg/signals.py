"""How a command ends on Ctrl-C, SIGTERM and SIGHUP: cleanly, without a traceback, and soon."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

__all__ = ["STOPS", "as_interrupt", "deferred", "raise_in_place"]

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end."""

_HANGUP = getattr(signal, "SIGHUP", None)
_REPEATED = 1.0
_SOON = 0.1
_SHOW_CURSOR = b"\x1b[?25h"


class _Stop:
    """A handler that raises once; a signal that comes more than a second later ends the process at once.

    coreutils' ``timeout`` and some schedulers signal both the process and its group, so that each signal comes twice.
    """

    # Of all handlers: one inside another must not take for the first signal what its inner one has acted upon.
    raised_at: ClassVar[float | None] = None

    def __init__(self, *, interrupt_only: bool = False) -> None:
        self._interrupt_only = interrupt_only
        _Stop.raised_at = None

    def __call__(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if _Stop.raised_at is not None:
            if now - _Stop.raised_at > _REPEATED:
                _leave(number, frame)
            return
        _Stop.raised_at = now
        raise KeyboardInterrupt if number == signal.SIGINT or self._interrupt_only else SystemExit(128 + number)


def _leave(number: int, frame: object) -> None:
    with contextlib.suppress(OSError):
        if os.isatty(1):
            # A progress bar may have hidden it.
            os.write(1, _SHOW_CURSOR)
    os._exit(128 + number)


@contextlib.contextmanager
def raise_in_place() -> Iterator[None]:
    """Within it, the first signal raises where the program is: KeyboardInterrupt for Ctrl-C, else SystemExit.

    The code of the SystemExit is 128 + the signal's number. What is open is closed on the way out. A second signal, if
    it comes more than a second later, ends the process at once.
    """
    with _handlers(_Stop(), keep_ignored=True), _redelivered():
        yield


@contextlib.contextmanager
def as_interrupt() -> Iterator[None]:
    """As ``raise_in_place``, with KeyboardInterrupt for every signal."""
    with _handlers(_Stop(interrupt_only=True), keep_ignored=True), _redelivered():
        yield


def _again(number: signal.Signals) -> None:
    time.sleep(_SOON)
    _Stop.raised_at = None
    _thread.interrupt_main(number)


@contextlib.contextmanager
def _redelivered() -> Iterator[None]:
    """Within it, what a handler raises in a destructor or a callback of C code, where it is lost, is raised again."""
    before = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
            before(lost)
            return
        code = lost.exc_value.code if isinstance(lost.exc_value, SystemExit) else None
        number = code - 128 if isinstance(code, int) and code > 128 else signal.SIGINT
        # Raised here, it would be lost again.
        _thread.start_new_thread(_again, (signal.Signals(number),))

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def deferred(tell: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within it, the first signal only answers the question that is yielded with yes.

    One that comes more than a second later acts as it would have before.

    Args:
        tell: called at the first signal.
    """
    received: list[float] = []
    previous: dict[int, Any] = {}

    def remember(number: int, frame: object) -> None:
        received.append(time.monotonic())
        if len(received) == 1:
            tell()
        elif received[-1] - received[0] > _REPEATED:
            for known, handler in previous.items():
                signal.signal(known, handler)
            signal.raise_signal(number)

    with _handlers(remember) as before:
        previous.update(before)
        yield lambda: bool(received)


@contextlib.contextmanager
def _handlers(handler: Callable[[int, Any], None], *, keep_ignored: bool = False) -> Iterator[dict[int, Any]]:
    previous: dict[int, Any] = {}
    try:
        for kind in STOPS:
            # nohup ignores SIGHUP, and shells without job control SIGINT, for programs in the background.
            if signal.getsignal(kind) is not signal.SIG_IGN or not (keep_ignored or kind == _HANGUP):
                previous[kind] = signal.signal(kind, handler)
    except ValueError:
        # Only the main thread may set handlers; elsewhere the caller decides.
        previous.clear()
    try:
        yield previous
    finally:
        for number, before in previous.items():
            signal.signal(number, before)

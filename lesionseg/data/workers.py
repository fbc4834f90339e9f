"""What a data-loader worker does about signals, and about the end of the process that started it."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Thread
from weakref import WeakSet

__all__ = ["begin_worker", "starting_workers"]

_STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_started: WeakSet[BaseProcess] = WeakSet()


def begin_worker(number: int) -> None:
    """Prepare a worker process: it leaves signals to the training process, and ends as soon as that one is gone.

    Schedulers and Ctrl-C signal every process of a group. The training process decides what is still finished, and
    needs its workers for that.
    """
    for kind in _STOPS:
        signal.signal(kind, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # torch's own check runs every five seconds, and only between two batches.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Hold back signals while worker processes start, so that none reaches a worker before ``begin_worker`` has run.

    The calling process receives them afterwards; its children inherit the mask. Windows has no such masks.
    """
    known = set(multiprocessing.active_children())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        _started.update(set(multiprocessing.active_children()) - known)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@atexit.register
def _kill_started() -> None:
    # An exception that ends the interpreter can keep a loader alive. multiprocessing then sends its workers SIGTERM,
    # which they ignore, and would wait for ever. Handlers run in reverse order of registration: this one comes first.
    for process in _started:
        with contextlib.suppress(ValueError):
            process.kill()

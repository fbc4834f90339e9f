"""What a data-loader worker does about signals, and about the end of the process that started it."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Thread, current_thread, main_thread
from weakref import WeakSet

__all__ = ["begin_worker", "end_workers", "starting_workers"]

_STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_started: WeakSet[BaseProcess] = WeakSet()
_SECONDS_TO_END = 5.0


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
def starting_workers(started: set[BaseProcess]) -> Iterator[None]:
    """Hold back signals while worker processes start, so that none reaches a worker before ``begin_worker`` has run.

    The calling process receives them afterwards; its children inherit the mask. Windows has no such masks.

    Args:
        started: the processes are added to it.
    """
    known = set(multiprocessing.active_children())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        new = set(multiprocessing.active_children()) - known
        started.update(new)
        _started.update(new)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_workers(processes: Iterable[BaseProcess]) -> None:
    """End worker processes at once: nothing that they hold is missed.

    multiprocessing and torch would send them SIGTERM, which they ignore, and wait.
    """
    with _unwatched():
        alive = [process for process in processes if _kill(process)]
        for process in alive:
            process.join(_SECONDS_TO_END)


def _kill(process: BaseProcess) -> bool:
    try:
        process.kill()
    except ValueError:
        # It has been closed.
        return False
    return True


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    # torch's handler raises at the next worker that a signal ends, wherever the program is.
    kind = getattr(signal, "SIGCHLD", None)
    if kind is None or current_thread() is not main_thread():
        yield
        return
    before = signal.signal(kind, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(kind, before if before is not None else signal.SIG_DFL)


@atexit.register
def _end_started() -> None:
    # An exception that ends the interpreter can keep a loader alive; multiprocessing would wait for its workers for
    # ever. Handlers run in reverse order of registration: this one comes before that of multiprocessing.
    end_workers(_started)

"""Processes that do photos for this one, so that their Python code need not take turns.

Decoding, the network and packing let go of Python's lock; measuring and thresholding hold it for part of each photo's
time, which two threads hardly notice and sixteen would wait for all the time.

``concurrent.futures.ProcessPoolExecutor`` with spawned processes does not fit (CPython 3.11): its workers run a user's
script again, and the pool breaks where that has no ``if __name__ == "__main__"``; when the parent was killed, all
of them went on, as each holds both ends of the queue that it reads. These processes run this module alone, end with
the pipe to their parent, and are done without where they cannot start.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Generic, TypeVar

from lesionseg.errors import LesionsegError, ResourceError
from lesionseg.signals import STOPS

__all__ = ["MANY", "Crew", "count_cores", "end_with_input", "serve"]

MANY = 100
"""Photos; with fewer, a helper is hardly there before all is done."""

R = TypeVar("R")
_PROGRAM = "import sys; sys.path[:] = {path!r}; from lesionseg.helper import serve; serve()"
_LENGTH = struct.Struct(">Q")
_READY = b"ready"


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew(Generic[R]):
    """Calls a function in helper processes; here, as long as none is ready.

    Args:
        work: what is done; it, its arguments and its results can be pickled.
        size: how many helpers; 0 does everything here.
    """

    def __init__(self, work: Callable[..., R], size: int) -> None:
        self._work = work
        self._idle: SimpleQueue[_Helper] = SimpleQueue()
        self._helpers: list[_Helper] = []
        self._greeters: list[Thread] = []
        try:
            self._start(pickle.dumps(work) if size else b"", size)
        except BaseException:
            self.close()
            raise

    def _start(self, data: bytes, size: int) -> None:
        for _ in range(size):
            try:
                helper = _Helper()
            except (OSError, ValueError):
                # No memory, no descriptor, no process left for this user, or no interpreter, as in a program that
                # embeds Python: the work is done here.
                return
            self._helpers.append(helper)
            try:
                greeter = Thread(target=self._greet, args=(helper, data))
                greeter.start()
            except RuntimeError:
                # No thread is left, either.
                return
            self._greeters.append(greeter)

    def __call__(self, *arguments: Any) -> R:
        """The function's result, from any thread.

        Raises:
            ResourceError: a helper was killed, or has crashed.
        """
        try:
            helper = self._idle.get_nowait()
        except Empty:
            return self._work(*arguments)
        try:
            helper.send(pickle.dumps(arguments))
            result, error = pickle.loads(helper.receive())  # noqa: S301 - made by this program's own process
        except (OSError, EOFError) as trouble:
            raise ResourceError(
                f"a helper process ended by itself at {arguments[0]}",
                fix="check the memory that is free; the same command goes on where it was, perhaps with fewer workers",
            ) from trouble
        self._idle.put(helper)
        if error is not None:
            raise error
        done: R = result
        return done

    def close(self) -> None:
        """Ends the helpers; nobody may be calling."""
        for helper in self._helpers:
            # Before any wait: a second signal may end it.
            helper.stop()
        for greeter in self._greeters:
            greeter.join()
        for helper in self._helpers:
            helper.close()

    def _greet(self, helper: _Helper, data: bytes) -> None:
        try:
            helper.send(data)
            if helper.receive() == _READY:
                self._idle.put(helper)
        except (OSError, EOFError):
            # One that cannot start is done without: its share is done here.
            helper.stop()


class _Helper:
    """A process, and the pipes to and from it."""

    def __init__(self) -> None:
        # Each has one core; Ctrl-C is for the first process, which lets the photos under way be finished.
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        if not sys.executable:
            raise ValueError("this Python does not know its interpreter")
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with a program of this file
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one},
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - both were asked for
        assert self._process.stdout is not None  # noqa: S101
        self._to, self._from = self._process.stdin, self._process.stdout

    def send(self, data: bytes) -> None:
        _send(self._to, data)

    def receive(self) -> bytes:
        return _receive(self._from)

    def stop(self) -> None:
        """Nothing is lost: between two photos there is nothing under way."""
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        for pipe in (self._to, self._from):
            try:
                pipe.close()
            except OSError:
                # What was still to be sent to a process that is gone.
                continue


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """Raises EOFError where the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data


def serve() -> None:
    """What a helper does until the first process is gone."""
    for number in STOPS:
        # Schedulers send signals to every process; the first one decides what is finished.
        signal.signal(number, signal.SIG_IGN)
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between the results.
    os.dup2(2, 1)
    received: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(source, received), daemon=True).start()
    try:
        work = pickle.loads(received.get())  # noqa: S301 - sent by the process that started this one
        _send(target, _READY)
        while True:
            arguments = pickle.loads(received.get())  # noqa: S301
            answer: tuple[Any, LesionsegError | None]
            try:
                answer = work(*arguments), None
            except LesionsegError as error:
                answer = None, error
            _send(target, pickle.dumps(answer))
    except BrokenPipeError:
        return


def _read(source: IO[bytes], received: SimpleQueue[bytes]) -> None:
    try:
        while True:
            received.put(_receive(source))
    except (OSError, EOFError):
        # The first process is gone, and nobody waits for what is being computed or imported.
        os._exit(0)


def end_with_input() -> None:
    """End this process, in whatever it does, once its standard input is closed: when its parent is gone."""

    def wait() -> None:
        with open(0, "rb", buffering=0, closefd=False) as source:
            source.read()
        os._exit(0)

    Thread(target=wait, daemon=True).start()

"""Ctrl-C, SIGTERM and SIGHUP: before, during and after a command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lesionseg import signals
from lesionseg.signals import as_interrupt, deferred, raise_in_place

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals to processes")
BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(kind) for kind in signals.STOPS]
    hook = sys.unraisablehook
    yield
    assert [signal.getsignal(kind) for kind in signals.STOPS] == before
    assert sys.unraisablehook is hook


def ended(code: str, number: int, *, ignored: bool = False) -> tuple[int, str]:
    """The exit code and all output of a program that says when it is ready for a signal."""

    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=ignore if ignored else None,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        told, _ = process.communicate(timeout=60)
    return process.returncode, first + told


SLOW_IMPORT = """
import importlib.abc, sys, time
from lesionseg.__main__ import main
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *rest):
        if name == "lesionseg.cli":
            print("ready", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
main()
"""


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_a_signal_during_the_imports(number: int, code: int) -> None:
    assert ended(SLOW_IMPORT, number) == (code, "ready\n")


COMMAND = """
import os, sys, time
from lesionseg import api
from lesionseg.__main__ import main
def pair(*args, **options):
    try:
        os.write(1, b"ready\\n")
        time.sleep(60)
    finally:
        print("cleaned", flush=True)
api.pair = pair
sys.argv[1:] = "data pair --images a --masks b --output m.csv".split()
main()
"""


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_a_signal_during_a_command(number: int, code: int) -> None:
    assert ended(COMMAND, number) == (code, "ready\ncleaned\n")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_the_shell_ignores_stays_ignored(number: int) -> None:
    code = COMMAND.replace("sleep(60)", "sleep(0.5)") + "\n"
    assert "cleaned" in ended(code, number, ignored=True)[1]
    assert ended(code, number, ignored=True)[0] not in (130, 129)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_first_signal_raises_and_its_echo_does_not(number: int, kind: type[BaseException]) -> None:
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            cleaned.append(True)

    with pytest.raises(kind), raise_in_place():
        work()
    assert cleaned


def test_a_signal_inside_an_inner_handler_is_not_raised_again_outside() -> None:
    caught = 0
    with raise_in_place():
        try:
            with as_interrupt():
                os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            caught += 1
    assert caught == 1


def test_a_later_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(signals, "_leave", lambda number, frame: left.append(number))
    monkeypatch.setattr(signals, "_REPEATED", 0.01)

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), raise_in_place():
        work()
    assert left == [signal.SIGTERM]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_inside_a_destructor_is_not_lost(number: int, kind: type[BaseException]) -> None:
    class Fragile:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    def work() -> None:
        thing = Fragile()
        del thing
        for _ in range(1000):
            time.sleep(0.001)

    with pytest.raises(kind), raise_in_place():
        work()


def test_a_training_is_asked_once_and_then_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_REPEATED", 0.05)
    told: list[bool] = []

    def work() -> None:
        with deferred(lambda: told.append(True)) as stop:
            assert not stop()
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            assert (stop(), told) == (True, [True])
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the second one counts")

    with pytest.raises(SystemExit) as caught, raise_in_place():
        work()
    assert caught.value.code == 143


UNFINISHED_IMPORT = """
import importlib.abc, sys
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *rest):
        if name == "signal":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.modules.pop("signal", None)
import lesionseg.__main__
"""


def test_ctrl_c_while_the_module_signal_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", UNFINISHED_IMPORT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

"""One training at a time on a run folder; a dead one is in nobody's way."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lesionseg.errors import OutputError, RunError
from lesionseg.inference.journal import Part
from lesionseg.inference.parts import claim
from lesionseg.io.locking import hold, is_held
from lesionseg.training.run import run_training

# With a helper process that lives on, as a data-loader worker does for some seconds.
HOLDER = """
import os, sys, time
from pathlib import Path
from lesionseg.io.locking import hold
with hold(Path(sys.argv[1])):
    helper = os.fork()
    if helper == 0:
        # Said by the helper itself: by now it has closed what it inherited.
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    helper = int(process.stdout.readline())
    try:
        yield process
    finally:
        os.kill(helper, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_the_second_is_told_who_holds_it_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    with another_process(tmp_path) as first:
        with pytest.raises(RunError, match="in use by another training") as caught, hold(tmp_path):
            pass
        assert f"process {first.pid} on {socket.gethostname()}, since 20" in str(caught.value)
        first.kill()
        first.wait()
        # Its helper still runs.
        with hold(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()} "), hold(tmp_path):
            pass


def test_it_is_free_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with hold(tmp_path / "run"):
            pass
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "run"):
        raise ZeroDivisionError
    with hold(tmp_path / "run"):
        pass


def test_a_holder_that_has_not_given_its_name_yet(tmp_path: Path) -> None:
    with hold(tmp_path):
        for content in (None, "{", "[]", "{}"):
            (tmp_path / ".lock.json").unlink(missing_ok=True)
            if content:
                (tmp_path / ".lock.json").write_text(content)
            with pytest.raises(RunError, match="process unknown"), hold(tmp_path):
                pass


def test_a_place_that_cannot_be_written_to(tiny, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"(?s)file/run cannot be written: Not a directory.*Fix: choose a writable"):
        run_training(tiny.config(), tmp_path / "file" / "run")


@pytest.mark.long
def test_training_and_resuming_stop_at_the_lock(tiny, tmp_path: Path) -> None:
    run_training(tiny.config("loop.epochs=1"), tmp_path / "run")
    before = sorted((tmp_path / "run").rglob("epoch*"))
    with hold(tmp_path / "run"):
        for config, resume in ((tiny.config(), False), (None, True)):
            with pytest.raises(RunError, match="in use by another training"):
                run_training(config, tmp_path / "run", resume=resume, overrides=["loop.epochs=2"] * resume)
    assert sorted((tmp_path / "run").rglob("epoch*")) == before
    assert run_training(None, tmp_path / "run", resume=True, overrides=["loop.epochs=2"]).status == "finished"


def test_two_runs_of_one_name_do_not_share_a_folder_of_checkpoints(tiny, tmp_path: Path) -> None:
    config = tiny.config("loop.epochs=1", f"loop.checkpoints={tmp_path / 'kept'}")
    with hold(tmp_path / "kept" / "run"), pytest.raises(RunError, match="kept/run is in use"):
        run_training(config, tmp_path / "a" / "run")
    run_training(config, tmp_path / "a" / "run")
    with pytest.raises(RunError, match="kept/run holds a run already"):
        run_training(config, tmp_path / "b" / "run")


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A file system without locks; its answer is the fixture's parameter. Returns what the answer means."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return os.strerror(request.param)


@pytest.mark.parametrize(
    "no_locks", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO, errno.EINVAL], indirect=True
)
def test_a_file_system_without_locks_is_used_without(
    no_locks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with hold(tmp_path, what="prediction"):
            assert (tmp_path / ".lock.json").is_file()
            assert is_held(tmp_path) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: its file system offers no locks ({no_locks}); "
        "make sure that no other prediction uses this folder at the same time"
    ]


@pytest.mark.parametrize("no_locks", [errno.ENOLCK], indirect=True)
@pytest.mark.usefixtures("no_locks")
def test_prediction_and_training_go_on_without_locks(tiny, tmp_path: Path) -> None:
    for part in (None, Part(1, 2)):
        with claim(tmp_path, part):
            pass
    assert run_training(tiny.config("loop.epochs=1"), tmp_path / "run").status == "finished"


def test_who_holds_a_folder_is_seen_without_holding_it(tmp_path: Path) -> None:
    assert is_held(tmp_path) is False
    with hold(tmp_path):
        assert is_held(tmp_path) is True
        assert is_held(tmp_path, "other") is False
    assert is_held(tmp_path) is False

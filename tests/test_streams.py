"""Output that is lost ends no work: full disks, readers that go away, closed streams, terminals without Unicode."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lesionseg import streams
from lesionseg.streams import finish_output, lenient, make_output_optional

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")


class Broken(io.RawIOBase):
    """Fails from the second write on."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.got = error, b""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        if self.got:
            raise self.error
        self.got += bytes(data)  # type: ignore[call-overload]
        return len(self.got)


def broken(error: Exception) -> tuple[Broken, io.TextIOWrapper]:
    raw = Broken(error)
    return raw, io.TextIOWrapper(io.BufferedWriter(raw), encoding="ascii", line_buffering=True)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit code and the message of a process that wrote two lines to a stream that takes one."""
    monkeypatch.setattr(streams, "_optional", False)

    def end(error: Exception, code: int = 0) -> tuple[int, str]:
        raw, stream = broken(error)
        wrapped = lenient(stream)
        monkeypatch.setattr(sys, "stdout", wrapped)
        for _ in range(3):
            wrapped.write("a lésion\n")
        assert raw.got == b"a l?sion\n"
        return finish_output(code), capsys.readouterr().err

    return end


def test_a_full_disk_is_told_once(ended: Callable[..., tuple[int, str]]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    code, told = ended(full)
    assert code == 2
    assert told.startswith("Error standard output cannot be written: No space left on device")
    assert told.count("Error") == told.count("Fix:") == 1
    assert ended(full, 3)[0] == 3


def test_a_reader_that_goes_away_is_no_error(ended: Callable[..., tuple[int, str]]) -> None:
    assert ended(BrokenPipeError(errno.EPIPE, "Broken pipe")) == (0, "")


def test_a_training_succeeds_without_its_output(ended: Callable[..., tuple[int, str]]) -> None:
    make_output_optional()
    code, told = ended(OSError(errno.EIO, "Input/output error"))
    assert (code, "Input/output error" in told) == (0, True)


def test_streams_that_are_no_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    assert lenient(stream) is stream
    with lenient(None) as sink:
        assert sink.write("x") == 1
    monkeypatch.setattr(sys, "stdout", stream)
    streams.protect_output()
    assert sys.stdout is stream
    assert finish_output(0) == 0


def test_a_pipe_that_does_not_block_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = "import sys; from lesionseg.streams import protect_output; protect_output(); print('x' * 500_000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            assert len(stream.read()) == 500_001
        assert process.wait() == 0


def command(words: str, redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = f"'{sys.executable}' -m lesionseg {words} {redirection}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell's redirections")
@pytest.mark.parametrize(
    ("words", "redirection", "code", "told"),
    [
        pytest.param("--version", ">/dev/full", 2, "standard output cannot be written", marks=needs_full),
        pytest.param("nosuch", ">/dev/full 2>/dev/full", 2, "", marks=needs_full),
        ("models --json", "| true", 0, ""),
        ("models", ">&-", 0, ""),
        ("models", "<&- >&- 2>&-", 0, ""),
        ("evaluate", ">&-", 2, "evaluate scores either a run"),
    ],
)
def test_redirections(words: str, redirection: str, code: int, told: str) -> None:
    done = command(words, redirection)
    assert done.returncode == code
    assert told in done.stderr
    assert bool(done.stderr) == bool(told)
    assert "Traceback" not in done.stderr


def test_a_terminal_without_unicode() -> None:
    done = command("data download", "", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()

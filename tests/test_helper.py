"""Helper processes: the same results, errors as they are, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from red_channel import save
from test_pipeline import same_outputs

from lesionseg import helper
from lesionseg.data.files import read_bytes
from lesionseg.errors import ImageError, ResourceError
from lesionseg.helper import Crew
from lesionseg.inference import pipeline
from lesionseg.inference.folder import predict_folder
from lesionseg.inference.onnx_predictor import load_onnx
from lesionseg.inference.refine import Refinement


def ready(crew: Crew) -> Crew:
    """With all helpers at hand, or given up."""
    for greeter in crew._greeters:
        greeter.join()
    return crew


@pytest.fixture
def crew_of() -> Iterator[Callable[..., Crew]]:
    made: list[Crew] = []

    def make(work: Callable[..., object], size: int) -> Crew:
        made.append(ready(Crew(work, size)))
        return made[-1]

    yield make
    for crew in made:
        crew.close()


def test_work_is_done_elsewhere_or_here(crew_of) -> None:
    assert crew_of(os.getpid, 0)() == os.getpid()
    crew = crew_of(os.getpid, 2)
    assert len({crew(), crew(), os.getpid()}) == 3


def test_errors_arrive_as_they_are_and_the_helper_goes_on(crew_of, tmp_path: Path) -> None:
    crew = crew_of(read_bytes, 1)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"nowhere\.jpg does not exist") as caught:
            crew(tmp_path / "nowhere.jpg")
        assert caught.value.fix == "check the path"
    (tmp_path / "a.jpg").write_bytes(b"123")
    assert crew(tmp_path / "a.jpg") == b"123"


def test_what_is_printed_does_not_get_between(crew_of, capfd: pytest.CaptureFixture[str]) -> None:
    crew = crew_of(os.write, 1)
    assert [crew(1, b"hello\n"), crew(1, b"again\n")] == [6, 6]
    assert capfd.readouterr().err == "hello\nagain\n"


def test_a_helper_that_is_killed_is_told(crew_of) -> None:
    crew = crew_of(os.getpgid, 1)
    crew(0)
    crew._helpers[0].stop()
    with pytest.raises(ResourceError, match="ended by itself at 0"):
        crew(0)


def test_helpers_that_cannot_start_are_done_without(crew_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_PROGRAM", "raise SystemExit")
    assert crew_of(os.getpid, 2)() == os.getpid()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Popen", BlockingIOError(11, "Resource temporarily unavailable")),
        ("Thread", RuntimeError("can't start new thread")),
    ],
)
def test_machines_without_room_for_helpers(
    crew_of, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    started: list[object] = []
    real = getattr(helper.subprocess if name == "Popen" else helper, name)

    def second_fails(*arguments: object, **options: object) -> object:
        if started:
            raise error
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(helper.subprocess if name == "Popen" else helper, name, second_fails)
    crew = crew_of(os.getpid, 3)
    assert len({crew() for _ in range(4)}) == 1
    assert len(crew._greeters) == 1


def test_a_python_that_does_not_know_its_interpreter(crew_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    assert crew_of(os.getpid, 2)() == os.getpid()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert crew_of(os.getpid, 2)() == os.getpid()


def test_signals_are_for_the_first_process(crew_of) -> None:
    crew = crew_of(os.getpid, 1)
    found = crew()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(found, number)
    assert crew() == found


ORPHAN = """
import os, sys, time
from lesionseg.helper import Crew
crew = Crew(os.getpid, 1)
while crew() == os.getpid():
    time.sleep(0.01)
print(crew(), flush=True)
time.sleep(600)
"""


BUSY = """
import os, sys, threading, time
from lesionseg.helper import Crew
crew = Crew(time.sleep, 1)
while crew._idle.empty():
    time.sleep(0.01)
threading.Thread(target=crew, args=(600,), daemon=True).start()
time.sleep(0.2)
print(crew._helpers[0]._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("program", [ORPHAN, BUSY], ids=["idle", "busy"])
def test_nobody_is_left_behind_by_a_kill(program: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as told:
        orphan = psutil.Process(int(told.readline()))
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while is_running(orphan) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(orphan)


def is_running(process: psutil.Process) -> bool:
    try:
        # Whoever adopts it may leave it as a zombie.
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_ends_with_its_input() -> None:
    code = "import time; from lesionseg.helper import end_with_input; end_with_input(); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.stdin.close()
    assert process.wait(30) == 0


@pytest.mark.long
@pytest.mark.parametrize("refine", [Refinement(), Refinement(flips=True, largest=True)], ids=["plain", "refined"])
def test_a_folder_has_the_same_outputs(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refine: Refinement
) -> None:
    for number in range(12):
        save(tmp_path / "photos" / f"{number % 2}" / f"{number:03}.jpg", number)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    model = refine.around(load_onnx(exported[1], threads=1), 0.5)
    predict_folder(tmp_path / "photos", model, tmp_path / "here", workers=2)
    made: list[Crew] = []

    def counted(*arguments: object) -> Crew:
        made.append(ready(Crew(*arguments)))
        return made[-1]

    monkeypatch.setattr(pipeline, "PHOTOS_PER_PROCESS", 1)
    monkeypatch.setattr(pipeline, "Crew", counted)
    result = predict_folder(tmp_path / "photos", model, tmp_path / "there", workers=2)
    assert (result.done, result.failed) == (12, 1)
    assert len(made[0]._helpers) == 2
    assert all(helper._process.poll() is not None for helper in made[0]._helpers)
    assert same_outputs(tmp_path / "here", tmp_path / "there")
    assert predict_folder(tmp_path / "photos", model, tmp_path / "there", workers=2).reused == 12

"""How a training ended, as its ``run.json`` says."""

import json
from pathlib import Path

import pytest

from lesionseg.errors import NonFiniteError, OutputError
from lesionseg.evaluation.runs import KILLED, load_info
from lesionseg.io.locking import hold
from lesionseg.training import info, run
from lesionseg.training.info import recorded, was_killed
from lesionseg.training.run import run_training
from lesionseg.training.watch import Watcher


def status(folder: Path) -> tuple[str, str]:
    content = json.loads((folder / "run.json").read_text())
    return content["status"], content["reason"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), ("interrupted", "stopped at once")),
        (NonFiniteError("the loss is not finite", problems=["a"], fix="b"), ("failed", "the loss is not finite")),
        (ValueError("a\nb"), ("failed", "ValueError: a\\nb")),
        (MemoryError(), ("failed", "MemoryError: ")),
        (SystemExit(1), ("failed", "SystemExit: 1")),
    ],
)
def test_a_training_that_raises_is_not_running(error: BaseException, expected: tuple[str, str], tmp_path: Path) -> None:
    def train() -> None:
        with recorded(tmp_path, {"name": "a"}, writes=True):
            assert status(tmp_path) == ("running", "")
            raise error

    with pytest.raises(type(error)):
        train()
    assert status(tmp_path) == expected


def test_a_full_disk_does_not_hide_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space left")

    def train() -> None:
        with recorded(tmp_path, {}, writes=True):
            monkeypatch.setattr(info, "write_atomic", full)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with recorded(tmp_path, {}, writes=False) as ended:
        ended("finished", "")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_training_is_not_running_either(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, told = tmp_path / "run", []
    run_training(tiny.config("loop.epochs=1"), folder)
    assert load_info(folder)["status"] == "finished"
    assert not was_killed(folder)
    content = json.loads((folder / "run.json").read_text()) | {"status": "running"}
    (folder / "run.json").write_text(json.dumps(content))
    assert load_info(folder)["status"] == KILLED
    with hold(folder):
        assert load_info(folder)["status"] == "running"

    def fail(*_: object, **__: object) -> None:
        raise NonFiniteError("not finite")

    monkeypatch.setattr(run, "fit", fail)
    with pytest.raises(NonFiniteError):
        run_training(None, folder, resume=True, overrides=["loop.epochs=2"], watcher=Watcher(on_notice=told.append))
    assert told == ["the last training of this run was killed; what it did after its last checkpoint is repeated"]
    assert status(folder) == ("failed", "not finite")

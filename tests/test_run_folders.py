"""Where a training may begin, and what a refused one leaves."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lesionseg import api
from lesionseg.cli import app
from lesionseg.errors import LesionsegError, ManifestError, RunError
from lesionseg.io.locking import hold
from lesionseg.training.places import require_unused

OURS = {"config": {}, "manifest": {}, "versions": {}}


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "/abs", "a/b", "a.", "con", "x" * 300, "a\nb"])
@pytest.mark.parametrize("more", [(), ("--sweep", "loop.seed=0,1"), ("--resume",)])
def test_names_are_checked_before_anything(
    name: str, more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Nothing that needs torch may be imported before the name is refused.
    monkeypatch.setitem(sys.modules, "lesionseg.training.run", None)
    error = CliRunner().invoke(app, ["train", "--name", name, "data.manifest=m.csv", *more]).exception
    assert isinstance(error, LesionsegError)
    assert "cannot be a run's name" in str(error) or not name
    assert list(tmp_path.iterdir()) == []


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "files",
    [
        {"weights.bin": "theirs"},
        {"run.json": json.dumps({"tool": "other"}), "weights.bin": ""},
        {"run.json": json.dumps(OURS | {"scores_of": "lesionseg-base"})},
        {"run.json": json.dumps({"name": "x", "predictions": "masks"})},
        {"checkpoints/epoch-0001.json": "{}", "run.json": json.dumps(OURS)},
        {"sub/notes.txt": ""},
    ],
)
def test_another_tools_folder_is_not_taken_over(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "T", files)
    monkeypatch.setitem(sys.modules, "lesionseg.training.run", None)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match="holds") as caught:
        api.train({"data": {"manifest": "m.csv"}}, tmp_path / "T")
    assert "choose another --name" in caught.value.fix
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_of_chosen_checkpoints_is_looked_at_too(tmp_path: Path) -> None:
    put(tmp_path / "kept" / "T", {"theirs.bin": ""})
    with pytest.raises(RunError, match="something else"):
        require_unused(tmp_path / "runs" / "T", str(tmp_path / "kept"))


@pytest.mark.parametrize("files", [{}, {".lock": "", ".DS_Store": ""}, {"run.json": json.dumps(OURS), "a.png": ""}])
def test_where_a_training_may_begin(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "T").mkdir()
    put(tmp_path / "T", files)
    assert require_unused(tmp_path / "T", None) == tmp_path / "T" / "checkpoints"


def test_a_refused_training_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LesionsegError):
        api.train({"data": {"manifest": str(tmp_path / "no.csv")}}, tmp_path / "runs" / "T")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs" / "T").mkdir(parents=True)
    with pytest.raises(LesionsegError):
        api.train({"data": {"manifest": str(tmp_path / "no.csv")}}, tmp_path / "runs" / "T")
    assert list((tmp_path / "runs" / "T").iterdir()) == []


def test_an_error_under_the_lock_leaves_what_was_made_before_and_meanwhile(tmp_path: Path) -> None:
    def refuse(meanwhile: Any) -> None:
        meanwhile()
        raise ManifestError("refused")

    def fail(folder: Path, *, meanwhile: Any = lambda: None) -> None:
        with pytest.raises(ManifestError), hold(folder):
            refuse(meanwhile)

    fail(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    fail(tmp_path / "a" / "b", meanwhile=lambda: put(tmp_path / "a" / "b", {"run.json": ""}))
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["run.json"]
    # The lock of an earlier training is not removed: another process may be waiting for it.
    put(tmp_path / "c", {".lock": ""})
    fail(tmp_path / "c")
    assert (tmp_path / "c" / ".lock").exists()

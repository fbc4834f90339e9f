"""One rule for the names of runs."""

from pathlib import Path

import pytest

from lesionseg.errors import RunError
from lesionseg.io.names import joined_name, name_of, require_run_name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../up", "a/b", "/abs", "a\\b", "C:x", "a.", "a ", " a", ".hidden", "-x", "=1", "a,b", "a\nb"),
        *("a\x00", "a\x7f", "a\u202eb", "con", "NUL", "con.txt", "Com1", "lpt9.x.y", "aux .txt", "a" * 101, "é" * 101),
        *("漢" * 90, "a*b", "a?b", 'a"b', "a<b", "a|b", "a\ud800", "a b", "ä", "_x"),
    ],
)
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(RunError, match="cannot be a run's name"):
        require_run_name(name)


@pytest.mark.parametrize("name", ["run", "frozen-loss=dice", "v1.2", "console", "com10", "a" * 100, "base.onnx"])
def test_what_can_be_a_name(name: str) -> None:
    require_run_name(name)


def test_joined_names() -> None:
    assert joined_name("report", ["a", "runs/b", "/x/c.onnx", "d\\e"]) == "report-a-b-c.onnx-e"
    long = [joined_name("report", [f"{'n' * 90}-{letter}", "m" * 100, tail]) for letter in "ab" for tail in "xy"]
    assert len(set(long)) == 4
    assert max(map(len, long)) <= 100
    assert joined_name("report", ["a\nb", ".."]) == "report-a_b-"


@pytest.mark.parametrize("folder", ["masks", "My masks (2)", "Läsionen", ".hidden", "con", "x" * 200, "a.", "漢字"])
def test_a_folder_gives_a_name(tmp_path: Path, folder: str) -> None:
    require_run_name(name_of(tmp_path / folder))

"""What a killed process leaves is removed by the next one, and nothing else is."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lesionseg.errors import OutputError
from lesionseg.io import leftovers
from lesionseg.io.leftovers import scratch, sweep, temporary_name
from lesionseg.io.writing import write_atomic

KILLED = """
import os, signal, sys
from pathlib import Path
from lesionseg.io.leftovers import scratch
from lesionseg.io.writing import write_atomic
folder = Path(sys.argv[1])
def die():
    os.kill(os.getpid(), signal.SIGKILL)
with scratch(".scores-", folder) as work:
    (work / "deep").mkdir()
    (work / "deep" / "map.png").write_bytes(b"x")
    write_atomic(folder / "table.csv", b"new", before_replace=die)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows does not say which processes live")
def test_a_killed_process_is_cleaned_up_after(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    assert len(list(tmp_path.glob(".scores-*/deep/map.png"))) == len(list(tmp_path.glob(".part-*.csv"))) == 1
    assert (tmp_path / "table.csv").read_bytes() == b"old"
    with scratch(".scores-", tmp_path) as work:
        assert list(tmp_path.glob(".scores-*")) == [work]
    write_atomic(tmp_path / "other.csv", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.csv", "table.csv"]


def test_what_is_in_use_or_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = temporary_name(".part-", ".csv")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    names = [mine, ".part-abcdefgh", ".part-notes.txt", f"x{mine}", ".part-"]
    place = tmp_path / "place"
    place.mkdir()
    for name in names:
        (place / name).touch()
    sweep(place, ".part-")
    assert sorted(path.name for path in place.iterdir()) == sorted(names)
    # A process that has the same number, and began at another time.
    monkeypatch.setattr(leftovers, "_started", lambda process: 12345)
    left = temporary_name(".part-")
    monkeypatch.undo()
    (place / left).symlink_to(outside, target_is_directory=True)
    sweep(place, ".part-")
    assert (outside / "kept").exists()


def test_what_another_machine_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_machine", lambda: "0" * 8)
    new, old = (tmp_path / temporary_name(".part-") for _ in range(2))
    new.touch()
    old.touch()
    os.utime(old, (time.time() - 90000,) * 2)
    monkeypatch.undo()
    sweep(tmp_path, ".part-")
    assert (new.exists(), old.exists()) == (True, False)


def test_folders_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a", b"1")
    monkeypatch.setattr(leftovers.os, "scandir", lambda _: pytest.fail("listed again"))
    write_atomic(tmp_path / "b", b"2")


def test_a_scratch_folder_is_private_and_goes(tmp_path: Path) -> None:
    def work() -> None:
        with scratch("lesionseg-", tmp_path) as folder:
            assert folder.stat().st_mode & 0o077 == 0 or os.name == "nt"
            (folder / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_temporary_files_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="missing, the folder for temporary files,") as caught, scratch("lesionseg-"):
        pass
    assert "TMPDIR" in caught.value.fix
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OutputError, match="No space left"), scratch("lesionseg-"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_no_folder_for_temporary_files_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(OutputError, match="every folder for temporary files"), scratch("lesionseg-"):
        pass


def test_other_errors_within_a_temporary_folder_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch("lesionseg-"):
        (tmp_path / "nothing").read_bytes()

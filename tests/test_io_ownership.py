"""A file is replaced only where lesionseg wrote it and nobody has changed it since, and never an input."""

from pathlib import Path

import pytest

from lesionseg.errors import OutputError
from lesionseg.io import ownership
from lesionseg.io.ownership import RECORD, check_outputs, is_own, remove_own, write_output


def test_own_files_are_replaced_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    for content in (b"one", b"two", b"one"):
        check_outputs([path])
        write_output(path, content)
        assert path.read_bytes() == content
        assert is_own(path)


def test_files_of_other_origin_are_listed(tmp_path: Path) -> None:
    ours, edited, theirs = (tmp_path / name for name in ("ours", "edited", "theirs"))
    for path in (ours, edited):
        write_output(path, b"written")
    edited.write_bytes(b"edited")
    theirs.write_bytes(b"mine")
    with pytest.raises(OutputError) as caught:
        check_outputs([ours, edited, theirs, tmp_path / "new"])
    assert caught.value.problems == (str(edited), str(theirs))
    assert "--overwrite" in caught.value.fix
    check_outputs([ours, edited, theirs], overwrite=True)


def test_a_copy_elsewhere_is_not_own(tmp_path: Path) -> None:
    write_output(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert not is_own(tmp_path / "b")


@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "dots"])
def test_an_input_is_never_an_output(tmp_path: Path, link: str) -> None:
    source = tmp_path / "in.csv"
    write_output(source, b"own, but read now")
    output = source if link == "same" else tmp_path / "out.csv"
    if link == "symbolic":
        output.symlink_to(source)
    elif link == "hard":
        output.hardlink_to(source)
    elif link == "dots":
        (tmp_path / "sub").mkdir()
        output = tmp_path / "sub" / ".." / "in.csv"
    with pytest.raises(OutputError, match="would replace an input"):
        check_outputs([output], inputs=[tmp_path / "missing", source], overwrite=True)


def test_a_folder_or_a_dangling_link_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OutputError, match="folder"):
        check_outputs([tmp_path / "a.csv"], overwrite=True)
    (tmp_path / "b.csv").symlink_to(tmp_path / "nothing")
    with pytest.raises(OutputError, match=r"b\.csv"):
        check_outputs([tmp_path / "b.csv"])


def test_only_own_files_are_removed(tmp_path: Path) -> None:
    write_output(tmp_path / "ours", b"x")
    (tmp_path / "theirs").write_bytes(b"x")
    assert remove_own(tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert remove_own(tmp_path / "ours")
    assert not remove_own(tmp_path / "theirs")
    assert (tmp_path / "theirs").exists()


def test_a_torn_or_foreign_record_owns_nothing(tmp_path: Path) -> None:
    write_output(tmp_path / "a", b"x")
    with (tmp_path / RECORD).open("ab") as file:
        file.write(b'[]\n{"file": 5}\n{"file": "b", "sha256": 7}\n' + b"[" * 100_000 + b'\n{"file": "b", "sh')
    assert is_own(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"x")
    assert not is_own(tmp_path / "b")


def test_a_failed_write_leaves_the_older_file_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_output(path, b"old")

    def torn():
        yield b"new"
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_output(path, torn())
    assert path.read_bytes() == b"old"
    assert is_own(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [RECORD, "a"]


def test_the_record_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_COMPACT_BYTES", 2000)
    monkeypatch.setattr(ownership, "_RECENT", 4)
    for number in range(100):
        write_output(tmp_path / "a", b"%d" % number)
        write_output(tmp_path / f"gone{number}", b"")
        (tmp_path / f"gone{number}").unlink()
    assert (tmp_path / RECORD).stat().st_size < 15_000
    assert is_own(tmp_path / "a")


def test_a_record_of_many_files_is_compacted_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_COMPACT_BYTES", 1000)
    compacted = []
    compact = ownership._compact
    monkeypatch.setattr(ownership, "_compact", lambda record: [compacted.append(record), compact(record)])
    for number in range(200):
        write_output(tmp_path / f"{number}", b"x")
    assert len(compacted) < 6
    assert all(is_own(tmp_path / f"{number}") for number in range(200))


def test_outputs_that_would_replace_each_other(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="replace each other") as caught:
        check_outputs([tmp_path / "m.root", tmp_path / "x" / ".." / "M.root", tmp_path / RECORD], overwrite=True)
    assert len(caught.value.problems) == 2


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError, match="not a folder") as caught:
        check_outputs([tmp_path / "file" / "a" / "b.csv", tmp_path / "new" / "c.csv"], overwrite=True)
    assert caught.value.problems == (str(tmp_path / "file"),)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="too long"):
        check_outputs([tmp_path / ("a" * 300)])

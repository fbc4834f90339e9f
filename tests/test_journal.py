"""The journal: what a kill, a power cut or a full disk leaves of it, and the table that it becomes."""

import csv
import json
from pathlib import Path

import pytest

from lesionseg.errors import ConfigError, OutputError
from lesionseg.inference.journal import Journal, journal_path
from lesionseg.inference.kinds import COMPANION, Skipped
from lesionseg.inference.table import COLUMNS, TABLE, Part, is_table, read_table, table_path

NAMES = ["=a.png", "b.png", "c/ü.png", "d\udcff.jpg"]


def row(name: str, **more: str) -> dict[str, str]:
    return {"file": name, "status": "ok", "mask_sha256": "m" * 64, **more}


def filled(folder: Path, *, upto: int = len(NAMES)) -> Journal:
    journal = Journal(folder, NAMES)
    for index, name in enumerate(NAMES[:upto]):
        journal.add(index, row(name, width=str(index)))
    return journal


def test_rows_come_back_the_last_one_of_each(tmp_path: Path) -> None:
    journal = filled(tmp_path, upto=3)
    journal.add(0, row(NAMES[0], width="7"))
    assert [(journal[i] or {}).get("width") for i in range(4)] == ["7", "1", "2", None]
    journal.close()
    again = Journal(tmp_path, NAMES)
    assert [(again[i] or {}).get("width") for i in range(4)] == ["7", "1", "2", None]
    again.close()


def test_it_goes_on_from_any_byte(tmp_path: Path) -> None:
    filled(tmp_path).close()
    whole = journal_path(tmp_path, None).read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole)):
        journal_path(tmp_path, None).write_bytes(whole[:size])
        journal = Journal(tmp_path, NAMES)
        done = [journal[index] is not None for index in range(4)]
        assert done == sorted(done, reverse=True)
        assert sum(done) == whole[:size].count(b"\n") - 1
        for index, name in enumerate(NAMES):
            if not done[index]:
                journal.add(index, row(name, width=str(index)))
        journal.close()
        assert journal_path(tmp_path, None).read_bytes() == whole


@pytest.mark.parametrize(
    "noise", [b"\0" * 100 + b"\n", b"{}\n", b"[1]\n", b"\xff\xfe\n", b'{"file": "b.png"}\n', b"\n"]
)
def test_damaged_lines_are_passed_over(tmp_path: Path, noise: bytes) -> None:
    filled(tmp_path, upto=2).close()
    with journal_path(tmp_path, None).open("ab") as file:
        file.write(noise)
    journal = Journal(tmp_path, NAMES)
    journal.add(2, row(NAMES[2], width="2"))
    assert [(journal[i] or {}).get("width") for i in range(4)] == ["0", "1", "2", None]
    journal.close()


def test_the_table_is_sorted_and_takes_the_journals_place(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    table = journal.finish([Skipped("a_superpixels.png", COMPANION), Skipped("z.db", COMPANION)])
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [one["file"] for one in rows] == [
        "'=a.png",
        "a_superpixels.png",
        "b.png",
        "c/ü.png",
        "d\\udcff.jpg",
        "z.db",
    ]
    assert [one["status"] for one in rows] == ["ok", "skipped", "ok", "ok", "ok", "skipped"]
    assert not journal_path(tmp_path, None).exists()


def test_a_table_is_what_the_next_journal_starts_from(tmp_path: Path) -> None:
    filled(tmp_path).finish([])
    journal = Journal(tmp_path, NAMES)
    assert [(journal[i] or {}).get("width") for i in range(4)] == ["0", "1", "2", "3"]
    journal.close()
    # A part starts from the whole, too.
    part = Journal(tmp_path, NAMES[1:3], Part(2, 3))
    assert [(part[i] or {}).get("width") for i in range(2)] == ["1", "2"]
    part.close()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    journal_path(tmp_path, None).write_bytes(b'{"patient": 1}\n')
    with pytest.raises(OutputError, match="is not a journal of this program"):
        Journal(tmp_path, NAMES)
    assert journal_path(tmp_path, None).read_bytes() == b'{"patient": 1}\n'
    assert not is_table(str(tmp_path), journal_path(tmp_path, None).name)


def test_what_makes_a_folder_one_of_results(tmp_path: Path) -> None:
    part = Part(3, 12)
    filled(tmp_path).finish([])
    Journal(tmp_path, NAMES, part).close()
    assert is_table(str(tmp_path), TABLE)
    assert is_table(str(tmp_path), journal_path(tmp_path, part).name)
    assert journal_path(tmp_path, part).name == "predictions.part-3-of-12.jsonl"
    assert table_path(tmp_path, part).name == "predictions.part-3-of-12.csv"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / TABLE).write_text("case_id,label\n")
    assert not is_table(str(tmp_path / "other"), TABLE)
    assert not is_table(str(tmp_path), "predictions.final.csv")
    assert not is_table(str(tmp_path / "nowhere"), TABLE)


def test_each_line_tells_all(tmp_path: Path) -> None:
    filled(tmp_path).close()
    lines = journal_path(tmp_path, None).read_text().splitlines()
    assert json.loads(lines[0]) == {"lesionseg": "predictions", "version": 1}
    assert json.loads(lines[4]) == row(NAMES[3], width="3")


def test_a_torn_table_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    table = filled(tmp_path).finish([])
    table.write_bytes(table.read_bytes()[:-60])
    assert [one["width"] for one in read_table(table)] == ["0", "1", "2"]


@pytest.mark.parametrize(("number", "count"), [(0, 3), (4, 3), (1, 0), (-1, 2), (5, 10**9)])
def test_parts_that_do_not_exist(number: int, count: int) -> None:
    with pytest.raises(ConfigError, match="part"):
        Part(number, count)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path, upto=2)
    with Path("/dev/full").open("wb", buffering=0) as full, monkeypatch.context() as patch:
        patch.setattr(journal, "_append", full)
        with pytest.raises(OutputError, match=r"No space left.*\n.*goes on where it was"):
            journal.add(2, row(NAMES[2]))
    assert journal[2] is None
    journal.close()

"""What became of each photo: a journal while a run goes on, and the table that it becomes.

The journal is a file of JSON lines that only ever grows: a line is written as soon as a photo's outputs are in place,
and holds their hashes. Nothing waits for the disk, so a power cut may take lines, or bytes of outputs; a run that goes
on compares every output with its hash, and does again what is not as it was. Memory holds one number for each photo.
"""

from __future__ import annotations

import json
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from lesionseg.errors import OutputError
from lesionseg.inference.kinds import Skipped
from lesionseg.inference.table import (
    JOURNAL_HEAD,
    TABLE,
    Part,
    Row,
    foreign_file,
    read_table,
    table_path,
    write_table,
)
from lesionseg.inference.written import Written, log_path, log_table
from lesionseg.io.writing import write_atomic
from lesionseg.tables import safe_cell

__all__ = ["Journal", "changed_table", "is_journal", "journal_path"]


def journal_path(folder: Path, part: Part | None) -> Path:
    """The journal of a run, or of a part; it is there from the run's beginning to its end."""
    return table_path(folder, part).with_suffix(".jsonl")


def is_journal(path: Path) -> bool:
    """Whether a file is there, and is a journal of this program."""
    try:
        with path.open("rb") as file:
            return file.read(len(JOURNAL_HEAD)) == JOURNAL_HEAD
    except OSError:
        return False


class Journal:
    """What became of the photos of a run, or of a part.

    An earlier run's journal is gone on with; where there is none, the earlier run's table is where it starts from, if
    nobody has changed it.

    Args:
        folder: of the outputs; it exists.
        names: the photos, sorted.
        part: which share of a folder's photos these are.
        written: what lesionseg wrote into the folder; by default, read from its logs.
        overwrite: start without a journal or table that is of other origin or was changed.

    Raises:
        OutputError: a file cannot be read or written, or is not one of this program.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        part: Part | None = None,
        *,
        written: Written | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path, self.table = journal_path(folder, part), table_path(folder, part)
        self._log = log_path(folder, part)
        self._names, self._lock = names, threading.Lock()
        self._places = array("q", [-1]) * len(names)
        try:
            if not self._has_begun(overwrite):
                rows = _rows_before((self.table, folder / TABLE), written or Written.read(folder), overwrite)
                write_atomic(self.path, self._first_lines(rows))
            self._append, self._read = self.path.open("r+b", buffering=0), self.path.open("rb")
        except OSError as error:
            raise _unusable(error, self.path) from error
        self._size = self._index(self._read)
        self._append.truncate(self._size)
        self._append.seek(self._size)

    def close(self) -> None:
        """Lets go of the files."""
        self._append.close()
        self._read.close()

    def __getitem__(self, index: int) -> Row | None:
        """The last row of a photo, by its place among the names; None where there is none."""
        with self._lock:
            return self._row(index)

    def add(self, index: int, row: Row) -> None:
        """Records what became of a photo, from any thread.

        Raises:
            OutputError: it cannot be written.
        """
        line = json.dumps(row).encode() + b"\n"
        with self._lock:
            try:
                written = self._append.write(line)
            except OSError as error:
                raise _unusable(error, self.path) from error
            if written != len(line):
                raise OutputError(f"{self.path} cannot be written: no space left", fix="free some space")
            self._places[index] = self._size
            self._size += written

    def finish(self, skipped: Sequence[Skipped]) -> Path:
        """Writes the table, sorted by file, and removes the journal.

        Args:
            skipped: files that are left out, sorted.
        """
        write_table(self.table, self._all(skipped), lambda digest: log_table(self._log, self.table, digest))
        self.close()
        self.path.unlink(missing_ok=True)
        return self.table

    def _all(self, skipped: Sequence[Skipped]) -> Iterator[Row]:
        waiting = 0
        for index, name in enumerate(self._names):
            while waiting < len(skipped) and skipped[waiting].name < name:
                yield _skipped(skipped[waiting])
                waiting += 1
            row = self[index]
            if row is not None:
                yield row
        yield from map(_skipped, skipped[waiting:])

    def _row(self, index: int) -> Row | None:
        if self._places[index] < 0:
            return None
        self._read.seek(self._places[index])
        return _parse(self._read.readline())

    def _has_begun(self, overwrite: bool) -> bool:
        begun = is_journal(self.path)
        if not begun and not overwrite and self.path.exists():
            raise foreign_file(self.path, "journal")
        return begun

    def _first_lines(self, rows: Iterable[Row]) -> Iterator[bytes]:
        yield JOURNAL_HEAD
        # Cells that a spreadsheet would misread differ from the names.
        odd = {cell: name for name in self._names if (cell := safe_cell(name)) != name}
        for row in rows:
            yield json.dumps({**row, "file": odd.get(row["file"], row["file"])}).encode() + b"\n"

    def _index(self, lines: IO[bytes]) -> int:
        """Notes where each photo's last row is; gives where the last whole line ends."""
        place = 0
        for line in lines:
            if not line.endswith(b"\n"):
                break
            row = _parse(line)
            if row is not None:
                index = bisect_left(self._names, row["file"])
                if index < len(self._names) and self._names[index] == row["file"]:
                    self._places[index] = place
            place += len(line)
        return place


def _rows_before(tables: Iterable[Path], written: Written, overwrite: bool) -> Iterator[Row]:
    """The rows of an earlier run, or of all parts; of tables that somebody has changed, none."""
    for table in tables:
        if not table.exists():
            continue
        if written.owns_table(table):
            return read_table(table)
        if not overwrite:
            next(read_table(table), None)
            raise changed_table(table)
    return iter(())


def _skipped(one: Skipped) -> Row:
    return {"file": one.name, "status": "skipped", "error": one.reason}


def _parse(line: bytes) -> dict[str, str] | None:
    """A row; None for a line that is damaged."""
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "file" in row and "status" in row else None


def changed_table(path: Path) -> OutputError:
    """What to raise for a table that lesionseg did not write as it is."""
    return OutputError(
        f"{path} was changed since lesionseg wrote it, and would be replaced",
        fix="rename it or move it away, choose another --output, or pass --overwrite to replace it",
    )


def _unusable(error: OSError, path: Path) -> OutputError:
    return OutputError(
        f"{error.filename or path} cannot be used: {error.strerror}",
        fix="free some space or make it writable; the same command goes on where it was",
    )

"""What became of each photo: a journal while a run goes on, and the table that it becomes.

The journal is a file of JSON lines that only ever grows: a line is written as soon as a photo's outputs are in place,
and holds their hashes. Nothing waits for the disk, so a power cut may take lines, or bytes of outputs; a run that goes
on compares every output with its hash, and does again what is not as it was. Memory holds one number for each photo.
"""

from __future__ import annotations

import csv
import json
import re
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from lesionseg.errors import ConfigError, OutputError
from lesionseg.inference.kinds import Skipped
from lesionseg.inference.measurements import MEASURES
from lesionseg.inference.quality import OPINION_COLUMNS
from lesionseg.inference.stages import ENDINGS
from lesionseg.io.writing import write_atomic
from lesionseg.tables import encode_table, safe_cell

__all__ = [
    "COLUMNS",
    "MAX_PARTS",
    "TABLE",
    "TABLE_HEAD",
    "Journal",
    "Part",
    "Row",
    "encode_rows",
    "is_table",
    "is_table_head",
    "is_table_name",
    "journal_path",
    "read_table",
    "table_path",
]

TABLE = "predictions.csv"
COLUMNS = (
    *("file", "width", "height", "lesion_pixels", "lesion_fraction", "mean_probability", *OPINION_COLUMNS),
    *(*MEASURES, "seconds"),
    *("model_sha256", "photo_sha256", *(f"{kind}_sha256" for kind in ENDINGS)),
    *("threshold", "options", "status", "error"),
)
"""Of ``predictions.csv``; ``file`` is relative to the source, ``mean_probability`` is taken inside the mask."""

MAX_PARTS = 10_000
"""Into how many parts a folder can be shared."""

TABLE_HEAD = 200
"""Bytes by which such a file is known."""

Row = Mapping[str, str]
"""Of ``COLUMNS``; those that are missing are empty."""

_NAME = re.compile(r"predictions(\.part-\d+-of-\d+)?\.(csv|jsonl)")
_FIRST_LINE = b'{"lesionseg": "predictions", "version": 1}\n'
_FIRST_CELLS = ",".join(COLUMNS[:4]).encode()
# Rows of the table that are text at a time: a thousand took eight megabytes.
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a folder's photos, for one of several processes or machines.

    Attributes:
        number: from 1.
        count: how many parts there are.

    Raises:
        ConfigError: there is no such part, or there are more than ``MAX_PARTS``.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if self.count > MAX_PARTS:
            raise ConfigError(f"there cannot be {self.count} parts", fix=f"use at most {MAX_PARTS:,}")
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"there is no part {self.number} of {self.count}", fix="number the parts from 1 to their number"
            )

    def __str__(self) -> str:
        return f"part-{self.number}-of-{self.count}"


def table_path(folder: Path, part: Part | None) -> Path:
    """The table of a run, or of a part."""
    return folder / (f"predictions.{part}.csv" if part else TABLE)


def journal_path(folder: Path, part: Part | None) -> Path:
    """The journal of a run, or of a part; it is there from the run's beginning to its end."""
    return table_path(folder, part).with_suffix(".jsonl")


def is_table(folder: str, name: str) -> bool:
    """Whether a file is a table or journal of this program, and its folder thus one of results."""
    if not is_table_name(name):
        return False
    with suppress(OSError), Path(folder, name).open("rb") as file:
        return is_table_head(file.read(TABLE_HEAD))
    return False


def is_table_name(name: str) -> bool:
    """Whether a file is called as tables and journals of this program are."""
    return bool(_NAME.fullmatch(name))


def is_table_head(head: bytes) -> bool:
    """Whether a file begins as they do, by its first ``TABLE_HEAD`` bytes."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith((_FIRST_LINE, _FIRST_CELLS))


class Journal:
    """What became of the photos of a run, or of a part.

    An earlier run's journal is gone on with; where there is none, the earlier run's table is where it starts from.

    Args:
        folder: of the outputs; it exists.
        names: the photos, sorted.
        part: which share of a folder's photos these are.

    Raises:
        OutputError: a file cannot be read or written, or is not one of this program.
    """

    def __init__(self, folder: Path, names: Sequence[str], part: Part | None = None) -> None:
        self.path, self.table = journal_path(folder, part), table_path(folder, part)
        self._names, self._lock = names, threading.Lock()
        self._places = array("q", [-1]) * len(names)
        sources = [path for path in (self.table, folder / TABLE) if path.exists()]
        try:
            for table in sources:
                next(read_table(table), None)
            if not self._has_begun():
                rows = read_table(sources[0]) if sources else iter(())
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
        write_atomic(self.table, encode_rows(self._all(skipped)))
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

    def _has_begun(self) -> bool:
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            first = file.readline()
        if first != _FIRST_LINE:
            raise _foreign(self.path, "journal")
        return True

    def _first_lines(self, rows: Iterable[Row]) -> Iterator[bytes]:
        yield _FIRST_LINE
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


def encode_rows(rows: Iterable[Row]) -> Iterator[bytes]:
    """The bytes of a table, piece by piece."""
    yield encode_table(COLUMNS, ())
    rows = iter(rows)
    while chunk := list(islice(rows, _CHUNK)):
        yield encode_table(COLUMNS, chunk, header=False)


def _skipped(one: Skipped) -> Row:
    return {"file": one.name, "status": "skipped", "error": one.reason}


def _parse(line: bytes) -> dict[str, str] | None:
    """A row; None for a line that is damaged."""
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "file" in row and "status" in row else None


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, up to where it is torn."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file, suppress(csv.Error):
        rows = csv.reader(file, strict=True)
        if next(rows, list(COLUMNS)) != list(COLUMNS):
            raise _foreign(path, "table")
        for cells in rows:
            if len(cells) == len(COLUMNS):
                yield dict(zip(COLUMNS, cells, strict=True))


def _foreign(path: Path, what: str) -> OutputError:
    return OutputError(f"{path} is not a {what} of this program", fix="move it, or choose another output folder")


def _unusable(error: OSError, path: Path) -> OutputError:
    return OutputError(
        f"{error.filename or path} cannot be used: {error.strerror}",
        fix="free some space or make it writable; the same command goes on where it was",
    )

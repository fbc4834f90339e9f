"""The table of what became of each photo, ``predictions.csv``: its columns, reading and writing."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lesionseg.errors import ConfigError, OutputError
from lesionseg.inference.measurements import MEASURES
from lesionseg.inference.quality import OPINION_COLUMNS
from lesionseg.inference.stages import ENDINGS
from lesionseg.io.writing import write_atomic
from lesionseg.tables import encode_table

__all__ = [
    "COLUMNS",
    "JOURNAL_HEAD",
    "MAX_PARTS",
    "TABLE",
    "TABLE_HEAD",
    "Part",
    "Row",
    "encode_rows",
    "foreign_file",
    "is_table",
    "is_table_head",
    "is_table_name",
    "read_table",
    "table_digest",
    "table_path",
    "write_table",
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
JOURNAL_HEAD = b'{"lesionseg": "predictions", "version": 1}\n'
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
    return head.removeprefix(b"\xef\xbb\xbf").startswith((JOURNAL_HEAD, _FIRST_CELLS))


def encode_rows(rows: Iterable[Row]) -> Iterator[bytes]:
    """The bytes of a table, piece by piece."""
    yield encode_table(COLUMNS, ())
    rows = iter(rows)
    while chunk := list(islice(rows, _CHUNK)):
        yield encode_table(COLUMNS, chunk, header=False)


def write_table(path: Path, rows: Iterable[Row], record: Callable[[str], object]) -> None:
    """Write a table as a whole or not at all.

    Args:
        path: the table's.
        rows: its rows, in order.
        record: called with the table's ``table_digest`` before the table is in place.

    Raises:
        OutputError: it cannot be written.
    """
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for piece in encode_rows(rows):
            digest.update(piece)
            yield piece

    write_atomic(path, pieces(), before_replace=lambda: record(digest.hexdigest()))


def table_digest(path: Path) -> str | None:
    """Return the hex SHA-256 of a table, as a spreadsheet leaves it that saves it unchanged; None without a file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            digest.update(file.readline().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n"))
            for line in file:
                digest.update(line.replace(b"\r\n", b"\n"))
    except OSError:
        return None
    return digest.hexdigest()


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, up to where it is torn."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file, suppress(csv.Error):
        rows = csv.reader(file, strict=True)
        if next(rows, list(COLUMNS)) != list(COLUMNS):
            raise foreign_file(path, "table")
        for cells in rows:
            if len(cells) == len(COLUMNS):
                yield dict(zip(COLUMNS, cells, strict=True))


def foreign_file(path: Path, what: str) -> OutputError:
    """What to raise for a file of another program that has the name of one of this program."""
    return OutputError(f"{path} is not a {what} of this program", fix="move it, or choose another output folder")

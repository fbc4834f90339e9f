"""Reading CSV tables: any of three delimiters, UTF-8 or UTF-16, cells addressed by the names of their columns."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from lesionseg.errors import DataError, LesionsegError
from lesionseg.io.reading import MAX_TEXT_BYTES, read_text
from lesionseg.tables import delimiter_of

__all__ = ["Row", "Table", "column_key", "parse_rows", "parse_table", "read_rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, without surrounding spaces, and the line of the file on which it ends."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a header.

    Attributes:
        where: what it is, for messages; for example the file's path.
        header: the names of the columns.
        rows: the rows below the header.
    """

    where: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of_rows(cls, rows: list[Row], where: str) -> Table:
        """Return the table whose header is the first row; empty cells at the ends of rows do not count."""
        header = _without_empty_end(rows[0].cells, 0) if rows else ()
        return cls(where, header, tuple(Row(row.line, _without_empty_end(row.cells, len(header))) for row in rows[1:]))

    def column(self, index: int) -> tuple[str | None, ...]:
        """Return the cells of a column; None where a row is too short."""
        return tuple(row.cells[index] if index < len(row.cells) else None for row in self.rows)

    def misfits(self) -> list[str]:
        """Return a line for each row that has more cells than the header."""
        width = len(self.header)
        return [
            f"row {row.line}: {len(row.cells)} cells, the header has {width}"
            for row in self.rows
            if len(row.cells) > width
        ]


def _without_empty_end(cells: tuple[str, ...], width: int) -> tuple[str, ...]:
    """Cells without the empty ones past ``width``: spreadsheets write them where a column was once used."""
    while len(cells) > width and not cells[-1]:
        cells = cells[:-1]
    return cells


def column_key(name: str) -> str:
    """Return a column's name in the form in which names are compared: lower case, with underscores."""
    return "_".join(name.strip().casefold().replace("-", " ").replace("_", " ").split())


def read_rows(
    path: Path, *, limit: int = MAX_TEXT_BYTES, error: type[LesionsegError] = DataError, fix: str = "check the path"
) -> list[Row]:
    """Return the rows of a CSV file, the first one included, blank ones left out.

    Raises:
        LesionsegError: of class ``error``; as ``read_text`` and ``parse_rows``.
    """
    return parse_rows(read_text(path, limit=limit, error=error, fix=fix), str(path), error=error)


def parse_rows(text: str, where: str, *, error: type[LesionsegError] = DataError) -> list[Row]:
    """Return the rows of CSV text, the first one included, blank ones left out.

    Args:
        text: cells separated by commas, semicolons or tabs; the first line tells which. A line ``sep=;`` in front,
            which spreadsheets write, counts as well.
        where: what the text is, for messages; for example the file's path.
        error: the class of the error to raise.

    Raises:
        LesionsegError: of class ``error``; the text is not CSV.
    """
    first, newline, rest = text.partition("\n")
    skipped = 0
    delimiter = delimiter_of(text)
    if first.strip().lower() in ("sep=,", "sep=;", "sep=\t", "sep="):
        # "sep=" with its tab stripped is a tab as well.
        delimiter, text, skipped = first.strip("\r\n")[4:5] or "\t", rest if newline else "", 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [
            Row(reader.line_num + skipped, tuple(cell.strip() for cell in cells))
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as problem:
        raise error(
            f"{where} cannot be read as CSV: line {reader.line_num + skipped}: {problem}", fix="save it as CSV again"
        ) from problem


def parse_table(text: str, where: str, *, error: type[LesionsegError] = DataError) -> Table:
    """Return CSV text as a table whose header is the first row.

    Raises:
        LesionsegError: of class ``error``; as ``parse_rows``.
    """
    return Table.of_rows(parse_rows(text, where, error=error), where)

"""CSV that survives a round trip and that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["delimiter_of", "encode_table", "one_line", "safe_cell"]

# Of those that come equally often, the first one counts.
_DELIMITERS = (",", ";", "\t")


def safe_cell(value: object) -> str:
    """A table cell that no spreadsheet takes for a formula and that can be written as UTF-8; stable when repeated."""
    text = repr(float(value)) if isinstance(value, float) else str(value)
    # Names that are not UTF-8 hold surrogates; a bare carriage return would end the row for a reader.
    text = text.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def encode_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, header: bool = True) -> bytes:
    """Rows as UTF-8 CSV: floats in full precision, cells that are missing empty, hostile ones neutralised."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow([safe_cell(name) for name in columns])
    for row in rows:
        writer.writerow([safe_cell(row.get(name, "")) for name in columns])
    return text.getvalue().encode()


def delimiter_of(text: str) -> str:
    """What separates the cells of a CSV: a comma, the semicolon of spreadsheets with decimal commas, or a tab."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    # Between quotes they belong to a name.
    bare = "".join(first.split('"')[::2])
    return max(_DELIMITERS, key=bare.count)


def one_line(text: str) -> str:
    """Text that stays one line of printable characters, whatever file names it holds."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

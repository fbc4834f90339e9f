"""The rows of ``predictions.csv``, and the journal that keeps them safe while a run goes on."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lesionseg.data.images import write_atomic
from lesionseg.errors import OutputError
from lesionseg.tables import encode_table

__all__ = ["COLUMNS", "PARTIAL", "TABLE", "Row", "journal", "read_rows"]

TABLE = "predictions.csv"
PARTIAL = "predictions.partial.csv"
COLUMNS = (
    *("file", "width", "height", "lesion_pixels", "lesion_fraction", "mean_probability", "seconds"),
    *("model_sha256", "photo_sha256", "mask_sha256", "probability_sha256", "overlay_sha256"),
    *("threshold", "status", "error"),
)
"""Of ``predictions.csv``; ``file`` is relative to the source, ``mean_probability`` is taken inside the mask."""

Row = Mapping[str, str]


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """File cell -> row, up to where a table is torn; nothing where there is no table."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}", fix="choose another output folder") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = {}
    # A run that was killed while it wrote leaves half a row; that photo is done again.
    with suppress(csv.Error):
        header = next(rows, list(COLUMNS))
        if header != list(COLUMNS):
            raise OutputError(f"{path} is not a table of this program", fix="move it, or choose another output folder")
        for cells in rows:
            if len(cells) == len(COLUMNS):
                found[cells[0]] = dict(zip(COLUMNS, cells, strict=True))
    return found


@contextmanager
def journal(path: Path, rows: Iterable[Row]) -> Iterator[Callable[[Row], None]]:
    """``predictions.partial.csv`` with earlier rows; gives what adds a row to it, at once and from any thread."""
    write_atomic(path, encode_table(COLUMNS, rows))
    lock = threading.Lock()
    with path.open("ab") as file:

        def add(row: Row) -> None:
            try:
                with lock:
                    file.write(encode_table(COLUMNS, [row], header=False))
                    file.flush()
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}", fix="free some space") from error

        yield add

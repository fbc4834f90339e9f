"""Several runs on one output folder: they keep out of each other's way, and their tables become one."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from lesionseg.inference.journal import journal_path
from lesionseg.inference.photos import Listing, place_of
from lesionseg.inference.table import TABLE, Part, Row, read_table, table_path, write_table
from lesionseg.inference.written import Written, log_path, log_table
from lesionseg.io.locking import hold
from lesionseg.tables import safe_cell

__all__ = ["claim", "merge"]

_WHOLE = ".predictions.lock"
_FIX = "wait for it, stop it with Ctrl-C or SIGTERM, or choose another --output"
# Parts that start together pass through the door one by one.
_DOOR_SECONDS = 10.0
# What a row says of how it was made.
_MADE = ("model_sha256", "threshold", "options")


@contextmanager
def claim(output: Path, part: Part | None) -> Iterator[None]:
    """Keeps others from doing the same photos: a whole run excludes every other, a part only the same part.

    Parts of another number are marked as to come again, as what their tables tell of may be written anew now.

    Raises:
        RunError: another process is at it.
        OutputError: the folder cannot be written to.
    """
    with ExitStack() as held:
        if part is None:
            held.enter_context(_hold(output, _WHOLE))
            for lock in sorted(output.glob(".predictions.part-*.lock")):
                with _hold(output, lock.name):
                    pass
            # Nobody else writes here now: these are of runs that were killed.
            for leftover in output.glob(".part-*"):
                leftover.unlink(missing_ok=True)
        else:
            with _hold(output, _WHOLE, _DOOR_SECONDS):
                held.enter_context(_hold(output, f".predictions.{part}.lock"))
        for table in output.glob("predictions.part-*-of-*.csv"):
            if part is None or not table.stem.endswith(f"-of-{part.count}"):
                (output / f".{table.stem}.stale").touch()
        yield


def _hold(output: Path, name: str, wait: float = 0) -> AbstractContextManager[None]:
    return hold(output, name=name, what="prediction", fix=_FIX, wait=wait)


def merge(output: Path, part: Part, made: Row, photos: Listing, kinds: Collection[str]) -> Sequence[int]:
    """Makes one ``predictions.csv`` of the parts' tables as soon as all are there; any number of parts may try at once.

    A part's table is trusted: whether its photos are still the same ones, and its masks still there, only that part
    looks at.

    Args:
        output: of all parts.
        part: the one that has just been done.
        made: a row's ``model_sha256``, ``threshold`` and ``options``; a table with others is of an earlier run.
        photos: of all parts; so is a table of others than a part's share.
        kinds: keys of ``stages.ENDINGS``: what is written of each photo; so is a table that lacks one.

    Returns:
        the numbers of the parts that are still to come; none when the table was written.
    """
    _stale_mark(output, part).unlink(missing_ok=True)
    parts = [Part(number, part.count) for number in range(1, part.count + 1)]
    # One listing in place of several questions for each of what may be thousands of parts.
    files = {entry.name for entry in os.scandir(output)}
    missing = [one.number for one in parts if not _is_done(output, files, one, made)]
    # Every row of every table is read for this, so only once all seem to be there.
    missing = missing or _stale(output, parts, photos, kinds)
    if not missing:
        tables = [read_table(table_path(output, one)) for one in parts]
        log, whole = log_path(output, part), output / TABLE
        write_table(whole, heapq.merge(*tables, key=_order), lambda digest: log_table(log, whole, digest))
    return missing


def _is_done(output: Path, files: Collection[str], part: Part, made: Row) -> bool:
    table = table_path(output, part)
    unfinished = journal_path(output, part).name in files or _stale_mark(output, part).name in files
    if unfinished or table.name not in files:
        return False
    first = next((row for row in read_table(table) if row["status"] != "skipped"), None)
    return first is None or all(first[name] == made[name] for name in _MADE)


def _stale_mark(output: Path, part: Part) -> Path:
    return output / f".predictions.{part}.stale"


def _stale(output: Path, parts: Sequence[Part], photos: Listing, kinds: Collection[str]) -> list[int]:
    """The parts whose tables were changed, or are of other photos than their share is by now, or lack an output."""
    written = Written.read(output)
    wanted = [0] * len(parts)
    for name in (*photos.names, *(one.name for one in photos.skipped)):
        wanted[place_of(name, len(parts))] += _mark(safe_cell(name))
    return [
        part.number
        for part, sum_ in zip(parts, wanted, strict=True)
        if not written.owns_table(table_path(output, part))
        or not _is_of(table_path(output, part), sum_, [f"{kind}_sha256" for kind in kinds])
    ]


def _is_of(table: Path, wanted: int, columns: Sequence[str]) -> bool:
    found = 0
    for row in read_table(table):
        if row["status"] == "ok" and not all(row.get(column) for column in columns):
            return False
        found += _mark(row["file"])
    return found == wanted


def _mark(cell: str) -> int:
    """A number whose sum over a set tells it from every other, in any order and in no memory."""
    return int.from_bytes(hashlib.blake2b(cell.encode(), digest_size=16).digest())


def _order(row: Row) -> str:
    cell = row["file"]
    # As the names are sorted, without what keeps spreadsheets from running them.
    return cell[1:] if cell.startswith(("'=", "'+", "'-", "'@", "'\t")) else cell

"""Which outputs of ``predict`` are lesionseg's own: those of the log beside them, as long as their bytes are the same.

``.predictions.written.jsonl`` (for parts, one of each) has a line for each photo whose outputs were written, with their
names and SHA-256, and for each table. A line is added before its files take their names, so that a run that is killed
leaves no file without one. Unlike the table, which has the files of the last run only, the log is never shortened. In
memory, every file takes two numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import OutputError
from lesionseg.inference.table import Part, table_digest

__all__ = ["Written", "log_outputs", "log_path", "log_table"]

_LOGS = ".predictions.*written.jsonl"


def log_path(folder: Path, owner: Part | str | None = None) -> Path:
    """Return the log of a run, of a part, or of one of several machines that write to a folder."""
    return folder / (f".predictions.{owner}.written.jsonl" if owner else ".predictions.written.jsonl")


def log_outputs(log: Path, stem: str, sha256: Mapping[str, str]) -> None:
    """Record the outputs of a photo that are about to be written.

    Args:
        log: the log.
        stem: what their names start with.
        sha256: how their names end -> hex digest.

    Raises:
        OutputError: the log cannot be written.
    """
    _append(log, {"stem": stem, "files": dict(sha256)})


def log_table(log: Path, table: Path, digest: str) -> None:
    """Record a table that is about to be written, with its ``table_digest``.

    Raises:
        OutputError: the log cannot be written.
    """
    _append(log, {"table": table.name, "digest": digest})


def _append(log: Path, entry: Mapping[str, object]) -> None:
    # A line feed first: the line before may be torn.
    line = b"\n" + json.dumps(entry).encode() + b"\n"
    try:
        # One write at the end of the file: threads and processes lose no line of each other's.
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            whole = os.write(handle, line) == len(line)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(
            f"{log} cannot be written: {error.strerror}",
            fix="free some space or make it writable; the same command goes on where it was",
        ) from error
    if not whole:
        raise OutputError(f"{log} cannot be written: no space left", fix="free some space")


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What the logs of an output folder record.

    Attributes:
        names: 64-bit keys of the files' names, sorted.
        files: keys of their names with their digests, sorted.
        tables: names and digests of tables.
        state: names and sizes of the logs.
    """

    names: NDArray[np.uint64]
    files: NDArray[np.uint64]
    tables: frozenset[tuple[str, str]]
    state: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, folder: Path) -> Written:
        """Read the logs of an output folder; there may be none.

        Raises:
            OutputError: a log cannot be read.
        """
        names, files, tables, state = array("Q"), array("Q"), set(), _state(folder)
        for entry in _entries(folder):
            match entry:
                case {"stem": str(stem), "files": dict(found)}:
                    for ending, digest in found.items():
                        names.append(_key(f"{stem}{ending}"))
                        files.append(_key(f"{stem}{ending}\0{digest}"))
                case {"table": str(name), "digest": str(digest)}:
                    tables.add((name, digest))
        return cls(_sorted(names), _sorted(files), frozenset(tables), state)

    def with_names(self, names: Iterable[str]) -> Written:
        """Return the same with further known names: files under these are looked at before they are replaced."""
        more = array("Q", (_key(name) for name in names))
        return replace(self, names=_sorted(array("Q", [*self.names.tolist(), *more])))

    def renewed(self, folder: Path) -> Written:
        """Read the logs again if they have changed."""
        return self if self.state == _state(folder) else Written.read(folder)

    def knows(self, name: str) -> bool:
        """Whether lesionseg ever wrote a file of this name, relative to the output folder."""
        return _holds(self.names, name)

    def owns(self, name: str, sha256: str) -> bool:
        """Whether lesionseg wrote these bytes under this name."""
        return _holds(self.files, f"{name}\0{sha256}")

    def owns_table(self, path: Path) -> bool:
        """Whether lesionseg wrote a table as it is now."""
        digest = table_digest(path)
        # Another part may have written it since the logs were read, and has recorded it before.
        known = self.tables if (path.name, digest) in self.tables else self.renewed(path.parent).tables
        return digest is not None and (path.name, digest) in known


def _state(folder: Path) -> tuple[tuple[str, int], ...]:
    return tuple((log.name, log.stat().st_size) for log in sorted(folder.glob(_LOGS)))


def _entries(folder: Path) -> Iterator[Any]:
    for log in sorted(folder.glob(_LOGS)):
        try:
            with log.open("rb") as file:
                for line in file:
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError):
                        # A torn line names no file that has its name already.
                        continue
        except OSError as error:
            raise OutputError(f"{log} cannot be read: {error.strerror}", fix="make it readable") from error


def _key(text: str) -> int:
    # Names that are not UTF-8 hold surrogates.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _sorted(keys: array[int]) -> NDArray[np.uint64]:
    return np.unique(np.frombuffer(keys, np.uint64))


def _holds(keys: NDArray[np.uint64], text: str) -> bool:
    if not len(keys):
        return False
    key = np.uint64(_key(text))
    index = int(np.searchsorted(keys, key))
    return index < len(keys) and bool(keys[index] == key)

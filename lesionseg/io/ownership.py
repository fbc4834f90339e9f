"""Which files may be replaced: those that lesionseg wrote and nobody has changed since, and never an input.

Every folder that a command writes to holds ``.lesionseg-outputs.jsonl``, a line for each file written there with its
SHA-256. A file whose bytes match a line of its name is lesionseg's own and may be replaced; any other file is the
user's and is replaced only with ``--overwrite``. Masks of ``predict`` are recorded in its journal and table instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lesionseg.errors import LesionsegError, OutputError
from lesionseg.io.reading import read_text
from lesionseg.io.writing import write_atomic

__all__ = ["RECORD", "check_outputs", "is_own", "remove_own", "write_output"]

RECORD = ".lesionseg-outputs.jsonl"
"""Name of the record of written files, in the folder of the files."""

_COMPACT_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_outputs(outputs: Iterable[Path], *, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Make sure that a command may write its outputs. Call it before any work is done.

    Args:
        outputs: every file that will be written.
        inputs: every file that is read; an output is never an input, by whatever name or link it is reached.
        overwrite: replace files of other origin.

    Raises:
        OutputError: listing every output that is an input, a folder, or a file that lesionseg did not write or that was
            changed since.
    """
    # Nothing is compared with the inputs, which may be many, unless an output exists.
    existing = {path: status for path in dict.fromkeys(outputs) if (status := _status(path)) is not None}
    if not existing:
        return
    read = {(status.st_dev, status.st_ino): path for path in inputs if (status := _status(path)) is not None}
    clashes = [path for path, status in existing.items() if (status.st_dev, status.st_ino) in read]
    if clashes:
        raise OutputError(
            "an output would replace an input",
            problems=[f"{path} is read by this command" for path in clashes],
            fix="choose another --output",
        )
    if folders := [path for path in existing if path.is_dir()]:
        raise OutputError(
            "a folder has the name of an output", problems=map(str, folders), fix="choose another --output"
        )
    if overwrite:
        return
    known: dict[Path, dict[str, set[str]]] = {}
    foreign = [path for path in existing if not _is_own(path, known)]
    if foreign:
        raise OutputError(
            "these files were not written by lesionseg, or were changed since, and would be replaced",
            problems=map(str, foreign),
            fix="choose another --output, move them, or pass --overwrite to replace them",
        )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        # A link to nothing is a file of the user's too.
        return path.lstat() if path.is_symlink() else None


def is_own(path: Path) -> bool:
    """Whether lesionseg wrote the file and its bytes have not changed since."""
    return _is_own(path, {})


def _is_own(path: Path, known: dict[Path, dict[str, set[str]]]) -> bool:
    folder = path.parent
    if folder not in known:
        known[folder] = _read_record(folder)
    hashes = known[folder].get(path.name)
    if not hashes or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() in hashes
    except OSError:
        return False


def write_output(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file atomically and record it as lesionseg's own; ``check_outputs`` comes first.

    Args:
        path: the file; its folder is created if need be.
        data: its bytes, in one piece or in several.

    Raises:
        OutputError: as ``write_atomic``.
    """
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for piece in (data,) if isinstance(data, bytes) else data:
            digest.update(piece)
            yield piece

    # Recorded first: killed between the two, the older file is still known by its earlier line.
    write_atomic(path, pieces(), before_replace=lambda: _append(path, digest.hexdigest()))


def remove_own(path: Path) -> bool:
    """Remove a file that lesionseg wrote and nobody has changed; return whether nothing of that name is left.

    Raises:
        OutputError: it cannot be removed.
    """
    if not os.path.lexists(path):
        return True
    if not is_own(path):
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}", fix="check the permissions") from error
    return True


def _append(path: Path, sha256: str) -> None:
    record = path.parent / RECORD
    if record.is_file() and record.stat().st_size > _COMPACT_BYTES:
        _compact(record)
    line = json.dumps({"file": path.name, "sha256": sha256}) + "\n"
    # One write at the end of the file: commands that write to one folder at a time lose no line of each other's.
    handle = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def _compact(record: Path) -> None:
    hashes = _read_record(record.parent)
    lines = [
        json.dumps({"file": name, "sha256": sha256}) + "\n"
        for name, values in hashes.items()
        if os.path.lexists(record.parent / name)
        for sha256 in sorted(values)
    ]
    write_atomic(record, "".join(lines).encode())


def _read_record(folder: Path) -> dict[str, set[str]]:
    """Name -> SHA-256 of everything that was written under it; empty where there is no record."""
    try:
        text = read_text(folder / RECORD)
    except LesionsegError:
        return {}
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # A torn or foreign line names nothing.
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("file"), str)
            and _SHA256.fullmatch(str(entry.get("sha256")))
        ):
            found.setdefault(entry["file"], set()).add(entry["sha256"])
    return found

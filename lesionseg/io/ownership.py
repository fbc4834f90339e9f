"""Which files may be replaced: those that lesionseg wrote and nobody has changed since, and never an input.

Every folder that a command writes to holds ``.lesionseg-outputs.jsonl``, a line for each file written there with its
SHA-256. A file whose bytes match a line of its name is lesionseg's own and may be replaced; any other file is the
user's and is replaced only with ``--overwrite``. Outputs of ``predict`` have a log
of their own, ``lesionseg.inference.written``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lesionseg.errors import LesionsegError, OutputError
from lesionseg.io.reading import read_text
from lesionseg.io.writing import write_atomic

__all__ = ["RECORD", "check_outputs", "is_own", "record_outputs", "remove_own", "withdraw_outputs", "write_output"]

RECORD = ".lesionseg-outputs.jsonl"
"""Name of the record of written files, in the folder of the files."""

_COMPACT_BYTES = 2**20
_RECENT = 256
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_outputs(outputs: Iterable[Path], *, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Make sure that a command may write its outputs. Call it before any work is done.

    Args:
        outputs: every file that will be written.
        inputs: every file that is read; an output is never an input, by whatever name or link it is reached.
        overwrite: replace files of other origin.

    Raises:
        OutputError: listing every output that is an input, another output, a folder, below a file, or a file that
            lesionseg did not write or that was changed since.
    """
    outputs = list(outputs)
    _refuse_collisions(outputs)
    _refuse_files_as_folders(outputs)
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


def _refuse_collisions(outputs: Sequence[Path]) -> None:
    # Neither case nor the Unicode form of a name counts on every file system.
    seen: dict[str, Path] = {}
    problems = []
    for path in outputs:
        key = unicodedata.normalize("NFC", os.path.abspath(path)).casefold()  # noqa: PTH100 - resolve() is slow
        if key in seen:
            problems.append(f"{path} and {seen[key]}")
        seen[key] = path
    problems += [f"{path} and the record of written files" for path in outputs if path.name == RECORD]
    if problems:
        raise OutputError("these outputs would replace each other", problems=problems, fix="choose another --output")


def _refuse_files_as_folders(outputs: Iterable[Path]) -> None:
    files = []
    for folder in dict.fromkeys(path.parent for path in outputs):
        nearest = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), None)
        if nearest is not None and not nearest.is_dir():
            files.append(nearest)
    if files:
        raise OutputError(
            "an output would be inside of what is a file, not a folder",
            problems=map(str, dict.fromkeys(files)),
            fix="choose another --output",
        )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(f"{path.name} is too long for a file's name", fix="choose another --output") from error
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
    write_atomic(path, pieces(), before_replace=lambda: record_outputs(path.parent, {path.name: digest.hexdigest()}))


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


def withdraw_outputs(folder: Path, paths: Iterable[Path]) -> None:
    """Remove new files again after an error, and the record of written files where nothing else is left beside it."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [RECORD]:
            (folder / RECORD).unlink()


def record_outputs(folder: Path, sha256: Mapping[str, str]) -> None:
    """Record files of a folder as lesionseg's own, for writers that cannot go through ``write_output``.

    Args:
        folder: an existing folder.
        sha256: file name -> hex digest of its bytes.

    Raises:
        OSError: the record cannot be written.
    """
    record = folder / RECORD
    text = "".join(json.dumps({"file": name, "sha256": digest}) + "\n" for name, digest in sha256.items())
    size = record.stat().st_size if record.is_file() else 0
    # Each time that the size doubles, so that a record of many files is not compacted for every one of them.
    if ((size + len(text)) // _COMPACT_BYTES).bit_length() > (size // _COMPACT_BYTES).bit_length():
        _compact(record)
    # One write at the end of the file: commands that write to one folder at a time lose no line of each other's.
    handle = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _compact(record: Path) -> None:
    hashes = _read_record(record.parent)
    # What other threads and commands have recorded last may not have its name yet.
    names = list(hashes)
    kept = {name for name in names[:-_RECENT] if os.path.lexists(record.parent / name)} | set(names[-_RECENT:])
    lines = [
        json.dumps({"file": name, "sha256": sha256}) + "\n"
        for name, values in hashes.items()
        if name in kept
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
            # The last written come last.
            known = found.pop(entry["file"], set())
            found[entry["file"]] = {*known, entry["sha256"]}
    return found

"""Writing a photo's outputs without replacing what belongs to the user."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lesionseg.errors import DataError, OutputError
from lesionseg.inference.journal import is_journal, journal_path
from lesionseg.inference.photos import Listing, output_stem
from lesionseg.inference.stages import OUTPUTS
from lesionseg.inference.table import TABLE, Part, table_path
from lesionseg.inference.written import Written
from lesionseg.io.writing import write_whole

__all__ = [
    "Folder",
    "Outputs",
    "Place",
    "check_folders",
    "check_outputs",
    "files_in_the_way",
    "in_the_way",
    "list_outputs",
    "output_of",
]


class Place(Protocol):
    """A folder of outputs, here or in an object store; names are relative to it.

    ``exists`` may be False in an object store, where every question costs a round trip.
    """

    def exists(self, name: str) -> bool: ...
    def digest(self, name: str) -> str | None: ...
    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def remove(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine.

    Attributes:
        path: the folder's.
        scratch: a folder on the same file system for files that are being written.
    """

    path: Path
    scratch: Path

    def exists(self, name: str) -> bool:
        """Whether a file, a folder or a link is there."""
        return os.path.lexists(self.path / name)

    def digest(self, name: str) -> str | None:
        """Hex SHA-256 of a file; None where there is none that can be read."""
        try:
            with (self.path / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole or not at all."""
        write_whole(self.path / name, data, self.scratch)

    def remove(self, name: str) -> None:
        """Remove a file."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path / name} cannot be removed: {error.strerror}", fix="check the permissions"
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """The outputs of a run.

    Attributes:
        place: where they are.
        written: what lesionseg wrote there.
        record: called with a photo's stem and the digests of its outputs before they are written.
        overwrite: replace files of other origin, too.
    """

    place: Place
    written: Written
    record: Callable[[str, Mapping[str, str]], None]
    overwrite: bool = False

    def write(self, stem: str, files: Mapping[str, bytes]) -> list[str]:
        """Write a photo's outputs.

        Args:
            stem: what their names start with.
            files: how their names end -> bytes.

        Returns:
            the endings of those that were kept as they are: lesionseg did not write them, or they were changed since.

        Raises:
            OutputError: one cannot be written.
        """
        kept = [ending for ending, data in files.items() if not self._may_write(f"{stem}{ending}", data)]
        new = {ending: data for ending, data in files.items() if ending not in kept}
        if new:
            self.record(stem, {ending: hashlib.sha256(data).hexdigest() for ending, data in new.items()})
        for ending, data in new.items():
            self.place.write(f"{stem}{ending}", data)
        return kept

    def is_own(self, name: str) -> bool:
        """Whether a file is there that lesionseg wrote, unchanged."""
        if not self.written.knows(name):
            return False
        digest = self.place.digest(name)
        return digest is not None and self.written.owns(name, digest)

    def clear(self, stem: str) -> tuple[list[str], list[str]]:
        """Remove what an earlier run wrote of a photo.

        Returns:
            the endings of the files that were removed, and of those that were changed since and are kept.
        """
        removed, kept = [], []
        for ending in OUTPUTS:
            name = f"{stem}{ending}"
            digest = self.place.digest(name) if self.written.knows(name) else None
            if digest is None:
                continue
            if self.written.owns(name, digest):
                self.place.remove(name)
                removed.append(ending)
            else:
                kept.append(ending)
        return removed, kept

    def _may_write(self, name: str, data: bytes) -> bool:
        if self.overwrite or not (self.place.exists(name) or self.written.knows(name)):
            return True
        digest = self.place.digest(name)
        if digest is None:
            return not self.place.exists(name)
        return self.written.owns(name, digest) or self._is_torn(name, data)

    def _is_torn(self, name: str, data: bytes) -> bool:
        """Whether a file is all or the beginning of what is to be written.

        A run that was ended by force may not have recorded it, and after a power cut the rest may be missing or zeros.
        """
        with suppress(OSError, DataError):
            return data.startswith(self.place.read(name).rstrip(b"\0"))
        return False


def output_of(names: Sequence[str], stem: str) -> bool:
    """Whether a photo among the sorted names has this stem."""
    index = bisect_left(names, stem)
    if index < len(names) and names[index] == stem:
        return output_stem(stem) == stem
    start = f"{stem}."
    for index in range(bisect_left(names, start), len(names)):
        if not names[index].startswith(start):
            break
        if output_stem(names[index]) == stem:
            return True
    return False


def list_outputs(output: Path, names: Sequence[str], endings: Collection[str]) -> Iterator[str]:
    """Yield what has a name like an output in the folders of the photos' outputs, by names relative to the output."""
    wanted = tuple(endings)
    for inside in sorted({name[: name.rfind("/") + 1] for name in names}):
        try:
            with os.scandir(output / inside) as entries:
                yield from (f"{inside}{entry.name}" for entry in entries if entry.name.endswith(wanted))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise OutputError(
                f"{output / inside} cannot be listed: {error.strerror}",
                fix="make it readable, or choose another --output",
            ) from error


def files_in_the_way(
    found: Iterable[str], names: Sequence[str], endings: Collection[str], written: Written
) -> list[str]:
    """Return the files under the names of outputs that lesionseg never wrote, sorted.

    Args:
        found: names of files in the output folder.
        names: of the photos, sorted.
        endings: how the names of the outputs end.
        written: what lesionseg wrote.
    """
    wanted = tuple(endings)
    return sorted(
        name
        for name in found
        if name.endswith(wanted)
        and not written.knows(name)
        and any(output_of(names, name.removesuffix(ending)) for ending in wanted if name.endswith(ending))
    )


def in_the_way(problems: Sequence[str]) -> OutputError:
    """What to raise for files that would be replaced and are not lesionseg's own."""
    return OutputError(
        "these files were not written by lesionseg, or were changed since, and would be replaced",
        problems=problems,
        fix="choose another --output, move or rename them, or pass --overwrite to replace them",
    )


def check_outputs(
    output: Path, listed: Listing, endings: Collection[str], part: Part | None, found: Iterable[str] | None = None
) -> Written:
    """Make sure that nothing is replaced that lesionseg did not write; one listing of each folder tells.

    Files that lesionseg wrote under a name and that were changed since are not looked for: they are kept one by one.

    Args:
        output: the output folder; it need not exist.
        listed: the photos.
        endings: how the names of the outputs end.
        part: which share of a folder's photos these are.
        found: files of the output folder, relative to it; by default, it is listed.

    Returns:
        what lesionseg wrote there.

    Raises:
        OutputError: listing every file in the way.
    """
    # Listed before the logs are read: another part may be writing, which records a file before it is there.
    if found is None:
        # A power cut may have taken lines of the log: what a run that goes on finds is looked at file by file.
        begun = is_journal(journal_path(output, part))
        found = [] if begun else [*list_outputs(output, listed.names, endings)]
    written = Written.read(output)
    problems = [str(output / name) for name in files_in_the_way(found, listed.names, endings, written)]
    tables = dict.fromkeys((table_path(output, part), output / TABLE))
    problems += [str(table) for table in tables if table.exists() and not written.owns_table(table)]
    journal = journal_path(output, part)
    problems += [str(journal)] if os.path.lexists(journal) and not is_journal(journal) else []
    if problems:
        raise in_the_way(problems)
    return written


def check_folders(listed: Listing, output: Path) -> None:
    """Make sure that no folder of outputs is, by way of a link, a folder of the photos.

    Raises:
        DataError: listing those that are.
    """
    folders = {name[: name.rfind("/") + 1] for name in listed.names}
    photos = {os.path.realpath(listed.folder / inside) for inside in folders}
    problems = [str(output / inside) for inside in sorted(folders) if os.path.realpath(output / inside) in photos]
    if problems:
        raise DataError(
            "folders of the output are folders of the photos",
            problems=problems,
            fix="choose an --output without links to the photos",
        )

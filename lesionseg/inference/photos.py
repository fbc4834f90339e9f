"""Which files of a folder are photos to predict, and which belong to something else."""

from __future__ import annotations

import os
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lesionseg.data.files import IMAGE_SUFFIXES, is_companion
from lesionseg.errors import DataError
from lesionseg.inference.kinds import Skipped, ending_of, read_head, reason_to_skip
from lesionseg.inference.stages import OUTPUTS
from lesionseg.inference.table import Part, is_table
from lesionseg.io.ownership import RECORD

__all__ = [
    "Listing",
    "is_within",
    "list_photos",
    "no_photo",
    "output_holds",
    "output_stem",
    "place_of",
    "refuse_shared_names",
]


@dataclass(frozen=True, slots=True)
class Listing:
    """The photos of a folder.

    Attributes:
        folder: what the names are relative to.
        names: of the photos, sorted, with ``/`` between folders.
        skipped: the other files, likewise.
    """

    folder: Path
    names: list[str]
    skipped: list[Skipped]

    def share(self, part: Part | None) -> Listing:
        """What a part has to do; it depends on nothing but each name, so that new files move no other."""
        if part is None:
            return self
        count, place = part.count, part.number - 1
        names = [name for name in self.names if place_of(name, count) == place]
        return replace(self, names=names, skipped=[one for one in self.skipped if place_of(one.name, count) == place])


def place_of(name: str, count: int) -> int:
    """Which of so many shares a photo belongs to, from 0."""
    return zlib.crc32(os.fsencode(name)) % count


def list_photos(source: Path, output: Path) -> Listing:
    """List the photos of a folder and its sub-folders; or the one photo that ``source`` is.

    Files without a known ending are recognised by their first bytes. Hidden folders, the output folder, and output
    folders of earlier runs in sub-folders are left out. Links to folders are followed, and every folder is listed once:
    under its own name where that is below the source.

    Raises:
        DataError: there is no photo, the source is below the output folder or has photos in it, a folder cannot be
            listed, or photos would share an output.
    """
    if not source.is_dir() and not source.is_file():
        reason = "is neither a photo nor a folder" if source.exists() else "does not exist"
        raise DataError(f"{source} {reason}", fix="pass a photo, or a folder of photos")
    # Path.resolve stumbles over links that go round in a circle.
    real_output = os.path.realpath(output)
    if is_within(os.path.realpath(source), real_output):
        raise output_holds(source, output)
    if source.is_file():
        return Listing(source.parent, [source.name], [])
    names, skipped = _Walk(source, real_output).run()
    if not names:
        raise no_photo(str(source), skipped)
    refuse_shared_names(names)
    names.sort()
    skipped.sort()
    return Listing(source, names, skipped)


def no_photo(source: str, skipped: Sequence[Skipped]) -> DataError:
    """What to raise where a folder holds no photo; pictures that are left out are listed."""
    return DataError(
        f"{source} holds no photo ({', '.join(IMAGE_SUFFIXES)})",
        problems=[f"{one.name}: {one.reason}" for one in skipped if one.is_picture],
        fix="pass the folder of the photos",
    )


def output_stem(name: str) -> str:
    """What the names of a photo's outputs start with, sub-folders included."""
    return name.removesuffix(ending_of(name))


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder's or lies in it, judged by the words alone."""
    return path == folder or path.startswith((folder.rstrip(os.sep) + os.sep, folder.rstrip("/") + "/"))


def output_holds(source: str | Path, output: str | Path) -> DataError:
    """What to raise where the photos lie in the output folder."""
    return DataError(
        f"{source} lies in the output folder {output}, so masks and photos would mix",
        fix="choose an output folder that does not hold the photos",
    )


class _Walk:
    """A walk through a folder of photos.

    Args:
        source: the folder.
        output: real path of the output folder.
    """

    def __init__(self, source: Path, output: str) -> None:
        self._source, self._output = str(source), output
        self._names: list[str] = []
        self._skipped: list[Skipped] = []
        # Names with a / at the end, and real paths: folders to list, and links to folders.
        self._folders: list[tuple[str, str]] = [("", os.path.realpath(source))]
        self._links: list[tuple[str, str]] = []

    def run(self) -> tuple[list[str], list[Skipped]]:
        """Return the names of the photos, and the other files, in no order."""
        listed: set[str] = set()
        while self._folders or self._links:
            if not self._folders:
                # Folders come under their own names first, whatever order the file system lists them in.
                self._links.sort(reverse=True)
                self._folders.append(self._links.pop())
            inside, real = self._folders.pop()
            if real in listed:
                continue
            listed.add(real)
            if is_within(real, self._output):
                self._refuse_photos(f"{self._source}/{inside}")
                continue
            self._list(inside, real)
        return self._names, self._skipped

    def _list(self, inside: str, real: str) -> None:
        path = f"{self._source}/{inside}"
        lists: tuple[list[Any], ...] = (self._names, self._skipped, self._folders, self._links)
        before = [len(one) for one in lists]
        for entry in _entries(path):
            name = entry.name
            if name == RECORD:
                continue
            # The kind of each entry comes with the listing; only links are looked up.
            if _is_folder(entry):
                self._add_folder(entry, inside, real)
            elif inside and name.startswith("predictions.") and is_table(path, name):
                # An output folder of an earlier run: all of it is left out.
                for one, length in zip(lists, before, strict=True):
                    del one[length:]
                return
            elif reason := reason_to_skip(name, lambda entry=entry: read_head(entry.path)):  # type: ignore[misc]
                self._skipped.append(Skipped(inside + name, reason))
            else:
                self._names.append(inside + name)

    def _add_folder(self, entry: os.DirEntry[str], inside: str, real: str) -> None:
        if is_companion(entry.name):
            return
        name = f"{inside}{entry.name}/"
        if entry.is_symlink():
            self._links.append((name, os.path.realpath(entry.path)))
        else:
            self._folders.append((name, f"{real.rstrip('/')}/{entry.name}"))

    def _refuse_photos(self, path: str) -> None:
        """Make sure that an output folder below the source has no photos, which would not be predicted.

        Raises:
            DataError: it holds pictures that are no outputs.
        """
        problems: list[str] = []
        folders = [path]
        while folders:
            for entry in _entries(folders.pop()):
                name = entry.name.lower()
                if is_table(path, entry.name):
                    return
                if is_companion(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif name.endswith(IMAGE_SUFFIXES) and not name.endswith(tuple(OUTPUTS)):
                    problems.append(entry.path)
        if problems:
            raise DataError(
                "photos in the output folder would not be predicted",
                problems=sorted(problems),
                fix="choose an --output that holds no photos of the source",
            )


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}", fix="make it readable, or move it") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that goes round in a circle.
        return False


def refuse_shared_names(names: Sequence[str]) -> None:
    """Makes sure that each photo has an output of its own.

    Raises:
        DataError: listing the photos that would share one.
    """
    # Hashes first: of half a million names, no second copy is kept.
    hashes = np.fromiter((hash(_output_key(name)) for name in names), np.int64, len(names))
    values, counts = np.unique(hashes, return_counts=True)
    suspects = set(values[counts > 1].tolist())
    sharing = defaultdict(list)
    if suspects:
        for name in names:
            key = _output_key(name)
            if hash(key) in suspects:
                sharing[key].append(name)
    problems = [", ".join(sorted(files)) for files in sharing.values() if len(files) > 1]
    if problems:
        raise DataError(
            "these photos would share one mask file, as only the ending or upper and lower case differ",
            problems=sorted(problems),
            fix="rename all but one of each line, or move them to folders of their own",
        )


def _output_key(name: str) -> str:
    # Names that differ only in case or in Unicode composition are one name on other file systems.
    stem = output_stem(name)
    return stem.lower() if stem.isascii() else unicodedata.normalize("NFC", stem).casefold()

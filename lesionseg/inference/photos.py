"""Which files of a folder are photos to predict, and which belong to something else."""

from __future__ import annotations

import os
import posixpath
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lesionseg.data.files import IMAGE_SUFFIXES, is_companion
from lesionseg.errors import DataError
from lesionseg.inference.journal import Part, is_table
from lesionseg.io.ownership import RECORD

__all__ = ["Listing", "is_within", "list_photos", "output_holds", "output_stem", "place_of", "refuse_shared_names"]


@dataclass(frozen=True, slots=True)
class Listing:
    """The photos of a folder.

    Attributes:
        folder: what the names are relative to.
        names: of the photos, sorted, with ``/`` between folders.
        skipped: likewise, companion and system files.
    """

    folder: Path
    names: list[str]
    skipped: list[str]

    def share(self, part: Part | None) -> Listing:
        """What a part has to do; it depends on nothing but each name, so that new files move no other."""
        if part is None:
            return self

        def own(name: str) -> bool:
            return place_of(name, part.count) == part.number - 1

        return replace(self, names=list(filter(own, self.names)), skipped=list(filter(own, self.skipped)))


def place_of(name: str, count: int) -> int:
    """Which of so many shares a photo belongs to, from 0."""
    return zlib.crc32(os.fsencode(name)) % count


def list_photos(source: Path, output: Path) -> Listing:
    """The photos of a folder and its sub-folders; or the one photo that ``source`` is.

    Left out are hidden files and folders, the output folder, and output folders of earlier runs in sub-folders. Links
    to folders are followed, except back up into a folder they are in.

    Raises:
        DataError: there is no photo, the source lies in the output folder, a folder cannot be listed, or photos would
            share an output.
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
    names, skipped = _walk(source, real_output)
    if not names:
        raise DataError(f"{source} holds no photo ({', '.join(IMAGE_SUFFIXES)})", fix="pass the folder of the photos")
    refuse_shared_names(names)
    names.sort()
    skipped.sort()
    return Listing(source, names, skipped)


def output_stem(name: str) -> str:
    """What the names of a photo's outputs start with, sub-folders included."""
    return posixpath.splitext(name)[0]


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder's or lies in it, judged by the words alone."""
    return path == folder or path.startswith((folder.rstrip(os.sep) + os.sep, folder.rstrip("/") + "/"))


def output_holds(source: str | Path, output: str | Path) -> DataError:
    """What to raise where the photos lie in the output folder."""
    return DataError(
        f"{source} lies in the output folder {output}, so masks and photos would mix",
        fix="choose an output folder that does not hold the photos",
    )


def _walk(source: Path, output: str) -> tuple[list[str], list[str]]:
    """Names of what looks like a photo, and of companion and system files."""
    names: list[str] = []
    skipped: list[str] = []
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while folders:
        inside, above = folders.pop()
        path = f"{source}/{inside}"
        real = os.path.realpath(path)
        if real in above or is_within(real, output):
            continue
        before = len(names), len(skipped), len(folders)
        for entry in _entries(path):
            name = entry.name
            if name == RECORD:
                continue
            odd = is_companion(name)
            # The kind of each entry comes with the listing; only links are looked up.
            if _is_folder(entry):
                if not odd:
                    folders.append((f"{inside}{name}/", (*above, real)))
            elif above and name.startswith("predictions.") and is_table(path, name):
                # An output folder of an earlier run: all of it is left out.
                del names[before[0] :], skipped[before[1] :], folders[before[2] :]
                break
            elif odd:
                skipped.append(inside + name)
            elif name[name.rfind(".") :].lower() in IMAGE_SUFFIXES:
                names.append(inside + name)
    return names, skipped


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
    stem = name[: name.rfind(".")]
    return stem.lower() if stem.isascii() else unicodedata.normalize("NFC", stem).casefold()

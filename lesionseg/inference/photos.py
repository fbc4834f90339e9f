"""Which files of a folder are photos to predict, and which belong to something else."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from lesionseg.data.files import IMAGE_SUFFIXES, is_companion
from lesionseg.errors import DataError, OutputError
from lesionseg.inference.journal import PARTIAL, TABLE, read_rows

__all__ = ["Photo", "list_photos", "refuse_shared_names", "survey_photos"]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo, and its path relative to the source folder."""

    path: Path
    file: PurePath


def list_photos(source: Path, output: Path) -> list[Photo]:
    """The photos of a folder and its sub-folders, sorted by relative path; or the one photo that ``source`` is.

    Left out are hidden files and folders, the output folder, and output folders of earlier runs in sub-folders.

    Raises:
        DataError: there is no photo, the source lies in the output folder, or a folder cannot be listed.
    """
    return survey_photos(source, output)[0]


def survey_photos(source: Path, output: Path) -> tuple[list[Photo], list[Photo]]:
    """What ``list_photos`` gives, and the companion and system files beside them."""
    if not source.is_dir() and not source.is_file():
        reason = "is neither a photo nor a folder" if source.exists() else "does not exist"
        raise DataError(f"{source} {reason}", fix="pass a photo, or a folder of photos")
    # Path.resolve stumbles over links that go round in a circle.
    real_output = Path(os.path.realpath(output))
    if source.resolve().is_relative_to(real_output):
        raise DataError(
            f"{source} lies in the output folder {output}, so masks and photos would mix",
            fix="choose an output folder that does not hold the photos",
        )
    if source.is_file():
        return [Photo(source, PurePath(source.name))], []
    found = sorted(
        (Photo(path, path.relative_to(source)) for path in _walk(source, real_output)),
        key=lambda photo: photo.file.as_posix(),
    )
    photos = [photo for photo in found if not is_companion(photo.path.name)]
    if not photos:
        raise DataError(f"{source} holds no photo ({', '.join(IMAGE_SUFFIXES)})", fix="pass the folder of the photos")
    return photos, [photo for photo in found if is_companion(photo.path.name)]


def _walk(source: Path, output: Path) -> Iterator[Path]:
    """Paths that look like photos, companion or system files.

    Links to folders are followed, except back up into a folder they are in.
    """
    folders: list[tuple[Path, tuple[Path, ...]]] = [(source, ())]
    while folders:
        folder, above = folders.pop()
        real = folder.resolve()
        if real in above or real.is_relative_to(output) or (above and _is_output(folder)):
            continue
        try:
            entries = list(folder.iterdir())
        except OSError as error:
            raise DataError(
                f"{folder} cannot be listed: {error.strerror}", fix="make it readable, or move it"
            ) from error
        for entry in entries:
            odd = is_companion(entry.name)
            if entry.is_dir():
                if not odd:
                    folders.append((entry, (*above, real)))
            elif odd or entry.name.lower().endswith(IMAGE_SUFFIXES):
                yield entry


def _is_output(folder: Path) -> bool:
    with suppress(OSError, OutputError):
        return bool(read_rows(folder / TABLE) or read_rows(folder / PARTIAL))
    return False


def refuse_shared_names(photos: Iterable[Photo]) -> None:
    """Makes sure that each photo has an output of its own.

    Raises:
        DataError: listing the photos that would share one.
    """
    sharing = defaultdict(list)
    for photo in photos:
        # Names that differ only in case or in Unicode composition are one name on other file systems.
        stem = photo.file.with_suffix("").as_posix()
        sharing[unicodedata.normalize("NFC", stem).casefold()].append(photo.file.as_posix())
    problems = [", ".join(files) for files in sharing.values() if len(files) > 1]
    if problems:
        raise DataError(
            "these photos would share one mask file, as only the ending or upper and lower case differ",
            problems=problems,
            fix="rename all but one of each line, or move them to folders of their own",
        )

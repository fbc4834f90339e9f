"""Whether photos are those whose SHA-256 their manifest records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lesionseg.data.files import read_bytes
from lesionseg.errors import DataError, ImageError
from lesionseg.records import Case

__all__ = ["RecordedPhotos", "require_recorded"]

_WHOLE_COPY = 20
"""From so many photos on, a data set of which every photo differs is another copy of it, and not a damaged one."""

Warn = Callable[[str], None]


class RecordedPhotos:
    """Compares photos, as they are read, with what their manifest records; safe to use from several threads."""

    def __init__(self) -> None:
        self._same: list[Case] = []
        self._changed: list[Case] = []

    def add(self, case: Case, data: bytes) -> None:
        """Compare the bytes of one photo; a manifest without its SHA-256 says nothing of it."""
        if case.sha256:
            same = hashlib.sha256(data).hexdigest() == case.sha256
            (self._same if same else self._changed).append(case)

    def require(self, warn: Warn) -> None:
        """Make sure that no photo has changed.

        Args:
            warn: called with one line where every photo of a large data set differs, as it does in a copy of another
                size; such a copy may be used.

        Raises:
            DataError: listing every photo that has changed.
        """
        if not self._changed:
            return
        if not self._same and len(self._changed) >= _WHOLE_COPY:
            warn(
                f"none of the {len(self._changed)} photos has the SHA-256 that the manifest records: they are of "
                "another copy of the data set, perhaps of another size; 'lesionseg data pair' makes a manifest of it"
            )
            return
        total = len(self._same) + len(self._changed)
        raise DataError(
            f"{len(self._changed)} of {total} photos are not the ones that the manifest records: their SHA-256 differs",
            problems=[f"{case.case_id}: {case.image}" for case in sorted(self._changed, key=lambda case: case.case_id)],
            fix="restore these photos; or, if they were changed on purpose, make the manifest again with "
            "'lesionseg data pair', or clear their cells in its column sha256",
        )


def require_recorded(cases: Sequence[Case], warn: Warn) -> None:
    """Make sure that the photos of cases are those that their manifest records; files that cannot be read are left out.

    Raises:
        DataError: as ``RecordedPhotos.require``.
    """
    photos = RecordedPhotos()

    def look(case: Case) -> None:
        try:
            photos.add(case, read_bytes(case.image))
        except ImageError:
            # Listed with everything else that is wrong with the cases.
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, [case for case in cases if case.sha256]))
    photos.require(warn)

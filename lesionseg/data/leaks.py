"""Photos that are the same by their decoded pixels, whatever their names, formats and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.images import decode_photo, fit_photo, read_bytes
from lesionseg.errors import DataError, ImageError
from lesionseg.records import Case

__all__ = ["refuse_shared", "shared_photos"]

# Thumbnails from a reduced scale differ by about a grey level from those of the same pixels in another format.
_SIDE = 16
_ALIKE = 4.0
_BLOCK = 512
_Thumbnail = tuple[tuple[int, int], NDArray[np.float32]]


def refuse_shared(cases: Sequence[Case], others: Sequence[Case], message: str) -> None:
    """Makes sure that no photo is among both.

    Raises:
        DataError: with the message, listing every photo that is.
    """
    shared = shared_photos(cases, others)
    if shared:
        raise DataError(
            message,
            problems=[f"{one.case_id} ({one.image}) is {two.case_id} ({two.image})" for one, two in shared],
            fix="take them out of one of the two splits; then train again, or evaluate the manifest without them",
        )


def shared_photos(cases: Sequence[Case], others: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Each case with each of the others whose photo has the very same pixels; every such pair, in their order.

    Thumbnails tell the few pairs that are decoded in full. A photo that cannot be decoded is the same as no other:
    whoever uses it will say why.
    """
    if not cases or not others:
        return []
    with ThreadPoolExecutor() as pool:
        first, second = (list(pool.map(_thumbnail, part)) for part in (cases, others))
        pairs = [(cases[i], others[j]) for i, j in _alike(first, second)]
        same = list(pool.map(lambda pair: _equal(*pair), pairs))
    return [pair for pair, equal in zip(pairs, same, strict=True) if equal]


def _thumbnail(case: Case) -> _Thumbnail | None:
    try:
        file = case.image.stat()
    except OSError:
        return None
    return _thumbnail_of(case.image, file.st_size, file.st_mtime_ns)


# Several runs that are compared were mostly trained with the same photos. About a kilobyte each.
@lru_cache(maxsize=1 << 15)
def _thumbnail_of(path: Path, size: int, changed: int) -> _Thumbnail | None:
    try:
        photo = decode_photo(read_bytes(path), str(path), at_least=(2 * _SIDE, 2 * _SIDE))
    except ImageError:
        return None
    return (photo.height, photo.width), fit_photo(photo, _SIDE, _SIDE).reshape(-1).astype(np.float32)


def _alike(first: Sequence[_Thumbnail | None], second: Sequence[_Thumbnail | None]) -> list[tuple[int, int]]:
    rows = [(i, *thumbnail) for i, thumbnail in enumerate(first) if thumbnail]
    columns = [(j, *thumbnail) for j, thumbnail in enumerate(second) if thumbnail]
    if not columns:
        return []
    others = np.stack([thumbnail for _, _, thumbnail in columns])
    found = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        small = np.stack([thumbnail for _, _, thumbnail in block])
        # |a - b|^2 = a^2 - 2ab + b^2: one matrix product for all pairs.
        distance = (small**2).sum(1)[:, None] - 2 * (small @ others.T) + (others**2).sum(1)
        for at, column in np.argwhere(distance < _ALIKE**2 * others.shape[1]):
            if block[at][1] == columns[column][1]:
                found.append((block[at][0], columns[column][0]))
    return found


def _equal(one: Case, other: Case) -> bool:
    first, second = (decode_photo(read_bytes(case.image), str(case.image)).pixels for case in (one, other))
    return np.array_equal(first, second)

"""Photos of one lesion that come more than once: copied, mirrored, cropped, recoloured or taken again.

Public dermoscopy sets hold the same photo under several ids, often after another colour correction and with another
crop (Cassidy et al. 2022, Analysis of the ISIC image datasets, doi:10.1016/j.media.2021.102305). A dark spot on bright
skin looks like any other to a 64-bit perceptual hash, and a crop of 7 % changes it; so the search has two steps:

1. Candidates: correlation of 16 x 16 descriptors of band-passed detail, for the eight flips and quarter turns, of the
   whole photo at a few zooms and of the part around the mask.
2. Proof: affine registration of the candidates' thumbnails, first coarse, then on fine detail, where different lesions
   of the same outline no longer correlate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lesionseg.data.descriptors import FRAME, Candidate, candidates, detail_of
from lesionseg.data.images import decode_photo, read_bytes, read_mask, resize_mask
from lesionseg.data.registration import Array, register
from lesionseg.errors import ImageError
from lesionseg.records import BoolMask, Case, RgbImage

__all__ = [
    "DECODE_SIDE",
    "SAME_LESION",
    "SAME_PHOTO",
    "Duplicate",
    "Signature",
    "cluster",
    "duplicate_groups",
    "find_duplicates",
    "sign",
]

SAME_PHOTO = 0.8
"""From this correlation of registered fine detail on, two photos are one, or were taken in one sitting."""

SAME_LESION = 0.65
"""From this correlation on, two photos probably show one lesion, taken at another time or by another camera."""

DECODE_SIDE = 128
"""Signatures want photos of at least this height and width in pixels."""

_SIDE = 64
_COARSE_SIDE = 32
_BATCH = 64
# Standard deviations of the two Gaussians and of the local contrast, in pixels of the thumbnail.
_COARSE, _FINE = (1.0, 4.0, 6.0), (0.5, 1.5, 4.0)
# Of 60 pairs of ISIC photos that are one, none falls below any of these, and nine in ten of the others soon do.
_COARSE_FLOORS, _FINE_FLOORS = (0.5, 0.55, 0.65), (0.4, 0.45, 0.5)
_COARSE_ENOUGH = 0.75
_STEPS = 10
# The circle around the lesion, in radii of a disc of the mask's area.
_LESION_MARGIN = 1.3


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What is kept of a photo to find it again: 8 KiB.

    Attributes:
        grey: ``uint8 64 64``, the photo without black bars, squeezed to a square, so that a quarter turn keeps it one.
        mask: ``bool 64 64``, the lesion in the same part of the photo; None without a mask, or with an empty one.
        lesion: centre x, y and half width, half height of the part around the mask, where ``grey`` spans -1 to 1.
    """

    grey: NDArray[np.uint8]
    mask: BoolMask | None
    lesion: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Duplicate:
    """Two photos of one lesion.

    Attributes:
        first, second: their positions in the list of signatures, ``first < second``.
        correlation: of their registered fine detail, from ``SAME_LESION`` to 1.
        transform: ``float32 2 3``; it takes a place (x, y, 1) in the second photo to the place in the first, both
            spanning -1 to 1.
    """

    first: int
    second: int
    correlation: float
    transform: Array


def sign(photo: RgbImage, mask: BoolMask | None = None) -> Signature:
    """The signature of a photo.

    Args:
        photo: ``uint8 H W 3``, RGB; at least ``DECODE_SIDE`` high and wide for full accuracy.
        mask: ``bool`` of any size, the lesion in the same field of view; an empty one counts as none.
    """
    whole = np.asarray(Image.fromarray(photo).convert("L"))
    top, bottom = _lit(whole)
    left, right = _lit(whole.T)
    grey = np.asarray(Image.fromarray(whole[top:bottom, left:right]).resize((_SIDE, _SIDE), Image.Resampling.BOX))
    if mask is None:
        return Signature(grey, None, None)
    # The mask may have another scale than the photo.
    down, across = mask.shape[0] / whole.shape[0], mask.shape[1] / whole.shape[1]
    part = mask[round(top * down) : round(bottom * down), round(left * across) : round(right * across)]
    if not part.any():
        return Signature(grey, None, None)
    height, width = part.shape
    rows, columns = part.sum(1), part.sum(0)
    area = float(rows.sum())
    x, y = float(columns @ np.arange(width)) / area, float(rows @ np.arange(height)) / area
    radius = _LESION_MARGIN * float(np.sqrt(area / np.pi))
    lesion = ((2 * x + 1) / width - 1, (2 * y + 1) / height - 1, 2 * radius / width, 2 * radius / height)
    return Signature(grey, resize_mask(part, _SIDE, _SIDE), lesion)


def _lit(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """The first row and the one after the last between black bars in the outer quarters; all rows without bars."""
    # The brightest tenth: a bar may carry a ruler or a logo, and its outermost row may be bright.
    tenth = grey.shape[1] - 1 - grey.shape[1] // 10
    dark = np.partition(grey, tenth, axis=1)[:, tenth] < FRAME
    quarter = len(grey) // 4
    above, below = np.flatnonzero(dark[:quarter]), np.flatnonzero(dark[len(grey) - quarter :])
    top = int(above[-1]) + 1 if len(above) else 0
    return top, len(grey) - quarter + int(below[0]) if len(below) else len(grey)


def find_duplicates(signatures: Sequence[Signature]) -> list[Duplicate]:
    """Every pair of photos that registration proves to show one lesion, by position.

    The comparison of all descriptors grows with the square of the number of photos, the rest in proportion; the memory
    too grows in proportion.
    """
    if len(signatures) < 2:
        return []
    grey = np.stack([signature.grey for signature in signatures])
    lesions = [signature.lesion for signature in signatures]
    coarse, fine = detail_of(grey, _COARSE), detail_of(grey, _FINE)
    step = _SIDE // _COARSE_SIDE
    small = coarse.reshape(len(grey), _COARSE_SIDE, step, _COARSE_SIDE, step).mean((2, 4))
    rough = _registered(small, candidates(coarse, lesions), floors=_COARSE_FLOORS)
    good = [(d.first, d.second, d.transform) for d in rough if d.correlation > _COARSE_ENOUGH]
    found: dict[tuple[int, int], Duplicate] = {}
    for duplicate in _registered(fine, good, floors=_FINE_FLOORS):
        pair = (duplicate.first, duplicate.second)
        best = found[pair].correlation if pair in found else SAME_LESION
        if duplicate.correlation >= best:
            found[pair] = duplicate
    return [found[pair] for pair in sorted(found)]


def _registered(detail: Array, candidates: Sequence[Candidate], *, floors: Sequence[float]) -> list[Duplicate]:
    def run(start: int) -> list[Duplicate]:
        batch = candidates[start : start + _BATCH]
        first, second = [c[0] for c in batch], [c[1] for c in batch]
        begin = np.stack([c[2] for c in batch])
        scores, transforms = register(detail[first], detail[second], begin, steps=_STEPS, floors=floors)
        return [Duplicate(c[0], c[1], min(1.0, float(s)), t) for c, s, t in zip(batch, scores, transforms, strict=True)]

    with ThreadPoolExecutor() as pool:
        return [result for batch in pool.map(run, range(0, len(candidates), _BATCH)) for result in batch]


def cluster(count: int, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Connected sets of at least two of ``count`` items, by union-find; each sorted, in the order of their first."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    members = defaultdict(list)
    for item in range(count):
        members[root(item)].append(item)
    return [tuple(items) for items in members.values() if len(items) > 1]


def duplicate_groups(cases: Sequence[Case]) -> dict[str, str]:
    """Case id -> id of the first case that shows the same lesion or shares a group with one that does.

    For ``Case.group``, which splits keep together; groups that the cases already have are merged, never divided.

    Raises:
        ImageError: a photo or mask cannot be decoded.
    """
    with ThreadPoolExecutor() as pool:
        signatures = list(pool.map(_sign_case, cases))
    pairs = [(duplicate.first, duplicate.second) for duplicate in find_duplicates(signatures)]
    seen: dict[str, int] = {}
    pairs += [(seen.setdefault(case.group, position), position) for position, case in enumerate(cases)]
    groups = {case.case_id: case.case_id for case in cases}
    for members in cluster(len(cases), pairs):
        groups |= {cases[member].case_id: cases[members[0]].case_id for member in members}
    return groups


def _sign_case(case: Case) -> Signature:
    mask = _known_mask(case)
    size = (DECODE_SIDE, DECODE_SIDE)
    photo = decode_photo(
        read_bytes(case.image), str(case.image), at_least=size, like=None if mask is None else mask.shape
    )
    return sign(photo.pixels, mask)


def _known_mask(case: Case) -> BoolMask | None:
    """Where the lesion is, as far as a mask tells: one of several classes does not."""
    try:
        return read_mask(case.mask) if case.mask else None
    except ImageError:
        return None

"""Photos of one lesion that come more than once: copied, mirrored, cropped, recoloured or taken again.

Public dermoscopy sets hold the same photo under several ids, often after another colour correction and with another
crop (Cassidy et al. 2022, Analysis of the ISIC image datasets, doi:10.1016/j.media.2021.102305). Dark blobs on bright
skin all look alike to a 64-bit perceptual hash, and a crop of 7 % is enough to change it; so the search has two steps:

1. Candidates: correlation of small band-passed thumbnails, for the eight flips and quarter turns and a few zooms, of
   the whole photo and of the part around the mask.
2. Proof: an affine registration of the two thumbnails (Lucas and Kanade 1981; Baker and Matthews 2004) maximises their
   correlation; what remains below ``SAME_PHOTO`` is only similar.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lesionseg.data.images import decode_photo, read_bytes, read_mask
from lesionseg.records import BoolMask, Case, RgbImage

__all__ = [
    "DECODE_SIDE",
    "SAME_PHOTO",
    "Duplicate",
    "Signature",
    "cluster",
    "duplicate_groups",
    "find_duplicates",
    "sign",
]

Array = NDArray[np.float32]

SAME_PHOTO = 0.8
"""Two photos are one when their registered detail correlates at least so well."""

DECODE_SIDE = 128
"""Signatures need photos of at least this height and width in pixels."""

_SIDE = 64
_CELLS = 16
_ZOOMS = (1.0, 0.93, 0.86)
_CANDIDATE = 0.7
_PER_PHOTO = 4
_BLOCK = 1024
_STEPS, _FIRST_STEPS, _HOPELESS = 16, 5, 0.45
_BATCH = 128
_MIN_OVERLAP = 0.45
# The circle around the lesion, in radii of a disc of the mask's area.
_LESION_MARGIN = 1.3


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What is kept of a photo to find it again: 4 KiB.

    Attributes:
        grey: ``uint8 64 64``, the whole photo squeezed to a square, so that a quarter turn keeps it a square.
        lesion: centre x, y and half width, half height of the part around the mask, where the photo spans -1 to 1;
            None without a mask.
    """

    grey: NDArray[np.uint8]
    lesion: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Duplicate:
    """Two photos that are one.

    Attributes:
        first, second: their positions in the list of signatures, ``first < second``.
        correlation: of their registered detail, at least ``SAME_PHOTO``, at most 1.
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
    grey = Image.fromarray(photo).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    lesion = None
    if mask is not None and mask.any():
        height, width = mask.shape
        rows, columns = mask.sum(1), mask.sum(0)
        area = float(rows.sum())
        x = float(columns @ np.arange(width)) / area
        y = float(rows @ np.arange(height)) / area
        radius = _LESION_MARGIN * float(np.sqrt(area / np.pi))
        lesion = ((2 * x + 1) / width - 1, (2 * y + 1) / height - 1, 2 * radius / width, 2 * radius / height)
    return Signature(np.asarray(grey), lesion)


def find_duplicates(signatures: Sequence[Signature]) -> list[Duplicate]:
    """Every pair of photos that registration proves to be one, by position.

    Time grows with the square of the number of photos, at about a second for 2,000 and five minutes for 30,000.
    """
    if len(signatures) < 2:
        return []
    detail = _detail(np.stack([signature.grey for signature in signatures]))
    found: dict[tuple[int, int], Duplicate] = {}
    for batch in _batches(_candidates(signatures, detail), _BATCH):
        first, second = np.array([c[0] for c in batch]), np.array([c[1] for c in batch])
        scores, transforms = _register(detail, first, second, np.stack([c[2] for c in batch]))
        for a, b, score, transform in zip(first, second, scores, transforms, strict=True):
            pair = (int(a), int(b))
            if score >= SAME_PHOTO and (pair not in found or found[pair].correlation < score):
                found[pair] = Duplicate(*pair, min(1.0, float(score)), transform)
    return [found[pair] for pair in sorted(found)]


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
    """Case id -> id of the first case that shows the same photo or shares a group with one that does.

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
    photo = decode_photo(read_bytes(case.image), str(case.image), at_least=(DECODE_SIDE, DECODE_SIDE)).pixels
    return sign(photo, read_mask(case.mask) if case.mask else None)


@cache
def _taper() -> Array:
    """``float32 64 64``: 1 in the middle, 0 in the corners, where microscopes leave the same black frame on all."""
    place = _places()
    return np.clip((1.1 - np.hypot(place[..., 0], place[..., 1])) / 0.3, 0, 1).astype(np.float32)


@cache
def _places() -> Array:
    """``float32 64 64 2``: x, y of each pixel's centre in [-1, 1]."""
    line = ((np.arange(_SIDE) + 0.5) / (_SIDE / 2) - 1).astype(np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1)


def _detail(grey: NDArray[np.uint8]) -> Array:
    """``float32 N 64 64``: a difference of Gaussians over its local standard deviation, blind to colour processing."""
    from scipy.ndimage import gaussian_filter

    result = np.empty(grey.shape, np.float32)
    for index, picture in enumerate(grey):
        values = picture.astype(np.float32)
        band = gaussian_filter(values, 1, truncate=3) - gaussian_filter(values, 4, truncate=3)
        # Two grey levels keep the noise of flat skin from being blown up.
        result[index] = band / (np.sqrt(gaussian_filter(band * band, 6, truncate=2)) + 2)
    return result


def _linear(scale: NDArray[np.floating], shift: NDArray[np.floating]) -> Array:
    """``float32 ... 16 64``: weights that sample a line of 64 pixels in 16 places, ``scale * u + shift`` for u in [-1, 1].

    Each place is a triangle as wide as the distance between places, so that nothing aliases.
    """
    cells = (np.arange(_CELLS) + 0.5) / (_CELLS / 2) - 1
    pixels = (np.arange(_SIDE) + 0.5) / (_SIDE / 2) - 1
    centres = scale[..., None] * cells + shift[..., None]
    width = np.maximum(scale * 2 / _CELLS, 2 / _SIDE)[..., None, None]
    weights = np.clip(1 - np.abs(pixels - centres[..., None]) / width, 0, None)
    return (weights / np.maximum(weights.sum(-1, keepdims=True), 1e-6)).astype(np.float32)


def _described(detail: Array, windows: NDArray[np.floating]) -> Array:
    """``float32 N 16 16``: the detail in a window of each picture, tapered towards its corners.

    Args:
        detail: ``N 64 64``.
        windows: ``N 4`` or ``4``: centre x, y and half width, half height.
    """
    rows, columns = _linear(windows[..., 3], windows[..., 1]), _linear(windows[..., 2], windows[..., 0])
    small = rows @ detail @ np.swapaxes(columns, -1, -2)
    step = _SIDE // _CELLS
    return small * _taper().reshape(_CELLS, step, _CELLS, step).mean((1, 3))


def _turned(stack: NDArray[np.floating], turn: int) -> NDArray[np.floating]:
    """One of the eight flips and quarter turns of ``N H W``."""
    return np.rot90(stack[:, :, ::-1] if turn >= 4 else stack, turn % 4, (1, 2))


@cache
def _turn_matrix(turn: int) -> Array:
    """``float32 2 2``: where a place of the turned picture lies in the one before."""
    cross = np.array([-1.0, 0.0, 1.0])
    x, y = (_turned(line[None], turn)[0] for line in np.meshgrid(cross, cross))
    # The places one to the right of the middle, and one below it.
    return np.array([[x[1, 2], x[2, 1]], [y[1, 2], y[2, 1]]], np.float32)


def _unit(stack: NDArray[np.floating]) -> Array:
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(1, keepdims=True)
    result: Array = (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return result


def _candidates(signatures: Sequence[Signature], detail: Array) -> list[_Candidate]:
    """The most similar pairs by whole photo and by lesion, with a rough registration."""
    count = len(signatures)
    whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (count, 1))
    lesions = np.array([signature.lesion or (0.0, 0.0, 1.0, 1.0) for signature in signatures])
    marked = np.flatnonzero([signature.lesion is not None for signature in signatures])
    zoomed = [(whole * (1.0, 1.0, zoom, zoom), whole, np.arange(count)) for zoom in _ZOOMS]
    return _strongest(detail, zoomed) + _strongest(detail, [(lesions, lesions, marked)])


def _strongest(detail: Array, views: Sequence[_View]) -> list[_Candidate]:
    """The ``_PER_PHOTO`` strongest candidates per photo, each pair once.

    Args:
        detail: ``N 64 64``.
        views: windows ``N 4`` of the pictures to turn, windows ``N 4`` of those they are compared with, and which
            pictures take part.
    """
    limit, threshold = _PER_PHOTO * len(detail), _CANDIDATE
    hits = np.empty((0, 5))
    for number, (windows, others, chosen) in enumerate(views):
        upright = _unit(_described(detail[chosen], others[chosen]))
        pictures = _described(detail[chosen], windows[chosen])
        for turn in range(_TURNS):
            turned = _unit(_turned(pictures, turn))
            for start in range(0, len(chosen), _BLOCK):
                alike = turned[start : start + _BLOCK] @ upright.T
                row, column = np.nonzero(alike > threshold)
                one, other = chosen[row + start], chosen[column]
                fresh = np.stack([alike[row, column], one, other, np.full(len(one), number), np.full(len(one), turn)], 1)
                hits = np.concatenate([hits, fresh[one != other]])
                if len(hits) > 8 * limit:
                    # Forgetting the weakest keeps the memory flat when many photos resemble each other.
                    hits = hits[np.argsort(-hits[:, 0], kind="stable")[: 4 * limit]]
                    threshold = float(hits[-1, 0])
    best: dict[tuple[int, int], _Candidate] = {}
    for _, a, b, number, turn in hits[np.argsort(-hits[:, 0], kind="stable")]:
        one, other, view = int(a), int(b), views[int(number)]
        pair = (min(one, other), max(one, other))
        if pair not in best and len(best) < limit:
            best[pair] = (*pair, _start(view[0][one], view[1][other], int(turn), swap=one > other))
    return list(best.values())


def _start(window: NDArray[np.floating], other: NDArray[np.floating], turn: int, *, swap: bool) -> Array:
    """``float32 2 3``: takes a place in the photo of ``other`` to that in the photo of the turned ``window``; or back."""
    square = np.diag(window[2:]) @ _turn_matrix(turn) @ np.diag(1 / other[2:])
    if swap:
        back = np.linalg.inv(square)
        return np.column_stack([back, other[:2] - back @ window[:2]]).astype(np.float32)
    return np.column_stack([square, window[:2] - square @ other[:2]]).astype(np.float32)


def _register(detail: Array, first: NDArray[np.int64], second: NDArray[np.int64], start: Array) -> tuple[Array, Array]:
    """Improves each transform until the first picture, warped, correlates best with the second.

    Gauss-Newton on the affine parameters and a gain, for all pairs at once; those that stay hopeless after a few steps
    are given up.

    Returns:
        ``float32 K`` correlations, -1 for what was given up, and ``float32 K 2 3`` transforms.
    """
    transforms = start.copy()
    scores = np.full(len(first), -1.0, np.float32)
    active = np.arange(len(first))
    for step in range(_STEPS):
        warped, weight = _warp(detail[first[active]], transforms[active])
        fixed = detail[second[active]].reshape(warped.shape)
        now = _correlation(warped, fixed, weight)
        better = now > scores[active]
        kept[active[better]] = transforms[active[better]]
        scores[active] = np.maximum(scores[active], now)
        ...

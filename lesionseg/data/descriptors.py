"""Which photos may show one lesion: descriptors of band-passed detail, and their strongest correlations.

A descriptor is a 16 x 16 window of a photo's thumbnail. It is compared in all eight flips and quarter turns; zooms and
the part around the mask make up for crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.registration import Array, places, taper

__all__ = ["FRAME", "Candidate", "candidates", "detail_of"]

FRAME = 30
"""Grey levels below this that touch the edge of the photo are the microscope's frame."""

Candidate = tuple[int, int, Array]
"""Positions of two pictures, and ``float32 2 3``: a rough transform from places of the second to those of the first."""

_CELLS = 16
_TURNS = 8
_ZOOMS = (1.0, 0.93, 0.86)
_LEAST = 0.5
# Of 60 pairs of ISIC photos that are one, among 2,294 photos, 55 are found with two, and all but one with as many.
_PER_PHOTO = 16
_BLOCK = 1024

Window = tuple[float, float, float, float]
Windows = NDArray[np.float64]
_View = tuple[Windows, Windows, NDArray[np.intp]]


def detail_of(grey: NDArray[np.uint8], sigmas: tuple[float, float, float]) -> Array:
    """``float32 N S S``: a difference of Gaussians over its local contrast, so that colour processing hardly matters.

    It is 0 in and at the microscope's black frame, which is the same circle in many photos.

    Args:
        grey: ``uint8 N S S``.
        sigmas: standard deviations of the two Gaussians and of the local contrast, in pixels.
    """
    from scipy.ndimage import binary_dilation, binary_propagation, gaussian_filter

    result = np.empty(grey.shape, np.float32)
    border = np.ones(grey.shape[1:], np.bool_)
    border[1:-1, 1:-1] = False
    for index, picture in enumerate(grey):
        values = picture.astype(np.float32)
        band = gaussian_filter(values, sigmas[0], truncate=3) - gaussian_filter(values, sigmas[1], truncate=3)
        # Two grey levels keep the noise of flat skin from being blown up.
        detail = band / (np.sqrt(gaussian_filter(band * band, sigmas[2], truncate=2)) + 2)
        dark = picture < FRAME
        if (dark & border).any():
            detail[binary_dilation(binary_propagation(dark & border, mask=dark), iterations=4)] = 0
        result[index] = detail
    return result


def candidates(detail: Array, lesions: Sequence[Window | None]) -> list[Candidate]:
    """The pairs most worth a closer look: for every photo those it resembles most, by whole photo and by lesion.

    A few for each photo, and not the most similar pairs of all: round lesions resemble each other more than two photos
    of a ragged one do. A pair may come once by whole photo and once by lesion.

    Args:
        detail: ``float32 N S S``, as ``detail_of`` gives it.
        lesions: for each picture centre x, y and half width, half height of the part around its mask, in places from
            -1 to 1; None without one.
    """
    count = len(detail)
    whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (count, 1))
    around = np.array([lesion or (0.0, 0.0, 1.0, 1.0) for lesion in lesions])
    marked = np.flatnonzero([lesion is not None for lesion in lesions])
    zoomed = [(whole * (1.0, 1.0, zoom, zoom), whole, np.arange(count)) for zoom in _ZOOMS]
    by_lesion = _nearest(detail, [(around, around, marked)]) if len(marked) > 1 else []
    return _nearest(detail, zoomed) + by_lesion


def _nearest(detail: Array, views: Sequence[_View]) -> list[Candidate]:
    """Each picture's ``_PER_PHOTO`` most similar ones in any of the views, each pair once.

    Args:
        detail: ``N S S``.
        views: windows ``N 4`` of the pictures to turn, windows ``N 4`` of those they are compared with, and which
            pictures take part.
    """
    hits = np.empty((0, 6))
    for number, (windows, others, chosen) in enumerate(views):
        upright = _unit(_described(detail[chosen], others[chosen]))
        pictures = _described(detail[chosen], windows[chosen])
        for turn in range(_TURNS):
            turned = _unit(_turned(pictures, turn))
            for start in range(0, len(chosen), _BLOCK):
                alike = turned[start : start + _BLOCK] @ upright.T
                one, other, score = _top(alike, start)
                hit = np.column_stack([chosen[one], chosen[other], score, np.full((len(one), 2), (number, turn))])
                # Once for each of the two, whose own best they may be.
                hits = np.concatenate([hits, np.column_stack([hit[:, 0], hit]), np.column_stack([hit[:, 1], hit])])
            # In between too, so that the memory stays in proportion to the number of pictures.
            hits = _best(hits)
    found: dict[tuple[int, int], Candidate] = {}
    for hit in hits[np.argsort(-hits[:, 3], kind="stable")]:
        first, second = int(hit[1]), int(hit[2])
        pair = (min(first, second), max(first, second))
        if pair not in found:
            windows, others, _ = views[int(hit[4])]
            found[pair] = (*pair, _transform(windows[first], others[second], int(hit[5]), swap=first > second))
    return [found[pair] for pair in sorted(found)]


def _top(alike: Array, start: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Row (counted from ``start``), column and value of the highest in each row and in each column, without itself."""
    rows = np.arange(len(alike))
    alike[rows, rows + start] = -1
    count = min(_PER_PHOTO, len(alike), alike.shape[1])
    right = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    below = np.argpartition(-alike, count - 1, axis=0)[:count]
    row = np.concatenate([np.repeat(rows, count), below.ravel()])
    column = np.concatenate([right.ravel(), np.tile(np.arange(alike.shape[1]), count)])
    score = alike[row, column]
    good = score > _LEAST
    return row[good] + start, column[good], score[good]


def _best(hits: Windows) -> Windows:
    """The strongest hits of each owner, each partner once; columns: owner, turned, other, score, view, turn."""
    partner = hits[:, 1] + hits[:, 2] - hits[:, 0]
    order = np.lexsort((-hits[:, 3], partner, hits[:, 0]))
    hits, partner = hits[order], partner[order]
    fresh = np.ones(len(hits), np.bool_)
    fresh[1:] = (np.diff(hits[:, 0]) != 0) | (np.diff(partner) != 0)
    hits = hits[fresh]
    hits = hits[np.lexsort((-hits[:, 3], hits[:, 0]))]
    rank = np.arange(len(hits)) - np.searchsorted(hits[:, 0], hits[:, 0])
    result: Windows = hits[rank < _PER_PHOTO]
    return result


def _transform(window: Windows, other: Windows, turn: int, *, swap: bool) -> Array:
    """``float32 2 3``: takes a place in the other picture to that in the one with the turned window; swapped, back."""
    square: Windows = np.diag(window[2:]) @ _turn_matrix(turn) @ np.diag(1 / other[2:])
    origin, target = other[:2], window[:2]
    if swap:
        square, origin, target = np.linalg.inv(square).astype(np.float64), target, origin
    return np.column_stack([square, target - square @ origin]).astype(np.float32)


def _sampling(scale: Windows, shift: Windows, side: int) -> Array:
    """``float32 N 16 S``: weights that sample a line of pixels in 16 cells, ``scale`` to both sides of ``shift``.

    Each cell is a triangle at least as wide as the distance between cells, so that nothing aliases.
    """
    cells = (np.arange(_CELLS) + 0.5) / (_CELLS / 2) - 1
    pixels = (np.arange(side) + 0.5) / (side / 2) - 1
    centres = scale[:, None] * cells + shift[:, None]
    width = np.maximum(scale * 2 / _CELLS, 2 / side)[:, None, None]
    weights = np.clip(1 - np.abs(pixels - centres[..., None]) / width, 0, None)
    result: Array = (weights / np.maximum(weights.sum(-1, keepdims=True), 1e-6)).astype(np.float32)
    return result


def _described(detail: Array, windows: Windows) -> Array:
    """``float32 N 16 16``: the detail in a window of each ``N S S`` picture, tapered towards its corners.

    Args:
        detail: ``N S S``.
        windows: ``N 4``, centre x, y and half width, half height.
    """
    side = detail.shape[1]
    rows = _sampling(windows[:, 3], windows[:, 1], side)
    columns = _sampling(windows[:, 2], windows[:, 0], side)
    cells = (rows @ detail @ np.swapaxes(columns, 1, 2)) * taper(places(_CELLS)).reshape(_CELLS, _CELLS)
    return cells.astype(np.float32, copy=False)


def _turned(stack: Array, turn: int) -> Array:
    """One of the eight flips and quarter turns of ``N S S``."""
    return np.rot90(stack[:, :, ::-1] if turn >= 4 else stack, turn % 4, (1, 2))


@cache
def _turn_matrix(turn: int) -> Array:
    """``float32 2 2``: where a place of the turned picture lies in the one before."""
    line = np.array([-1.0, 0.0, 1.0], np.float32)
    x, y = _turned(np.stack(np.meshgrid(line, line)), turn)
    # The places right of the middle, and below it.
    return np.array([[x[1, 2], x[2, 1]], [y[1, 2], y[2, 1]]], np.float32)


def _unit(stack: Array) -> Array:
    """``float32 N P``: each row with mean 0 and length 1, or 0 where the picture is flat."""
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(1, keepdims=True)
    result: Array = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return result

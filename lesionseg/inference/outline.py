"""Outlines of a mask, as polygons in the photo's pixels.

They come from the probability and not from the mask's pixels: the network's answer is smooth between its own pixels, so
its level lines are exact where the steps of a mask are not, and cost the same for a photo of any size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from lesionseg.data.resizing import resize_probability
from lesionseg.records import BoolMask, Probability

__all__ = [
    "WORK_SIDE",
    "Largest",
    "Region",
    "Ring",
    "fill_rings",
    "ring_area",
    "trace_largest",
    "trace_regions",
]

WORK_SIDE = 512
"""Samples along each side of a photo at which a probability is traced; more where the network has more."""

Ring = NDArray[np.float64]
"""``float64 n 2``: x and y of a closed line's corners in pixels, 0 at the photo's left and upper edge; the last corner
is the first again. Where a mask reaches the photo's edge, the ring runs along it."""

# Below every probability: around the photo there is no lesion.
_NOTHING = -1.0


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A connected part of a mask.

    Attributes:
        outer: its outline; ``ring_area`` is positive.
        holes: the outlines of what is not lesion inside; ``ring_area`` is negative.
        area: without the holes, in square pixels.
    """

    outer: Ring
    holes: tuple[Ring, ...]
    area: float


@dataclass(frozen=True, slots=True, eq=False)
class Largest:
    """The largest region of a mask, and what the mask has beside it.

    Attributes:
        outer: its outline, without its holes.
        components: regions of the mask.
        share: of the mask's area that lies in this region, in (0, 1].
    """

    outer: Ring
    components: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """All rings of a mask in one array: a network that has learned nothing yet gives thousands of regions.

    Attributes:
        points: corners of all rings, one ring after the other.
        offsets: where each ring starts, and the end.
        groups: which ring is each region's first, and the end.
        rings: signed area of each ring.
        regions: area of each region, not above 0 for one that is too thin to be any.
    """

    points: Ring
    offsets: NDArray[np.int64]
    groups: NDArray[np.int64]
    rings: NDArray[np.float64]
    regions: NDArray[np.float64]

    def ring(self, number: int) -> Ring:
        return self.points[self.offsets[number] : self.offsets[number + 1]]


def trace_regions(
    probability: Probability, threshold: float, height: int, width: int, side: int = WORK_SIDE
) -> list[Region]:
    """The regions where a probability, brought to a photo's size, is at least the threshold; the largest first.

    Where a photo has more pixels than ``side``, the lines are drawn from a coarser grid: a network of 128 pixels loses
    0.01 % of the mask at 512 and 0.04 % at 256 (as 1 - Dice).

    Args:
        probability: ``float32 h w`` in [0, 1], any size; it covers the whole photo.
        threshold: lesion where the probability is at least this.
        height, width: of the photo, in pixels.
        side: samples along each side, at most as many as pixels and at least as many as the network's.
    """
    lines = _trace(probability, threshold, height, width, side)
    if lines is None:
        return []
    regions = []
    for number in np.argsort(-lines.regions, kind="stable").tolist():
        if lines.regions[number] <= 0:
            break
        first, last = lines.groups[number : number + 2].tolist()
        holes = tuple(lines.ring(ring) for ring in range(first + 1, last) if lines.rings[ring] < 0)
        regions.append(Region(lines.ring(first), holes, float(lines.regions[number])))
    return regions


def trace_largest(
    probability: Probability, threshold: float, height: int, width: int, side: int = WORK_SIDE
) -> Largest | None:
    """The largest of the regions that ``trace_regions`` gives, without making the others; None where there are none."""
    lines = _trace(probability, threshold, height, width, side)
    if lines is None:
        return None
    areas = lines.regions[lines.regions > 0]
    if not areas.size:
        return None
    number = int(lines.regions.argmax())
    return Largest(lines.ring(int(lines.groups[number])), areas.size, float(lines.regions[number] / areas.sum()))


def _trace(probability: Probability, threshold: float, height: int, width: int, side: int) -> _Lines | None:
    rows = min(height, max(side, probability.shape[0]))
    columns = min(width, max(side, probability.shape[1]))
    inner = resize_probability(probability, rows, columns)
    level = float(np.nextafter(np.float32(threshold), np.float32(_NOTHING)))
    lesion: BoolMask = inner > level
    top, bottom = _reach(np.logical_or.reduce(lesion, axis=1))
    left, right = _reach(np.logical_or.reduce(lesion, axis=0))
    if top == bottom:
        return None
    # Two rings around it, both on the photo's edge: the value there goes on, and drops to nothing at once.
    field = np.full((rows + 4, columns + 4), _NOTHING, np.float32)
    field[2:-2, 2:-2] = inner
    field[1, 2:-2], field[-2, 2:-2] = inner[0], inner[-1]
    field[1:-1, 1], field[1:-1, -2] = field[1:-1, 2], field[1:-1, -3]
    # Lines run between samples of which one is lesion: nothing else need be looked at.
    part = np.s_[top : bottom + 4], np.s_[left : right + 4]
    lines = contour_generator(
        x=_places(columns, width)[part[1]],
        y=_places(rows, height)[part[0]],
        z=field[part],
        name="serial",
        fill_type=FillType.ChunkCombinedOffsetOffset,
    )
    # Any: what the stubs say covers every fill type.
    found: Any = lines.filled(level, np.inf)
    points, offsets, groups = (chunks[0] for chunks in found)
    return None if points is None else _lines(points.clip(0, (width, height)), offsets, groups)


def _reach(lines: NDArray[np.bool_]) -> tuple[int, int]:
    """The first line with lesion, and the one behind the last; twice the same number where there is none."""
    places = np.flatnonzero(lines)
    return (int(places[0]), int(places[-1]) + 1) if places.size else (0, 0)


def _lines(points: Ring, offsets: NDArray[np.uint32], groups: NDArray[np.uint32]) -> _Lines:
    x, y = points.T
    steps = np.append(x[:-1] * y[1:] - x[1:] * y[:-1], 0)
    # The step from one ring's end to the next one's beginning is none.
    steps[offsets[1:-1] - 1] = 0
    rings = np.add.reduceat(steps, offsets[:-1]) / 2
    # What rounding has turned inside out is no hole.
    holes = np.minimum(rings, 0)
    holes[groups[:-1]] = rings[groups[:-1]]
    return _Lines(points, offsets.astype(np.int64), groups.astype(np.int64), rings, np.add.reduceat(holes, groups[:-1]))


def _places(count: int, length: int) -> NDArray[np.float64]:
    """Where the samples lie along a side: the centres of ``count`` equal parts, between the ends, twice each."""
    centres = (np.arange(count) + 0.5) * (length / count)
    return np.concatenate(([0, 0], centres, [length, length]))


def ring_area(ring: Ring) -> float:
    """Signed, in square pixels: positive where x turns towards y, clockwise as a photo is seen."""
    x, y = (ring - ring[0]).T
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


def fill_rings(rings: Iterable[Ring], height: int, width: int) -> BoolMask:
    """``bool height width``: the pixels whose centres lie within an odd number of rings (the even-odd rule)."""
    crossings = np.zeros(height * (width + 1), np.int64)
    for ring in rings:
        (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
        # The first and the last row whose centre lies between the ends of each edge, one end included.
        first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
        count = last - first
        edge = np.repeat(np.arange(count.size), count)
        row = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        share = (row + 0.5 - y0[edge]) / (y1 - y0)[edge]
        x = x0[edge] + share * (x1 - x0)[edge]
        at = row * (width + 1) + np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        crossings += np.bincount(at, minlength=crossings.size)
    odd = (crossings & 1).astype(np.bool_).reshape(height, width + 1)
    inside: BoolMask = np.logical_xor.accumulate(odd[:, :-1], axis=1)
    return inside

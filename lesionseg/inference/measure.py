"""Measures of a lesion's shape, in the photo's pixels.

Counts are those of the whole mask. Everything else is of its largest region with the holes filled: what a dermatologist
would call the lesion, without specks elsewhere and hairs within.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from lesionseg.inference.outline import Largest, Ring, fill_rings, ring_area

__all__ = ["MEASURE_SIDE", "Shape", "box_dimension", "measure_shape"]

MEASURE_SIDE = 256
"""Samples along each side of the outline that is measured; finer ones move no measure by a part in a thousand."""

_FOLDING_SIDE = 201
# Pixels: the edge, but for the last bits.
_AT_EDGE = 1e-6
_ANGLES = 180
# Boxes of a 64th to a quarter of the lesion's longest extent, on grids that are moved by parts of a box.
_BOXES, _SHIFTS = (64, 32, 16, 8, 4), 4

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """The measures of one mask; lengths in pixels.

    Attributes:
        components: regions of the mask.
        largest_share: of the mask's area that lies in the largest region, in (0, 1].
        area: in square pixels.
        perimeter: length of the outline.
        major_axis, minor_axis: full lengths of the ellipse with the same second moments.
        equivalent_diameter: of the disc with the same area.
        longest_diameter: the largest distance between two points of the outline.
        asymmetry_major, asymmetry_minor: area that falls beside the lesion when it is folded along its major and its
            minor axis, as a share of its area, in [0, 1); 0 for a mirror image.
        compactness: perimeter squared over 4 pi area; 1 for a disc, larger for every other shape.
        solidity: area over that of the convex hull, in (0, 1].
        fractal_dimension: of the outline by box counting; 1 for a smooth one.
        edge_share: part of the perimeter along the photo's edge, in [0, 1]; above 0 the lesion is cut off, and no
            other measure is of the whole lesion.
    """

    components: int
    largest_share: float
    area: float
    perimeter: float
    major_axis: float
    minor_axis: float
    equivalent_diameter: float
    longest_diameter: float
    asymmetry_major: float
    asymmetry_minor: float
    compactness: float
    solidity: float
    fractal_dimension: float
    edge_share: float


def measure_shape(largest: Largest, height: int, width: int) -> Shape:
    """Measures the largest of a mask's regions.

    Asymmetry is Stoecker, Li & Moss 1992 (Comput Med Imaging Graph 16(3):191-197), for the A of the ABCD rule (Nachbar
    et al. 1994, J Am Acad Dermatol 30(4):551-559), of the shape alone; compactness and the fractal dimension of the
    outline are those of Claridge et al. 1992 (J Biomed Eng 14(3):229-234). The axes are from the second moments of the
    area within the outline, which are exact for a polygon.

    Args:
        largest: as ``trace_largest`` gives it.
        height, width: of the photo, in pixels.
    """
    ring = largest.outer
    steps = np.hypot(*np.diff(ring, axis=0).T)
    perimeter, area = float(steps.sum()), ring_area(ring)
    centre, covariance = _moments(ring)
    variances, axes = np.linalg.eigh(covariance)
    # The larger variance first; a flip of a sign is a mirror image, which changes nothing here.
    placed = (ring - centre) @ axes[:, ::-1]
    folded_major, folded_minor = _fold(placed)
    widths, hull = _extents(ring)
    return Shape(
        components=largest.components,
        largest_share=largest.share,
        area=area,
        perimeter=perimeter,
        major_axis=4 * sqrt(variances[1]),
        minor_axis=4 * sqrt(max(variances[0], 0.0)),
        equivalent_diameter=2 * sqrt(area / pi),
        longest_diameter=float(widths.max()),
        asymmetry_major=folded_major,
        asymmetry_minor=folded_minor,
        compactness=perimeter**2 / (4 * pi * area),
        solidity=min(1.0, area / hull),
        fractal_dimension=box_dimension(ring),
        edge_share=float(steps[_along_edge(ring, height, width)].sum()) / perimeter,
    )


def _moments(ring: Ring) -> tuple[Values, Values]:
    """The centroid, and the ``2 2`` covariance of the points within, by Green's theorem."""
    origin = ring.mean(axis=0)
    x, y = (ring - origin).T
    x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
    cross = x0 * y1 - x1 * y0
    area = cross.sum() / 2
    mean = np.array([cross @ (x0 + x1), cross @ (y0 + y1)]) / (6 * area)
    xx, yy = cross @ (x0 * x0 + x0 * x1 + x1 * x1), cross @ (y0 * y0 + y0 * y1 + y1 * y1)
    xy = cross @ (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0)
    second = np.array([[xx / 12, xy / 24], [xy / 24, yy / 12]]) / area
    return origin + mean, second - np.outer(mean, mean)


def _fold(ring: Ring) -> tuple[float, float]:
    """What does not cover itself when folded along x, and along y, as a share of the area."""
    # The grid is symmetric about both axes, so a symmetric shape gives exactly 0.
    reach = np.abs(ring).max(axis=0) * (1 + 1e-9)
    inside = fill_rings([(ring / reach + 1) * (_FOLDING_SIDE / 2)], _FOLDING_SIDE, _FOLDING_SIDE)
    area = 2 * max(int(inside.sum()), 1)
    return int((inside ^ inside[::-1]).sum()) / area, int((inside ^ inside[:, ::-1]).sum()) / area


def _extents(ring: Ring) -> tuple[Values, float]:
    """Widths seen from ``_ANGLES`` directions, and the area of the convex hull as those see it."""
    angles = np.arange(_ANGLES) * (pi / _ANGLES)
    seen = np.stack((np.cos(angles), np.sin(angles)), axis=1) @ (ring - ring[0]).T
    # The hull's corners are the points that lie farthest in some direction; in order, they are its outline.
    last, first = seen.argmax(axis=1), seen.argmin(axis=1)
    corners, rows = ring[np.concatenate((last, first))], np.arange(_ANGLES)
    widths: Values = seen[rows, last] - seen[rows, first]
    return widths, abs(ring_area(np.concatenate((corners, corners[:1]))))


def _along_edge(ring: Ring, height: int, width: int) -> NDArray[np.bool_]:
    """Which steps of a ring run along the photo's edge."""
    sides = np.stack((ring[:, 0], width - ring[:, 0], ring[:, 1], height - ring[:, 1]))
    at = np.abs(sides) < _AT_EDGE
    along: NDArray[np.bool_] = np.any(at[:, :-1] & at[:, 1:], axis=0)
    return along


def box_dimension(ring: Ring) -> float:
    """The box-counting dimension of a line: the slope of log count over log fineness, by least squares.

    Boxes are a 64th to a quarter of the line's extent. A smooth outline has 1, Koch's snowflake 1.26.
    """
    low = ring.min(axis=0)
    extent = float((ring.max(axis=0) - low).max())
    unit = (_spread(ring, extent / (4 * max(_BOXES))) - low) / extent
    counts = np.log(_count_boxes(unit).mean(axis=1))
    # The slope of the line of least squares.
    fineness = np.log(_BOXES) - np.mean(np.log(_BOXES))
    return float(fineness @ counts / (fineness @ fineness))


def _spread(ring: Ring, step: float) -> Ring:
    """Points along a ring, at most ``step`` apart."""
    lengths = np.hypot(*np.diff(ring, axis=0).T)
    along = np.concatenate(([0.0], np.cumsum(lengths)))
    at = np.linspace(0, along[-1], int(along[-1] / step) + 2)
    return np.stack([np.interp(at, along, ring[:, axis]) for axis in (0, 1)], axis=1)


def _count_boxes(points: Ring) -> NDArray[np.int64]:
    """How many boxes hold points of [0, 1] x [0, 1], for each fineness and each shift by a part of a box.

    Fineness falls by halves, so that every grid is made of whole cells of the finest one.
    """
    side = max(_BOXES) + 2
    cells = (points * (max(_BOXES) * _SHIFTS)).astype(np.int64).T
    halves, shifts = np.arange(len(_BOXES))[:, None, None, None], np.arange(_SHIFTS)[:, None, None]
    x, y = np.moveaxis(((cells >> halves) + shifts) // _SHIFTS, 2, 0)
    grids = np.arange(len(_BOXES) * _SHIFTS).reshape(len(_BOXES), _SHIFTS, 1)
    held = np.zeros(grids.size * side * side, np.bool_)
    held[(grids * side + x) * side + y] = True
    counts: NDArray[np.int64] = held.reshape(len(_BOXES), _SHIFTS, -1).sum(axis=2)
    return counts

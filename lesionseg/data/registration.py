"""Affine registration of many pairs of small pictures at once (Lucas and Kanade 1981; Baker and Matthews 2004).

Places are (x, y) with the whole picture spanning -1 to 1 both ways, whatever its number of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "places", "register", "taper"]

Array = NDArray[np.float32]

_LEAST_GAIN = 2e-3
_MIN_OVERLAP = 0.45
_MAX_STRETCH = 2.0


def places(side: int) -> Array:
    """``float32 side*side 2``: x, y of each pixel's centre, row by row."""
    line = ((np.arange(side) + 0.5) / (side / 2) - 1).astype(np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def taper(place: Array) -> Array:
    """``float32 ...``: 1 in the middle, 0 outside and in the corners, where a microscope's frame is on all photos."""
    radius = np.hypot(place[..., 0], place[..., 1])
    result: Array = np.clip((1.1 - radius) / 0.3, 0, 1) * (np.abs(place).max(-1) <= 1)
    return result


def register(moving: Array, fixed: Array, start: Array, *, steps: int, floors: Sequence[float]) -> tuple[Array, Array]:
    """Improves each transform until the moving picture, warped, correlates best with the fixed one.

    Gauss-Newton on the six affine parameters, a gain and an offset. A pair is done when a step gains next to nothing,
    and given up when it stays below the floor for that step.

    Args:
        moving: ``K S S``.
        fixed: ``K S S``.
        start: ``K 2 3``, takes a place (x, y, 1) of the fixed picture to that of the moving one.
        steps: at most so many.
        floors: the least correlation to go on with, at the start, after one step, and so on; the last one also later.

    Returns:
        ``float32 K``, the best correlation of each pair (-1 where the start has too little overlap), and
        ``float32 K 2 3``, the transform that it was reached with.
    """
    transforms, kept = start.copy(), start.copy()
    scores = np.full(len(start), -1.0, np.float32)
    active = np.arange(len(start))
    for step in range(steps):
        warped, weight = _warp(moving[active], transforms[active])
        warped, target = _standard(warped, weight), _standard(fixed[active].reshape(warped.shape), weight)
        now = (weight * warped * target).sum(1)
        now[_unfit(transforms[active], weight)] = -1
        gain = now - scores[active]
        better = active[gain > 0]
        scores[better], kept[better] = now[gain > 0], transforms[better]
        going = (gain > _LEAST_GAIN) & (scores[active] > floors[min(step, len(floors) - 1)])
        warped, weight, target, active = warped[going], weight[going], target[going], active[going]
        if not len(active):
            break
        transforms[active] += _improvement(warped, target, weight, transforms[active])
    return scores, kept


def _unfit(transforms: Array, weight: Array) -> NDArray[np.bool_]:
    """Which transforms leave too little overlap, or distort more than another photo of the same lesion would."""
    stretch = np.linalg.svd(transforms[:, :, :2], compute_uv=False)
    full = float((taper(places(isqrt(weight.shape[1]))) ** 2).sum())
    small = weight.sum(1) < _MIN_OVERLAP * full
    result: NDArray[np.bool_] = small | (stretch[:, 0] > _MAX_STRETCH) | (stretch[:, 1] < 1 / _MAX_STRETCH)
    return result


def _standard(values: Array, weight: Array) -> Array:
    """``K P`` with weighted mean 0 and weighted sum of squares 1 in each row."""
    total = np.maximum(weight.sum(1, keepdims=True), 1e-6)
    values = values - (weight * values).sum(1, keepdims=True) / total
    result: Array = values / np.sqrt(np.maximum((weight * values * values).sum(1, keepdims=True), 1e-6))
    return result


def _warp(pictures: Array, transforms: Array) -> tuple[Array, Array]:
    """Samples ``K S S`` at the transformed places, bilinear: values and weights, both ``K S*S``."""
    side = pictures.shape[1]
    place = places(side)
    target = place @ np.swapaxes(transforms[:, :, :2], 1, 2) + transforms[:, None, :, 2]
    weight = taper(place) * taper(target)
    pixel = np.clip((target + 1) * (side / 2) - 0.5, 0, side - 1.001)
    corner = pixel.astype(np.int32)
    x, y = np.moveaxis(pixel - corner, 2, 0)
    start = corner[..., 1] * side + corner[..., 0]
    flat = pictures.reshape(len(pictures), -1)
    above, right, below, far = (np.take_along_axis(flat, start + k, 1) for k in (0, 1, side, side + 1))
    values = (above * (1 - x) + right * x) * (1 - y) + (below * (1 - x) + far * x) * y
    return values, weight


def _improvement(warped: Array, target: Array, weight: Array, transforms: Array) -> Array:
    """``float32 K 2 3``: the Gauss-Newton step, by weighted least squares on slopes, gain and offset."""
    count, side = len(warped), isqrt(warped.shape[1])
    picture = warped.reshape(count, side, side)
    down, across = (np.gradient(picture, 2 / side, axis=axis) for axis in (1, 2))
    # From the slope of the warped picture to that of the moving one.
    slope = np.stack([across, down], -1).reshape(count, -1, 2) @ np.linalg.inv(transforms[:, :, :2])
    place = places(side)
    columns = [slope[..., axis] * factor for axis in (0, 1) for factor in (place[:, 0], place[:, 1], 1.0)]
    design = np.stack([*columns, warped, np.ones_like(warped)], 1)
    weighted = design * weight[:, None]
    normal = weighted @ np.swapaxes(design, 1, 2)
    # A little damping keeps flat pictures from giving a singular matrix.
    ridge = 1e-4 * np.trace(normal, axis1=1, axis2=2) / 8 + 1e-9
    normal += ridge[:, None, None] * np.eye(8, dtype=np.float32)
    solved = np.linalg.solve(normal, weighted @ target[..., None])[..., 0]
    step = solved[:, :6] / np.maximum(solved[:, 6:7], 0.3)
    result: Array = np.clip(step, -0.1, 0.1).reshape(count, 2, 3).astype(np.float32)
    return result

"""How far two outlines lie apart: distances between them and overlap near them.

Distances are in pixels of the mask, along edges as MONAI draws them (Cardoso et al. 2022, arXiv:2211.02701), to the
same numbers; without MONAI, which brings torch along and takes twice as long.
Where one mask is empty and the other is not, there is no outline to measure to: the distance then counts as the photo's
diagonal, the largest there is, so that a missed lesion is never left out of a mean (Maier-Hein et al. 2024, "Metrics
reloaded", arXiv:2206.01653). Two empty masks agree.
"""

from __future__ import annotations

from math import hypot

import numpy as np
from numpy.typing import NDArray

from lesionseg.evaluation.morphology import shrink
from lesionseg.records import BoolMask, CaseScore

__all__ = ["BAND", "area_error", "boundary_iou", "outline_row", "surface_row"]

BAND = 0.02
"""Width of the band along an outline, and tolerance of the surface Dice, as a part of the photo's diagonal."""

_PERCENTILE = 95


def outline_row(score: CaseScore, prediction: BoolMask, truth: BoolMask) -> dict[str, float]:
    """Every measure of ``columns.SURFACE``, all finite.

    Args:
        score: the counts of the two masks.
        prediction: ``bool H W``.
        truth: ``bool H W``, the same height and width.
    """
    row = surface_row(prediction, truth)
    return row | {"boundary_iou": boundary_iou(prediction, truth), "area_error": area_error(score)}


def surface_row(prediction: BoolMask, truth: BoolMask) -> dict[str, float]:
    """Distances between the outlines of two masks of the same shape, ``bool H W``.

    Returns:
        ``hausdorff95``: the larger of the two directed 95th percentiles in pixels (Huttenlocher et al. 1993,
        doi:10.1109/34.232073, of the maximum); ``surface_distance``: the mean over both outlines in pixels;
        ``surface_dice``: the part of both outlines that lies within ``BAND`` of the other, in [0, 1] (Nikolov et al.
        2018, arXiv:1809.04430).
    """
    diagonal = hypot(*truth.shape)
    if not prediction.any() or not truth.any():
        same = prediction.any() == truth.any()
        distance = 0.0 if same else diagonal
        return {"hausdorff95": distance, "surface_distance": distance, "surface_dice": float(same)}
    there, back = _distances(prediction, truth)
    both = np.concatenate((there, back))
    return {
        "hausdorff95": float(max(np.percentile(there, _PERCENTILE), np.percentile(back, _PERCENTILE))),
        "surface_distance": float(both.mean()),
        "surface_dice": float((both <= BAND * diagonal).mean()),
    }


def _distances(prediction: BoolMask, truth: BoolMask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From each outline pixel of one mask to the nearest of the other, both ways."""
    from scipy.spatial import KDTree

    # In a cut-out, beyond which all is background, a search takes half of the time.
    rows, columns = (np.flatnonzero((prediction | truth).any(axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    first, second = (np.argwhere(mask[box] & ~shrink(mask[box], 1)).astype(np.float64) for mask in (prediction, truth))
    there, back = KDTree(second, leafsize=32).query(first)[0], KDTree(first, leafsize=32).query(second)[0]
    # MONAI keeps float32.
    return np.asarray(there, np.float32).astype(np.float64), np.asarray(back, np.float32).astype(np.float64)


def boundary_iou(prediction: BoolMask, truth: BoolMask, band: float = BAND) -> float:
    """IoU of the two inner bands along the outlines, in [0, 1]; 1 when both masks are empty.

    Cheng et al. 2021, arXiv:2103.16562: unlike the IoU it does not grow with the lesion's inside.

    Args:
        prediction, truth: ``bool H W`` of the same shape.
        band: width of the band as a part of the photo's diagonal; at least one pixel.
    """
    width = max(1, round(band * hypot(*truth.shape)))
    first, second = _inner_band(prediction, width), _inner_band(truth, width)
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def _inner_band(mask: BoolMask, width: int) -> BoolMask:
    from scipy.ndimage import minimum_filter

    # Beyond the photo's edge there is no lesion, so the edge is outline too.
    core = minimum_filter(mask.view(np.uint8), size=2 * width + 1, mode="constant", cval=0)
    band: BoolMask = mask & (core == 0)
    return band


def area_error(score: CaseScore) -> float:
    """(predicted - true area) / true area, at least -1; positive where too much was found.

    Without a true lesion it is 0 when nothing was found, else 1.
    """
    truth = score.tp + score.fn
    return (score.fp - score.fn) / truth if truth else float(score.fp > 0)

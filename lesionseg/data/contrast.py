"""How well a mask fits its photo: colour differences at its border, against what the photo shows by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.images import resize_mask, resize_photo
from lesionseg.records import BoolMask, RgbImage

__all__ = ["Contrast", "examine_contrast", "to_lab"]

_SIDE = 96
# L* below which pixels that touch the photo's edge are the microscope's frame.
_FRAME = 20.0
_FRAME_MARGIN = 4
# Surgical ink is bluer than the skin around it; melanin is not.
_INK = -4.0
# A lesion fills most of its convex hull; rings of ink, folds and shadows do not.
_SOLID = 0.7
_SPOTS = 4
_LEAST_SPOT = 0.005


@dataclass(frozen=True, slots=True)
class Contrast:
    """How far a mask and the photo's own darkest spot stand out, as colour differences (CIE 1976 delta E).

    Attributes:
        mask: between the mean colours inside the mask and in a ring around it.
        spot: the same of the spot that Otsu's threshold finds without the mask; 0 where it finds none.
        overlap: intersection over union of the two.
        missed: the share of the spot that lies outside the mask; 0 without a spot.
        lighter: mean L* inside the mask minus outside; lesions are nearly always darker, thus negative.
    """

    mask: float
    spot: float
    overlap: float
    missed: float
    lighter: float


def to_lab(pixels: RgbImage) -> NDArray[np.float32]:
    """``uint8 H W 3`` to CIE L*, a*, b* (D65), ``float32 h w 3``, the longer side at most 96 pixels."""
    from skimage.color import rgb2lab

    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = resize_photo(pixels, max(2, round(height * scale)), max(2, round(width * scale)))
    result: NDArray[np.float32] = rgb2lab(small).astype(np.float32)
    return result


def examine_contrast(photo: RgbImage, mask: BoolMask) -> Contrast | None:
    """How well a mask fits its photo, against what the photo shows by itself; None if one side of it is empty.

    Otsu's threshold on L* (Otsu 1979), away from the microscope's black frame, gives dark spots. Those that run off
    the photo or are no compact shape (shadows, rings of ink) and those bluer than their surroundings (ink) are left
    out; the most conspicuous of the rest is what the mask is compared with.

    Args:
        photo: ``uint8 H W 3``, RGB.
        mask: ``bool`` of the same field of view, of any size.
    """
    from scipy.ndimage import binary_dilation, binary_propagation, gaussian_filter

    lab = gaussian_filter(to_lab(photo), (1.5, 1.5, 0))
    lesion = resize_mask(mask, *lab.shape[:2])
    dark = lab[..., 0] < _FRAME
    edge = np.ones(dark.shape, np.bool_)
    edge[1:-1, 1:-1] = False
    frame = binary_propagation(dark & edge, mask=dark)
    valid = ~binary_dilation(frame, iterations=_FRAME_MARGIN) if frame.any() else np.ones_like(dark)
    inside, outside = lesion & valid, ~lesion & valid
    if inside.sum() < 4 or outside.sum() < 4:
        return None
    spot, strength = _darkest_spot(lab, valid, edge)
    both = int((lesion | spot).sum())
    return Contrast(
        mask=float(np.linalg.norm(_step(lab, lesion, valid))),
        spot=strength,
        overlap=float((lesion & spot).sum() / both) if both else 0.0,
        missed=float((spot & ~lesion).sum() / max(1, int(spot.sum()))),
        lighter=float(lab[inside, 0].mean() - lab[outside, 0].mean()),
    )


def _step(lab: NDArray[np.float32], region: BoolMask, valid: BoolMask) -> NDArray[np.float32]:
    """``float32 3``: mean L*, a*, b* in a region minus that in a ring around it of 0.3 of its radius."""
    from scipy.ndimage import binary_dilation

    width = max(2, round(0.3 * float(np.sqrt(region.sum() / np.pi))))
    ring = binary_dilation(region, iterations=width) & ~region & valid
    if not ring.any() or not (region & valid).any():
        return np.zeros(3, np.float32)
    result: NDArray[np.float32] = lab[region & valid].mean(0) - lab[ring].mean(0)
    return result


def _darkest_spot(lab: NDArray[np.float32], valid: BoolMask, edge: BoolMask) -> tuple[BoolMask, float]:
    """The most conspicuous dark region that looks like a lesion, and its colour difference; empty and 0 for none."""
    from scipy.ndimage import binary_opening, label
    from skimage.filters import threshold_otsu
    from skimage.morphology import convex_hull_image

    light = lab[..., 0]
    parts, count = label(binary_opening((light < threshold_otsu(light[valid])) & valid))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    at_edge = np.bincount(parts[edge], minlength=count + 1)
    best, best_strength, best_rank = np.zeros_like(valid), 0.0, 0.0
    for number in 1 + np.argsort(-sizes[1:])[:_SPOTS]:
        if sizes[number] < _LEAST_SPOT * light.size or at_edge[number] > 0.4 * np.sqrt(sizes[number]):
            continue
        region: BoolMask = parts == number
        if sizes[number] < _SOLID * convex_hull_image(region).sum():
            continue
        step = _step(lab, region, valid)
        strength = float(np.linalg.norm(step))
        if step[2] >= _INK and strength * sizes[number] ** 0.5 > best_rank:
            best, best_strength, best_rank = region, strength, strength * float(sizes[number]) ** 0.5
    return best, best_strength

"""The photo with its lesion in focus: what lies outside the mask is blurred, as by a lens of shallow depth of field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lesionseg.records import BoolMask, RgbImage

__all__ = ["draw_focus"]

# Parts of the photo's shorter side: the blur's standard deviation, and how far its onset reaches out from the mask.
_BLUR, _ONSET = 1 / 40, 1 / 25
# Standard deviation in pixels of the reduced photo that is blurred in the full one's place.
_SIGMA = 4.0
# Reduced pixels around the mask that stay sharp, so that interpolation between their centres never reaches into it.
_SAFE = 1.5


def draw_focus(photo: RgbImage, mask: BoolMask) -> RgbImage:
    """The photo with a blurred background and a sharp lesion.

    Every pixel of the mask keeps its value. From its border outwards the blur sets in over a twenty-fifth of the
    photo's shorter side. The lesion's colour does not bleed into the background, as only background pixels are averaged
    there (normalised convolution, Knutsson & Westin 1993, CVPR). An empty mask leaves nothing in focus, a full one
    everything.

    Args:
        photo: ``uint8 H W 3``, RGB; left as it is.
        mask: ``bool H W``, True = lesion.

    Returns:
        ``uint8 H W 3``, RGB.
    """
    height, width = mask.shape
    side = min(height, width)
    # The blur removes what a reduced size cannot hold, so a large photo costs hardly more than a small one.
    factor = max(1, int(side * _BLUR / _SIGMA))
    inside = _any_in_blocks(mask, factor)
    distance = ndimage.distance_transform_edt(~inside) if inside.any() else np.full(inside.shape, np.inf)
    outside = distance > _SAFE
    if not outside.any():
        return photo.copy()
    picture = Image.fromarray(photo)
    blurred = _blur_background(np.asarray(picture.reduce(factor)), outside, side * _BLUR / factor)
    onset = max(1.0, side * _ONSET / factor)
    away = np.clip((distance - _SAFE) / onset, 0, 1)
    sharp = np.rint(255 * (1 - away * away * (3 - 2 * away))).astype(np.uint8)
    # The last block of a row may reach beyond the photo.
    box = (0.0, 0.0, width / factor, height / factor)
    background = Image.fromarray(blurred).resize((width, height), Image.Resampling.BILINEAR, box)
    alpha = Image.fromarray(sharp).resize((width, height), Image.Resampling.BILINEAR, box)
    return np.array(Image.composite(picture, background, alpha))


def _any_in_blocks(mask: BoolMask, factor: int) -> BoolMask:
    """Whether there is lesion in each block of ``factor`` times ``factor`` pixels; the last ones may be smaller."""
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[1], factor), axis=1)
    result: BoolMask = np.logical_or.reduceat(rows, np.arange(0, mask.shape[0], factor), axis=0)
    return result


def _blur_background(photo: RgbImage, outside: BoolMask, sigma: float) -> NDArray[np.uint8]:
    """``uint8 h w 3``: the Gaussian mean of the background around; deep in the mask, the photo, which nobody sees."""
    weights = outside.astype(np.float32)
    near = ndimage.gaussian_filter(weights, sigma)[..., None]
    colours = ndimage.gaussian_filter(photo * weights[..., None], (sigma, sigma, 0))
    mean = colours / np.maximum(near, 1e-6)
    result: NDArray[np.uint8] = np.rint(np.where(near > 1e-3, mean, photo)).clip(0, 255).astype(np.uint8)
    return result

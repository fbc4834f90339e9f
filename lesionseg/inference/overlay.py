"""The picture that a reader checks a mask by: the photo with the mask's outline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from lesionseg.records import BoolMask, RgbImage

__all__ = ["draw_outline", "line_width"]

# Cyan is far from every skin and lesion tone; the dark edges hold it against glare and white rulers.
_LINE = (0, 255, 255)
_EDGE = (16, 16, 16)
_THICKNESS = 320

_CROSS, _SQUARE = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


def line_width(height: int, width: int) -> int:
    """Of the outline, in pixels: at least 2, then a constant part of the photo's shorter side."""
    return max(2, round(min(height, width) / _THICKNESS))


def draw_outline(photo: RgbImage, mask: BoolMask) -> RgbImage:
    """The photo with a bright, dark-edged line along the inside of the mask's border.

    The line also runs along the photo's border where the mask reaches it, so a mask that fills the photo does not look
    like an empty one.

    Args:
        photo: ``uint8 H W 3``, RGB; left as it is.
        mask: ``bool H W``, True = lesion.

    Returns:
        ``uint8 H W 3``, RGB.
    """
    picture = photo.copy()
    if not mask.any():
        return picture
    line = line_width(*mask.shape)
    edge = max(1, line // 2)
    window = _window(mask, margin=edge)
    inside = mask[window]
    outer = _moved(ndimage.binary_dilation, inside, edge)
    core = _moved(ndimage.binary_erosion, inside, line)
    inner = _moved(ndimage.binary_erosion, core, edge)
    picture[window][outer & ~inner] = _EDGE
    picture[window][inside & ~core] = _LINE
    return picture


def _window(mask: BoolMask, margin: int) -> tuple[slice, slice]:
    """The mask's bounding box and a margin: most of a large photo needs no work."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )


def _moved(step: Callable[..., BoolMask], mask: BoolMask, distance: int) -> BoolMask:
    """The mask with its border moved; what lies outside the window counts as no lesion."""
    # Crosses and squares in turn make octagons, round enough and many times faster than a distance transform.
    mask = step(mask, _CROSS, iterations=distance - distance // 2)
    return step(mask, _SQUARE, iterations=distance // 2) if distance > 1 else mask

"""Photo, probability, mask and overlay of one photo in a row, for a quick look."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from lesionseg import RESEARCH_USE
from lesionseg.data.resizing import resize_mask, resize_photo, resize_probability
from lesionseg.inference.heat import caption_font, colour_probability
from lesionseg.inference.overlay import draw_outline
from lesionseg.records import BoolMask, Probability, RgbImage

__all__ = ["PANEL_SIDE", "draw_strip"]

PANEL_SIDE = 480
"""The longest side of each picture in the row, in pixels."""

_GAP, _LINE, _FONT = 6, 20, 13
_INK, _GREY, _PAPER = (26, 26, 26), (107, 107, 107), (255, 255, 255)


def draw_strip(photo: RgbImage, probability: Probability, mask: BoolMask) -> RgbImage:
    """The photo, its probability map, its mask and the mask's outline on it, side by side with captions.

    Args:
        photo: ``uint8 H W 3``, RGB.
        probability: ``float32 H W`` in [0, 1].
        mask: ``bool H W``, True = lesion.

    Returns:
        ``uint8 h w 3``, RGB; each picture is at most ``PANEL_SIDE`` long.
    """
    factor = min(1.0, PANEL_SIDE / max(mask.shape))
    height, width = (max(1, round(side * factor)) for side in mask.shape)
    # Drawn at the size at which it is seen, a line keeps its width.
    photo, mask = resize_photo(photo, height, width), resize_mask(mask, height, width)
    panels = {
        "photo": photo,
        "probability": colour_probability(resize_probability(probability, height, width)),
        "mask": np.repeat(mask.astype(np.uint8)[..., None] * np.uint8(255), 3, axis=2),
        "outline": draw_outline(photo, mask),
    }
    row = Image.new("RGB", (4 * width + 5 * _GAP, height + 2 * _LINE + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(row), caption_font(_FONT)
    for index, (caption, pixels) in enumerate(panels.items()):
        left = _GAP + index * (width + _GAP)
        row.paste(Image.fromarray(pixels), (left, _LINE))
        pen.text((left, 2), caption, fill=_INK, font=font)
    pen.text((_GAP, height + _LINE + 3), RESEARCH_USE, fill=_GREY, font=font)
    return np.asarray(row)

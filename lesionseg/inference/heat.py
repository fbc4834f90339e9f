"""The probability in colours, over the photo or alone, with a scale to read it by."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lesionseg.records import Probability, RgbImage

__all__ = ["caption_font", "colour_probability", "draw_heat"]

# Cividis at tenths, linear between (within 8 levels of 255): even steps of lightness, read alike with and without a
# colour vision deficiency. Nunez, Anderton & Renslow 2018, PLoS ONE 13(7):e0199239.
_CIVIDIS = (
    *((0, 34, 78), (8, 51, 112), (53, 69, 108), (79, 87, 108), (102, 105, 112), (125, 124, 120)),
    *((148, 142, 119), (174, 163, 113), (200, 184, 102), (229, 207, 82), (254, 232, 56)),
)
_OPACITY = 0.6
# Parts of the picture: the scale's length of the width, its distance from the corner of the shorter side.
_SCALE, _MARGIN = 0.25, 0.03
_MIN_FONT = 9


def colour_probability(probability: Probability) -> RgbImage:
    """``float32 H W`` in [0, 1] to ``uint8 H W 3``, RGB: dark blue for 0, over grey, to yellow for 1."""
    return np.asarray(_coloured(probability))


def _coloured(probability: Probability) -> Image.Image:
    picture = Image.fromarray(np.rint(probability * 255).astype(np.uint8)).convert("P")
    picture.putpalette(_palette())
    return picture.convert("RGB")


@cache
def _palette() -> bytes:
    levels = np.linspace(0, 1, 256)
    anchors = np.array(_CIVIDIS, np.float64)
    places = np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(levels, places, anchors[:, channel]) for channel in range(3)], axis=1)
    return np.rint(table).astype(np.uint8).tobytes()


def caption_font(size: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font that Pillow brings along, in pixels."""
    return ImageFont.load_default(max(size, _MIN_FONT))


def draw_heat(photo: RgbImage, probability: Probability, threshold: float) -> RgbImage:
    """The photo in grey under the probability's colours, with a scale that marks the threshold.

    The photo gives up its colours, as they would mix with the map's.

    Args:
        photo: ``uint8 H W 3``, RGB.
        probability: ``float32 H W`` in [0, 1].
        threshold: lesion where the probability is at least this.

    Returns:
        ``uint8 H W 3``, RGB.
    """
    grey = Image.fromarray(photo).convert("L").convert("RGB")
    picture = Image.blend(grey, _coloured(probability), _OPACITY)
    _draw_scale(picture, threshold)
    return np.asarray(picture)


def _draw_scale(picture: Image.Image, threshold: float) -> None:
    """A bar from 0 to 1 with the map's colours, in the lower right corner."""
    side = min(picture.size)
    font = caption_font(0.022 * side)
    line = round(font.getbbox("0")[3])
    length, high, margin = round(_SCALE * picture.width), max(3, line // 2), round(_MARGIN * side)
    pad = max(2, line // 2)
    right, bottom = picture.width - margin, picture.height - margin
    left, top = right - length, bottom - high - 2 * pad - line
    pen = ImageDraw.Draw(picture)
    # White behind it, as the photo may be dark or light there.
    pen.rectangle((left - 2 * pad, top - pad, right + 2 * pad, bottom), fill=(255, 255, 255))
    ramp = np.broadcast_to(np.linspace(0, 1, max(length, 2), dtype=np.float32), (high, max(length, 2)))
    picture.paste(_coloured(ramp), (left, top))
    mark = left + round(threshold * (length - 1))
    pen.line((mark, top - pad // 2, mark, top + high + pad // 2), fill=(0, 0, 0), width=max(1, high // 4))
    labels = {0.0: "0", 1.0: "1"}
    if 0.12 <= threshold <= 0.88:
        labels[threshold] = f"{threshold:.2g}"
    for value, text in labels.items():
        x = left + value * (length - 1) - font.getlength(text) / 2
        pen.text((x, top + high + pad / 2), text, fill=(0, 0, 0), font=font)

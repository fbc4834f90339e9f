"""The pictures that are written beside a mask, for eyes and not for measuring: at most ``PICTURE_SIDE`` pixels long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lesionseg.data.images import decode_photo, encode_jpeg, fit_photo, resize_probability
from lesionseg.records import BoolMask, Probability, RgbImage

if TYPE_CHECKING:
    from lesionseg.inference.stages import Rendering

__all__ = ["PICTURE_SIDE", "View", "contour", "focus", "heat", "strip", "view_of"]

PICTURE_SIDE = 2048
"""Longest side of a picture in pixels. More than a screen shows would cost seconds, and the network sees far less."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A photo's result at the size of its pictures.

    Attributes:
        photo: ``uint8 H W 3``, RGB.
        probability: ``float32 H W`` in [0, 1].
        mask: ``bool H W``, True = lesion.
    """

    photo: RgbImage
    probability: Probability
    mask: BoolMask


def view_of(made: Rendering) -> View:
    """Brings a photo and its probability to the size of its pictures.

    Raises:
        ImageError: the photo cannot be decoded.
    """
    decoded = made.decoded
    factor = min(1.0, PICTURE_SIDE / max(decoded.height, decoded.width))
    height, width = (max(1, round(side * factor)) for side in (decoded.height, decoded.width))
    photo = fit_photo(decode_photo(decoded.data, decoded.name, at_least=(height, width)), height, width)
    probability = resize_probability(made.small, height, width)
    return View(photo, probability, probability >= made.threshold)


# scipy takes a fifth of a second to load, and not every run draws.


def contour(made: Rendering) -> bytes:
    """The photo with the mask's outline, as JPEG."""
    from lesionseg.inference.overlay import draw_outline

    return encode_jpeg(draw_outline(made.view.photo, made.view.mask))


def heat(made: Rendering) -> bytes:
    """The probability in colours over the photo, as JPEG."""
    from lesionseg.inference.heat import draw_heat

    return encode_jpeg(draw_heat(made.view.photo, made.view.probability, made.threshold))


def focus(made: Rendering) -> bytes:
    """The photo with what lies outside the mask blurred, as JPEG."""
    from lesionseg.inference.focus import draw_focus

    return encode_jpeg(draw_focus(made.view.photo, made.view.mask))


def strip(made: Rendering) -> bytes:
    """Photo, probability, mask and outline side by side, as JPEG."""
    from lesionseg.inference.strip import draw_strip

    return encode_jpeg(draw_strip(made.view.photo, made.view.probability, made.view.mask))

"""Which way up a photo is: what its EXIF orientation says, unless its mask knows better."""

from __future__ import annotations

from PIL import Image

from lesionseg.data.containers import Container

__all__ = ["UPRIGHT", "Box", "choose_orientation", "turn_box"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""


def choose_orientation(source: Container, like: tuple[int, int] | None) -> tuple[int, tuple[str, ...]]:
    """The orientation that counts, 1 to 8, and what to say of it.

    Args:
        source: the photo.
        like: its mask's height and width; None leaves the choice to the photo.
    """
    orientation = source.orientation
    if orientation == 1 or like is None:
        return orientation, ()
    stored, turned = (source.height, source.width), (source.width, source.height)
    if orientation < 5 or stored == turned:
        return orientation, (f"EXIF orientation {orientation}: the mask's size does not tell whether it is turned too",)
    # A mask that was drawn on the photo as it is stored.
    return (1 if like == stored else orientation), ()


def turn_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box that starts at the top left lies once the picture is upright."""
    right, bottom = box[2:]
    left, top = 0.0, 0.0
    if orientation in (2, 3, 7, 8):
        left, right = size[0] - right, float(size[0])
    if orientation in (3, 4, 6, 7):
        top, bottom = size[1] - bottom, float(size[1])
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)

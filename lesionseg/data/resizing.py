"""Photos, masks and probabilities at other sizes: images antialiased, masks nearest, probabilities bilinear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lesionseg.records import BoolMask, Probability, RgbImage

__all__ = ["resize_classes", "resize_mask", "resize_photo", "resize_probability"]


def resize_photo(pixels: RgbImage, height: int, width: int) -> RgbImage:
    """``uint8 H W 3`` to another size, bilinear with antialiasing."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: BoolMask, height: int, width: int) -> BoolMask:
    """``bool H W`` to another size, nearest neighbour: no label is made up between two others."""
    return resize_classes(mask.astype(np.uint8), height, width).astype(np.bool_)


def resize_classes(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Class indices ``uint8 H W`` to another size, nearest neighbour."""
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def resize_probability(probability: Probability, height: int, width: int) -> Probability:
    """``float32 H W`` in [0, 1] to another size, bilinear; stays in [0, 1]."""
    picture = Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture).clip(0, 1)

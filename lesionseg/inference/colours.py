"""Colours of a lesion and of the skin around it, from the small picture that the network saw.

That picture is there already, and a mean over a lesion is the same in it: decoding a photo in full would cost more
than everything else. Detail smaller than one of its pixels does not count as variegation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lesionseg.records import BoolMask, RgbImage

__all__ = ["Colours", "lab_of", "measure_colours"]

# Parts of the picture's shorter side: what is left free around the lesion, and how wide the skin beyond is.
_GAP, _RING = 0.03, 0.10
_MIN_PIXELS = 16
# Lightness of the black around a round field of view.
_BLACK = 15.0

# IEC 61966-2-1: linear light R, G, B to CIE XYZ over the white point D65.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)

Lab = NDArray[np.float32]
"""``float32 n 3``: L* in [0, 100], a*, b*."""
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Colours:
    """CIE 1976 L*, a*, b* (D65), of photos as they are: neither the camera nor the light is known.

    Attributes:
        lesion, lesion_deviation: mean and standard deviation inside the mask.
        skin, skin_deviation: the same in a band around it; None where too little skin is to be seen.
        difference: Euclidean distance of the two means (CIE 1976 colour difference); None without skin.
        variegation: root mean square distance of the lesion's pixels from their mean; 0 for one colour.
    """

    lesion: Triple
    lesion_deviation: Triple
    skin: Triple | None
    skin_deviation: Triple | None
    difference: float | None
    variegation: float


def measure_colours(picture: RgbImage, mask: BoolMask) -> Colours | None:
    """Measures the colours inside a mask, and of the skin around it.

    The statistics are those that Celebi et al. 2007 (Comput Med Imaging Graph 31(6):362-373) take of a lesion and its
    outer periphery. The band of skin starts 3 % of the picture's shorter side outside the mask, as borders are soft,
    and is 10 % wide; black around the field of view is left out, hair and ink are not.

    Args:
        picture: ``uint8 h w 3``, RGB.
        mask: ``bool h w``, True = lesion.

    Returns:
        None for a mask without lesion.
    """
    if not mask.any():
        return None
    side = min(mask.shape)
    near = _grow(mask, round(_GAP * side))
    lesion = lab_of(picture[mask])
    skin = lab_of(picture[_grow(near, round(_RING * side)) & ~near])
    skin = skin[skin[:, 0] > _BLACK]
    centre, deviation = _triple(lesion.mean(axis=0)), lesion.std(axis=0)
    variegation = float(np.sqrt(np.square(deviation, dtype=np.float64).sum()))
    if len(skin) < _MIN_PIXELS:
        return Colours(centre, _triple(deviation), None, None, None, variegation)
    around = _triple(skin.mean(axis=0))
    difference = float(np.linalg.norm(np.subtract(centre, around)))
    return Colours(centre, _triple(deviation), around, _triple(skin.std(axis=0)), difference, variegation)


def _triple(values: NDArray[np.float32]) -> Triple:
    lightness, a, b = values.tolist()
    return lightness, a, b


def _grow(mask: BoolMask, distance: int) -> BoolMask:
    """The mask with its border moved outwards, as by a square brush."""
    return _grow_down(_grow_down(mask, distance).T, distance).T


def _grow_down(mask: BoolMask, distance: int) -> BoolMask:
    # How many lesion pixels a window holds, from running sums: a wide one costs no more than a narrow one.
    sums = np.cumsum(np.pad(mask, ((distance + 1, distance), (0, 0))), axis=0, dtype=np.int32)
    grown: BoolMask = sums[2 * distance + 1 :] > sums[: -2 * distance - 1]
    return grown


@cache
def _linear() -> NDArray[np.float32]:
    """8-bit sRGB -> linear light."""
    srgb = np.arange(256) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def lab_of(colours: NDArray[np.uint8]) -> Lab:
    """``uint8 n 3``, sRGB, to CIE L*a*b* under D65 (CIE 15:2004), 2 degrees."""
    # scikit-image has it, but takes longer to load than a whole prediction.
    xyz = _linear()[colours] @ (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * np.float32((29 / 6) ** 2 / 3) + np.float32(4 / 29))
    x, y, z = f.T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=1)

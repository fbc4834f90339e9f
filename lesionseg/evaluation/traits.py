"""What a photo shows beside the lesion, estimated from its pixels: skin tone, hair, a ruler.

These sort photos into subgroups. They are estimates of simple detectors, not labels: skin tone depends on the camera's
white balance, and only dark hair is found. ``benchmarks/traits.py`` measures them where the truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionseg.data.resizing import resize_mask, resize_photo
from lesionseg.evaluation.morphology import close_along, grow, grow_box, shrink
from lesionseg.records import BoolMask, RgbImage

__all__ = [
    "TRAIT_SIDE",
    "Parts",
    "Traits",
    "find_hair",
    "find_parts",
    "find_ruler",
    "photo_traits",
    "skin_angle",
    "to_lab",
]

TRAIT_SIDE = 384
"""Longer side in pixels at which photos are looked at; smaller ones stay as they are."""

_MIN_SKIN = 0.02
# Lightness of the black around a round field of view.
_BLACK, _EDGE = 12, 25
_OTHER_COLOUR = 25.0
_CONTRAST, _OVER_GRAIN = 5.0, 3.0
_MAX_PARTS = 400
_TICKS = 4
_HAIR, _NET = 0.3, 0.2
_PARALLEL, _ACROSS = 0.87, 0.5

# Of sRGB (IEC 61966-2-1): what a level shines, and that as CIE XYZ.
_LEVEL = np.arange(256) / 255
_LINEAR = np.where(_LEVEL > 0.04045, ((_LEVEL + 0.055) / 1.055) ** 2.4, _LEVEL / 12.92)
_XYZ = np.array(((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227)))
# As parts of white.
_XYZ /= np.array((0.95047, 1.0, 1.08883))[:, None]
# Steps down and across.
_LINES = ((0, 1), (1, 0), (1, 1), (1, -1))

Grey = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Traits:
    """Of one photo.

    Attributes:
        ita: Individual Typology Angle of the skin around the lesion in degrees, or None where there is no skin to see.
        hair: dark hairs lie on the skin.
        ruler: tick marks at even distances.
    """

    ita: float | None
    hair: bool
    ruler: bool

    def row(self) -> dict[str, float | str]:
        """``columns.TRAITS`` as table cells: degrees or empty, and 0 or 1."""
        return {"ita": "" if self.ita is None else round(self.ita, 2), "hair": int(self.hair), "ruler": int(self.ruler)}


def photo_traits(photo: RgbImage, lesion: BoolMask) -> Traits:
    """Estimates all of ``Traits``.

    Args:
        photo: ``uint8 H W 3``, RGB.
        lesion: ``bool h w``, at any size: where not to look.
    """
    scale = min(1.0, TRAIT_SIDE / max(photo.shape))
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    small = photo if scale == 1 else resize_photo(photo, height, width)
    lab = to_lab(small)
    margin = max(1, round(0.02 * width))
    skin = ~grow(resize_mask(lesion, height, width), margin)
    skin &= grow_box(lab[0] > _BLACK, 2)
    skin &= ~_stickers(lab, skin, margin)
    ridge = _ridge(lab[0], skin)
    # The edge of a round field of view is as dark and thin as a hair; ticks may lie on it.
    frame = grow(~grow_box(lab[0] >= _EDGE, 3), 3 + 2 * margin)
    hair, ruler = find_hair(find_parts(ridge & ~frame), width), find_ruler(find_parts(ridge), width)
    return Traits(skin_angle(lab, skin), hair, ruler)


def to_lab(photo: RgbImage) -> Grey:
    """``uint8 H W 3`` sRGB to CIE Lab as ``float32 3 H W``, for daylight (D65) and the 2 degree observer.

    The numbers are those of ``skimage.color.rgb2lab``, which raises every pixel to its power instead of 256 levels.
    """
    red, green, blue = _LINEAR[np.ascontiguousarray(np.moveaxis(photo, 2, 0))]
    x, y, z = (_bent(r * red + g * green + b * blue) for r, g, b in _XYZ)
    lab = np.empty((3, *y.shape), np.float32)
    lab[0], lab[1], lab[2] = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return lab


def _bent(part: Values) -> Values:
    return np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)


def skin_angle(lab: Grey, skin: BoolMask) -> float | None:
    """Individual Typology Angle, atan((L* - 50) / b*) in degrees, of the median skin pixel.

    Chardon et al. 1991, doi:10.1111/j.1467-2494.1991.tb00561.x; from dermoscopy photos as in Kinyanjui et al. 2020,
    arXiv:1910.13268.

    Args:
        lab: ``float32 3 H W``, CIE Lab.
        skin: ``bool H W``.

    Returns:
        None where too little of the photo is skin.
    """
    if skin.mean() < _MIN_SKIN:
        return None
    lightness, yellow = (np.median(lab[channel][skin]) for channel in (0, 2))
    # Bluish skin is a camera's; the angle then stays at its end instead of turning over.
    return float(np.degrees(np.arctan2(lightness - 50, max(float(yellow), 1e-3))))


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Connected dark marks, the longest first.

    Attributes:
        places: ``float64 n 2``, centres as row and column.
        angles: ``float64 n``, of the long axis, in radians from the column's direction.
        lengths, widths: ``float64 n``, of the ellipse with the same second moments, in pixels.
        filled: ``float64 n``, part of the box around it.
    """

    places: Values
    angles: Values
    lengths: Values
    widths: Values
    filled: Values


def _stickers(lab: Grey, skin: BoolMask, margin: int) -> BoolMask:
    """Where the colour is far from the skin's over a whole area."""
    if not skin.any():
        return ~skin
    red, yellow = (channel - np.median(channel[skin]) for channel in lab[1:])
    off = np.sqrt(red * red + yellow * yellow) > _OTHER_COLOUR
    return grow(grow(shrink(off, margin), margin), 3 * margin)


def _ridge(lightness: Grey, skin: BoolMask) -> BoolMask:
    """Thin dark marks on the skin.

    A closing with a line fills whatever is thinner than the line across it (as DullRazor finds hair: Lee et al. 1997,
    doi:10.1016/S0010-4825(97)00020-6).
    """
    size = max(7, round(0.035 * lightness.shape[1]) | 1)
    filled = np.maximum.reduce([close_along(lightness, size, *line) for line in _LINES]) - lightness
    # Grain is not hair: a mark stands out from what the closing does to bare skin.
    grain = float(np.median(filled[skin])) if skin.any() else 0.0
    ridge: BoolMask = (filled > max(_CONTRAST, _OVER_GRAIN * grain)) & skin
    return ridge


def find_parts(ridge: BoolMask) -> Parts:
    """The connected marks of ``bool H W``, measured all at once: there may be hundreds."""
    labels, count = ndimage.label(ridge, np.ones((3, 3)))
    rows, columns = np.nonzero(labels)
    index = labels[rows, columns] - 1
    area = np.bincount(index, minlength=count).astype(np.float64)

    def mean(values: NDArray[Any]) -> Values:
        return np.bincount(index, weights=values, minlength=count) / area

    y, x = mean(rows), mean(columns)
    down, across = rows - y[index], columns - x[index]
    yy, xx, xy = mean(down**2), mean(across**2), mean(down * across)
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    boxes = np.array([(b[0].stop - b[0].start) * (b[1].stop - b[1].start) for b in ndimage.find_objects(labels)])
    lengths = 4 * np.sqrt(middle + spread)
    order = np.argsort(-lengths, kind="stable")[:_MAX_PARTS]
    return Parts(
        places=np.stack((y, x), axis=1)[order],
        angles=(0.5 * np.arctan2(2 * xy, yy - xx))[order],
        lengths=lengths[order],
        widths=4 * np.sqrt(np.maximum(middle - spread, 0))[order],
        filled=(area / boxes if count else area)[order],
    )


def find_hair(parts: Parts, width: int) -> bool:
    """Whether long thin marks, or nets of crossing ones, are together longer than a part of the photo's width."""
    thin = (parts.lengths > 5 * parts.widths) | (parts.filled < _NET)
    return bool(parts.lengths[thin & (parts.lengths > 0.08 * width)].sum() > _HAIR * width)


def find_ruler(parts: Parts, width: int) -> bool:
    """Whether ``_TICKS`` short parallel marks follow each other at even distances, along a line or an arc."""
    short = (parts.lengths > 0.008 * width) & (parts.lengths < 0.08 * width)
    ticks = np.flatnonzero(short & (parts.lengths > 1.6 * parts.widths))
    places, angles = parts.places[ticks], parts.angles[ticks]
    if len(ticks) < _TICKS:
        return False
    # The nearest of each is itself.
    apart = np.hypot(*(places[:, None] - places).T)
    nexts = np.argsort(apart, axis=1)[:, 1:6]
    steps = np.take_along_axis(apart, nexts, axis=1)
    near = np.argwhere((steps > 0.01 * width) & (steps < 0.09 * width)).tolist()
    return any(_follow(start, int(nexts[start, i]), places, angles) >= _TICKS for start, i in near)


def _follow(first: int, second: int, places: Values, angles: Values) -> int:
    at, count, here = second, 2, places[second]
    step = here - places[first]
    if not _is_tick(first, second, step, angles):
        return 0
    while count < _TICKS:
        off = np.hypot(*(places - (here + step)).T)
        best = int(off.argmin())
        if off[best] > 0.2 * hypot(*step) or not _is_tick(at, best, step, angles):
            return count
        # Rulers bend under the lens, so the step follows.
        at, count, step = best, count + 1, 0.5 * step + 0.5 * (places[best] - here)
        here = places[best]
    return count


def _is_tick(one: int, other: int, step: Values, angles: Values) -> bool:
    """Whether two marks are parallel to each other and lie across the way from one to the other."""
    along = np.arctan2(step[1], step[0])
    parallel = abs(np.cos(angles[one] - angles[other])) > _PARALLEL
    return bool(parallel and abs(np.cos(angles[one] - along)) < _ACROSS)

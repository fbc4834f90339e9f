"""How the same lesion looks on darker skin, through haze, from farther away and through a round lens.

What the camera sees is changed on linear light (``float32 H W 3``, skin about 0.1 to 0.8); what changes the frame takes
and gives ``uint8`` photos with their masks. Nothing here is random: callers draw the amounts.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from lesionseg.data.artefacts import LUMA, Field, smoothstep, unit
from lesionseg.data.resizing import resize_mask, resize_photo
from lesionseg.records import BoolMask, RgbImage

__all__ = ["MELANIN", "ROOM", "from_afar", "through_haze", "through_jpeg", "through_lens", "under_melanin"]

MELANIN = np.array([0.43, 0.76, 1.25], np.float32)
"""Relative absorption in R, G, B: melanin absorbs less and less with the wavelength."""

ROOM = 0.5
"""Largest part of a photo that a lesion may cover for ``from_afar``, which makes more skin of that beside it."""

# Of the light that falls on the skin, what the surface and the glass give back before it reaches any pigment.
_SURFACE = np.float32(0.015)
# Of the skin's median level.
_DARK = 0.7
# Largest deviation in levels; what deviates more is hair, ink or a sticker.
_GRAIN = 8


def under_melanin(light: Field, density: float, exposure: float = 0.0) -> Field:
    """Skin with more melanin above all else, which absorbs after Beer and Lambert; what the surface reflects stays.

    A lesion keeps its contrast to the skin in optical density, and loses it in light.

    Args:
        light: ``float32 H W 3``, linear, in [0, 1].
        density: of the melanin; 1 takes light skin (ITA of 59 degrees) to 18, tan; 2 to -8, brown; 3 to -27.
        exposure: how much of the loss the camera makes up for, 0 (none) to 1 (all of it, at mean luminance).
    """
    absorbed = np.exp(np.float32(-density) * MELANIN)
    darker: Field = _SURFACE + np.maximum(light - _SURFACE, 0) * absorbed
    gain = (float((light @ LUMA).mean()) + 1e-6) / (float((darker @ LUMA).mean()) + 1e-6)
    result: Field = np.clip(darker * np.float32(gain**exposure), 0, 1)
    return result


def through_haze(light: Field, amount: float) -> Field:
    """Less contrast: a part of the light, 0 to 1, comes from everywhere (glare, fogged glass, gel)."""
    result: Field = light + np.float32(amount) * (light.mean(axis=(0, 1)) - light)
    return result


def through_jpeg(photo: RgbImage, quality: int) -> RgbImage:
    """What a JPEG file of this quality, 1 to 100, keeps of a photo, ``uint8 H W 3``; colours at half the size."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "jpeg", quality=quality)
    with Image.open(file) as picture:
        return np.asarray(picture)


def from_afar(
    photo: RgbImage, mask: BoolMask, factor: float, place: tuple[float, float] = (0.5, 0.5)
) -> tuple[RgbImage, BoolMask]:
    """The photo small in a frame of its own size, with more skin around it.

    That skin has the median colour of the photo's and the grain of its mirror images, and so have dark corners; light
    that falls off to the sides is made even. A lesion that the photo's side cut goes on beyond it, mirrored.

    Args:
        photo: ``uint8 H W 3``, RGB.
        mask: ``bool H W``. Where it covers more than ``ROOM``, the photo stays as it is.
        factor: how much smaller, 1 or more.
        place: of the photo in the frame, from left and top (0) to right and bottom (1).

    Returns:
        Photo and mask, of the same sizes.
    """
    height, width = mask.shape
    small = max(round(height / factor), 1), max(round(width / factor), 1)
    if small == (height, width) or mask.mean() > ROOM:
        return photo, mask
    top, left = (round(part * (whole - side)) for part, whole, side in zip(place[::-1], mask.shape, small, strict=True))
    sides = ((top, height - small[0] - top), (left, width - small[1] - left))
    window = slice(top, top + small[0]), slice(left, left + small[1])
    wide = np.pad(resize_photo(photo, *small), (*sides, (0, 0)), "symmetric")
    lesions = np.pad(resize_mask(mask, *small), sides, "symmetric")
    regions, _ = ndimage.label(lesions)
    own = np.unique(regions[window])
    lesion: BoolMask = np.isin(regions, own[own > 0])
    return _among_skin(wide, lesion, lesions, window), lesion


def _among_skin(photo: RgbImage, lesion: BoolMask, lesions: BoolMask, window: tuple[slice, slice]) -> RgbImage:
    """A photo with skin in the place of all that is outside the window, or dark there, but for the lesion."""
    scale = unit(photo.shape)
    levels = photo.astype(np.float32)
    # Pigment goes on a little outside of masks.
    near = ndimage.binary_dilation(lesions, iterations=max(1, round(3 * scale)))
    bright = levels @ LUMA
    if near.all():
        return photo
    skin = ~near & (bright > _DARK * np.median(bright[~near]))
    if not skin.any():
        return photo
    colour = np.median(levels[skin], axis=0)
    # A lamp's fall-off would show as a bright patch around the lesion.
    levels = levels * np.clip(colour / np.maximum(_mean_of(levels, skin, 14 * scale), 1), 0.7, 1.5)
    grain = np.clip(levels - _mean_of(levels, skin, 3 * scale), -_GRAIN, _GRAIN) * skin[..., None]
    # Where there is none, that of the opposite place.
    grain = np.where(skin[..., None], grain, grain[::-1, ::-1])
    outside = np.ones(skin.shape, bool)
    outside[window] = ndimage.binary_opening(~(skin | near), iterations=max(1, round(2 * scale)))[window]
    cover = ndimage.uniform_filter(outside.astype(np.float32), max(3, round(9 * scale)))
    cover *= ~ndimage.binary_dilation(lesion, iterations=max(1, round(3 * scale)))
    result: RgbImage = (levels + cover[..., None] * (colour + grain - levels)).clip(0, 255).round().astype(np.uint8)
    return result


def _mean_of(levels: Field, where: BoolMask, sigma: float) -> Field:
    """``float32 H W 3``: the mean of some pixels, the nearer the more."""
    step = max(1, int(sigma / 3))
    weights = where[::step, ::step].astype(np.float32) + np.float32(1e-6)
    scaled = sigma / step
    near = ndimage.gaussian_filter(levels[::step, ::step] * weights[..., None], (scaled, scaled, 0))
    mean = near / ndimage.gaussian_filter(weights, scaled)[..., None]
    size = where.shape[::-1]
    channels = [Image.fromarray(mean[..., i]).resize(size, Image.Resampling.BILINEAR) for i in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def through_lens(
    photo: RgbImage, mask: BoolMask, radius: float, centre: tuple[float, float] = (0.5, 0.5), level: int = 0
) -> tuple[RgbImage, BoolMask]:
    """Black around a round field of view, which also ends the lesion.

    Args:
        photo: ``uint8 H W 3``, RGB.
        mask: ``bool H W``.
        radius: of the field, as a part of the shorter side.
        centre: of the field, as parts of width and height.
        level: of the black, 0 to 255.

    Returns:
        Photo and mask, of the same sizes.
    """
    height, width = mask.shape
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(columns - centre[0] * (width - 1), rows - centre[1] * (height - 1)).astype(np.float32)
    edge = radius * min(height, width)
    soft = max(unit(mask.shape), 1e-3)
    seen = (1 - smoothstep(edge - soft, edge + soft, distance))[..., None]
    result: RgbImage = (level + seen * (photo.astype(np.float32) - level)).round().astype(np.uint8)
    return result, mask & (distance < edge)

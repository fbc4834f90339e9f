"""What stands between skin and file in dermoscopy photos: hairs, rulers, gel, stickers, ink, uneven light, the camera.

Every artefact is a function ``(photo, mask, rng) -> photo`` on linear light, ``float32 H W 3`` where skin is about
0.1 to 0.8. It may read the mask (stickers and black corners stay off the lesion where they can, as a photographer
would keep them) and never changes it. Lengths scale with the photo: ``unit`` is one pixel at 256 x 192.
"""

from collections.abc import Callable, Mapping, Sequence
from math import hypot, tau

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from lesionseg.records import BoolMask, RgbImage

__all__ = [
    "ARTEFACTS",
    "LUMA",
    "Artefact",
    "Field",
    "Points",
    "cells",
    "draw_hair",
    "illuminate",
    "noise",
    "photograph",
    "ruler_lines",
    "smoothstep",
    "unit",
]

Field = NDArray[np.float32]
"""``float32 H W``, or ``H W 3`` for linear light."""
Points = Sequence[tuple[float, float]]
"""x, y in pixels."""
Artefact = Callable[[Field, BoolMask, np.random.Generator], Field]

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of R, G, B in luminance (ITU-R BT.709)."""

_SUPERSAMPLING = 3
_GLASS = np.array([0.92, 0.96, 1.0], np.float32)
_LEVELS = 4096
_RAMP = np.linspace(0, 1, _LEVELS, dtype=np.float32)
_SRGB = np.where(_RAMP <= 0.0031308, 12.92 * _RAMP, 1.055 * _RAMP ** np.float32(1 / 2.4) - 0.055)
"""IEC 61966-2-1, linear light -> sRGB, as a table."""
_STICKERS = ((0.05, 0.50, 0.55), (0.02, 0.25, 0.70), (0.90, 0.28, 0.03), (0.05, 0.35, 0.12), (0.85, 0.65, 0.05),
             (0.55, 0.10, 0.30), (0.75, 0.75, 0.72), (0.30, 0.60, 0.62))  # fmt: skip


def unit(shape: tuple[int, ...]) -> float:
    """Pixels of this photo per pixel of a 256 x 192 photo."""
    return float(np.sqrt(shape[0] * shape[1] / (256 * 192)))


def smoothstep(low: float, high: float, x: Field) -> Field:
    """0 below ``low``, 1 above ``high`` (``low`` < ``high``), a cubic without kinks between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    result: Field = t * t * (3 - 2 * t)
    return result


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 1) -> Field:
    """Value noise ``float32 H W``, mean near 0 and deviation near 1.

    Args:
        rng: the only source of randomness.
        shape: H, W.
        cell: distance between the random values of the first octave in pixels; each octave halves it and its weight.
        octaves: how many are summed.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        columns, rows = width / size, height / size
        grid = rng.standard_normal((int(rows) + 4, int(columns) + 4), dtype=np.float32)
        # A random sub-cell offset keeps the lattice from sitting at the same place in every photo.
        left, top = 1 + rng.random(2)
        box = (left, top, left + columns, top + rows)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, box)) / 2**octave
    deviation = 0.75 * np.sqrt(sum(0.25**octave for octave in range(octaves)))
    result: Field = total / np.float32(deviation)
    return result


def cells(rng: np.random.Generator, shape: tuple[int, int], size: float) -> Field:
    """Evenly spaced blobs about ``2 * size`` apart, deviation 1: band-passed noise."""
    white = rng.standard_normal(shape, dtype=np.float32)
    fine = ndimage.gaussian_filter(white, size / 2, truncate=2.5)
    band = fine - ndimage.uniform_filter(fine, max(3, int(size * 2.2) | 1))
    result: Field = band / np.float32(band.std())
    return result


def _blend(photo: Field, cover: Field, colour: Field) -> Field:
    result: Field = photo + cover[..., None] * (colour - photo)
    return result


def _strokes(shape: tuple[int, ...], lines: Sequence[tuple[Points, float]]) -> Field:
    """Coverage in [0, 1] of poly-lines, each with its width in pixels."""
    height, width = shape[:2]
    canvas = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    for points, thickness in lines:
        scaled = [(x * _SUPERSAMPLING, y * _SUPERSAMPLING) for x, y in points]
        pen.line(scaled, fill=255, width=max(1, round(thickness * _SUPERSAMPLING)), joint="curve")
    cover: Field = np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / np.float32(255)
    return cover


def _curve(start: tuple[float, float], angle: float, length: float, bend: float) -> Points:
    """A piece of a clothoid: its curvature grows along the way, as a hair's does towards the tip."""
    t = np.linspace(0, 1, 12)
    heading = angle + bend * t * (0.4 + 0.6 * t)
    x = start[0] + np.cumsum(np.cos(heading)) * length / t.size
    y = start[1] + np.cumsum(np.sin(heading)) * length / t.size
    return list(zip(x.tolist(), y.tolist(), strict=True))


def draw_hair(photo: Field, rng: np.random.Generator) -> Field:
    """A photo with hair over it: a few or many, fine or thick, combed or not, dark or light.

    Args:
        photo: ``float32 H W 3``, linear light in [0, 1].
        rng: the only source of randomness.
    """
    height, width = photo.shape[:2]
    scale = unit(photo.shape)
    dense = rng.random() < 0.3
    count = int(rng.integers(15, 45)) if dense else int(rng.integers(2, 15))
    thick = rng.uniform(0.5, 1.7) if rng.random() < 0.5 else rng.uniform(0.3, 0.6)
    growth, spread = rng.uniform(0, tau), rng.choice([0.3, 0.8, 2.5])
    lines = []
    for _ in range(count):
        start = (float(rng.uniform(-0.1, 1.1)) * width, float(rng.uniform(-0.1, 1.1)) * height)
        length = float(rng.lognormal(np.log(0.4), 0.5)) * width
        angle, bend = growth + spread * rng.standard_normal(), rng.normal(0, 0.8)
        lines.append((_curve(start, angle, length, bend), thick * scale * rng.uniform(0.6, 1.3)))
    skin = np.median(photo[::4, ::4], axis=(0, 1))
    if rng.random() < 0.85:
        colour = np.array([0.035, 0.022, 0.015]) * rng.uniform(0.4, 3.0) + 0.01
    else:  # blond or white
        colour = np.minimum(skin * rng.uniform(1.2, 1.6), 1.0)
    cover = _strokes(photo.shape, lines) * np.float32(rng.uniform(0.55, 1.0))
    return _blend(photo, cover, colour.astype(np.float32))


def _hair(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    return draw_hair(photo, rng)


def ruler_lines(shape: tuple[int, ...], rng: np.random.Generator) -> list[tuple[Points, float]]:
    """The ticks of a ruler along one side of a photo, straight or bent, every fifth longer.

    Args:
        shape: H, W.
        rng: the only source of randomness.

    Returns:
        Foot and end, and width in pixels, of each tick, in their order along the ruler.
    """
    height, width = shape[:2]
    scale = unit(shape)
    upright, far = rng.random() < 0.5, rng.random() < 0.5
    step, tick = rng.uniform(4, 13) * scale, rng.uniform(2.5, 7) * scale
    slant = rng.normal(0, 0.25) if rng.random() < 0.6 else 0.0
    along, across = (height, width) if upright else (width, height)
    margin, curvature = rng.uniform(0.01, 0.12) * across, rng.normal(0, 0.4)
    first, last = sorted(rng.uniform(-0.1, 1.1, 2) * along)
    lines: list[tuple[Points, float]] = []
    for index in range(int(max(last - first, 6 * step) / step)):
        position = first + index * step
        relative = position / along - 0.5
        base = margin + across * (slant * relative + curvature * relative**2)
        size = tick * (1.8 if index % 5 == 0 else 1.0)
        ends = [(base, position), (base + size, position - slant * size)]
        ends = [(across - a, b) for a, b in ends] if far else ends
        lines.append((ends if upright else [(b, a) for a, b in ends], rng.uniform(0.5, 0.8) * scale))
    return lines


def _ruler(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    lines = ruler_lines(mask.shape, rng)
    cover = _strokes(photo.shape, lines) * np.float32(rng.uniform(0.6, 1.0))
    return _blend(photo, cover, np.full(3, 0.02, np.float32))


def _distance(shape: tuple[int, ...], x: float, y: float) -> Field:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(columns - x, rows - y).astype(np.float32)


def _vignette(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    height, width = mask.shape
    centre = width * rng.normal(0.5, 0.03), height * rng.normal(0.5, 0.03)
    distance = _distance(mask.shape, *centre)
    # The round field of view is set so that the lesion lies in it.
    radius = max(rng.uniform(0.47, 0.58) * width, float(distance[mask].max()) * 1.02)
    radius = min(radius, 0.93 * float(distance.max()))
    edge = rng.uniform(0.01, 0.04) if rng.random() < 0.6 else rng.uniform(0.06, 0.25)
    light = 1 - smoothstep(radius * (1 - edge), radius * (1 + edge / 3), distance)
    floor = rng.uniform(0.0, 0.012)
    result: Field = photo * light[..., None] + np.float32(floor) * (1 - light[..., None])
    return result


def _bubbles(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    height, width = mask.shape
    result = photo.copy()
    light = rng.uniform(0, tau)
    few_large = rng.random() < 0.4
    for _ in range(int(rng.integers(1, 4) if few_large else rng.integers(4, 18))):
        radius = (rng.uniform(8, 26) if few_large else rng.lognormal(np.log(3.0), 0.4)) * unit(mask.shape)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        reach = int(radius * 1.3) + 2
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        patch = result[top : int(y) + reach, left : int(x) + reach]
        rows, columns = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        dx, dy = columns - x, rows - y
        distance = np.hypot(dx, dy).astype(np.float32)
        rim = np.exp(-(((distance - radius) / (0.1 * radius + 0.5)) ** 2))
        facing = (dx * np.cos(light) + dy * np.sin(light)) / (distance + 0.5)
        shine = (rim * np.clip(0.35 + 0.65 * facing, 0, 1) ** 2).astype(np.float32)
        shade = (rim * np.clip(-facing, 0, 1) * 0.35).astype(np.float32)
        lens = np.float32(1 + 0.08 * rng.standard_normal()) * (distance < radius) + (distance >= radius)
        patch[...] = _blend(patch * (lens * (1 - shade))[..., None], shine * np.float32(rng.uniform(0.3, 0.9)), _GLASS)
    return result


def _sticker(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    height, width = mask.shape
    reach = ndimage.distance_transform_edt(~mask[::4, ::4]) * 4
    border = [(x, y) for x in (0.0, 0.25, 0.5, 0.75, 1.0) for y in (0.0, 0.5, 1.0) if x in (0, 1) or y in (0, 1)]
    # Among three random places the one farthest from the lesion; the disc then pokes in as far as there is room.
    x, y, room = 0.0, 0.0, -1.0
    for index in rng.choice(len(border), 3, replace=False):
        column, row = border[index][0] * (width - 1), border[index][1] * (height - 1)
        free = float(reach[int(row) // 4, int(column) // 4])
        x, y, room = (column, row, free) if free > room else (x, y, room)
    visible = max(min(room * 0.95, rng.uniform(0.15, 0.5) * height), 0.08 * height)
    radius = max(rng.uniform(0.25, 0.5) * height, visible)
    away = max(hypot(x - width / 2, y - height / 2), 1.0)
    x += (x - width / 2) / away * (radius - visible)
    y += (y - height / 2) / away * (radius - visible)
    distance = _distance(mask.shape, x, y)
    outer, inner = rng.permutation(len(_STICKERS))[:2]
    scale = unit(mask.shape)
    # Relative to the skin, so that the camera's exposure does not burn it out.
    bright = np.float32(rng.uniform(0.7, 1.3) * np.median(photo[::4, ::4].max(axis=2)))
    grain = 1 + 0.08 * rng.standard_normal(mask.shape, dtype=np.float32)
    shadow = 0.75 * (1 - smoothstep(radius, radius + 4 * scale, distance)) * np.float32(rng.uniform(0, 0.6))
    result: Field = photo * (1 - shadow[..., None])
    for index, size in ((outer, radius), (inner, radius * rng.uniform(0.3, 0.6))):
        if index == inner and rng.random() < 0.5:
            continue
        colour = np.array(_STICKERS[index], np.float32) * grain[..., None] * bright
        result = _blend(result, 1 - smoothstep(size - scale, size + scale, distance), colour)
    return result


def _highlights(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    shape = (mask.shape[0], mask.shape[1])
    scale = unit(shape)
    specks = smoothstep(1.3, 3.0, noise(rng, shape, rng.uniform(2, 10) * scale, 3))
    place = _distance(shape, rng.uniform(0, shape[1]), rng.uniform(0, shape[0]))
    glow = np.exp(-((place / (rng.uniform(0.05, 0.3) * shape[1])) ** 2)).astype(np.float32)
    return _blend(photo, np.clip(specks * glow * np.float32(rng.uniform(0.3, 1.1)), 0, 1), _GLASS)


def _ink(photo: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    height, width = mask.shape
    scale = unit(mask.shape)
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        start = (float(rng.choice([0.03, 0.9]) + rng.normal(0, 0.05)) * width, float(rng.random()) * height)
        length = float(rng.uniform(0.04, 0.35)) * height
        lines.append((_curve(start, rng.uniform(0, tau), length, rng.normal(0, 0.6)), rng.uniform(1.5, 4) * scale))
    cover = ndimage.gaussian_filter(_strokes(photo.shape, lines), 0.8 * scale) * np.float32(rng.uniform(0.4, 0.8))
    return _blend(photo, cover, np.array([0.12, 0.05, 0.30], np.float32))


ARTEFACTS: Mapping[str, tuple[float, Artefact]] = {
    "bubbles": (0.14, _bubbles),
    "highlights": (0.09, _highlights),
    "ink": (0.04, _ink),
    "hair": (0.45, _hair),
    "ruler": (0.15, _ruler),
    "sticker": (0.08, _sticker),
    "vignette": (0.11, _vignette),
}
"""Name -> probability and function, in drawing order: what is nearer to the lens comes later."""


def illuminate(light: Field, rng: np.random.Generator) -> Field:
    """Uneven light: a slope, soft unevenness, and darker corners."""
    height, width = light.shape[:2]
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = rng.normal(0, 0.08, 2)
    falloff = rng.uniform(0, 0.3) if rng.random() < 0.7 else rng.uniform(0.3, 0.8)
    exponent = slope[0] * rows + slope[1] * columns - falloff * ((rows**2 + columns**2) / 2) ** 1.5
    exponent = exponent + 0.04 * noise(rng, (height, width), 0.4 * width)
    result: Field = light * np.exp(exponent, dtype=np.float32)[..., None]
    return result


def photograph(light: Field, skin: NDArray[np.float32], rng: np.random.Generator) -> RgbImage:
    """Linear light to ``uint8 H W 3``; white balance and exposure are set on ``skin``, the photo's mean skin."""
    luminance = float(skin @ LUMA)
    # Dermatoscope cameras often balance on the skin that fills the frame, which greys it.
    gains = (luminance / skin) ** rng.uniform(0.0, 1.0) * np.exp(rng.normal(0, [0.07, 0.04, 0.09]))
    gains = gains / float((gains * skin) @ LUMA / luminance)
    wanted = float(np.clip(rng.normal(0.62, 0.19), 0.22, 1.05))
    exposure = (wanted / luminance) ** rng.uniform(0.2, 0.9)
    exposure = min(exposure, 1.0 / float((gains * skin).max()))
    image = light * (gains * exposure).astype(np.float32)
    grey = (image @ LUMA)[..., None]
    image = grey + np.float32(rng.uniform(0.9, 1.5)) * (image - grey)
    image = image + np.float32(rng.uniform(0.0, 0.015)) * (1 - image)  # flare
    index = np.clip(image * (_LEVELS - 1), 0, _LEVELS - 1).astype(np.int32)
    image = _SRGB[index] ** np.float32(rng.lognormal(0, 0.12))
    scale = unit(image.shape)
    blur = rng.choice([0.0, rng.uniform(0.3, 1.0)])
    if blur:
        image = ndimage.gaussian_filter(image, (blur * scale, blur * scale, 0), truncate=2.5)
    shape = (image.shape[0], image.shape[1])
    # JPEG keeps half the chroma resolution: coarse noise in colour, fine noise in lightness.
    grain = rng.uniform(0.001, 0.012)
    image = image + np.float32(grain) * rng.standard_normal(shape, dtype=np.float32)[..., None]
    chroma = np.float32(grain * 0.6) * noise(rng, shape, 2.0)
    image = image + chroma[..., None] * np.array([1, -0.5, -0.5], np.float32)
    result: RgbImage = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return result

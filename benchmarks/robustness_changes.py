"""What other hospitals, cameras and skins do to a photo, for ``robustness.py``: each by itself and clearly visible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from lesionseg.data.artefacts import ARTEFACTS, draw_hair, unit
from lesionseg.data.resizing import resize_mask, resize_photo
from lesionseg.data.retaken import from_afar, through_haze, through_jpeg, through_lens, under_melanin

Photo = np.ndarray
Mask = np.ndarray
Rng = np.random.Generator
Change = Callable[[Photo, Mask, Rng], tuple[Photo, Mask]]

GAMMA = 2.2


def in_light(photo: Photo, change: Callable[[Photo], Photo]) -> Photo:
    """Changes a photo where light adds up, not its coded levels."""
    light = (photo.astype(np.float32) / 255) ** GAMMA
    return (255 * np.clip(change(light), 0, 1) ** (1 / GAMMA)).round().astype(np.uint8)


def looks(change: Callable[[Photo, Mask, Rng], Photo]) -> Change:
    """A change of the light, which leaves the mask."""
    return lambda photo, mask, rng: (in_light(photo, lambda light: change(light, mask, rng)), mask)


def gains(*factors: float) -> Change:
    return looks(lambda light, mask, rng: light * np.array(factors, np.float32))


def grey_world(light: Photo, mask: Mask, rng: Rng) -> Photo:
    """White balance that takes the skin for grey, as an automatic one does."""
    means = light.mean(axis=(0, 1))
    return light * (means.mean() / np.maximum(means, 1e-6))


def hairy(light: Photo, mask: Mask, rng: Rng) -> Photo:
    for _ in range(3):
        light = draw_hair(light, rng)
    return light


def ruled(light: Photo, mask: Mask, rng: Rng) -> Photo:
    return ARTEFACTS["bubbles"][1](ARTEFACTS["ruler"][1](light, mask, rng), mask, rng)


def noisy(light: Photo, mask: Mask, rng: Rng) -> Photo:
    """Shot noise of few electrons and the noise of reading them."""
    return light + rng.standard_normal(light.shape) * np.sqrt(0.006 * light + 0.0004)


def blurred(light: Photo, mask: Mask, rng: Rng) -> Photo:
    sigma = 2.5 * unit(light.shape)
    return ndimage.gaussian_filter(light, (sigma, sigma, 0))


def squeezed(photo: Photo, mask: Mask, rng: Rng) -> tuple[Photo, Mask]:
    return through_jpeg(photo, 20), mask


def cropped(photo: Photo, mask: Mask, rng: Rng) -> tuple[Photo, Mask]:
    """So near that the lesion is a sixth larger than the frame along one axis."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return photo, mask
    height, width = mask.shape
    part = min(1.0, 0.85 * max(np.ptp(rows) / height, np.ptp(columns) / width))
    sides = max(16, round(part * height)), max(16, round(part * width))
    starts = [
        int(np.clip((place[0] + place[-1] - side) // 2, 0, whole - side))
        for place, side, whole in zip((rows, columns), sides, mask.shape, strict=True)
    ]
    window = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return resize_photo(np.ascontiguousarray(photo[window]), height, width), resize_mask(mask[window], height, width)


def turned(photo: Photo, mask: Mask, rng: Rng) -> tuple[Photo, Mask]:
    return np.ascontiguousarray(np.rot90(photo)), np.ascontiguousarray(np.rot90(mask))


def enlarged(photo: Photo, mask: Mask, rng: Rng) -> tuple[Photo, Mask]:
    """To the size of a camera's file: 2048 pixels of width for 256."""
    height, width = (8 * side for side in mask.shape)
    picture = Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture), resize_mask(mask, height, width)


UNCHANGED = "unchanged"
CHANGES: dict[str, Change] = {
    UNCHANGED: lambda photo, mask, rng: (photo, mask),
    "warm light": gains(1.25, 1.0, 0.65),
    "cold light": gains(0.75, 1.0, 1.35),
    "green cast": gains(0.8, 1.15, 0.8),
    "skin balanced to grey": looks(grey_world),
    "darker, 1.3 stops": gains(0.4, 0.4, 0.4),
    "brighter, 0.7 stops": gains(1.6, 1.6, 1.6),
    "haze, 60 %": looks(lambda light, mask, rng: through_haze(light, 0.6)),
    "haze, 80 %": looks(lambda light, mask, rng: through_haze(light, 0.8)),
    "tan skin": looks(lambda light, mask, rng: under_melanin(light, 1.0, 0.3)),
    "brown skin": looks(lambda light, mask, rng: under_melanin(light, 2.0, 0.3)),
    "dark skin": looks(lambda light, mask, rng: under_melanin(light, 3.0, 0.3)),
    "dense hair": looks(hairy),
    "ruler and bubbles": looks(ruled),
    "dark corners": looks(lambda light, mask, rng: ARTEFACTS["vignette"][1](light, mask, rng)),
    "round black frame": lambda photo, mask, rng: through_lens(photo, mask, rng.uniform(0.42, 0.5)),
    "blur": looks(blurred),
    "JPEG, quality 20": squeezed,
    "sensor noise": looks(noisy),
    "half as near": lambda photo, mask, rng: from_afar(photo, mask, 2.0, tuple(rng.uniform(0.2, 0.8, 2))),
    "a third as near": lambda photo, mask, rng: from_afar(photo, mask, 3.0, tuple(rng.uniform(0.2, 0.8, 2))),
    "lesion cut by the frame": cropped,
    "turned by 90 degrees": turned,
    "eight times the pixels": enlarged,
}
"""Title -> what is done."""

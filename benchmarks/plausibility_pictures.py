"""Pictures that are no dermoscopy, and what may happen to a picture, for ``plausibility.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from lesionseg.data.resizing import resize_photo
from lesionseg.data.retaken import through_jpeg
from lesionseg.data.synthetic import generate

SIZE = (192, 256)
Picture = np.ndarray
Rng = np.random.Generator

# Everyday pictures that packages bring along. Neighbours in the list are alike; every other one is fitted on.
EVERYDAY = (
    *("chelsea", "astronaut", "coffee", "rocket", "camera", "motorcycle_left", "page", "text"),
    *("brick", "grass", "gravel", "coins", "moon", "clock_motion", "chessboard_RGB", "horse"),
    *("hubble_deep_field", "phantom", "logo", "color"),
)
MEDICAL = ("retina", "ihc", "microaneurysms", "cell")
_WORDS = (
    *("the", "of", "skin", "photo", "page", "lesion", "area", "table", "1", "0.25", "and", "with"),
    *("from", "is", "not", "for", "a", "(b)", "which", "Figure", "3.1", "2016", "text"),
)


def as_photo(pixels: Picture) -> Picture:
    pixels = pixels if pixels.dtype == np.uint8 else (255 * (pixels / pixels.max())).astype(np.uint8)
    colours = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels[..., :3]
    return resize_photo(np.ascontiguousarray(colours), *SIZE)


def packaged(names: tuple[str, ...]) -> dict[str, Picture]:
    """Of scikit-image's wheel."""
    folder = Path(skimage.__file__).parent / "data"
    files = {path.stem: path for path in folder.iterdir()}
    found = {}
    for name in names:
        with Image.open(files[name]) as picture:
            found[name] = as_photo(np.asarray(picture.convert("RGB")))
    return found


def others() -> dict[str, Picture]:
    samples = load_sample_images()
    found = {Path(name).stem: as_photo(pixels) for name, pixels in zip(samples.filenames, samples.images, strict=True)}
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(hopper) as picture:
        return found | {"grace_hopper": as_photo(np.asarray(picture.convert("RGB")))}


def folder(place: Path) -> dict[str, Picture]:
    found = {}
    for path in sorted(place.iterdir()):
        with Image.open(path) as picture:
            found[path.stem] = as_photo(np.asarray(picture.convert("RGB")))
    return found


# --- generated --------------------------------------------------------------------------------------------------------


def page(rng: Rng) -> Picture:
    paper, ink = rng.integers(190, 256, 3), rng.integers(0, 90, 3)
    sheet = Image.new("RGB", (640, 480), tuple(map(int, paper)))
    draw = ImageDraw.Draw(sheet)
    size = int(rng.integers(10, 34))
    font = ImageFont.load_default(size)
    for y in range(int(rng.integers(5, 40)), 480, int(1.4 * size)):
        if rng.random() < 0.9:
            line = " ".join(rng.choice(_WORDS, rng.integers(3, 20)))
            draw.text((int(rng.integers(5, 40)), y), line, tuple(map(int, ink)), font)
    photo = np.asarray(sheet.rotate(float(rng.choice([0, rng.normal(0, 8)])), fillcolor=tuple(map(int, paper // 2))))
    shade = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.8, 1), 640)[None, :, None]
    return as_photo((photo * shade).clip(0, 255).astype(np.uint8))


def screen(rng: Rng) -> Picture:
    """Windows, bars and text of a program."""
    dark = rng.random() < 0.4
    low, high = (10, 70) if dark else (170, 256)
    sheet = Image.new("RGB", (640, 480), tuple(map(int, rng.integers(low, high, 3))))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(int(rng.integers(9, 18)))
    for _ in range(rng.integers(2, 9)):
        x, y = rng.integers(0, 500), rng.integers(0, 380)
        w, h = rng.integers(60, 500), rng.integers(20, 330)
        grey = int(rng.integers(low, high))
        fill = (grey, grey, grey) if rng.random() < 0.7 else tuple(map(int, rng.integers(0, 256, 3)))
        draw.rectangle([int(x), int(y), int(x + w), int(y + h)], fill, outline=(128, 128, 128))
        for row in range(int(y) + 5, int(y + h) - 12, 20):
            words = " ".join(rng.choice(_WORDS, 6))
            draw.text((int(x) + 6, row), words[: max(1, int(w) // 8)], (235,) * 3 if dark else (20,) * 3, font)
    return as_photo(np.asarray(sheet))


def frame(rng: Rng) -> Picture:
    """Black, white, grey, of one colour, or one that fades: a covered lens, a wall, a screen; with noise or without."""
    kind = rng.integers(5)
    level = [rng.uniform(*ends) for ends in ((0, 20), (235, 255), (20, 235), (60, 240), (20, 235))][kind]
    colour = np.full(3, level) if kind < 3 else rng.uniform(0, 255, 3)
    ends = colour * rng.uniform(0.3, 1) if kind == 4 else colour * rng.uniform(0.85, 1)
    fade = np.linspace(0, 1, SIZE[1 - int(rng.integers(2))])
    fade = fade[None, :, None] if fade.size == SIZE[1] else fade[:, None, None]
    flat = np.broadcast_to(colour + fade * (ends - colour), (*SIZE, 3))
    return (flat + rng.normal(0, rng.choice([0, 0.8, 3]), flat.shape)).clip(0, 255).astype(np.uint8)


def static(rng: Rng) -> Picture:
    """Blocks of random colours or greys."""
    block = int(rng.choice([1, 2, 4, 8, 16]))
    shape = (SIZE[0] // block, SIZE[1] // block, int(rng.choice([1, 3])))
    blocks = np.broadcast_to(rng.integers(0, 256, shape, np.uint8), (*shape[:2], 3))
    return as_photo(np.kron(blocks, np.ones((block, block, 1), np.uint8)))


def distant(rng: Rng, backgrounds: list[Picture]) -> Picture:
    """An arm or a trunk with a mole on it, before something else: a photo from a step away."""
    skin = generate(int(rng.integers(1 << 30)), 0, height=SIZE[0], width=SIZE[1]).pair.image
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    turn = rng.uniform(0, np.pi)
    across = (x - rng.uniform(80, 176)) * np.cos(turn) + (y - rng.uniform(60, 132)) * np.sin(turn)
    limb = np.clip((rng.uniform(35, 75) - np.abs(across)) / 2, 0, 1)[..., None]
    round_ = (0.55 + 0.45 * np.sqrt(np.clip(1 - (across / 80) ** 2, 0, 1)))[..., None]
    behind = backgrounds[int(rng.integers(len(backgrounds)))]
    return (limb * round_ * skin + (1 - limb) * behind).clip(0, 255).astype(np.uint8)


GENERATED: dict[str, Callable[[Rng], Picture]] = {"page": page, "screen": screen, "frame": frame, "noise": static}


# --- what may happen to a picture -------------------------------------------------------------------------------------


def changed(photo: Picture, rng: Rng) -> Picture:
    """A part of it, turned, blurred, darker or brighter."""
    scale = rng.uniform(0.4, 1)
    height, width = (int(side * scale) for side in SIZE)
    top, left = rng.integers(SIZE[0] - height + 1), rng.integers(SIZE[1] - width + 1)
    part = photo[top : top + height, left : left + width]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    part = part[::-1, ::-1] if rng.random() < 0.5 else part
    if rng.random() < 0.3:
        part = resize_photo(np.ascontiguousarray(part), SIZE[0] // 5, SIZE[1] // 5)
    part = resize_photo(np.ascontiguousarray(part), *SIZE)
    return (255 * (part / 255) ** rng.uniform(0.6, 1.6) * rng.uniform(0.6, 1.1)).clip(0, 255).astype(np.uint8)


def compressed(photo: Picture, rng: Rng) -> Picture:
    """As a JPEG file of quality 40 to 95."""
    return through_jpeg(photo, int(rng.integers(40, 96)))


def cast(photo: Picture, rng: Rng) -> Picture:
    """Another white balance and exposure: factors of e^0.18 to each channel, of e^0.25 to all, in linear light."""
    light = (photo / 255) ** 2.2 * np.exp(rng.normal(0, 0.18, 3)) * np.exp(rng.normal(0, 0.25))
    return (255 * light.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)


def darker_skin(photo: Picture, rng: Rng) -> Picture:
    """Under more melanin, which absorbs after Beer and Lambert."""
    light = (photo / 255) ** 2.2 * np.exp(-rng.uniform(0.3, 1.3) * np.array([0.43, 0.76, 1.25])) * rng.uniform(1, 2)
    return (255 * light.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)

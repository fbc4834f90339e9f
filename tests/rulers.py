"""Photos with a ruler of known scale."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# What is drawn: millimetres between ticks, and lengths of a tick by its number, in ticks' distances.
STYLES = {
    "1 and 5 mm": (1.0, lambda number: 1.0 if number % 5 == 0 else 0.5),
    "0.5 and 1 mm": (0.5, lambda number: 2.2 if number % 2 == 0 else 1.1),
    "0.1, 0.5 and 1 mm": (0.1, lambda number: 5.0 if number % 10 == 0 else 3.5 if number % 5 == 0 else 2.0),
    "all alike": (1.0, lambda number: 0.7),
}
_FINE = 4


def skin(rng: np.random.Generator, height: int = 768, width: int = 1024) -> NDArray[np.uint8]:
    """Mottled, grainy, without a lesion."""
    coarse = Image.fromarray(rng.normal(0, 6, (12, 16)).astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    light = np.asarray(coarse)[..., None] + rng.normal(0, 2, (height, width, 1)) + (205, 165, 150)
    return light.clip(0, 255).astype(np.uint8)


def with_ruler(
    photo: NDArray[np.uint8],
    style: str,
    spacing: float,
    rng: np.random.Generator,
    *,
    ticks: int = 40,
    dark: float = 0.7,
    angle: float | None = None,
) -> NDArray[np.uint8]:
    """The photo with ticks ``spacing`` pixels apart on a line through it, at a random angle and place."""
    height, width = photo.shape[:2]
    turn = rng.uniform(0, np.pi) if angle is None else angle
    along, across = np.array((np.cos(turn), np.sin(turn))), np.array((-np.sin(turn), np.cos(turn)))
    middle = np.array((width, height)) / 2 + across * rng.uniform(-0.3, 0.3) * min(height, width)
    first = middle - along * spacing * (ticks - 1) / 2
    canvas = Image.new("L", (width * _FINE, height * _FINE))
    pen = ImageDraw.Draw(canvas)
    stroke = max(1.2, spacing * rng.uniform(0.04, 0.08))
    for number in range(ticks):
        foot = first + along * spacing * number
        end = foot + across * spacing * STYLES[style][1](number)
        pen.line([*(foot * _FINE), *(end * _FINE)], fill=255, width=round(stroke * _FINE))
    cover = np.asarray(canvas.reduce(_FINE), np.float32)[..., None] / 255 * dark
    return (photo * (1 - cover) + 30 * cover).astype(np.uint8)

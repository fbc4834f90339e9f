"""Whether a picture may be a dermoscopy photo at all: a network outlines something in a page of text or a cat as well.

Fifteen plain properties of the picture (``describe``), each told as steps from the middle of real dermoscopy, and one
logistic line through them and their squares. What counts is how the picture is made, not one gamut of skin: white
balance, exposure and skin tone move few of the properties, round black borders none.
``benchmarks/plausibility.py`` fits the numbers below and measures them; the page of ``lesionseg app`` computes the same
in ``plausible.js``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.records import RgbImage

__all__ = ["LIMIT", "TRAITS", "Trait", "describe", "implausible", "plausibility_table", "score_of"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ROWS = 96
_BLACK, _WHITE = 28, 245
_GRID = (12, 16)
_RING = 2
_FURTHEST = 6.0
_FEWEST, _FEWEST_CELLS = 20, 5
_MOST = 0.9
_CORE = (slice(4, 8), slice(5, 11))
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Trait:
    """A property, and what it says.

    Attributes:
        name: of the property.
        middle: its median in dermoscopy photos.
        step: a standard deviation, from the span that holds nine of ten dermoscopy photos.
        weight, bend: of the steps from the middle, and of their squares; positive speaks against dermoscopy.
        low, high: what is odd about a picture that has less, or more, of it.
    """

    name: str
    middle: float
    step: float
    weight: float
    bend: float
    low: str
    high: str


LIMIT = 9.06
"""Of the score; 0.6 % of the dermoscopy photos that were fitted on are above it."""

TRAITS: tuple[Trait, ...] = (
    Trait("black middle", 0, 0.02, -0.412, 0.1813, "the middle is lit", "the middle is black"),
    Trait("white", 0, 0.02, 0.524, 0.0081, "nothing is bright", "large parts are as white as paper"),
    Trait("contrast", -1.8512, 0.5264, -0.34, 0.072, "it is nearly blank", "its contrast is stronger than skin's"),
    Trait("light", 0.6463, 0.1095, -0.907, 0, "it is very dark", "it is very bright"),
    Trait("red", 0.1512, 0.125, -0.522, 0.0809, "it is less red than skin", "it is redder than skin"),
    Trait(
        "spread of blue",
        -2.5244,
        0.4962,
        0.381,
        0.0342,
        "it has one colour throughout",
        "its colours are not those of skin",
    ),
    Trait("green", 0, 0.1087, 0.287, 0.0291, "nothing is green", "parts are green"),
    Trait("colour", 0.2139, 0.125, -0.255, 0.1425, "it has hardly any colour", "its colours are stronger than skin's"),
    Trait(
        "straight edges",
        0.3223,
        0.0774,
        0.742,
        0.0399,
        "no edges run straight",
        "its edges run as in print, screens and buildings",
    ),
    Trait(
        "flatness",
        0.3606,
        0.1277,
        0.247,
        0.2804,
        "every pixel differs",
        "parts are of exactly one colour, as on screens",
    ),
    Trait(
        "change of colour",
        -2.9452,
        0.404,
        -0.836,
        0.279,
        "its colour hardly changes",
        "its colours change from place to place",
    ),
    Trait("calm parts", -3.9633, 0.4866, -0.562, 0, "much of it is blank", "it is full of edges throughout"),
    Trait("busy parts", -3.2416, 0.5859, 1.358, 0.1941, "it has no texture", "it is full of edges"),
    Trait("frame", -2.5344, 0.6099, 0.864, 0.0415, "its frame is evenly lit", "different things lie along its frame"),
    Trait(
        "middle",
        -0.1209,
        0.2927,
        1.221,
        0.0542,
        "its middle is far darker than its frame",
        "its middle is brighter than its frame",
    ),
)
"""In the order of ``describe``."""


def implausible(photo: RgbImage) -> str | None:
    """Why the picture is probably no dermoscopy photo, in words; None where it may be one.

    Args:
        photo: ``uint8 h w 3``, RGB, as it goes into the model: the whole picture, 32 pixels or more each way.
    """
    steps = _steps(describe(photo))
    if _score(steps) <= LIMIT:
        return None
    worst = int(np.argmax([_told(trait, step) for trait, step in zip(TRAITS, steps, strict=True)]))
    return f"perhaps no dermoscopy photo: {TRAITS[worst].high if steps[worst] > 0 else TRAITS[worst].low}"


def score_of(values: Array) -> float:
    """How little a picture looks like dermoscopy, from what ``describe`` says of it; above ``LIMIT`` it is told."""
    return _score(_steps(values))


def _steps(values: Array) -> Array:
    middle, step = (np.array([getattr(trait, name) for trait in TRAITS]) for name in ("middle", "step"))
    steps: Array = ((values - middle) / step).clip(-_FURTHEST, _FURTHEST)
    return steps


def _told(trait: Trait, step: float) -> float:
    return trait.weight * step + trait.bend * step**2


def _score(steps: Array) -> float:
    return float(sum(_told(trait, float(step)) for trait, step in zip(TRAITS, steps, strict=True)))


def plausibility_table() -> dict[str, Any]:
    """Limit and traits as plain JSON values, for the page."""
    fields = ("middle", "step", "weight", "bend", "low", "high")
    return {"limit": LIMIT, "traits": [{name: getattr(trait, name) for name in fields} for trait in TRAITS]}


def describe(photo: RgbImage) -> Array:
    """The properties in the order of ``TRAITS``, ``float64``.

    Args:
        photo: ``uint8 h w 3``, RGB.
    """
    small = _shrink(photo)
    # Channel by channel: numpy reduces an axis of three slowly.
    channels = [small[..., channel] for channel in range(3)]
    brightest, least = (reduce(extreme, channels) for extreme in (np.maximum, np.minimum))
    lit = brightest >= _BLACK
    seen = _enough(lit)
    luma = small @ np.array(_LUMA)
    depth = np.log(luma + 16)
    edges = _edges(depth)
    red, blue = (np.log((small[..., channel] + 16) / (small[..., 1] + 16)) for channel in (0, 2))
    known = _cells(lit.astype(np.float64)) > _MOST
    return np.array(
        [
            np.sqrt(_share(~lit[_inside(lit.shape)])),
            np.sqrt(_share(least > _WHITE)),
            np.log(depth[seen].std() + 0.01),
            np.median(luma[seen]) / 255,
            np.median(red[seen]),
            np.log(blue[seen].std() + 0.01),
            np.sqrt(_share(red[seen] < -0.03)),
            np.median(((brightest - least) / (brightest + 1))[seen]),
            _straight(edges, seen),
            np.sqrt(_flat(photo)),
            np.log(_change(_cells(red), _cells(blue), known) + 0.005),
            *_texture(edges, lit),
            *_layout(_cells(depth), known),
        ],
        np.float64,
    )


def _shrink(photo: RgbImage) -> Array:
    """Means of whole blocks, to about 96 rows: models differ in size."""
    block = max(1, int(photo.shape[0] / _ROWS + 0.5))
    height, width = photo.shape[0] // block, photo.shape[1] // block
    whole = photo[: height * block, : width * block]
    # Sums of so few bytes are exact.
    sums = np.zeros((height, width, 3))
    for row in range(block):
        for column in range(block):
            sums += whole[row::block, column::block]
    means: Array = sums / block**2
    return means


def _share(where: Mask) -> float:
    return float(np.count_nonzero(where)) / where.size


def _enough(where: Mask) -> Mask:
    """All of it where there is next to nothing: a black picture has properties, too."""
    return where if np.count_nonzero(where) >= _FEWEST else np.ones_like(where)


def _inside(shape: tuple[int, ...]) -> Mask:
    """The middle ellipse."""
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in shape)
    inside: Mask = y[:, None] ** 2 + x[None] ** 2 < 0.36
    return inside


def _edges(depth: Array) -> tuple[Array, Array]:
    """Contrast with the right and with the lower neighbour."""
    return np.abs(np.diff(depth, axis=1))[:-1], np.abs(np.diff(depth, axis=0))[:, :-1]


def _with_neighbours(seen: Mask) -> Mask:
    inside: Mask = seen[:-1, :-1] & seen[1:, :-1] & seen[:-1, 1:]
    return inside


def _straight(edges: tuple[Array, Array], seen: Mask) -> float:
    """The share of all contrast that runs along rows or columns."""
    inside = _enough(_with_neighbours(seen))
    across, down = (contrast[inside] for contrast in edges)
    most, least = np.maximum(across, down), np.minimum(across, down)
    return float(np.sum(most**2, where=least < 0.2 * most) / (np.sum(most**2) + 1e-6))


def _cells(values: Array) -> Array:
    """Means over a grid of 12 x 16."""
    rows, columns = (np.arange(count + 1) * side // count for side, count in zip(values.shape, _GRID, strict=True))
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=0), columns[:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(rows), np.diff(columns)), np.float64)


def _texture(edges: tuple[Array, Array], lit: Mask) -> tuple[float, float]:
    """The contrast of neighbours in the cells: what a quarter of them stay below, and what three quarters do."""
    known = _cells(_with_neighbours(lit).astype(np.float64)) > _MOST
    contrasts = np.sort(_cells(np.hypot(*edges))[_enough(known)])
    low, high = (np.log(contrasts[int(part * (contrasts.size - 1))] + 0.002) for part in (0.25, 0.75))
    return float(low), float(high)


def _change(red: Array, blue: Array, known: Mask) -> float:
    """Mean step of the colour from one cell to the next."""
    across = np.hypot(np.diff(red, axis=1), np.diff(blue, axis=1))
    down = np.hypot(np.diff(red, axis=0), np.diff(blue, axis=0))
    pairs = np.concatenate([(known[:, 1:] & known[:, :-1]).ravel(), (known[1:] & known[:-1]).ravel()])
    return float(np.concatenate([across.ravel(), down.ravel()])[_enough(pairs)].mean())


def _layout(depth: Array, known: Mask) -> tuple[float, float]:
    """How unevenly the frame is lit, and how much brighter the middle is."""
    ring = np.ones(_GRID, np.bool_)
    ring[_RING:-_RING, _RING:-_RING] = False
    seen = ring & known
    frame = depth[seen if np.count_nonzero(seen) > _FEWEST_CELLS else ring]
    return float(np.log(frame.std() + 0.01)), float(np.median(depth[_CORE]) - np.median(frame))


def _flat(photo: RgbImage) -> float:
    """The share of pixels, black ones aside, that are exactly like their left neighbour."""
    same = photo[:, 1:] == photo[:, :-1]
    lit = photo[:, 1:] >= _BLACK
    return _share(same[..., 0] & same[..., 1] & same[..., 2] & (lit[..., 0] | lit[..., 1] | lit[..., 2]))

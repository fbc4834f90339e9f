"""Whether a picture may be a dermoscopy photo at all: a network answers a page of text, a cat or a black frame just as surely.

Sixteen plain properties of the picture (``describe``), each told as steps from the middle of real dermoscopy, and one
logistic line through them and their squares. What counts is how the picture is made, not one gamut of skin: white
balance, exposure and skin tone move few of the properties, round black borders none. ``benchmarks/plausibility.py`` fits
the numbers below and measures them; the page of ``lesionseg app`` computes the same in ``plausible.js``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.records import RgbImage

__all__ = ["LIMIT", "TRAITS", "Trait", "describe", "implausible", "plausibility_table", "score"]

Array = NDArray[np.float64]

_ROWS = 96
_BLACK, _WHITE = 28, 245
_GRID = (12, 16)
_RING = 2
_FURTHEST = 6.0
_FEWEST = 20
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


LIMIT = 0.0
TRAITS: tuple[Trait, ...] = (
    Trait("black middle", 0, 1, 0, 0, "the middle is lit", "the middle is black"),
    Trait("white", 0, 1, 0, 0, "nothing is bright", "large parts are as white as paper"),
    Trait("contrast", 0, 1, 0, 0, "it is nearly blank", "its contrast is stronger than skin's"),
    Trait("light", 0, 1, 0, 0, "it is very dark", "it is very bright"),
    Trait("red", 0, 1, 0, 0, "it is less red than skin", "it is redder than skin"),
    Trait("spread of red", 0, 1, 0, 0, "it has one red throughout", "its reds and greens are not those of skin"),
    Trait("spread of blue", 0, 1, 0, 0, "it has one colour throughout", "its blues and yellows are not those of skin"),
    Trait("green", 0, 1, 0, 0, "nothing is green", "parts are green"),
    Trait("colour", 0, 1, 0, 0, "it has hardly any colour", "its colours are stronger than skin's"),
    Trait("strongest colour", 0, 1, 0, 0, "it has hardly any colour", "some colours are stronger than skin's"),
    Trait("edges", 0, 1, 0, 0, "it has no texture", "it is full of edges"),
    Trait("straight edges", 0, 1, 0, 0, "no edges run straight", "its edges run as those of print, screens and buildings do"),
    Trait("large shapes", 0, 1, 0, 0, "it has no large shapes", "it has no fine texture"),
    Trait("roundness", 0, 1, 0, 0, "it is not laid out as a lesion amid skin", "it only fades from side to side"),
    Trait("flatness", 0, 1, 0, 0, "every pixel differs", "parts are of exactly one colour, as in drawings and screenshots"),
    Trait("frame", 0, 1, 0, 0, "the frame is of one colour", "different things lie along the frame"),
)


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


def score(photo: RgbImage) -> float:
    """How little it looks like dermoscopy; above ``LIMIT`` it is told. Arguments as of ``implausible``."""
    return _score(_steps(describe(photo)))


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
    brightest, least = small.max(axis=2), small.min(axis=2)
    lit = brightest >= _BLACK
    seen = lit if np.count_nonzero(lit) >= _FEWEST else np.ones_like(lit)
    luma = small @ np.array(_LUMA)
    depth = np.log(luma + 16)
    red, blue = (np.log((small[..., channel] + 16) / (small[..., 1] + 16)) for channel in (0, 2))
    strength = ((brightest - least) / (brightest + 1))[seen]
    colours = (float(np.median(red[seen])), float(np.log(red[seen].std() + 0.01)), float(np.log(blue[seen].std() + 0.01)))
    return np.array(
        [
            np.sqrt(_share(~lit[_middle(lit.shape)])),
            np.sqrt(_share(least > _WHITE)),
            np.log(depth[seen].std() + 0.01),
            np.median(luma[seen]) / 255,
            *colours,
            np.sqrt(_share(red[seen] < -0.03)),
            np.median(strength),
            _upper(strength),
            *_edges(depth, seen),
            *_layout(depth),
            np.sqrt(_flat(photo)),
            _border(red, blue, lit),
        ],
        np.float64,
    )


def _shrink(photo: RgbImage) -> Array:
    """Means of whole blocks, to about 96 rows: models differ in size."""
    block = max(1, int(photo.shape[0] / _ROWS + 0.5))
    height, width = photo.shape[0] // block, photo.shape[1] // block
    parts = photo[: height * block, : width * block].astype(np.float64).reshape(height, block, width, block, 3)
    means: Array = parts.mean(axis=(1, 3))
    return means


def _share(where: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(where)) / where.size


def _upper(values: Array) -> float:
    """What one of twenty exceeds."""
    return float(np.sort(values)[int(0.95 * (values.size - 1))])


def _middle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in shape)
    inside: NDArray[np.bool_] = y[:, None] ** 2 + x[None] ** 2 < 0.36
    return inside


def _edges(depth: Array, seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean contrast of neighbours, and the share of all contrast that runs along rows or columns."""
    across, down = np.abs(np.diff(depth, axis=1))[:-1], np.abs(np.diff(depth, axis=0))[:, :-1]
    inside = seen[:-1, :-1] & seen[1:, :-1] & seen[:-1, 1:]
    if np.count_nonzero(inside) < _FEWEST:
        inside = np.ones_like(inside)
    across, down = across[inside], down[inside]
    most, least = np.maximum(across, down), np.minimum(across, down)
    straight = np.sum(most**2, where=least < 0.2 * most)
    return float(np.log(np.hypot(across, down).mean() + 0.002)), float(straight / (np.sum(most**2) + 1e-6))


def _cells(values: Array) -> Array:
    """Means over a grid of 12 x 16."""
    rows, columns = (np.arange(count + 1) * side // count for side, count in zip(values.shape, _GRID, strict=True))
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=0), columns[:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(rows), np.diff(columns)), np.float64)


def _waves(count: int) -> Array:
    """Constant, slope and bowl over so many places, orthonormal; ``3 count``."""
    place = np.linspace(-1, 1, count)
    bowl = place**2 - (place**2).mean()
    return np.stack([np.full(count, count**-0.5), place / np.linalg.norm(place), bowl / np.linalg.norm(bowl)])


def _layout(depth: Array) -> tuple[float, float]:
    """The share of the variance that a coarse grid keeps, and the share of that which slopes and bowls explain."""
    cells = _cells(depth)
    apart = cells - cells.mean()
    found = (_waves(_GRID[0]) @ apart @ _waves(_GRID[1]).T) ** 2
    smooth = found[0, 1] + found[1, 0] + found[1, 1] + found[0, 2] + found[2, 0]
    return float(cells.var() / (depth.var() + 1e-6)), float(smooth / (np.sum(apart**2) + 1e-3))


def _flat(photo: RgbImage) -> float:
    """The share of pixels, black ones aside, that are exactly like their left neighbour."""
    same = (photo[:, 1:] == photo[:, :-1]).all(axis=2) & (photo[:, 1:].max(axis=2) >= _BLACK)
    return _share(same)


def _border(red: Array, blue: Array, lit: NDArray[np.bool_]) -> float:
    """How much the colour changes along the frame."""
    ring = np.ones(_GRID, np.bool_)
    ring[_RING:-_RING, _RING:-_RING] = False
    seen = ring & (_cells(lit.astype(np.float64)) > 0.9)
    where = seen if np.count_nonzero(seen) > 5 else ring
    return float(np.log(np.hypot(_cells(red)[where].std(), _cells(blue)[where].std()) + 0.01))

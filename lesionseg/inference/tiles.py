"""Predicting a photo at more than the model's input size, in overlapping tiles of that size.

The way of the U-Net paper (arXiv:1505.04597, figure 2) and of MONAI's ``sliding_window_inference``: tiles overlap by
half, a Gaussian trusts their middle more than their edges, and beyond the photo's border lies its mirror image. Here in
numpy, so that an exported file needs no torch for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import ConfigError
from lesionseg.inference.batches import require_batch
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.wrapped import Wrapped

__all__ = ["LARGEST", "Tiled", "starts", "tile_weights"]

LARGEST = 16.0
"""The largest factor: some 1,100 tiles."""

_OVERLAP = 0.5
# As MONAI's: the Gaussian's width as a part of the side, and the least that a pixel counts.
_SIGMA, _LEAST = 0.125, 1e-3
_TOGETHER = 8

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Tiled(Wrapped):
    """A ``Predictor`` that takes photos at a multiple of another one's input size.

    For photos in which the lesion is smaller than in those of the training. Where it fills the frame already, a tile
    inside it shows nothing of the skin around it, and masks become much worse.

    Args:
        inner: the predictor that is asked, once for each tile: (2 factor)^2 times about.
        factor: of height and width, over 1 and at most ``LARGEST``; sizes are rounded to whole pixels.

    Raises:
        ConfigError: the factor is not in its range.
    """

    def __init__(self, inner: Predictor, factor: float) -> None:
        if not 1 < factor <= LARGEST:
            raise ConfigError(f"photos cannot be tiled at {factor} times the input", fix=f"use over 1, up to {LARGEST}")
        super().__init__(inner, f"tiles {factor:g}")
        self._height, self._width = (round(factor * side) for side in (inner.height, inner.width))

    @property
    def height(self) -> int:
        """Of the photos that it takes: the factor times the inner one's."""
        return self._height

    @property
    def width(self) -> int:
        """Of the photos that it takes: the factor times the inner one's."""
        return self._width

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        require_batch(batch, self.height, self.width)
        return np.stack([self._joined(self.inner.infer, photo) for photo in batch])

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        require_batch(batch, self.height, self.width)
        return np.stack([self._joined(self.inner.infer_classes, photo) for photo in batch])

    def _joined(self, infer: Infer, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``uint8 height width 3`` to ``float32 ... height width``."""
        tall, wide = self.inner.height, self.inner.width
        top, left = tall // 4, wide // 4
        padded = np.pad(photo, ((top, top), (left, left), (0, 0)), mode="reflect")
        corners = [(y, x) for y in starts(len(padded), tall) for x in starts(padded.shape[1], wide)]
        weights = tile_weights(tall, wide)
        total = np.zeros(padded.shape[:2], np.float32)
        joined = np.zeros(())
        for first in range(0, len(corners), _TOGETHER):
            some = corners[first : first + _TOGETHER]
            found = infer(np.stack([padded[y : y + tall, x : x + wide] for y, x in some]))
            joined = joined if joined.ndim else np.zeros((*found.shape[1:-2], *total.shape), np.float32)
            for (y, x), tile in zip(some, found, strict=True):
                joined[..., y : y + tall, x : x + wide] += weights * tile
                total[y : y + tall, x : x + wide] += weights
        # Rounding may carry a mean of probabilities past 1.
        mean: NDArray[np.float32] = (joined / total).clip(0, 1)
        return mean[..., top : top + self.height, left : left + self.width]


def starts(length: int, tile: int) -> list[int]:
    """Where the tiles along a side begin; the last one ends where the side does.

    Args:
        length: of the side, at least a tile's.
        tile: its length.
    """
    step = max(1, int(tile * (1 - _OVERLAP)))
    count = math.ceil((length - tile) / step) + 1
    return [min(number * step, length - tile) for number in range(count)]


def tile_weights(height: int, width: int) -> NDArray[np.float32]:
    """How much each pixel of a tile counts: ``float32 height width``, 1 in its middle, never 0."""
    across = [
        np.exp(-(((np.arange(side) - (side - 1) / 2) / (_SIGMA * side)) ** 2) / 2, dtype=np.float32)
        for side in (height, width)
    ]
    weights: NDArray[np.float32] = np.outer(*across)
    return np.maximum(weights, max(float(weights.min()), _LEAST))

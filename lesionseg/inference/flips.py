"""Test-time augmentation: the mean over a photo and its mirror images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.inference.predictor import Predictor
from lesionseg.inference.wrapped import Wrapped

__all__ = ["Flipped"]

# Of N H W ...: as it is, left-right, upside down, both.
_VIEWS: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))


class Flipped(Wrapped):
    """A ``Predictor`` that gives the mean probability over four mirror images, turned back; four times the work.

    A dermoscopy photo has no up or down and no left or right, so each of them is as good a view of the lesion.
    """

    def __init__(self, inner: Predictor) -> None:
        super().__init__(inner, "flips")

    def views(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What each mirror image gives, turned back: ``float32 4 N height width`` in [0, 1]; the first is the photo."""
        return _each_view(self.inner.infer, batch, skip=0)

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        return _mean(self.views(batch))

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        return _mean(_each_view(self.inner.infer_classes, batch, skip=1))


def _each_view(
    infer: Callable[[NDArray[np.uint8]], NDArray[np.float32]], batch: NDArray[np.uint8], skip: int
) -> NDArray[np.float32]:
    """``skip`` axes stand between N and H in what ``infer`` gives."""
    found = []
    for axes in _VIEWS:
        probability = infer(np.ascontiguousarray(np.flip(batch, axes)))
        found.append(np.flip(probability, tuple(axis + skip for axis in axes)))
    return np.stack(found)


def _mean(views: NDArray[Any]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = views.mean(axis=0, dtype=np.float32)
    return mean

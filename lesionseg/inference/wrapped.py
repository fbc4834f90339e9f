"""A predictor around another one: what changes its probabilities, and nothing else about it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lesionseg.inference.predictor import Predictor
from lesionseg.inference.single import TakesPhotos

if TYPE_CHECKING:
    from lesionseg.data.labels import Labels
    from lesionseg.inference.quality import Quality

__all__ = ["Wrapped"]


class Wrapped(TakesPhotos):
    """A ``Predictor`` that passes everything on to another.

    Args:
        inner: the predictor that is asked.
        change: what is done to it, in a word: part of ``sha256``, as results with it and without it are not the same.
    """

    def __init__(self, inner: Predictor, change: str) -> None:
        self.inner, self.change = inner, change

    @property
    def name(self) -> str:
        """See ``Predictor``."""
        return self.inner.name

    @property
    def checkpoint(self) -> str:
        """See ``Predictor``."""
        return self.inner.checkpoint

    @property
    def sha256(self) -> str:
        """Of the inner digest and the change."""
        return hashlib.sha256(f"{self.inner.sha256} {self.change}".encode()).hexdigest()

    @property
    def labels(self) -> Labels:
        """See ``Predictor``."""
        return self.inner.labels

    @property
    def quality(self) -> Quality | None:
        """None: a calibration is of one look at the whole photo, and other looks have other certainties."""
        return None

    @property
    def height(self) -> int:
        """See ``Predictor``."""
        return self.inner.height

    @property
    def width(self) -> int:
        """See ``Predictor``."""
        return self.inner.width

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        return self.inner.infer(batch)

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        return self.inner.infer_classes(batch)

"""One region without holes, as the ISIC challenges ask for: small regions taken away, holes filled.

Both work on the probability at the model's input size, before it is brought to the photo's own size: what is taken away
a probability just under the threshold, what is filled one just over it. Interpolation between pixels on one side of
the threshold stays on that side, so the mask at the photo's own size follows; only a bridge of one pixel may part when
it is enlarged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import ConfigError
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.wrapped import Wrapped
from lesionseg.records import THRESHOLD, Probability

if TYPE_CHECKING:
    from lesionseg.inference.quality import Quality

__all__ = ["STEPS", "PostProcessed", "fill_holes", "keep_largest"]

# More than the rounding of an interpolation.
_MARGIN = 1e-4


def keep_largest(probability: Probability, threshold: float = THRESHOLD) -> Probability:
    """Takes away every region but the largest; pixels belong together by any of their eight neighbours.

    Args:
        probability: ``float32 h w`` in [0, 1].
        threshold: lesion where the probability is at least this.

    Returns:
        ``float32 h w``; unchanged inside the largest region and where there was no lesion.
    """
    from scipy import ndimage

    regions, count = ndimage.label(probability >= threshold, np.ones((3, 3)))
    if count < 2:
        return probability
    largest = 1 + int(np.bincount(regions.ravel())[1:].argmax())
    under = np.float32(threshold - _MARGIN)
    return np.where((regions > 0) & (regions != largest), under, probability)


def fill_holes(probability: Probability, threshold: float = THRESHOLD) -> Probability:
    """Fills what a region encloses; pixels of a hole belong together by their four neighbours.

    Args and returns as ``keep_largest``; unchanged but in the holes.
    """
    from scipy import ndimage

    mask = probability >= threshold
    holes = ndimage.binary_fill_holes(mask) & ~mask
    return np.where(holes, np.float32(min(1, threshold + _MARGIN)), probability) if holes.any() else probability


STEPS = {"largest": keep_largest, "holes": fill_holes}
"""Name -> what is done to the probability of one photo at a threshold."""


class PostProcessed(Wrapped):
    """A ``Predictor`` whose probabilities have gone through ``STEPS``.

    Args:
        inner: the predictor that is asked.
        steps: keys of ``STEPS``, in the order in which they are done.
        threshold: lesion where the probability is at least this.

    Raises:
        ConfigError: there is no such step.
    """

    def __init__(self, inner: Predictor, steps: tuple[str, ...], threshold: float = THRESHOLD) -> None:
        if unknown := [step for step in steps if step not in STEPS]:
            raise ConfigError(f"there is no step {', '.join(unknown)}", fix=f"use one of: {', '.join(STEPS)}")
        super().__init__(inner, f"{' '.join(steps)} at {threshold}")
        self.steps, self.threshold = steps, threshold

    @property
    def quality(self) -> Quality | None:
        """See ``Predictor``; what is taken away or filled is little of a mask that is worth expecting something of."""
        return self.inner.quality

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor``."""
        return np.stack([self._through(probability) for probability in self.inner.infer(batch)])

    def _through(self, probability: Probability) -> Probability:
        for step in self.steps:
            probability = STEPS[step](probability, self.threshold)
        return probability

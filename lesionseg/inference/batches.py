"""What every predictor asks of its input and does with its output, whatever runs the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.labels import Labels
from lesionseg.errors import NonFiniteError, ShapeError

__all__ = ["both_classes", "lesion_of", "require_batch", "require_finite"]


def require_batch(batch: NDArray[np.uint8], height: int, width: int) -> None:
    """Makes sure that a batch is ``uint8 N height width 3`` with N at least 1.

    Raises:
        ShapeError: it is not.
    """
    if batch.dtype != np.uint8 or batch.shape[1:] != (height, width, 3) or len(batch) == 0:
        raise ShapeError(
            f"the model takes uint8 N x {height} x {width} x 3 with N > 0, "
            f"not {batch.dtype} {' x '.join(map(str, batch.shape))}",
            fix="resize the photos to the model's input size",
        )


def require_finite(probabilities: NDArray[np.float32], model: str) -> None:
    """Makes sure that there is no NaN.

    Raises:
        NonFiniteError: there is, naming the model.
    """
    if not np.isfinite(probabilities).all():
        raise NonFiniteError(f"the model {model} gives NaN", fix="train it again")


def lesion_of(probabilities: NDArray[np.float32], labels: Labels) -> NDArray[np.float32]:
    """``float32 N C H W`` of the classes to the lesion's probability, ``float32 N H W`` in [0, 1].

    Raises:
        ConfigError: no class is called lesion.
    """
    if len(labels.names) == 1:
        return probabilities[:, 0]
    weights = np.array(labels.lesion_weights, np.float32)
    # Rounding may carry a sum of probabilities past 1.
    lesion: NDArray[np.float32] = np.tensordot(probabilities, weights, (1, 0)).clip(0, 1)
    return lesion


def both_classes(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """``float32 N C H W`` with C at least 2: where there is only the lesion, the skin is put before it."""
    if probabilities.shape[1] == 1:
        return np.concatenate((1 - probabilities, probabilities), axis=1)
    return probabilities

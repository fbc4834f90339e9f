"""What every predictor asks of its input and does with its output, whatever runs the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.labels import Labels
from lesionseg.errors import NonFiniteError, RunError, ShapeError

__all__ = ["both_classes", "lesion_of", "require_batch", "require_probabilities"]

# Sums of probabilities may be rounded past 1.
_ROUNDING = 1e-3
_OTHER = "use a model that lesionseg trained or exported"


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


def require_probabilities(found: object, shape: tuple[int, ...], model: str) -> NDArray[np.float32]:
    """Return what a network gave, if it is probabilities.

    Args:
        found: the network's result.
        shape: the expected one.
        model: its name, for messages.

    Raises:
        RunError: it is no ``float32`` array of this shape, or leaves [0, 1].
        NonFiniteError: there is NaN.
    """
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape != shape:
        kind = f"{found.dtype} {' x '.join(map(str, found.shape))}" if isinstance(found, np.ndarray) else type(found)
        raise RunError(f"the model {model} gives {kind}, not float32 {' x '.join(map(str, shape))}", fix=_OTHER)
    low, high = found.min(), found.max()
    if np.isnan(low) or np.isnan(high):
        raise NonFiniteError(f"the model {model} gives NaN", fix="train it again")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise RunError(f"the model {model} gives {low:.4g} to {high:.4g}, not probabilities in [0, 1]", fix=_OTHER)
    return found


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

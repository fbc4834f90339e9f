"""How far probabilities can be believed, and what another threshold would give.

Probabilities are taken in the 256 levels of the maps that are kept, so every number here can be had again from those.
A level of at least ``k`` is a probability of at least ``(k - 0.5) / 255``; 0.5 is one of these thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lesionseg.records import BoolMask, Probability

__all__ = [
    "BINS",
    "THRESHOLDS",
    "LevelCounts",
    "Tally",
    "calibration_error",
    "count_levels",
    "overlap_by_threshold",
]

Values = NDArray[np.float64]
LevelCounts = NDArray[np.float64]
"""``float64 2 256``: pixels by truth (0 skin, 1 lesion) and level of the predicted probability."""

LEVELS = 256
BINS = 15
"""Equal parts of [0, 1], as in Guo et al. 2017; 17 levels each, the last one 18."""
THRESHOLDS: Values = (np.arange(1, LEVELS) - 0.5) / (LEVELS - 1)
"""``float64 255``, rising; the 128th is 0.5."""

_PROBABILITY = np.arange(LEVELS) / (LEVELS - 1)
_BIN = np.minimum(np.arange(LEVELS) // (LEVELS // BINS), BINS - 1)


def count_levels(probability: Probability, truth: BoolMask) -> LevelCounts:
    """Pixels of one photo by truth and level.

    Args:
        probability: ``float32 H W`` in [0, 1].
        truth: ``bool H W``.

    Raises:
        ValueError: the shapes differ.
    """
    if probability.shape != truth.shape:
        raise ValueError(f"probability {probability.shape} and truth {truth.shape} differ in shape")
    level = np.rint(probability * (LEVELS - 1)).astype(np.int64)
    counts = np.bincount((level + LEVELS * truth).ravel(), minlength=2 * LEVELS)
    return counts.reshape(2, LEVELS).astype(np.float64)


def overlap_by_threshold(counts: LevelCounts) -> tuple[Values, Values]:
    """Dice and Jaccard index of one photo at each of ``THRESHOLDS``, ``float64 255`` each; 1 where both are empty."""
    # From the top: what is at least that level.
    found = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    hits, lesion = found[1], counts[1].sum()
    total = found.sum(axis=0) + lesion
    dice, iou = np.ones_like(hits), np.ones_like(hits)
    np.divide(2 * hits, total, out=dice, where=total > 0)
    np.divide(hits, total - hits, out=iou, where=total > 0)
    return dice, iou


def _by_bin(values: Values) -> Values:
    return np.bincount(_BIN, weights=values, minlength=BINS).astype(np.float64)


def calibration_error(counts: LevelCounts) -> float:
    """Expected calibration error of the lesion probability, in [0, 1].

    The mean over ``BINS`` equal bins, weighted by pixels, of how far the mean probability lies from the part of the
    pixels that are lesion (Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv:1706.04599, for the
    confidence in the predicted class; here it is the probability of lesion, so both ends count).
    """
    pixels = counts.sum(axis=0)
    return float(np.abs(_by_bin(pixels * _PROBABILITY) - _by_bin(counts[1])).sum() / pixels.sum())


@dataclass(slots=True)
class Tally:
    """Sums over photos, each of which weighs the same whatever its size."""

    photos: int = 0
    _shares: LevelCounts = field(default_factory=lambda: np.zeros((2, LEVELS)))
    _overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, len(THRESHOLDS))))

    def add(self, counts: LevelCounts) -> None:
        """Takes in one photo's ``count_levels``."""
        self.photos += 1
        self._shares += counts / counts.sum()
        self._overlap += overlap_by_threshold(counts)

    def calibration(self) -> list[dict[str, float]]:
        """A row for each bin that has pixels: ends, part of all pixels, mean probability, part that is lesion."""
        shares = self._shares / self.photos
        pixels, lesion = _by_bin(shares.sum(axis=0)), _by_bin(shares[1])
        mean = _by_bin(shares.sum(axis=0) * _PROBABILITY)
        return [
            {
                "low": b / BINS,
                "high": (b + 1) / BINS,
                "share": float(pixels[b]),
                "mean_probability": float(mean[b] / pixels[b]),
                "lesion_share": float(lesion[b] / pixels[b]),
            }
            for b in range(BINS)
            if pixels[b] > 0
        ]

    def calibration_error(self) -> float:
        """The expected calibration error of all photos together, in [0, 1]."""
        return calibration_error(self._shares)

    def thresholds(self) -> list[dict[str, float]]:
        """A row for each of ``THRESHOLDS``: mean Dice and mean IoU over the photos."""
        dice, iou = self._overlap / self.photos
        return [
            {"threshold": float(t), "dice": float(d), "iou": float(i)}
            for t, d, i in zip(THRESHOLDS, dice, iou, strict=True)
        ]

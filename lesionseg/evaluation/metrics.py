"""Overlap metrics: a confusion record first, then each metric as a small function of it.

Definitions and the policy for empty masks are those of the ISIC challenges: Gutman et al., "Skin Lesion Analysis toward
Melanoma Detection", 2016, arXiv:1605.01397 (the metrics), and Codella et al., 2018, arXiv:1902.03368 (the thresholded
Jaccard index). A metric whose denominator is zero has nothing to get wrong and scores 1: Dice and Jaccard when both
masks are empty, sensitivity when there is no lesion, specificity when there is nothing else. A prediction on an empty
truth scores Dice and Jaccard 0, which follows from the formulas.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lesionseg.records import BoolMask, CaseScore, Probability

__all__ = [
    "EMPTY_MASK_POLICY",
    "JACCARD_THRESHOLD",
    "METRICS",
    "accuracy",
    "confusion",
    "dice",
    "jaccard",
    "score_row",
    "sensitivity",
    "soft_dice",
    "soft_iou",
    "specificity",
    "thresholded_jaccard",
]

JACCARD_THRESHOLD = 0.65
"""Below this the ISIC 2018 ranking counts a mask as failed (arXiv:1902.03368)."""

EMPTY_MASK_POLICY = (
    "ISIC challenge: both masks empty scores 1; truth empty and prediction not scores 0; "
    "undefined sensitivity or specificity scores 1"
)


def confusion(case_id: str, prediction: BoolMask, truth: BoolMask) -> CaseScore:
    """Counts how the pixels of two masks agree.

    Args:
        case_id: the case that both masks belong to.
        prediction: ``bool H W``, True = lesion.
        truth: ``bool H W``, the same height and width.

    Raises:
        ValueError: the masks differ in shape, hold no pixels or are not ``bool H W``.
    """
    _check(case_id, prediction, truth)
    if prediction.dtype != np.bool_:
        raise ValueError(f"{case_id}: the prediction must be bool, not {prediction.dtype}")
    tp = int(np.count_nonzero(prediction & truth))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return CaseScore(case_id, tp=tp, fp=fp, fn=fn, tn=truth.size - tp - fp - fn)


def _check(name: str, prediction: BoolMask | Probability, truth: BoolMask) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"{name}: prediction {prediction.shape} and truth {truth.shape} differ in shape")
    if truth.dtype != np.bool_ or truth.ndim != 2 or truth.size == 0:
        raise ValueError(f"{name}: the truth must be bool H W with pixels, not {truth.dtype} {truth.shape}")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def dice(score: CaseScore) -> float:
    """Dice coefficient 2 TP / (2 TP + FP + FN), in [0, 1]; 1 when both masks are empty."""
    return _ratio(2 * score.tp, 2 * score.tp + score.fp + score.fn)


def jaccard(score: CaseScore) -> float:
    """Jaccard index (IoU) TP / (TP + FP + FN), in [0, 1]; 1 when both masks are empty."""
    return _ratio(score.tp, score.tp + score.fp + score.fn)


def accuracy(score: CaseScore) -> float:
    """Part of the pixels that agree, in [0, 1]."""
    return _ratio(score.tp + score.tn, score.tp + score.fp + score.fn + score.tn)


def sensitivity(score: CaseScore) -> float:
    """Part of the lesion that was found, TP / (TP + FN), in [0, 1]; 1 when there is no lesion."""
    return _ratio(score.tp, score.tp + score.fn)


def specificity(score: CaseScore) -> float:
    """Part of the other pixels left alone, TN / (TN + FP), in [0, 1]; 1 when the lesion fills the photo."""
    return _ratio(score.tn, score.tn + score.fp)


def thresholded_jaccard(score: CaseScore, threshold: float = JACCARD_THRESHOLD) -> float:
    """The Jaccard index where it reaches ``threshold``, else 0; the ranking metric of ISIC 2018 (arXiv:1902.03368)."""
    value = jaccard(score)
    return value if value >= threshold else 0.0


def _soft_sums(probability: Probability, truth: BoolMask) -> tuple[float, float]:
    """The sums of p * t and of p + t."""
    _check("soft overlap", probability, truth)
    # float32 sums lose digits over millions of pixels.
    shared = float(probability.sum(where=truth, dtype=np.float64))
    return shared, float(probability.sum(dtype=np.float64)) + float(np.count_nonzero(truth))


def soft_dice(probability: Probability, truth: BoolMask) -> float:
    """Dice without a threshold, 2 sum(p t) / (sum(p) + sum(t)), in [0, 1]; 1 when both sums are 0.

    It is lower than ``dice`` wherever the model is unsure, so the two must not be compared with each other.

    Args:
        probability: ``float32 H W`` in [0, 1].
        truth: ``bool H W``.

    Raises:
        ValueError: the shapes differ or the truth is not ``bool H W``.
    """
    shared, total = _soft_sums(probability, truth)
    return _ratio(2 * shared, total)


def soft_iou(probability: Probability, truth: BoolMask) -> float:
    """Jaccard index without a threshold, sum(p t) / (sum(p) + sum(t) - sum(p t)), in [0, 1]; 1 when both sums are 0.

    Args:
        probability: ``float32 H W`` in [0, 1].
        truth: ``bool H W``.

    Raises:
        ValueError: the shapes differ or the truth is not ``bool H W``.
    """
    shared, total = _soft_sums(probability, truth)
    return _ratio(shared, total - shared)


METRICS: dict[str, Callable[[CaseScore], float]] = {
    "dice": dice,
    "iou": jaccard,
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "thresholded_iou": thresholded_jaccard,
}
"""Column name -> metric of a confusion record."""


def score_row(score: CaseScore) -> dict[str, float | str]:
    """One row of ``per_image.csv``: the case id, every metric of ``METRICS`` and the four counts in pixels."""
    row: dict[str, float | str] = {"case_id": score.case_id}
    row |= {name: metric(score) for name, metric in METRICS.items()}
    return row | {"tp": score.tp, "fp": score.fp, "fn": score.fn, "tn": score.tn}

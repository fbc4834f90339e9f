"""Metrics of several classes, from a table of counts: true class by predicted class.

Mean IoU and pixel accuracy as in Pascal VOC (Everingham et al. 2010, doi:10.1007/s11263-009-0275-4) and Long et al.
2015, arXiv:1411.4038, section 5: counts are summed over all photos first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_confusion", "class_ious", "mean_iou", "pixel_accuracy"]

Counts = NDArray[np.int64]


def class_confusion(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> Counts:
    """Pixels by true class (row) and predicted class (column), ``int64 C C``.

    Raises:
        ValueError: the shapes differ, or an index is not below ``classes``.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    if max(prediction.max(), truth.max()) >= classes:
        raise ValueError(f"a class index is not below {classes}")
    pairs = truth.astype(np.int64).ravel() * classes + prediction.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_ious(counts: Counts) -> NDArray[np.float64]:
    """``float64 C``: TP / (TP + FP + FN) of each class; NaN for a class that is neither there nor predicted."""
    hits = np.diagonal(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - hits
    result: NDArray[Any] = np.full(len(counts), np.nan)
    np.divide(hits, union, out=result, where=union > 0)
    return result


def mean_iou(counts: Counts) -> float:
    """The mean of ``class_ious`` over the classes that are there or predicted, in [0, 1]."""
    return float(np.nanmean(class_ious(counts)))


def pixel_accuracy(counts: Counts) -> float:
    """The part of all pixels whose class is right, in [0, 1]."""
    return float(np.trace(counts) / counts.sum())

"""Scores a run of several classes: at the model's size, where a trimap's border has its width."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lesionseg.data.loader import decode_pairs
from lesionseg.evaluation.class_metrics import class_confusion, class_ious, mean_iou, pixel_accuracy
from lesionseg.inference.predictor import Predictor
from lesionseg.io.ownership import write_output
from lesionseg.records import Case
from lesionseg.tables import encode_table

__all__ = ["score_classes"]


def score_classes(
    predictor: Predictor,
    cases: Sequence[Case],
    place: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Predicts the most probable class of every pixel and compares it with the mask, both at the model's size.

    Writes ``per_image_classes.csv`` (case id, pixel accuracy, mean IoU and the IoU of each class in the photo; empty
    for a class that is neither there nor predicted) and ``classes.json`` (the same of all pixels of all photos
    together, and the counts by true and predicted class) into ``place``.

    Returns:
        what ``classes.json`` holds: ``names``, ``n``, ``pixel_accuracy``, ``mean_iou``, ``iou`` (by name), ``counts``.

    Raises:
        DataError: listing every case that cannot be scored.
        OutputError: the folder cannot be written to.
    """
    names = predictor.labels.names if len(predictor.labels.names) > 1 else ("skin", "lesion")
    photos, masks = decode_pairs(cases, predictor.height, predictor.width, labels=predictor.labels)
    total = np.zeros((len(names), len(names)), np.int64)
    rows: list[dict[str, Any]] = []
    for index, case in enumerate(cases):
        found = predictor.infer_classes(photos[index : index + 1])[0].argmax(0).astype(np.uint8)
        counts = class_confusion(found, masks[index, 0], len(names))
        total += counts
        rows.append({"case_id": case.case_id, **_measures(counts, names)})
        if progress:
            progress(index + 1, len(cases))
    write_output(place / "per_image_classes.csv", encode_table(list(rows[0]), rows))
    summary = {
        "names": list(names),
        "n": len(cases),
        "pixel_accuracy": pixel_accuracy(total),
        "mean_iou": mean_iou(total),
        "iou": {
            name: None if np.isnan(iou) else float(iou) for name, iou in zip(names, class_ious(total), strict=True)
        },
        "counts": total.tolist(),
        "size": [predictor.height, predictor.width],
        "model_sha256": predictor.sha256,
    }
    write_output(place / "classes.json", json.dumps(summary, indent=1).encode())
    return summary


def _measures(counts: np.ndarray[Any, np.dtype[np.int64]], names: Sequence[str]) -> dict[str, Any]:
    ious = {
        f"iou_{name}": "" if np.isnan(iou) else float(iou) for name, iou in zip(names, class_ious(counts), strict=True)
    }
    return {"accuracy": pixel_accuracy(counts), "mean_iou": mean_iou(counts), **ious}

"""One photo's row of ``per_image.csv``, and the files of a whole evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lesionseg.evaluation.calibration import LevelCounts, Tally, calibration_error, count_levels
from lesionseg.evaluation.columns import CALIBRATION, FURTHER, PER_IMAGE, SCORES, SURFACE, THRESHOLD_CURVE
from lesionseg.evaluation.metrics import EMPTY_MASK_POLICY, confusion, score_row, soft_dice, soft_iou
from lesionseg.evaluation.surface import outline_row
from lesionseg.evaluation.traits import Traits
from lesionseg.io.ownership import write_output
from lesionseg.records import BoolMask, Case, Prediction
from lesionseg.tables import encode_table

__all__ = ["EVALUATION_FILES", "Row", "Scored", "masks_digest", "score_case", "write_evaluation"]

EVALUATION_FILES = ("per_image.csv", "calibration.csv", "thresholds.csv", "summary.json")
"""What every evaluation may have beside its probability maps."""

Row = dict[str, float | str]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One photo's scores.

    Attributes:
        row: cells by column.
        levels: ``float64 2 256``, as ``count_levels`` gives them.
        mask_sha256: hex digest of the true mask's pixels.
    """

    row: Row
    levels: LevelCounts
    mask_sha256: str


def score_case(
    case: Case, prediction: Prediction, truth: BoolMask, *, threshold: float, traits: Traits | None, aspect: float
) -> Scored:
    """Scores one photo.

    Args:
        case: gives id, group and labels.
        prediction: ``float32 H W`` in [0, 1].
        truth: ``bool H W``, the same height and width.
        threshold: lesion where the probability is at least this.
        traits: of the photo; None where there is no photo.
        aspect: the photo's width by its height.
    """
    probability, mask = prediction.probability, prediction.mask(threshold)
    counts = confusion(case.case_id, mask, truth)
    levels = count_levels(probability, truth)
    row = score_row(counts)
    row |= {"soft_dice": soft_dice(probability, truth), "soft_iou": soft_iou(probability, truth)}
    row |= {"lesion_fraction": float(truth.mean()), "group": case.group, **case.labels}
    row |= outline_row(counts, mask, truth)
    row |= {"ece": calibration_error(levels), **(traits.row() if traits else {}), "aspect": round(aspect, 4)}
    shape = np.array(truth.shape, "<i8").tobytes()
    return Scored(row, levels, hashlib.sha256(shape + np.packbits(truth).tobytes()).hexdigest())


def masks_digest(scored: Iterable[Scored]) -> str:
    """Hex digest of all true masks with their ids, in any order of the cases."""
    lines = sorted(f"{one.row['case_id']}\t{one.mask_sha256}\n" for one in scored)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_evaluation(
    place: Path, scored: Sequence[Scored], labels: Iterable[str], facts: Mapping[str, Any], *, probabilities: bool
) -> None:
    """Writes ``per_image.csv``, ``calibration.csv``, ``thresholds.csv`` and, last, ``summary.json``.

    Args:
        place: the evaluation's folder.
        scored: every case.
        labels: names of the label columns.
        facts: what was scored with what.
        probabilities: whether there are any; of bare masks calibration and thresholds say nothing and are left out.

    Raises:
        OutputError: the folder cannot be written to.
    """
    rows = [one.row for one in scored]
    write_output(place / "per_image.csv", encode_table([*PER_IMAGE, *sorted(labels), *FURTHER], rows))
    means = {name: fmean(float(row[name]) for row in rows) for name in (*SCORES, *SURFACE)}
    if probabilities:
        tally = Tally()
        for one in scored:
            tally.add(one.levels)
        write_output(place / "calibration.csv", encode_table(CALIBRATION, tally.calibration()))
        write_output(place / "thresholds.csv", encode_table(THRESHOLD_CURVE, tally.thresholds()))
        means |= {"ece": fmean(float(row["ece"]) for row in rows), "ece_of_all": tally.calibration_error()}
    else:
        for name in ("calibration.csv", "thresholds.csv"):
            (place / name).unlink(missing_ok=True)
    summary = {**facts, "n": len(rows), "masks_sha256": masks_digest(scored), "probabilities": probabilities}
    summary |= {"means": means, "empty_mask_policy": EMPTY_MASK_POLICY}
    write_output(place / "summary.json", json.dumps(summary, indent=1).encode())

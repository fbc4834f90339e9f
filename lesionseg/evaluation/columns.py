"""The columns of an evaluation's tables, in their order."""

from lesionseg.evaluation.metrics import METRICS

__all__ = ["CALIBRATION", "COUNTS", "FURTHER", "PER_IMAGE", "SCORES", "SURFACE", "THRESHOLD_CURVE", "TRAITS"]

SCORES = (*METRICS, "soft_dice", "soft_iou")
"""Overlap scores of ``per_image.csv``, each in [0, 1]."""

COUNTS = ("tp", "fp", "fn", "tn")
"""Pixels."""

PER_IMAGE = ("case_id", *SCORES, *COUNTS, "lesion_fraction", "group")
"""Columns of ``per_image.csv`` before the labels."""

SURFACE = ("hausdorff95", "surface_distance", "surface_dice", "boundary_iou", "area_error")
"""How far two outlines lie apart: what ``surface.outline_row`` gives."""

TRAITS = ("ita", "hair", "ruler")
"""What a photo shows beside the lesion: what ``traits.Traits.row`` gives."""

FURTHER = (*SURFACE, "ece", *TRAITS, "aspect")
"""Columns of ``per_image.csv`` after the labels: outlines, calibration error, traits, the photo's width by height."""

CALIBRATION = ("low", "high", "share", "mean_probability", "lesion_share")
"""Columns of ``calibration.csv``, a row for each bin of probability."""

THRESHOLD_CURVE = ("threshold", "dice", "iou")
"""Columns of ``thresholds.csv``."""

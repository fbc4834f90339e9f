"""Outlines: distances counted by hand, and the same as MONAI's own metrics."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from lesionseg.evaluation.columns import SURFACE
from lesionseg.evaluation.metrics import confusion
from lesionseg.evaluation.surface import BAND, area_error, boundary_iou, outline_row, surface_row

EMPTY = np.zeros((30, 40), bool)
DIAGONAL = 50.0


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = EMPTY.copy()
    mask[top : top + height, left : left + width] = True
    return mask


def test_a_shift_by_hand() -> None:
    # Every outline pixel of one box lies straight beside the other's, except above and below.
    row = surface_row(box(10, 10, 10, 10), box(10, 13, 10, 10))
    assert row["hausdorff95"] == 3
    assert 1 < row["surface_distance"] < 3
    # Within 2 % of the diagonal, one pixel: 8 pixels each above and below, and 2 where the other's pass by.
    assert row["surface_dice"] == pytest.approx(2 * 18 / (2 * 36))


def test_equal_masks_and_empty_ones() -> None:
    mask = box(5, 5, 8, 9)
    same = {"hausdorff95": 0.0, "surface_distance": 0.0, "surface_dice": 1.0}
    assert surface_row(mask, mask) == surface_row(EMPTY, EMPTY) == same
    worst = {"hausdorff95": DIAGONAL, "surface_distance": DIAGONAL, "surface_dice": 0.0}
    assert surface_row(mask, EMPTY) == surface_row(EMPTY, mask) == worst
    assert (boundary_iou(EMPTY, EMPTY), boundary_iou(mask, EMPTY), boundary_iou(mask, mask)) == (1, 0, 1)


def test_boundary_iou_by_hand() -> None:
    # Bands of one pixel: 36 and 28 pixels of boxes that share their upper left corner; 8 + 7 are in both.
    assert boundary_iou(box(5, 5, 10, 10), box(5, 5, 8, 8), band=0.01) == pytest.approx(15 / (36 + 28 - 15))
    # The inside does not count: twice as thick a lesion, the same outline error.
    assert boundary_iou(box(0, 0, 30, 40), box(0, 0, 30, 40)) == 1


def test_area_error() -> None:
    small, large = box(5, 5, 5, 10), box(5, 5, 10, 10)
    assert area_error(confusion("x", large, small)) == 1
    assert area_error(confusion("x", small, large)) == -0.5
    assert area_error(confusion("x", EMPTY, EMPTY)) == 0
    assert area_error(confusion("x", small, EMPTY)) == 1


def with_monai(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    import torch
    from monai import metrics

    p, t = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    known = {"include_background": True}
    tolerance = BAND * np.hypot(*truth.shape)
    with warnings.catch_warnings():
        # Of MONAI's own use of its own deprecated argument.
        warnings.simplefilter("ignore", FutureWarning)
        return {
            "hausdorff95": float(metrics.compute_hausdorff_distance(p, t, percentile=95, **known)),
            "surface_distance": float(metrics.compute_average_surface_distance(p, t, symmetric=True, **known)),
            "surface_dice": float(metrics.compute_surface_dice(p, t, class_thresholds=[tolerance], **known)),
        }


@given(arrays(np.bool_, (7, 9)), arrays(np.bool_, (7, 9)))
@settings(max_examples=40, deadline=None)
def test_as_monai_says(prediction: np.ndarray, truth: np.ndarray) -> None:
    found = outline_row(confusion("x", prediction, truth), prediction, truth)
    assert tuple(found) == SURFACE
    assert np.isfinite(list(found.values())).all()
    assert all(0 <= found[name] <= 1 for name in ("surface_dice", "boundary_iou"))
    if prediction.any() and truth.any():
        # MONAI computes in float32.
        known = with_monai(prediction, truth)
        assert {name: found[name] for name in known} == pytest.approx(known, rel=1e-5, abs=1e-6)
    back = outline_row(confusion("x", truth, prediction), truth, prediction)
    assert {n: back[n] for n in SURFACE[:4]} == pytest.approx({n: found[n] for n in SURFACE[:4]})

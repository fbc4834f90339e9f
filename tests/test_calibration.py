"""Calibration and threshold curves, counted by hand and against the scores at one threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lesionseg.evaluation.calibration import (
    BINS,
    THRESHOLDS,
    Tally,
    calibration_error,
    count_levels,
    overlap_by_threshold,
)
from lesionseg.evaluation.metrics import confusion, dice, jaccard

MAPS = arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32))
MASKS = arrays(np.bool_, (4, 5))


def test_a_half_sure_map_by_hand() -> None:
    truth = np.array([[True, False], [False, False]])
    half = np.full((2, 2), 128 / 255, np.float32)
    # One of four pixels is lesion, where a half was said.
    assert calibration_error(count_levels(half, truth)) == pytest.approx(128 / 255 - 0.25)
    assert calibration_error(count_levels(truth.astype(np.float32), truth)) == 0
    assert calibration_error(count_levels((~truth).astype(np.float32), truth)) == 1
    quarter = np.full((2, 2), 64 / 255, np.float32)
    assert calibration_error(count_levels(quarter, truth)) == pytest.approx(64 / 255 - 0.25)


def test_errors_do_not_cancel_between_bins() -> None:
    truth = np.array([[True] * 4 + [False] * 4])
    probability = np.array([[0.8] * 4 + [0.2] * 4], np.float32)
    assert calibration_error(count_levels(probability, truth)) == pytest.approx(0.2)


def test_one_half_is_one_of_the_thresholds() -> None:
    assert THRESHOLDS[127] == 0.5
    assert (np.diff(THRESHOLDS) > 0).all()
    assert len(THRESHOLDS) == 255


@given(MAPS, MASKS)
@settings(max_examples=50, deadline=None)
def test_the_curve_holds_the_scores_of_every_threshold(probability: np.ndarray, truth: np.ndarray) -> None:
    counts = count_levels(probability, truth)
    assert counts.sum() == truth.size
    assert counts[1].sum() == truth.sum()
    dices, ious = overlap_by_threshold(counts)
    kept = np.rint(probability * 255) / 255
    for index in (0, 50, 127, 200, 254):
        score = confusion("x", kept >= THRESHOLDS[index], truth)
        assert (dices[index], ious[index]) == pytest.approx((dice(score), jaccard(score)))
    assert 0 <= calibration_error(counts) <= 1


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        count_levels(np.zeros((2, 2), np.float32), np.zeros((2, 3), bool))


def test_large_photos_weigh_no_more_than_small_ones() -> None:
    small, large = np.zeros((2, 2), bool), np.ones((20, 20), bool)
    tally = Tally()
    tally.add(count_levels(np.zeros((2, 2), np.float32), small))
    tally.add(count_levels(np.full((20, 20), 1.0, np.float32), large))
    first, last = tally.calibration()
    assert first == {"low": 0, "high": 1 / BINS, "share": 0.5, "mean_probability": 0, "lesion_share": 0}
    assert last == {"low": 14 / BINS, "high": 1, "share": 0.5, "mean_probability": 1, "lesion_share": 1}
    assert tally.calibration_error() == 0
    assert {row["dice"] for row in tally.thresholds()} == {1.0}

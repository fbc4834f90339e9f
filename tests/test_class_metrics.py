import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lesionseg.evaluation.class_metrics import class_confusion, class_ious, mean_iou, pixel_accuracy

TRUTH = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
FOUND = np.array([[0, 1, 1], [1, 2, 0]], np.uint8)


def test_by_hand():
    counts = class_confusion(FOUND, TRUTH, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert class_ious(counts).tolist() == [1 / 3, 2 / 3, 1 / 2]
    assert mean_iou(counts) == pytest.approx(0.5)
    assert pixel_accuracy(counts) == pytest.approx(4 / 6)


def test_a_class_that_is_nowhere_does_not_count():
    counts = class_confusion(FOUND, TRUTH, 4)
    assert np.isnan(class_ious(counts)[3])
    assert mean_iou(counts) == pytest.approx(0.5)


@pytest.mark.parametrize("found", [FOUND[:1], FOUND + np.uint8(1)])
def test_what_does_not_fit_is_refused(found):
    with pytest.raises(ValueError, match=r"differ in shape|not below 3"):
        class_confusion(found, TRUTH, 3)


@given(*[arrays(np.uint8, (4, 5), elements=st.integers(0, 2))] * 2)
def test_counts_of_parts_add_up_and_the_order_of_pixels_does_not_matter(found, truth):
    counts = class_confusion(found, truth, 3)
    assert np.array_equal(counts, class_confusion(found[:2], truth[:2], 3) + class_confusion(found[2:], truth[2:], 3))
    assert np.array_equal(counts, class_confusion(found.T, truth.T, 3))
    assert np.array_equal(counts.T, class_confusion(truth, found, 3))
    assert 0 <= mean_iou(counts) <= 1
    # A mean over classes cannot be perfect where a pixel is wrong.
    assert (mean_iou(counts) == 1) == (pixel_accuracy(counts) == 1)

"""Growing, shrinking and closing, against scipy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from lesionseg.evaluation.morphology import close_along, grow, grow_box, shrink

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


@given(arrays(np.bool_, SHAPES), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_masks_as_scipy_says(mask: np.ndarray, steps: int) -> None:
    given_mask = mask.copy()
    assert np.array_equal(grow(mask, steps), ndimage.binary_dilation(mask, iterations=steps))
    assert np.array_equal(shrink(mask, steps), ndimage.binary_erosion(mask, iterations=steps))
    assert np.array_equal(grow_box(mask, steps), ndimage.maximum_filter(mask, 2 * steps + 1))
    assert np.array_equal(mask, given_mask)


LINES = {
    (0, 1): np.ones((1, 7), bool),
    (1, 0): np.ones((7, 1), bool),
    (1, 1): np.eye(7, dtype=bool),
    (1, -1): np.eye(7, dtype=bool)[::-1],
}


@pytest.mark.parametrize("line", LINES)
@given(arrays(np.float32, SHAPES, elements=st.floats(0, 100, width=32)))
@settings(max_examples=40, deadline=None)
def test_closing_as_scipy_says(line: tuple[int, int], grey: np.ndarray) -> None:
    assert np.array_equal(close_along(grey, 7, *line), ndimage.grey_closing(grey, footprint=LINES[line]))


@pytest.mark.parametrize("length", [1, 3, 5, 9, 13])
def test_lines_of_any_odd_length(length: int) -> None:
    grey = np.random.default_rng(length).random((20, 30), dtype=np.float32)
    across = ndimage.grey_closing(grey, footprint=np.ones((1, length), bool))
    assert np.array_equal(close_along(grey, length, 0, 1), across)

"""Images antialiased, masks nearest, probabilities in range."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lesionseg.data.resizing import resize_mask, resize_photo, resize_probability

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=20))


sides = st.integers(1, 24)


@given(masks, sides, sides)
def test_resized_masks_make_up_no_labels(mask: np.ndarray, height: int, width: int) -> None:
    small = resize_mask(mask, height, width)
    assert small.shape == (height, width)
    assert small.dtype == np.bool_
    assert set(np.unique(small)) <= set(np.unique(mask))
    assert np.array_equal(resize_mask(mask, *mask.shape), mask)


@given(masks, st.integers(1, 4), st.integers(1, 4))
def test_enlarged_masks_are_repeated_pixels(mask: np.ndarray, down: int, across: int) -> None:
    large = resize_mask(mask, mask.shape[0] * down, mask.shape[1] * across)
    assert np.array_equal(large, mask.repeat(down, 0).repeat(across, 1))


@given(
    hnp.arrays(np.uint8, st.tuples(sides, sides, st.just(3))),
    sides,
    sides,
)
def test_resized_photos_stay_in_range(photo: np.ndarray, height: int, width: int) -> None:
    small = resize_photo(photo, height, width)
    assert small.shape == (height, width, 3)
    assert small.dtype == np.uint8
    assert (small.min((0, 1)) >= photo.min((0, 1))).all()
    assert (small.max((0, 1)) <= photo.max((0, 1))).all()
    assert np.array_equal(resize_photo(photo, *photo.shape[:2]), photo)


@given(hnp.arrays(np.bool_, st.tuples(*[st.integers(1, 8).map((3).__mul__)] * 2)))
def test_masks_shrink_to_the_pixels_in_the_middle(mask: np.ndarray) -> None:
    small = resize_mask(mask, mask.shape[0] // 3, mask.shape[1] // 3)
    assert np.array_equal(small, mask[1::3, 1::3])


def test_photos_are_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_photo(stripes, 16, 16).astype(int)
    assert np.abs(small[:, 2:-2] - 127.5).max() < 20


@given(hnp.arrays(np.float32, st.tuples(sides, sides), elements=st.floats(0, 1, width=32)), sides, sides)
def test_resized_probabilities_stay_in_range(probability: np.ndarray, height: int, width: int) -> None:
    resized = resize_probability(probability, height, width)
    assert resized.shape == (height, width)
    assert resized.dtype == np.float32
    assert resized.min() >= max(0, probability.min() - 1e-6)
    assert resized.max() <= min(1, probability.max() + 1e-6)

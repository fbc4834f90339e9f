"""The mask along its outline against the plain way: resize the probability, compare each pixel."""

import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lesionseg.data.resizing import resize_probability
from lesionseg.data.upsampling import threshold_at_size

# Fused multiplication and addition may move a value's last bit there.
EXACT = platform.machine() in ("x86_64", "AMD64")
sides = st.integers(1, 24)
levels = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1, width=32))


def compare(small: np.ndarray, height: int, width: int, threshold: float) -> None:
    found = threshold_at_size(small, height, width, threshold)
    whole = resize_probability(small, height, width)
    expected = whole >= threshold
    differs = found.mask != expected
    assert not (EXACT and differs.any())
    assert (np.abs(whole[differs] - threshold) < 1e-6).all()
    assert found.mask.shape == (height, width)
    assert found.mask.dtype == np.bool_
    assert found.lesion_pixels == np.count_nonzero(found.mask)
    if found.lesion_pixels:
        assert found.mean_probability == pytest.approx(whole[found.mask].mean(dtype=np.float64), abs=1e-6)
        assert 0 <= found.mean_probability <= 1
    else:
        assert found.mean_probability is None


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.data(), st.tuples(sides, sides), st.integers(1, 150), st.integers(1, 150), levels)
def test_any_picture_at_any_size(
    data: st.DataObject, shape: tuple[int, int], height: int, width: int, threshold: float
) -> None:
    compare(data.draw(hnp.arrays(np.float32, shape, elements=levels)), height, width, threshold)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (97, 131), (480, 641), (767, 1022)])
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.65])
def test_a_lesion_at_photo_sizes(height: int, width: int, threshold: float) -> None:
    rows, columns = np.mgrid[:96, :128]
    noise = np.random.default_rng(height).normal(0, 0.5, rows.shape)
    small = (1 / (1 + np.exp((np.hypot(rows - 40, columns - 60) - 30) / 4 + noise))).astype(np.float32)
    compare(small, height, width, threshold)


def test_the_edges_of_the_photo() -> None:
    for place in [(0, 0), (0, -1), (-1, 0), (-1, -1), (5, 0), (0, 5), (-1, 5), (5, -1)]:
        small = np.zeros((11, 13), np.float32)
        small[place] = 0.9
        compare(small, 50, 70, 0.5)
        compare(np.float32(1) - small, 50, 70, 0.5)


def test_no_lesion_at_all() -> None:
    found = threshold_at_size(np.full((8, 8), 0.2, np.float32), 30, 40, 0.5)
    assert (found.mask.any(), found.lesion_pixels, found.mean_probability) == (False, 0, None)

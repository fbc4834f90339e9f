"""One region without holes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from test_wrapped import Brightness

from lesionseg.data.resizing import resize_probability
from lesionseg.errors import ConfigError
from lesionseg.inference.postprocess import PostProcessed, fill_holes, keep_largest

MAPS = arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(0, 1, width=32))
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.7])


def drawing(*rows: str) -> np.ndarray:
    return np.array([[0.9 if cell == "#" else 0.1 for cell in row] for row in rows], np.float32)


def test_small_regions_go_and_corners_hold_together() -> None:
    before = drawing("##..#", "#.#..", ".....", "....#")
    after = keep_largest(before)
    assert (after >= 0.5).tolist() == (drawing("##...", "#.#..", ".....", ".....") >= 0.5).tolist()
    assert np.array_equal(after[before < 0.5], before[before < 0.5])


def test_holes_are_filled_but_bays_are_not() -> None:
    before = drawing("###.", "#.#.", "####", "#..#")
    after = fill_holes(before)
    assert (after >= 0.5).tolist() == (drawing("###.", "###.", "####", "#..#") >= 0.5).tolist()


def test_nothing_to_do_changes_nothing() -> None:
    for before in (drawing("...", "..."), drawing("##.", "##."), drawing("##", "##")):
        assert np.array_equal(keep_largest(before), before)
        assert np.array_equal(fill_holes(before), before)


@given(MAPS, THRESHOLDS)
def test_one_region_without_holes_and_doing_it_twice_changes_nothing(probability: np.ndarray, threshold: float) -> None:
    once = fill_holes(keep_largest(probability, threshold), threshold)
    mask = once >= threshold
    assert ndimage.label(mask, np.ones((3, 3)))[1] == min(1, int((probability >= threshold).any()))
    assert np.array_equal(ndimage.binary_fill_holes(mask), mask)
    assert np.array_equal(fill_holes(keep_largest(once, threshold), threshold), once)


@given(MAPS, THRESHOLDS, st.integers(1, 5))
def test_what_was_taken_away_stays_away_at_the_photos_size(probability: np.ndarray, threshold: float, by: int) -> None:
    kept = keep_largest(probability, threshold)
    size = tuple(by * side for side in probability.shape)
    large = resize_probability(kept, *size) >= threshold
    lesion = kept >= threshold
    # Far from every lesion pixel of the small map, there is none in the large one.
    reach = ndimage.maximum_filter(lesion, 3) if lesion.size else lesion
    assert not (large & ~np.kron(reach, np.ones((by, by), bool))).any()


def test_a_predictor_with_steps() -> None:
    batch = np.zeros((1, 4, 6, 3), np.uint8)
    batch[0, :2, :3, 0] = 255
    batch[0, 3, 5, 0] = 255
    found = PostProcessed(Brightness(), ("largest", "holes")).infer(batch)
    assert found.dtype == np.float32
    assert (found >= 0.5).sum() == 6
    assert PostProcessed(Brightness(), ("largest",)).sha256 != PostProcessed(Brightness(), ("largest",), 0.4).sha256
    with pytest.raises(ConfigError, match="there is no step smallest"):
        PostProcessed(Brightness(), ("smallest",))

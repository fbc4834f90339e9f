"""Outlines that are traced from a probability, and what they enclose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SIDE, blob, disc, soft

from lesionseg.data.resizing import resize_probability
from lesionseg.inference.outline import fill_rings, ring_area, trace_regions

SIZES = [(75, 100), (300, 400), (767, 1022), (1500, 1000)]


def filled(regions, height, width):
    return fill_rings([ring for region in regions for ring in (region.outer, *region.holes)], height, width)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_filled_again_an_outline_is_the_mask(size, seed):
    probability = blob(seed)
    mask = resize_probability(probability, *size) >= 0.5
    assert dice(filled(trace_regions(probability, 0.5, *size), *size), mask) >= 0.9995
    # At half the samples it is still within the bound that the documentation gives.
    assert dice(filled(trace_regions(probability, 0.5, *size, side=256), *size), mask) >= 0.999


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95), st.integers(40, 700), st.integers(40, 700))
def test_regions_and_holes_of_anything(seed, threshold, height, width):
    rng = np.random.default_rng(seed)
    coarse = rng.random((8, 8), np.float32)
    probability = resize_probability(coarse, SIDE, SIDE)
    mask = resize_probability(probability, height, width) >= threshold
    regions = trace_regions(probability, threshold, height, width)
    assert abs(sum(region.area for region in regions) - mask.sum()) <= 0.01 * mask.size
    wrong = (filled(regions, height, width) != mask).mean()
    assert wrong <= 0.005
    for region in regions:
        assert ring_area(region.outer) > 0
        assert all(ring_area(hole) < 0 for hole in region.holes)
        for ring in (region.outer, *region.holes):
            np.testing.assert_array_equal(ring[0], ring[-1])
            assert ring.min() >= 0
            assert (ring.max(axis=0) <= (width, height)).all()
    areas = [region.area for region in regions]
    assert areas == sorted(areas, reverse=True)


def test_a_hole_belongs_to_the_region_around_it():
    u, v = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    ring = np.abs(np.hypot(u - 40, v - 64) - 25) - 8
    island = np.hypot(u - 40, v - 64) - 6
    other = np.hypot(u - 105, v - 64) - 15
    probability = soft(np.minimum(np.minimum(ring, island), other) / SIDE)
    regions = trace_regions(probability, 0.5, 512, 512)
    assert [len(region.holes) for region in regions] == [1, 0, 0]
    scale = (512 / SIDE) ** 2
    expected = [np.pi * (33**2 - 17**2), np.pi * 15**2, np.pi * 6**2]
    assert [region.area / scale for region in regions] == pytest.approx(expected, rel=0.01)
    # The hole, and the island in it.
    assert (regions[0].holes[0].mean(axis=0) / 4).round() == pytest.approx([40, 64], abs=1)


def test_a_region_ends_at_the_photos_edge():
    whole = trace_regions(np.ones((16, 16), np.float32), 0.5, 300, 400)
    assert [region.area for region in whole] == [300 * 400]
    half = np.zeros((16, 16), np.float32)
    half[:, :8] = 1
    (region,) = trace_regions(half, 0.5, 300, 400)
    assert region.area == pytest.approx(300 * 200)
    np.testing.assert_array_equal(region.outer.min(axis=0), (0, 0))
    assert region.outer.max(axis=0) == pytest.approx((200, 300))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_sample_at_the_threshold_is_lesion(threshold):
    probability = np.full((8, 8), threshold, np.float32)
    assert sum(region.area for region in trace_regions(probability, threshold, 64, 64)) == pytest.approx(64 * 64)


def test_nothing_has_no_region():
    assert trace_regions(np.zeros((8, 8), np.float32), 0.5, 64, 64) == []


def test_filling_counts_the_pixels_whose_centres_lie_inside():
    ring = np.array([[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]], float)
    expected = np.zeros((5, 6), bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(fill_rings([ring], 5, 6), expected)
    np.testing.assert_array_equal(fill_rings([ring[::-1]], 5, 6), expected)
    # A second ring inside takes away, one outside the picture does nothing.
    hole = np.array([[2, 1], [3, 1], [3, 2], [2, 2], [2, 1]], float)
    expected[1, 2] = False
    np.testing.assert_array_equal(fill_rings([ring, hole, ring + 100, ring - 100], 5, 6), expected)


def test_the_outline_does_not_depend_on_the_photos_size():
    small, large = (trace_regions(disc(0.3), 0.5, side, side)[0].outer / side for side in (512, 4096))
    np.testing.assert_allclose(small, large, atol=1e-9)

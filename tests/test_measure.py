"""Shape measures against shapes whose measures are known, and against scikit-image at full size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SIDE, blob, coordinates, disc, soft, square
from skimage.measure import label, regionprops

from lesionseg.data.resizing import resize_probability
from lesionseg.inference.measure import MEASURE_SIDE, box_dimension, measure_shape
from lesionseg.inference.outline import Largest, ring_area, trace_largest


def measured(probability, height=600, width=600, threshold=0.5):
    largest = trace_largest(probability, threshold, height, width, MEASURE_SIDE)
    return None if largest is None else measure_shape(largest, height, width)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.08, 0.4), st.floats(0.45, 0.55), st.floats(0.45, 0.55))
def test_discs(radius, x, y):
    shape = measured(disc(radius, x, y))
    r = radius * 600
    assert shape.perimeter == pytest.approx(2 * np.pi * r, rel=0.01)
    assert shape.area == pytest.approx(np.pi * r * r, rel=0.01)
    for length in (shape.major_axis, shape.minor_axis, shape.equivalent_diameter, shape.longest_diameter):
        assert length == pytest.approx(2 * r, rel=0.01)
    assert 1 <= shape.compactness < 1.01
    assert shape.solidity > 0.99
    assert max(shape.asymmetry_major, shape.asymmetry_minor) < 0.02
    assert shape.fractal_dimension == pytest.approx(1, abs=0.06)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.15, 0.33), st.floats(0, np.pi / 2), st.floats(0.48, 0.52))
def test_squares_at_any_angle(half, angle, x):
    shape = measured(square(half, angle, x))
    side = 2 * half * 600
    assert shape.perimeter == pytest.approx(4 * side, rel=0.015)
    assert shape.area == pytest.approx(side * side, rel=0.01)
    assert shape.major_axis == pytest.approx(4 * side / np.sqrt(12), rel=0.01)
    assert shape.longest_diameter == pytest.approx(side * np.sqrt(2), rel=0.025)
    assert shape.compactness == pytest.approx(4 / np.pi, rel=0.03)


@pytest.mark.parametrize(("height", "width"), [(600, 600), (767, 1022), (90, 120)])
@pytest.mark.parametrize("seed", range(4))
def test_a_reduced_scale_moves_little(seed, height, width):
    probability = blob(seed)
    shape = measured(probability, height, width)
    labels = label(resize_probability(probability, height, width) >= 0.5)
    full = max(regionprops(labels), key=lambda region: region.area_filled)
    tolerance = 0.001 if height > 500 else 0.02
    assert shape.area == pytest.approx(full.area_filled, rel=2 * tolerance)
    assert shape.major_axis == pytest.approx(full.axis_major_length, rel=tolerance)
    assert shape.minor_axis == pytest.approx(full.axis_minor_length, rel=tolerance)
    # Those of pixels and of their corners, for want of better ones.
    assert shape.longest_diameter == pytest.approx(full.feret_diameter_max, rel=0.01 + tolerance, abs=1.5)
    assert shape.solidity == pytest.approx(full.solidity, abs=0.01 + tolerance)
    finer = measure_shape(trace_largest(probability, 0.5, height, width, 2048), height, width)
    assert shape.perimeter == pytest.approx(finer.perimeter, rel=0.005)


def test_an_ellipse_has_its_axes():
    u, v = coordinates()
    a = ((u - 0.5) * 0.8 + (v - 0.5) * 0.6) / 0.36
    b = ((v - 0.5) * 0.8 - (u - 0.5) * 0.6) / 0.18
    shape = measured(soft((np.hypot(a, b) - 1) * 0.18))
    assert (shape.major_axis, shape.minor_axis) == pytest.approx((0.72 * 600, 0.36 * 600), rel=0.01)
    assert max(shape.asymmetry_major, shape.asymmetry_minor) < 0.02


def test_the_photos_aspect_counts_and_not_the_maps():
    # A disc in the network's square picture is an ellipse in a photo that is wider than high.
    shape = measured(disc(0.25), 400, 800)
    assert (shape.major_axis, shape.minor_axis) == pytest.approx((400, 200), rel=0.01)


def test_asymmetry_is_what_falls_beside_the_fold():
    u, v = coordinates()
    # A rectangle of 3 to 1 with a step cut off at one corner.
    inside = np.maximum(np.abs(u - 0.5) - 0.36, np.abs(v - 0.5) - 0.12)
    shape = measured(soft(inside))
    assert max(shape.asymmetry_major, shape.asymmetry_minor) < 0.02
    wedge = measured(soft(np.maximum(inside, (np.abs(v - 0.5) - 0.12 * (0.86 - u) / 0.72))))
    # An isosceles triangle is its own mirror image along its axis, and not across.
    assert wedge.asymmetry_major < 0.02
    # Folded across the centroid at a third of its length, the tip sticks out: a third of the area.
    assert wedge.asymmetry_minor == pytest.approx(1 / 3, abs=0.02)


def test_the_largest_region_is_measured_without_its_holes():
    u, v = coordinates()
    large, small = np.hypot(u - 0.4, v - 0.5) - 0.25, np.hypot(u - 0.85, v - 0.5) - 0.1
    hole = 0.08 - np.hypot(u - 0.4, v - 0.5)
    alone = measured(soft(large))
    shape = measured(soft(np.minimum(np.maximum(large, hole), small)))
    assert shape.components == 2
    assert shape.largest_share == pytest.approx((0.25**2 - 0.08**2) / (0.25**2 - 0.08**2 + 0.1**2), rel=0.02)
    assert shape.area == pytest.approx(alone.area, rel=1e-3)
    assert shape.perimeter == pytest.approx(alone.perimeter, rel=1e-3)


def test_a_lesion_that_is_cut_off_says_so():
    assert measured(disc(0.3)).edge_share == 0
    half = measured(disc(0.3, x=0.0))
    assert half.edge_share == pytest.approx(2 / (2 + np.pi), rel=0.02)
    assert measured(np.ones((SIDE, SIDE), np.float32), 300, 400).edge_share == 1


def test_a_photo_that_is_all_lesion():
    shape = measured(np.ones((SIDE, SIDE), np.float32), 300, 400)
    assert (shape.area, shape.perimeter, shape.solidity) == pytest.approx((120_000, 1400, 1))


def test_a_ragged_border_is_less_compact_and_less_solid():
    smooth, ragged = measured(blob(3, 0.05)), measured(blob(3, 1.0))
    assert ragged.compactness > smooth.compactness + 0.1
    assert ragged.solidity < smooth.solidity - 0.03


def test_the_box_dimension_of_known_lines():
    line = np.array([0, 1, np.exp(-1j * np.pi / 3), 0])
    for _ in range(5):
        start, third = line[:-1], np.diff(line) / 3
        bent = start + third + third * np.exp(1j * np.pi / 3)
        line = np.append(np.stack((start, start + third, bent, start + 2 * third), 1).ravel(), line[-1])
    koch = np.stack((line.real, line.imag), 1) * 500
    assert box_dimension(koch) == pytest.approx(np.log(4) / np.log(3), abs=0.03)
    turn = np.linspace(0, 2 * np.pi, 500)
    assert box_dimension(np.stack((np.cos(turn), np.sin(turn)), 1)) == pytest.approx(1, abs=0.03)


def test_no_lesion_has_no_shape():
    assert measured(np.zeros((SIDE, SIDE), np.float32)) is None


def test_the_smallest_lesion_there_can_be():
    probability = np.zeros((SIDE, SIDE), np.float32)
    probability[60, 60] = 1
    shape = measured(probability, 4000, 6000)
    assert 0 < shape.area < 2 * (4000 / SIDE) * (6000 / SIDE)
    assert all(np.isfinite(getattr(shape, name)) for name in type(shape).__slots__)


def test_measures_need_no_regular_ring():
    # A triangle: centroid and moments by hand.
    ring = np.array([[0, 0], [6, 0], [0, 3], [0, 0]], float)
    shape = measure_shape(Largest(ring, 1, 1.0), 10, 10)
    assert ring_area(ring) == shape.area == 9
    moments = np.array([[6 * 6 / 18, -6 * 3 / 36], [-6 * 3 / 36, 3 * 3 / 18]])
    assert [shape.minor_axis, shape.major_axis] == pytest.approx(4 * np.sqrt(np.linalg.eigvalsh(moments)))

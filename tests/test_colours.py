"""Colours against scikit-image, and of pictures whose colours are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2lab

from lesionseg.inference.colours import lab_of, measure_colours

SKIN, LESION = (220, 180, 160), (110, 60, 50)


def lab(colour):
    return rgb2lab(np.array([[colour]], np.uint8))[0, 0]


def picture(side=128, radius=30):
    rows, columns = np.mgrid[:side, :side]
    mask = np.hypot(rows - side / 2, columns - side / 2) < radius
    return np.where(mask[..., None], LESION, SKIN).astype(np.uint8), mask


def test_lab_is_that_of_scikit_image():
    colours = np.random.default_rng(0).integers(0, 256, (5000, 3)).astype(np.uint8)
    colours[:4] = [(0, 0, 0), (255, 255, 255), (1, 1, 1), (255, 0, 0)]
    np.testing.assert_allclose(lab_of(colours), rgb2lab(colours[None])[0], atol=0.05)


def test_two_plain_colours():
    found = measure_colours(*picture())
    assert found.lesion == pytest.approx(lab(LESION), abs=0.05)
    assert found.skin == pytest.approx(lab(SKIN), abs=0.05)
    assert found.difference == pytest.approx(np.linalg.norm(lab(LESION) - lab(SKIN)), abs=0.1)
    assert (found.variegation, *found.lesion_deviation, *found.skin_deviation) == pytest.approx((0,) * 7, abs=1e-3)


def test_variegation_is_the_distance_from_the_mean():
    pixels, mask = picture()
    rows = np.arange(128)[:, None]
    other = (160, 110, 90)
    pixels[mask & (rows % 2 == 0)] = other
    share = (mask & (rows % 2 == 0)).sum() / mask.sum()
    apart = np.linalg.norm(lab(LESION) - lab(other))
    assert measure_colours(pixels, mask).variegation == pytest.approx(apart * np.sqrt(share * (1 - share)), rel=0.01)


def test_the_soft_border_and_the_black_frame_are_no_skin():
    pixels, mask = picture()
    plain = measure_colours(pixels, mask)
    pixels[ndimage.binary_dilation(mask, iterations=2) & ~mask] = (160, 120, 100)
    pixels[:, :25] = 5
    assert measure_colours(pixels, mask).skin == pytest.approx(plain.skin, abs=1e-3)


def test_without_skin_there_is_no_difference():
    pixels, _ = picture()
    found = measure_colours(pixels, np.ones((128, 128), bool))
    assert (found.skin, found.skin_deviation, found.difference) == (None, None, None)
    assert found.variegation > 0


def test_without_a_lesion_there_is_nothing():
    assert measure_colours(picture()[0], np.zeros((128, 128), bool)) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 200), st.integers(20, 200))
def test_the_band_of_skin(seed, height, width):
    # All skin has one colour and all else another, so the band must hold the first alone.
    mask = np.zeros((height, width), bool)
    rng = np.random.default_rng(seed)
    mask[rng.integers(height), rng.integers(width)] = True
    gap, band = round(0.03 * min(height, width)), round(0.10 * min(height, width))
    near = ndimage.maximum_filter(mask, 2 * gap + 1, mode="constant") if gap else mask
    far = ndimage.maximum_filter(near, 2 * band + 1, mode="constant")
    pixels = np.where((far & ~near)[..., None], SKIN, (0, 0, 255)).astype(np.uint8)
    skin = measure_colours(pixels, mask).skin
    assert skin is None if (far & ~near).sum() < 16 else skin == pytest.approx(lab(SKIN), abs=0.05)

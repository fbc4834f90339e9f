"""Colours of probabilities, their scale, and the row of pictures."""

import matplotlib as mpl
import numpy as np
import pytest
from shapes import blob

from lesionseg.data.resizing import resize_probability
from lesionseg.inference.heat import colour_probability, draw_heat
from lesionseg.inference.strip import PANEL_SIDE, draw_strip


def photo(height=300, width=400, seed=0):
    return np.random.default_rng(seed).integers(100, 200, (height, width, 3)).astype(np.uint8)


def test_the_colours_are_those_of_cividis():
    levels = np.linspace(0, 1, 256, dtype=np.float32)[None]
    expected = mpl.colormaps["cividis"](levels[0])[:, :3] * 255
    assert np.abs(colour_probability(levels)[0] - expected).max() <= 9


def test_lightness_rises_with_probability():
    ramp = colour_probability(np.linspace(0, 1, 256, dtype=np.float32)[None])[0]
    light = ramp @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > -0.5).all()
    assert light[-1] - light[0] > 150


def test_a_heat_map_shows_photo_and_probability():
    probability = resize_probability(blob(0), 300, 400)
    picture = draw_heat(photo(), probability, 0.5)
    assert (picture.shape, picture.dtype) == ((300, 400, 3), np.uint8)
    high, low = picture[150, 200].astype(int), picture[10, 10].astype(int)
    # Yellow against blue.
    assert high[0] > high[2] + 40
    assert low[2] > low[0] + 20
    assert not np.array_equal(picture, draw_heat(photo(seed=1), probability, 0.5))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_the_scale_marks_the_threshold(threshold):
    nothing = np.zeros((300, 400), np.float32)
    one, other = draw_heat(photo(), nothing, threshold), draw_heat(photo(), nothing, (threshold + 0.3) % 1)
    changed = np.argwhere((one != other).any(axis=2))
    # In the lower right corner alone.
    assert changed.min(axis=0)[0] > 200
    assert changed.min(axis=0)[1] > 250


@pytest.mark.parametrize("size", [(10, 8), (40, 900), (900, 40)])
def test_any_shape_has_a_heat_map_and_a_strip(size):
    probability = resize_probability(blob(0), *size)
    assert draw_heat(photo(*size), probability, 0.5).shape == (*size, 3)
    assert draw_strip(photo(*size), probability, probability >= 0.5).ndim == 3


def test_a_strip_has_four_pictures_with_captions():
    probability = resize_probability(blob(0), 600, 800)
    strip = draw_strip(photo(600, 800), probability, probability >= 0.5)
    height, width = round(600 * PANEL_SIDE / 800), PANEL_SIDE
    panels = np.split(
        strip[20 : 20 + height, 6:].reshape(height, -1, 3), [width + 6, 2 * width + 12, 3 * width + 18], 1
    )
    panels = [panel[:, :width] for panel in panels]
    # The third is the mask, in black and white.
    assert set(np.unique(panels[2])) == {0, 255}
    assert (panels[2][height // 2, width // 2] == 255).all()
    # The last has the outline of the first.
    changed = (panels[3] != panels[0]).any(axis=2)
    assert 0.005 < changed.mean() < 0.1
    # Captions above and the line on research use below.
    assert (strip[:18, :200] < 128).any()
    assert (strip[-20:, :300] < 180).any()


def test_a_small_photo_is_not_enlarged():
    probability = resize_probability(blob(0), 90, 120)
    assert draw_strip(photo(90, 120), probability, probability >= 0.5).shape[1] == 4 * 120 + 5 * 6

"""Pictures of a photo with its mask, at the size that they are written in."""

import io

import numpy as np
import pytest
from PIL import Image
from shapes import blob

from lesionseg.inference import pictures
from lesionseg.inference.stages import Rendering, decode


def rendering(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(100, 200, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return Rendering(decode(buffer.getvalue(), "x.jpg", 128, 128), blob(0), 0.5)


def size_of(data):
    return Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize("draw", [pictures.contour, pictures.heat, pictures.focus])
def test_a_picture_has_the_photos_size_up_to_a_limit(draw, monkeypatch):
    assert size_of(draw(rendering(90, 120))) == (120, 90)
    monkeypatch.setattr(pictures, "PICTURE_SIDE", 200)
    assert size_of(draw(rendering(300, 400))) == (200, 150)
    assert size_of(draw(rendering(400, 300))) == (150, 200)


def test_a_strip_is_four_pictures_wide():
    width, height = size_of(pictures.strip(rendering(300, 400)))
    assert width > 4 * 400
    assert 300 < height < 360


def test_a_view_is_the_photo_its_probability_and_its_mask():
    made = rendering(90, 120)
    np.testing.assert_array_equal(made.view.mask, made.mask)
    np.testing.assert_array_equal(made.view.probability, made.probability)
    np.testing.assert_array_equal(made.view.photo, made.photo)
    assert made.view is made.view


def test_a_reduced_view_is_the_photo_made_smaller(monkeypatch):
    monkeypatch.setattr(pictures, "PICTURE_SIDE", 200)
    made = rendering(800, 1200)
    assert made.view.photo.shape == (133, 200, 3)
    assert made.view.mask.mean() == pytest.approx(made.mask.mean(), abs=0.005)
    full = np.asarray(Image.fromarray(made.photo).resize((200, 133), Image.Resampling.BILINEAR))
    assert np.abs(made.view.photo.astype(int) - full).mean() < 4

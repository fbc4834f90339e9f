"""Skin tone, hair and ruler, on pictures drawn to have them or not."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.color import lab2rgb, rgb2lab

from lesionseg.data.synthetic import generate
from lesionseg.evaluation.subgroups import SKIN_TONES, skin_tone
from lesionseg.evaluation.traits import photo_traits, to_lab

LESION = np.zeros((192, 256), bool)
LESION[70:120, 90:160] = True


def skin(lightness: float = 70, yellow: float = 18) -> np.ndarray:
    photo = np.round(lab2rgb(np.full((192, 256, 3), (lightness, 12, yellow), float)) * 255).astype(np.uint8)
    photo[LESION] = (90, 50, 40)
    return photo


def draw(photo: np.ndarray, lines: list[tuple[float, float, float, float]], width: int = 2) -> np.ndarray:
    picture = Image.fromarray(photo)
    pen = ImageDraw.Draw(picture)
    for line in lines:
        pen.line(line, fill=(40, 30, 25), width=width)
    return np.asarray(picture)


def test_colours_as_scikit_image_says() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    photo[0, :3] = ((0, 0, 0), (255, 255, 255), (1, 2, 1))
    found = to_lab(photo)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.moveaxis(rgb2lab(photo), 2, 0), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("lightness", "yellow"), [(75, 15), (60, 20), (52, 20), (40, 18)])
def test_the_angle_is_that_of_the_skin(lightness: float, yellow: float) -> None:
    angle = np.degrees(np.arctan((lightness - 50) / yellow))
    assert photo_traits(skin(lightness, yellow), LESION).ita == pytest.approx(angle, abs=2)


def test_a_black_frame_is_no_skin() -> None:
    photo = skin()
    alone = photo_traits(photo, LESION).ita
    photo[:, :60] = photo[:, -60:] = 0
    assert photo_traits(photo, LESION).ita == pytest.approx(alone, abs=0.5)
    assert photo_traits(photo, np.ones_like(LESION)).ita is None


def test_hair_ruler_and_neither() -> None:
    plain = photo_traits(skin(), LESION)
    assert (plain.hair, plain.ruler) == (False, False)
    hairs = draw(skin(), [(5, 10, 250, 40), (10, 150, 240, 180), (200, 5, 240, 185)])
    assert (photo_traits(hairs, LESION).hair, photo_traits(hairs, LESION).ruler) == (True, False)
    for step, slant in ((10, 0.0), (14, 0.2), (8, -0.1)):
        ticks = draw(
            skin(), [(20 + step * k, 20 + slant * step * k, 20 + step * k, 28 + slant * step * k) for k in range(9)]
        )
        assert (photo_traits(ticks, LESION).hair, photo_traits(ticks, LESION).ruler) == (False, True)
    uneven = draw(skin(), [(x, 20, x, 28) for x in (20, 33, 71, 80, 130, 141, 190)])
    assert not photo_traits(uneven, LESION).ruler


def test_marks_inside_the_lesion_do_not_count() -> None:
    inside = draw(skin(), [(92, y, 158, y + 2) for y in range(74, 116, 8)])
    assert not photo_traits(inside, LESION).hair


def test_large_photos_are_looked_at_at_one_size() -> None:
    hairs = draw(skin(), [(5, 10, 250, 40), (10, 150, 240, 180), (200, 5, 240, 185)])
    large = np.asarray(Image.fromarray(hairs).resize((1536, 1152), Image.Resampling.BICUBIC))
    assert photo_traits(large, LESION).hair


@pytest.mark.long
def test_generated_photos() -> None:
    cases = [generate(11, index) for index in range(60)]
    for name, sensitivity, specificity in (("hair", 0.4, 0.8), ("ruler", 0.25, 0.95)):
        there = np.array([name in case.artefacts for case in cases])
        found = np.array([getattr(photo_traits(case.pair.image, case.pair.mask), name) for case in cases])
        assert found[there].mean() >= sensitivity
        assert (~found[~there]).mean() >= specificity


def test_row_and_classes() -> None:
    assert photo_traits(skin(), LESION).row() == {"ita": pytest.approx(48, abs=2), "hair": 0, "ruler": 0}
    assert photo_traits(skin(), np.ones_like(LESION)).row()["ita"] == ""
    assert [skin_tone(a) for a in (90, 55.1, 55, 41, 28, 10, -30, -90)] == [
        *("very light", "very light", "light", "intermediate", "tan", "brown", "dark", "dark")
    ]
    assert len(SKIN_TONES) == 6

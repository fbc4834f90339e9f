"""Darker skin, haze, more distance and a round field of view."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from lesionseg.data.artefacts import LUMA
from lesionseg.data.retaken import MELANIN, ROOM, from_afar, through_haze, through_lens, under_melanin
from lesionseg.evaluation.subgroups import skin_tone
from lesionseg.evaluation.traits import skin_angle
from lesionseg.records import BoolMask, RgbImage

HEIGHT, WIDTH = 96, 128
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
DISC: BoolMask = np.hypot(ROWS - 48, COLUMNS - 64) < 20
SKIN, PIGMENT = (225, 180, 160), (110, 70, 60)
PHOTO: RgbImage = np.where(DISC[..., None], np.uint8(PIGMENT), np.uint8(SKIN))
LIGHT = (PHOTO.astype(np.float32) / 255) ** np.float32(2.2)


def test_melanin_takes_blue_most_and_keeps_the_order_of_tones() -> None:
    lost = 1 - under_melanin(LIGHT, 1.0)[0, 0] / LIGHT[0, 0]
    assert lost[0] < lost[1] < lost[2]
    assert np.allclose(lost, 1 - np.exp(-MELANIN), atol=0.05)
    looks = [rgb2lab(under_melanin(LIGHT, density) ** (1 / 2.2)) for density in (0.0, 1.0, 2.0, 3.0)]
    angles = [skin_angle(np.moveaxis(lab, 2, 0).astype(np.float32), ~DISC) for lab in looks]
    assert [skin_tone(angle) for angle in angles] == ["very light", "tan", "brown", "brown"]
    assert angles == sorted(angles, reverse=True)


def test_a_lesion_on_darker_skin_stands_out_less() -> None:
    dark = under_melanin(LIGHT, 1.5)
    assert LIGHT[0, 0].sum() / LIGHT[48, 64].sum() > dark[0, 0].sum() / dark[48, 64].sum() > 1


def test_exposure_makes_up_for_what_melanin_took() -> None:
    made_up = under_melanin(LIGHT, 0.5, 1.0)
    assert float((made_up @ LUMA).mean()) == pytest.approx(float((LIGHT @ LUMA).mean()), rel=0.02)
    assert under_melanin(LIGHT, 2.0, 1.0).max() <= 1
    assert np.allclose(under_melanin(LIGHT, 0.0), LIGHT, atol=1e-6)


def test_haze_shrinks_every_contrast_alike() -> None:
    hazy = through_haze(LIGHT, 0.75)
    assert np.allclose(hazy[0, 0] - hazy[48, 64], 0.25 * (LIGHT[0, 0] - LIGHT[48, 64]), atol=1e-5)
    assert np.allclose(hazy.mean(axis=(0, 1)), LIGHT.mean(axis=(0, 1)), atol=1e-3)


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.0, 1.0), (0.2, 0.3)])
@pytest.mark.parametrize("factor", [1.5, 3.0])
def test_from_afar_there_is_one_small_lesion_on_its_skin(factor: float, place: tuple[float, float]) -> None:
    photo, mask = from_afar(PHOTO, DISC, factor, place)
    assert photo.shape == PHOTO.shape
    assert photo.dtype == np.uint8
    assert mask.sum() == pytest.approx(DISC.sum() / factor**2, rel=0.1)
    centre = np.argwhere(mask).mean(axis=0)
    wanted = [part * side * (1 - 1 / factor) + middle / factor for part, side, middle in
              zip(place[::-1], mask.shape, (48, 64), strict=True)]  # fmt: skip
    assert np.abs(centre - wanted).max() < 1.5
    # No mirror image of the lesion is left: all that is dark is in the mask.
    dark = photo[..., 0] < 170
    assert (dark & ~mask).sum() < 0.1 * mask.sum()
    assert np.abs(photo[~mask & ~dark].mean(axis=0) - SKIN).max() < 4


def test_from_afar_dark_corners_and_mirrored_lesions_are_gone() -> None:
    cornered = PHOTO.copy()
    cornered[np.hypot(ROWS - 48, COLUMNS - 64) > 62] = 10
    photo, mask = from_afar(cornered, DISC, 2.0)
    assert (photo[~mask][:, 0] < 100).mean() < 0.02


def test_a_lesion_at_the_side_goes_on_beyond_it() -> None:
    cut = np.hypot(ROWS - 48, COLUMNS) < 20
    photo, mask = from_afar(np.where(cut[..., None], np.uint8(PIGMENT), np.uint8(SKIN)), cut, 2.0)
    assert mask.sum() == pytest.approx(2 * cut.sum() / 4, rel=0.1)
    assert photo[mask].mean(axis=0) == pytest.approx(PIGMENT, abs=15)


def test_what_has_no_skin_to_go_on_with_stays() -> None:
    large = np.hypot(ROWS - 48, COLUMNS - 64) < 60
    assert large.mean() > ROOM
    assert from_afar(PHOTO, large, 2.0) == (PHOTO, large)
    assert from_afar(PHOTO, DISC, 1.0) == (PHOTO, DISC)
    photo, mask = from_afar(PHOTO, np.zeros_like(DISC), 2.0)
    assert photo.shape == PHOTO.shape
    assert not mask.any()


def test_inputs_are_left_as_they_were() -> None:
    before = PHOTO.copy(), DISC.copy(), LIGHT.copy()
    from_afar(PHOTO, DISC, 2.0)
    through_lens(PHOTO, DISC, 0.3)
    under_melanin(LIGHT, 1.0, 1.0)
    through_haze(LIGHT, 0.5)
    assert all(np.array_equal(a, b) for a, b in zip(before, (PHOTO, DISC, LIGHT), strict=True))


def test_a_round_field_of_view_ends_the_lesion_too() -> None:
    photo, mask = through_lens(PHOTO, DISC, 15 / HEIGHT, (64 / (WIDTH - 1), 48 / (HEIGHT - 1)), level=7)
    distance = np.hypot(ROWS - 48, COLUMNS - 64)
    assert np.array_equal(mask, distance < 15)
    assert (photo[distance > 17] == 7).all()
    assert (photo[distance < 13] == PIGMENT).all()

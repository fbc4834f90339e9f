import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from lesionseg.data.synthetic import generate
from lesionseg.inference.focus import draw_focus

SIZES = st.tuples(st.integers(2, 70), st.integers(2, 70))


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@given(st.data(), SIZES, st.sampled_from([1, 9, 23]))
def test_every_pixel_of_the_mask_keeps_its_value(data: st.DataObject, size: tuple[int, int], scale: int) -> None:
    # Larger photos are blurred at a reduced size: single pixels of the mask must come through that too.
    height, width = size[0] * scale, size[1] * scale
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = rng.random((height, width)) < data.draw(st.sampled_from([0.0, 0.0005, 0.02, 1.0]))
    before = photo.copy()
    picture = draw_focus(photo, mask)
    assert picture.shape == photo.shape
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    assert np.array_equal(picture[mask], photo[mask])
    assert np.array_equal(photo, before)


@settings(deadline=None, max_examples=20)
@given(arrays.arrays(np.uint8, 3), SIZES, st.booleans())
def test_a_plain_photo_stays_as_it_is(colour: np.ndarray, size: tuple[int, int], lesion: bool) -> None:
    photo = np.broadcast_to(colour, (*size, 3)).copy()
    mask = np.zeros(size, bool)
    mask[0, 0] = lesion
    assert np.abs(draw_focus(photo, mask).astype(int) - photo).max() <= 1


@pytest.mark.parametrize("size", [(192, 256), (900, 1200)])
def test_the_background_is_blurred_and_more_so_further_out(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*size, 3), np.uint8)
    rows, columns = np.mgrid[: size[0], : size[1]]
    away = np.hypot(rows - size[0] / 2, columns - size[1] / 2) / size[0]
    picture = draw_focus(photo, away < 0.2)
    rings = [picture[(low <= away) & (away < low + 0.01)].std() for low in (0.19, 0.215, 0.23, 0.3)]
    assert rings[0] > rings[1] > rings[2] > rings[3]
    assert rings[3] < 0.2 * rings[0], "noise is gone where the blur is full"


def test_the_lesion_does_not_bleed_into_the_background() -> None:
    photo = np.full((200, 200, 3), 220, np.uint8)
    mask = np.zeros((200, 200), bool)
    mask[60:140, 60:140] = True
    photo[mask] = 20
    outside = ~ndimage.binary_dilation(mask, iterations=2)
    assert draw_focus(photo, mask)[outside].min() >= 219


def test_an_empty_mask_leaves_nothing_in_focus_and_a_full_one_everything() -> None:
    photo = generate(0, 0).pair.image
    none, full = np.zeros(photo.shape[:2], bool), np.ones(photo.shape[:2], bool)
    assert np.array_equal(draw_focus(photo, full), photo)
    blurred = draw_focus(photo, none)
    assert np.abs(np.diff(blurred.astype(int), axis=1)).mean() < 0.5 * np.abs(np.diff(photo.astype(int), axis=1)).mean()
    assert np.abs(blurred.mean((0, 1)) - photo.mean((0, 1))).max() < 1, "the light stays"

"""Rulers of known scale are read right or not at all."""

import numpy as np
import pytest
from rulers import STYLES, skin, with_ruler

from lesionseg.data.synthetic import generate
from lesionseg.inference.ruler import find_scale


@pytest.mark.long
@pytest.mark.parametrize(
    ("style", "spacing", "ticks"),
    [("1 and 5 mm", 40, 16), ("0.5 and 1 mm", 20, 36), ("0.1, 0.5 and 1 mm", 7, 100)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_clear_ruler_is_read(style, spacing, ticks, seed):
    rng = np.random.default_rng(seed)
    photo = with_ruler(skin(rng), style, spacing, rng, ticks=ticks, angle=0.3 + seed)
    found = find_scale(photo)
    assert found is not None
    assert found.tick_mm == STYLES[style][0]
    assert found.mm_per_pixel == pytest.approx(found.tick_mm / spacing, rel=0.01)
    assert found.ticks >= 11


def test_ticks_all_alike_have_no_meaning():
    rng = np.random.default_rng(0)
    assert find_scale(with_ruler(skin(rng), "all alike", 30, rng, ticks=25, angle=0.2)) is None


def test_a_scale_that_no_dermatoscope_has_is_none():
    # A tick of 1 mm every 12 pixels would make the photo 85 mm wide, and one of 0.1 mm 8.5 mm: that can be.
    rng = np.random.default_rng(0)
    photo = with_ruler(skin(rng), "0.5 and 1 mm", 9, rng, ticks=60, angle=0.2)
    assert find_scale(photo) is None


def test_too_few_ticks_are_none():
    rng = np.random.default_rng(0)
    assert find_scale(with_ruler(skin(rng), "1 and 5 mm", 40, rng, ticks=8, angle=0.2)) is None


def test_ticks_in_the_lesion_do_not_count():
    rng = np.random.default_rng(0)
    photo = with_ruler(skin(rng), "1 and 5 mm", 40, rng, ticks=16, angle=0.2)
    assert find_scale(photo, np.ones(photo.shape[:2], bool)) is None


def test_nothing_is_read_where_nothing_is():
    assert find_scale(np.full((300, 400, 3), 180, np.uint8)) is None
    assert find_scale(np.zeros((20, 30, 3), np.uint8)) is None
    for index in range(4):
        case = generate(3, index, width=512, height=384)
        if "ruler" not in case.artefacts:
            assert find_scale(case.pair.image, case.pair.mask) is None

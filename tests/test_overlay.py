"""The outline on the photo."""

import numpy as np
import pytest

from lesionseg.inference.overlay import draw_outline, line_width

CYAN, DARK = (0, 255, 255), (16, 16, 16)


def grey(height=60, width=80):
    return np.full((height, width, 3), 120, np.uint8)


def where(picture, colour):
    return (picture == colour).all(axis=2)


def box(height=60, width=80):
    mask = np.zeros((height, width), bool)
    mask[20:40, 30:60] = True
    return mask


def test_a_box_has_a_line_inside_its_border_and_an_edge_on_both_sides():
    photo, mask = grey(), box()
    picture = draw_outline(photo, mask)
    # Across the left border, at column 30: one edge pixel outside, two of line, one edge pixel inside.
    assert [tuple(map(int, pixel)) for pixel in picture[30, 28:35]] == [
        (120, 120, 120),
        DARK,
        CYAN,
        CYAN,
        DARK,
        (120, 120, 120),
        (120, 120, 120),
    ]
    line = where(picture, CYAN)
    assert not (line & ~mask).any()
    assert line.sum() == 20 * 30 - 16 * 26
    assert (photo == 120).all()


def test_far_from_the_border_the_photo_stays_as_it_is():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (60, 80, 3), np.uint8)
    picture = draw_outline(photo, box())
    changed = (picture != photo).any(axis=2)
    assert not changed[:18].any()
    assert not changed[24:36, 34:56].any()


def test_an_empty_mask_draws_nothing_and_a_full_one_a_frame():
    photo = grey()
    np.testing.assert_array_equal(draw_outline(photo, np.zeros((60, 80), bool)), photo)
    full = where(draw_outline(photo, np.ones((60, 80), bool)), CYAN)
    assert full[:2].all()
    assert full[-2:].all()
    assert full[:, :2].all()
    assert full[:, -2:].all()
    assert full.sum() == 60 * 80 - 56 * 76


def test_a_hole_and_a_second_lesion_have_lines_of_their_own():
    mask = box()
    mask[28:32, 42:48] = False
    mask[5:12, 5:12] = True
    line = where(draw_outline(grey(), mask), CYAN)
    assert line[27, 42:48].all()
    assert line[5, 5:12].all()


def test_a_single_pixel_shows():
    mask = np.zeros((60, 80), bool)
    mask[10, 10] = True
    assert where(draw_outline(grey(), mask), CYAN).sum() == 1


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(60, 80, 2), (767, 1022, 2), (1000, 1500, 3), (2304, 3072, 7)]
)
def test_the_line_grows_with_the_photo(height, width, expected):
    assert line_width(height, width) == expected


def test_the_line_is_about_as_wide_on_a_diagonal():
    rows, columns = np.mgrid[:2000, :2000]
    disc = (rows - 1000) ** 2 + (columns - 1000) ** 2 <= 600**2
    line = where(draw_outline(grey(2000, 2000), disc), CYAN)
    straight = line[1000, :1000].sum()
    diagonal = line[np.arange(1000), np.arange(1000)].sum() * np.sqrt(2)
    assert abs(straight - line_width(2000, 2000)) <= 1
    assert abs(diagonal - straight) <= 2

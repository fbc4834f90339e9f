"""Which way up a photo is, and its mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import GREY, RGB, TRUTH, encoded, exif, upright

from lesionseg.data.containers import Container
from lesionseg.data.images import decode_photo, read_mask
from lesionseg.data.orientation import choose_orientation, turn_box


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_turns_the_photo_and_its_size(kind: str, orientation: int) -> None:
    levels = np.zeros((32, 16, 3), np.uint8)
    levels[:16, :8], levels[:16, 8:], levels[16:, :8] = 240, 160, 80
    options: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    photo = decode_photo(encoded(levels, kind, exif=exif(orientation), **options), "x")
    expected = upright(levels, orientation)
    assert photo.pixels.shape == expected.shape
    assert (photo.height, photo.width) == expected.shape[:2]
    assert np.abs(photo.pixels.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_do_not_exist_are_ignored(orientation: int) -> None:
    assert np.array_equal(decode_photo(encoded(RGB, "PNG", exif=exif(orientation)), "x").pixels, RGB)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_masks_follow_their_exif_orientation_as_photos_do(
    save: Callable[..., Path], kind: str, orientation: int
) -> None:
    mask = read_mask(save("m", encoded(GREY, kind, exif=exif(orientation))))
    assert np.array_equal(mask, upright(TRUTH, orientation))


@pytest.mark.parametrize(
    ("orientation", "size", "like", "chosen", "warned"),
    [
        (1, (20, 30), (30, 20), 1, False),
        (6, (20, 30), None, 6, False),
        (6, (20, 30), (30, 20), 1, False),
        (6, (20, 30), (20, 30), 6, False),
        (8, (20, 30), (7, 7), 8, False),
        (6, (20, 20), (20, 20), 6, True),
        (3, (20, 30), (30, 20), 3, True),
        (2, (20, 30), None, 2, False),
    ],
)
def test_the_masks_size_decides_where_it_can(
    orientation: int, size: tuple[int, int], like: tuple[int, int] | None, chosen: int, warned: bool
) -> None:
    source = Container("JPEG", b"", *size, orientation=orientation)
    found, warnings = choose_orientation(source, like)
    assert (found, bool(warnings)) == (chosen, warned)
    assert all(str(orientation) in line for line in warnings)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_with_its_pixels(orientation: int) -> None:
    # Marked pixels from the top left up to the box, in a picture that is a little larger.
    marked = np.zeros((12, 9), np.bool_)
    marked[:11, :7] = True
    left, top, right, bottom = (int(side) for side in turn_box((0.0, 0.0, 7.0, 11.0), (9, 12), orientation))
    turned = upright(marked, orientation)
    assert turned[top:bottom, left:right].all()
    assert turned.sum() == (bottom - top) * (right - left)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_drawn_on_the_stored_photo_keeps_it_as_stored(orientation: int, turned: bool) -> None:
    data = encoded(RGB, "PNG", exif=exif(orientation))
    like = (20, 30) if turned else (30, 20)
    photo = decode_photo(data, "x", like=like)
    stays = orientation >= 5 and not turned
    assert np.array_equal(photo.pixels, RGB if stays else upright(RGB, orientation))
    assert (photo.height, photo.width) == photo.pixels.shape[:2]

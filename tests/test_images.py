"""Photos and masks decoded: every mode, scaled decoding, and damage."""

import contextlib
import io
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import RGB, black_png, empty_png, encoded, exif, white_is_zero
from PIL import Image

from lesionseg.data import images
from lesionseg.data.images import (
    MAX_PIXELS,
    decode_mask,
    decode_photo,
    encode_probability_png,
    max_pixels,
    read_image,
    read_probability,
    resize_photo,
)
from lesionseg.errors import ConfigError, ImageError


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    photo = decode_photo(encoded(RGB, kind, **({"lossless": True} if kind == "WEBP" else {})), "x")
    assert np.array_equal(photo.pixels, RGB)
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height) == (20, 30)


def test_the_bytes_decide_not_the_name(save: Callable[..., Path]) -> None:
    assert np.array_equal(read_image(save("a.jpg", encoded(RGB, "PNG"))), RGB)
    assert np.array_equal(read_image(save("b", encoded(RGB, "BMP"))), RGB)


def test_alpha_is_dropped_not_blended() -> None:
    rgba = np.dstack([RGB, np.full((30, 20), 7, np.uint8)])
    assert np.array_equal(decode_photo(encoded(rgba, "PNG"), "x").pixels, RGB)


@pytest.mark.parametrize("transparency", [None, 0, bytes(range(256))])
def test_palettes_with_and_without_transparency(transparency: int | bytes | None) -> None:
    picture = Image.fromarray(RGB).quantize(32)
    options = {} if transparency is None else {"transparency": transparency}
    decoded = decode_photo(encoded(picture, "PNG", **options), "x").pixels
    assert np.array_equal(decoded, np.asarray(picture.convert("RGB")))


def test_cmyk_jpeg_looks_like_its_rgb() -> None:
    smooth = np.asarray(Image.fromarray(RGB[:6, :4]).resize((40, 60), Image.Resampling.BICUBIC))
    data = encoded(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    decoded = decode_photo(data, "x").pixels
    assert decoded.shape == smooth.shape
    assert np.abs(decoded.astype(int) - smooth).mean() < 8


def test_grey_and_16_bit_photos_become_8_bit_rgb() -> None:
    grey = RGB[..., 0]
    assert np.array_equal(decode_photo(encoded(grey, "PNG"), "x").pixels, np.dstack([grey] * 3))
    deep = grey.astype(np.uint16) * 256 + 200
    assert np.array_equal(decode_photo(encoded(deep, "PNG"), "x").pixels, np.dstack([grey] * 3))
    assert np.array_equal(decode_photo(encoded(deep, "TIFF"), "x").pixels, np.dstack([grey] * 3))


def test_tiffs_in_which_0_is_white() -> None:
    grey = RGB[..., 0]
    for levels in (grey, grey.astype(np.uint16) * 256 + 200):
        data = white_is_zero(encoded(levels, "TIFF"))
        assert np.array_equal(decode_photo(data, "x").pixels, np.dstack([255 - grey] * 3))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("at_least", "scale"),
    [
        (None, 1),
        ((101, 10), 1),
        ((10, 61), 1),
        ((100, 60), 2),
        ((51, 10), 2),
        ((50, 30), 4),
        ((25, 16), 4),
        ((25, 15), 8),
        ((1, 1), 8),
    ],
)
def test_scaled_decoding_never_goes_below_what_is_asked(
    at_least: tuple[int, int] | None, scale: int, orientation: int
) -> None:
    shape = (200, 120, 3) if orientation < 5 else (120, 200, 3)
    data = encoded(np.zeros(shape, np.uint8), "JPEG", exif=exif(orientation))
    photo = decode_photo(data, "x", at_least=at_least)
    assert (photo.height, photo.width) == (200, 120), "the size in the file, whatever the scale"
    assert photo.pixels.shape == (200 // scale, 120 // scale, 3)


def test_only_jpegs_are_scaled() -> None:
    assert np.array_equal(decode_photo(encoded(RGB, "PNG"), "x", at_least=(2, 2)).pixels, RGB)


def test_pictures_that_claim_to_be_huge_are_refused_before_pixels_are_allocated() -> None:
    data = empty_png(60_000, 60_000)
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        with pytest.raises(ImageError, match="over 64,000,000 pixels"):
            decode_photo(data, "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begin < 1
    assert peak < 2**21


SEEDS = {
    "jpg": encoded(RGB, "JPEG"),
    "progressive.jpg": encoded(RGB, "JPEG", progressive=True),
    "png": encoded(RGB, "PNG"),
    "palette.png": encoded(Image.fromarray(RGB).quantize(16), "PNG"),
    "bmp": encoded(RGB, "BMP"),
    "tif": encoded(RGB, "TIFF"),
    "lzw.tif": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "webp": encoded(RGB, "WEBP"),
}


@pytest.mark.parametrize("kind", SEEDS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_is_an_image_error_or_nothing(kind: str, data: st.DataObject) -> None:
    raw = bytearray(SEEDS[kind])
    places = st.integers(0, len(raw) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        raw[place] = value
    cut = data.draw(st.integers(1, len(raw)))
    with contextlib.suppress(ImageError), pytest.MonkeyPatch.context() as patch:
        # Headers that now claim more are refused, not slow.
        patch.setattr(images, "MAX_PIXELS", 100_000)
        decoded = decode_photo(bytes(raw[:cut]), "x", at_least=data.draw(st.sampled_from([None, (8, 8)])))
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape[2] == 3


def test_only_grey_pictures_are_probabilities(save: Callable[..., Path]) -> None:
    with pytest.raises(ImageError, match="not an 8-bit grey picture"):
        read_probability(save("p.png", encoded(RGB, "PNG")))
    with pytest.raises(ImageError, match="damaged"):
        read_probability(save("p.png", encode_probability_png(np.zeros((50, 50), np.float32))[:50]))


@pytest.mark.real
def test_scaled_decoding_hardly_changes_resized_photos() -> None:
    photos = sorted((Path(os.environ["LESIONSEG_DATA"]) / "photos").glob("*.jpg"))
    chosen = photos[::3][:20]
    assert len(chosen) == 20
    means = []
    for path in chosen:
        data = path.read_bytes()
        full, fast = decode_photo(data, str(path)), decode_photo(data, str(path), at_least=(256, 256))
        assert (fast.height, fast.width) == full.pixels.shape[:2]
        assert fast.pixels.size < full.pixels.size / 3.9
        small, quick = (resize_photo(photo.pixels, 128, 128).astype(int) for photo in (full, fast))
        means.append(np.abs(small - quick).mean())
    assert max(means) < 1.1, "grey levels of 255"
    assert np.mean(means) < 0.5


@pytest.mark.parametrize("text", ["0", "-5", "1e6", "many"])
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LESIONSEG_MAX_PIXELS", text)
    with pytest.raises(ConfigError, match=f"LESIONSEG_MAX_PIXELS='{text}'"):
        max_pixels()


def test_the_limit_can_be_moved_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max_pixels() == MAX_PIXELS
    large = black_png(9000, 8000)
    with pytest.raises(ImageError, match="raise the limit with LESIONSEG_MAX_PIXELS"):
        decode_mask(large, "x")
    monkeypatch.setenv("LESIONSEG_MAX_PIXELS", "72000000")
    assert decode_mask(large, "x").values.shape == (8000, 9000)
    monkeypatch.setenv("LESIONSEG_MAX_PIXELS", "599")
    with pytest.raises(ImageError, match="x is 20 x 30, over 599 pixels"):
        decode_photo(encoded(RGB, "PNG"), "x")


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_a_cut_jpeg_is_never_accepted_without_a_word(shift: int) -> None:
    smooth = np.asarray(Image.fromarray(RGB[:6, :4]).resize((64, 96), Image.Resampling.BICUBIC))
    whole = encoded(smooth, "JPEG", quality=90)
    assert decode_photo(whole, "x").warnings == ()
    cut = whole[: len(whole) - 1 - shift]
    with contextlib.suppress(ImageError):
        assert "no end marker" in decode_photo(cut, "x").warnings[0]


def test_a_jpeg_without_its_end_marker_is_whole() -> None:
    whole = encoded(RGB, "JPEG")
    photo = decode_photo(whole[:-2], "x")
    assert photo.warnings == ("the JPEG has no end marker: its last pixels may be wrong",)
    assert np.array_equal(photo.pixels, decode_photo(whole, "x").pixels)


def test_grey_filled_up_in_front_of_an_end_marker_is_told() -> None:
    whole = encoded(np.full((64, 64, 3), 30, np.uint8), "JPEG")
    assert decode_photo(whole, "x").warnings == ()
    photo = decode_photo(encoded(np.full((64, 64, 3), 128, np.uint8), "JPEG"), "x")
    assert "middle grey" in photo.warnings[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(90, 130), (801, 1203), (1300, 700)])
def test_fitted_decoding_is_decoding_and_fitting(orientation: int, shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack((rows % 251, columns % 241, (rows + columns) % 239), axis=-1).astype(np.uint8)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    whole = decode_photo(buffer.getvalue(), "x.jpg", at_least=(128, 192))
    fitted = images.decode_fitted(buffer.getvalue(), "x.jpg", 64, 96)
    assert (fitted.width, fitted.height) == (whole.width, whole.height)
    np.testing.assert_array_equal(fitted.pixels, images.fit_photo(whole, 64, 96))

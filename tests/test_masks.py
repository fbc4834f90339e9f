"""What counts as lesion in a mask file, however its levels are stored."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import GREY, RGB, TRUTH, encoded, palette, png, white_is_zero
from PIL import Image

from lesionseg.data.images import decode_mask, read_mask
from lesionseg.errors import ImageError


@pytest.mark.parametrize("top", [1, 2, 128, 254, 255])
def test_any_two_levels_from_zero(save: Callable[..., Path], top: int) -> None:
    assert np.array_equal(read_mask(save("m.png", encoded(TRUTH * np.uint8(top), "PNG"))), TRUTH)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [1, 255, 256, 65535])
def test_16_bit_masks(save: Callable[..., Path], top: int, kind: str) -> None:
    assert np.array_equal(read_mask(save("m", encoded(TRUTH * np.uint16(top), kind))), TRUTH)


@pytest.mark.parametrize("top", [255, 65535])
def test_masks_in_which_0_is_white(save: Callable[..., Path], top: int) -> None:
    data = encoded(~TRUTH * np.uint16(top) if top > 255 else ~TRUTH * np.uint8(top), "TIFF")
    assert np.array_equal(read_mask(save("m", white_is_zero(data))), TRUTH)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(TRUTH), "PNG"),
        encoded(Image.fromarray(TRUTH), "TIFF", compression="group4"),
        encoded(Image.fromarray(TRUTH), "BMP"),
        encoded(np.dstack([GREY] * 3), "PNG"),
        encoded(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]), "PNG"),
        encoded(Image.fromarray(GREY).convert("LA"), "PNG"),
        encoded(TRUTH.astype(np.float32), "TIFF"),
        palette((0, 0, 0), (255, 255, 255)),
        palette((0, 0, 0), (9, 9, 9), (128, 128, 128), transparency=b"\x00\x80\xff"),
    ],
    ids=["1 png", "1 tiff", "1 bmp", "rgb", "rgba", "la", "float", "palette", "palette transparent"],
)
def test_modes_of_masks(save: Callable[..., Path], data: bytes) -> None:
    mask = read_mask(save("m.png", data))
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, TRUTH)


@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_masks_of_one_level_are_empty_or_full(save: Callable[..., Path], level: int) -> None:
    mask = read_mask(save("m.png", encoded(np.full((5, 4), level, np.uint8), "PNG")))
    assert mask.shape == (5, 4)
    assert mask.all() == (level > 0)
    assert mask.any() == (level > 0)


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_masks_that_went_through_jpeg(save: Callable[..., Path], quality: int) -> None:
    rows, columns = np.mgrid[:192, :256]
    disc = (rows - 90) ** 2 + (columns - 120) ** 2 < 60**2
    data = encoded(disc * np.uint8(255), "JPEG", quality=quality)
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(data))))) > 8, "has fringes"
    wrong = read_mask(save("m.jpg", data)) != disc
    assert wrong.mean() < 0.002


def test_masks_with_soft_edges(save: Callable[..., Path]) -> None:
    rows, columns = np.mgrid[:96, :128]
    soft = np.clip(40 - np.hypot(rows - 48, columns - 60), 0, 1)
    levels = np.rint(soft * 254).astype(np.uint8)
    levels[0, :2] = 127, 128
    mask = read_mask(save("m.png", encoded(levels, "PNG")))
    assert np.array_equal(mask, levels > 127), "the middle itself is not lesion"


def test_multi_class_masks_are_refused_with_their_values(save: Callable[..., Path]) -> None:
    classes = np.zeros((10, 10), np.uint8)
    classes[:3], classes[3:5], classes[5, :2] = 1, 2, 3
    with pytest.raises(ImageError, match=r"m\.png is not a binary mask: it has the values 0, 1, 2, 3\n"):
        read_mask(save("m.png", encoded(classes, "PNG")))


def test_long_lists_of_values_are_cut(save: Callable[..., Path]) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.raises(ImageError, match=r"the values 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\n"):
        read_mask(save("m.png", encoded(ramp, "PNG")))


def test_photos_given_as_masks_are_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(ImageError, match="is coloured, not a mask"):
        read_mask(save("m.png", encoded(RGB, "PNG")))
    # Bright skin (200 to 230) and a dark lesion (10 to 40) with a narrow border: near two levels, and still a photo.
    rows, columns = np.mgrid[:96, :128]
    skin = 230 - 190 / (1 + np.exp(np.hypot(rows - 48, columns - 60) - 25))
    skin -= np.random.default_rng(0).uniform(0, 30, skin.shape)
    with pytest.raises(ImageError, match="is not a binary mask"):
        read_mask(save("m.png", encoded(skin.clip(0, 255).astype(np.uint8), "PNG")))


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (encoded(GREY, "PNG"), "0/255"),
        (encoded(TRUTH.astype(np.uint8), "PNG"), "0/1"),
        (encoded(Image.fromarray(TRUTH), "PNG"), "bool 0/1"),
        (encoded(TRUTH * np.uint16(65535), "PNG"), "16-bit 0/65535"),
        (encoded(np.dstack([GREY] * 3), "PNG"), "RGB 0/255"),
        (encoded(np.dstack([GREY * 0] * 3 + [GREY]), "PNG"), "alpha 0/255"),
        (encoded(np.dstack([GREY, GREY * 0, GREY * 0]), "PNG"), "RGB #000000/#ff0000"),
        (palette((0, 0, 0), (255, 255, 255)), "palette 0/255"),
        (palette((0, 0, 0), (128, 0, 0)), "palette #000000/#800000"),
    ],
)
def test_how_a_mask_was_stored_is_recorded(data: bytes, encoding: str) -> None:
    mask = decode_mask(data, "m.png")
    assert (mask.encoding, mask.warnings) == (encoding, ())
    assert np.array_equal(mask.values, TRUTH)


def test_black_is_skin_wherever_it_stands_in_the_palette() -> None:
    mask = decode_mask(palette((128, 0, 0), (0, 0, 0)), "m.png")
    assert np.array_equal(mask.values, ~TRUTH)
    assert mask.encoding == "palette #000000/#800000"


def test_a_palette_that_does_not_tell_is_read_by_its_indices_with_a_warning() -> None:
    mask = decode_mask(palette((255, 0, 0), (0, 0, 255)), "m.png")
    assert np.array_equal(mask.values, TRUTH)
    assert mask.encoding == "palette 0/1"
    assert "index 0 taken as skin" in mask.warnings[0]


def test_colours_and_transparency_that_contradict_each_other() -> None:
    rgba = np.dstack([GREY] * 3 + [GREY[::-1]])
    with pytest.raises(ImageError, match=r"m\.png is ambiguous"):
        decode_mask(encoded(rgba, "PNG"), "m.png")
    same = np.dstack([GREY] * 4)
    assert np.array_equal(decode_mask(encoded(same, "PNG"), "m.png").values, TRUTH)


def test_several_colours_are_listed_with_their_pixels() -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[0], colours[1, :2] = (255, 0, 0), (0, 0, 255)
    with pytest.raises(ImageError, match="#000000 on 10 pixels, #ff0000 on 4 pixels, #0000ff on 2 pixels") as caught:
        decode_mask(encoded(colours, "PNG"), "m.png")
    assert "classes:" in caught.value.fix


def test_16_bit_colours_are_not_halved() -> None:
    rows = b"".join(b"\0" + bytes(2 * 3 * 4) for _ in range(4))
    with pytest.raises(ImageError, match="16-bit colours, whose lower half would be lost"):
        decode_mask(png(4, 4, rows, bits=16), "m.png")


@pytest.mark.parametrize(("border", "warned"), [(0.95, True), (0.85, False)])
def test_a_border_that_is_mostly_lesion_is_told(border: float, warned: bool) -> None:
    mask = np.ones((100, 100), np.bool_)
    mask[0, : round(4 * 100 * (1 - border))] = mask[40:60, 40:60] = False
    found = decode_mask(encoded(mask * np.uint8(255), "PNG"), "m.png")
    assert np.array_equal(found.values, mask), "told, not turned round"
    assert any("may be inverted" in line for line in found.warnings) == warned

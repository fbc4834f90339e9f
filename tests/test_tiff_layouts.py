"""TIFF layouts: every way to store the same pixels gives the same pixels, and damage is noticed."""

import io
import itertools
import struct

import numpy as np
import pytest
from corpus_photos import SMOOTH
from pictures import encoded
from PIL import Image
from tiffs import PACKERS, tiff

from lesionseg.data.images import decode_mask, decode_photo
from lesionseg.errors import ImageError

LOW = np.random.default_rng(6).integers(0, 256, (48, 64, 4), dtype=np.uint16)
ALPHA = np.dstack([SMOOTH, SMOOTH[::-1, :, 0]])
LAYOUTS = list(itertools.product((False, True), (8, 16), PACKERS, "<>", (False, True), (16, 48), (3, 4)))


@pytest.mark.parametrize(("planar", "bits", "compression", "order", "tiled", "rows", "samples"), LAYOUTS)
def test_layouts_of_photos(
    planar: bool, bits: int, compression: int, order: str, tiled: bool, rows: int, samples: int
) -> None:
    pixels = ALPHA[..., :samples]
    if bits == 16:
        pixels = pixels.astype(np.uint16) << 8 | LOW[..., :samples]
    data = tiff(pixels, planar=planar, compression=compression, order=order, tiled=tiled, rows=rows)
    assert np.array_equal(decode_photo(data, "a.tif").pixels, SMOOTH)


@pytest.mark.parametrize(("bits", "planar"), list(itertools.product((10, 12, 14, 15, 16), (False, True))))
def test_bits_that_are_not_scaled_are_told(bits: int, planar: bool) -> None:
    photo = decode_photo(tiff(SMOOTH.astype(np.uint16) << (bits - 8), planar=planar), "a.tif")
    assert photo.warnings == ((f"only {bits} of its 16 bits are used, so that it is dark",) if bits <= 14 else ())


def test_deep_planes_of_a_mask_are_refused_as_other_deep_colours_are() -> None:
    for planar in (False, True):
        data = tiff(ALPHA[..., :3].astype(np.uint16) * 257, planar=planar)
        with pytest.raises(ImageError, match="16-bit colours"):
            decode_mask(data, "m.tif")


def changed(data: bytes, tag: int, value: int, *, count: int = 1) -> bytes:
    """A little-endian TIFF with another value of a tag, or another count."""
    at = data.index(struct.pack("<HHI", tag, 4, count))
    return data[: at + 8] + struct.pack("<I", value) + data[at + 12 :]


DEEP = tiff(ALPHA[..., :3].astype(np.uint16) * 257, planar=True, rows=48)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(DEEP, 262, 6), "neither RGB nor CMYK"),
        (DEEP.replace(struct.pack("<HHI", 279, 4, 3), struct.pack("<HHI", 279, 4, 2)), "do not fit together"),
        (DEEP.replace(struct.pack("<HHI", 279, 4, 3), struct.pack("<HHI", 279, 5, 1)), "another kind"),
        (DEEP.replace(struct.pack("<HHI", 279, 4, 3), struct.pack("<HHI", 999, 4, 3)), "does not tell where"),
        (DEEP.replace(struct.pack("<I", 48 * 64 * 2), struct.pack("<I", 48 * 64 * 200)), "cut off"),
        (DEEP.replace(struct.pack("<3I", 16, 16, 16), struct.pack("<3I", 16, 16, 8)), "do not fit together"),
    ],
)
def test_deep_planes_that_do_not_fit(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_photo(data, "a.tif")


# --- damage -----------------------------------------------------------------------------------------------------------

DISC = np.hypot(*np.mgrid[-96:96, -128:128]) < 60


def damaged_at(data: bytes, part: float) -> bytes:
    """Two bytes of the first strip changed."""
    with Image.open(io.BytesIO(data)) as picture:
        start, size = picture.tag_v2[273][0], picture.tag_v2[279][0]
    broken = bytearray(data)
    for at in (start + int(size * part), start + int(size * part) + 3):
        broken[at] ^= 0x55
    return bytes(broken)


def outcome(data: bytes) -> str:
    try:
        decode_mask(data, "m.tif")
    except ImageError as error:
        return error.message
    return ""


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "tiff_lzw"])
def test_damaged_masks_are_refused_without_a_word_on_stderr(compression: str, capfd: pytest.CaptureFixture) -> None:
    data = encoded(Image.fromarray(DISC), "TIFF", compression=compression)
    assert np.array_equal(decode_mask(data, "m.tif").values, DISC)
    refused = [outcome(damaged_at(data, part)) for part in np.linspace(0.1, 0.9, 9)]
    # Codes that are changed into other codes cannot be told from intact ones.
    assert sum("m.tif is damaged" in message for message in refused) >= 4
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_deflate"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.97])
def test_every_damage_of_deflated_pixels_is_noticed(compression: str, part: float) -> None:
    data = encoded(SMOOTH, "TIFF", compression=compression)
    assert np.array_equal(decode_photo(data, "a.tif").pixels, SMOOTH)
    with pytest.raises(ImageError, match="damaged"):
        decode_photo(damaged_at(data, part), "a.tif")

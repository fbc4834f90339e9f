"""TIFF directories: the orientation in EXIF data, and what is kept of a TIFF file."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import GREY, RGB, encoded, exif
from PIL import Image, TiffImagePlugin

from lesionseg.data.directories import clean_tiff, orientation_of
from lesionseg.data.images import decode_photo
from lesionseg.errors import ImageError

ORIENTATION = 0x0112
TIFF = encoded(RGB, "TIFF")


def directory(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """EXIF data with (tag, kind, count, value) entries."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = b""
    for tag, kind, count, value in entries:
        # A short lies in the first two of its four bytes.
        cell = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        body += struct.pack(order + "HHI", tag, kind, count) + cell
    return head + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(order: str, prefix: bytes, orientation: int) -> None:
    assert orientation_of(prefix + directory((ORIENTATION, 3, 1, orientation), order=order)) == orientation
    assert orientation_of(exif(orientation).tobytes()) == orientation


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0" + struct.pack("<IH", 8, 65535),
        directory(),
        directory((ORIENTATION, 3, 1, 0)),
        directory((ORIENTATION, 3, 1, 9)),
        directory((ORIENTATION, 2, 1, 6)),
        directory((ORIENTATION, 99, 1, 6)),
        directory((ORIENTATION, 3, 0, 6)),
        directory((ORIENTATION, 3, 2**31, 6)),
        directory((0x010F, 3, 1, 6)),
    ],
)
def test_damaged_or_missing_means_upright(data: bytes) -> None:
    assert orientation_of(data) == 1


def test_the_first_of_two_entries_counts() -> None:
    assert orientation_of(directory((ORIENTATION, 3, 1, 6), (ORIENTATION, 3, 1, 3))) == 6


@given(st.binary(max_size=80))
def test_any_bytes_give_an_orientation(data: bytes) -> None:
    assert 1 <= orientation_of(b"II*\0\x08\0\0\0" + data) <= 8


def test_only_what_pixels_need_is_kept() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[315], tags[ORIENTATION] = "a description", "Dr. Private", 6
    clean = clean_tiff(encoded(RGB, "TIFF", tiffinfo=tags))
    assert (clean.width, clean.height, clean.bits, clean.orientation, clean.several) == (20, 30, 8, 6, False)
    with Image.open(io.BytesIO(clean.data)) as picture:
        assert np.array_equal(np.asarray(picture), RGB)
        assert not {270, 315, ORIENTATION} & set(picture.tag_v2)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_cleaned_files_keep_their_pixels(compression: str) -> None:
    data = encoded(RGB, "TIFF", compression=compression)
    with Image.open(io.BytesIO(clean_tiff(data).data)) as picture:
        assert np.array_equal(np.asarray(picture), RGB)


def test_a_second_picture_is_noticed_even_without_a_single_entry() -> None:
    raw = bytearray(TIFF) + bytes(6)
    (first,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", raw, first + 2 + 12 * entries, len(raw) - 6)
    assert clean_tiff(bytes(raw)).several
    with pytest.raises(ImageError, match="x holds more than one picture"):
        decode_photo(bytes(raw), "x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"II*\0", "no TIFF header"),
        (b"II*\0" + struct.pack("<I", 4), "outside the file"),
        (b"II*\0" + struct.pack("<I", 10**6), "outside the file"),
        (b"II*\0" + struct.pack("<IH", 8, 3), "cut off"),
        (directory((256, 3, 1, 20)), "does not tell its size"),
        (directory((256, 3, 1, 20), (257, 3, 1, 30), (277, 3, 1, 200)), "too many samples"),
        (directory(*((tag, 1, 60, 8) for tag in (256, 257, 258, 273, 279, 320))), "overlap"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        clean_tiff(data)


def test_both_byte_orders_and_grey() -> None:
    grey = encoded(GREY, "TIFF")
    assert grey[:2] == b"II"
    big = directory((256, 4, 1, 16), (257, 4, 1, 24), order=">")
    assert (clean_tiff(grey).width, clean_tiff(grey).height) == (clean_tiff(big).width, clean_tiff(big).height)

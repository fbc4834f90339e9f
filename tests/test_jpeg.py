"""The blocks of a JPEG: what is kept, what size they tell, where the picture ends."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import RGB, encoded, exif

from lesionseg.data.jpeg import walk_jpeg

JPEG = encoded(RGB, "JPEG")
PROGRESSIVE = encoded(RGB, "JPEG", progressive=True)
FRAME, SCAN = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")


def block(kind: int, body: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


def with_block(kind: int, body: bytes) -> bytes:
    return JPEG[:2] + block(kind, body) + JPEG[2:]


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_plain_file_is_kept_byte_for_byte(data: bytes) -> None:
    jpeg = walk_jpeg(data)
    assert b"".join(jpeg.blocks) == data
    assert (jpeg.width, jpeg.height, jpeg.bits, jpeg.orientation, jpeg.ended) == (20, 30, 8, 1, True)
    assert jpeg.is_plain


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<xmp/>"),
        (0xE2, b"ICC_PROFILE\0\1\1profile"),
        (0xED, b"Photoshop 3.0\0"),
        (0xEE, b"not Adobe"),
        (0xFE, b"a comment with \xff\xd9 inside"),
    ],
)
def test_what_pixels_do_not_need_is_left_out(kind: int, body: bytes) -> None:
    assert b"".join(walk_jpeg(with_block(kind, body)).blocks) == JPEG


def test_exif_tells_the_orientation_and_is_left_out() -> None:
    data = encoded(RGB, "JPEG", exif=exif(8))
    jpeg = walk_jpeg(data)
    assert jpeg.orientation == 8
    assert b"Exif" not in b"".join(jpeg.blocks)


def test_what_comes_after_the_end_is_left_out() -> None:
    for tail in (b"\0" * 40, JPEG, b"PK\3\4"):
        jpeg = walk_jpeg(JPEG + tail)
        assert b"".join(jpeg.blocks) == JPEG
        assert jpeg.ended


@pytest.mark.parametrize("padding", [b"", bytes(300)])
def test_an_end_is_added_where_there_is_none(padding: bytes) -> None:
    jpeg = walk_jpeg(JPEG[:-2] + padding)
    assert not jpeg.ended
    assert b"".join(jpeg.blocks) == JPEG


def test_the_end_of_a_preview_is_not_the_end_of_the_picture() -> None:
    data = with_block(0xE1, b"Exif\0\0" + JPEG)
    assert b"".join(walk_jpeg(data).blocks) == JPEG
    assert not walk_jpeg(data[:-2]).ended


def test_a_second_picture_ends_the_first() -> None:
    jpeg = walk_jpeg(JPEG[:-2] + JPEG)
    assert not jpeg.ended
    assert b"".join(jpeg.blocks) == JPEG


def test_padding_between_blocks_is_harmless() -> None:
    jpeg = walk_jpeg(JPEG[:FRAME] + b"\xff\xff\xff" + JPEG[FRAME:])
    assert (jpeg.width, jpeg.height) == (20, 30)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG[:2], "ends before its pixels"),
        (JPEG[:SCAN], "ends before its pixels"),
        (JPEG[:SCAN] + b"\xff\xd9", "ends before its pixels"),
        (JPEG[: FRAME + 6], "one of its blocks is cut off"),
        (JPEG[:2] + b"\xff\xe0\0\1" + JPEG[2:], "one of its blocks is cut off"),
        (JPEG[:FRAME] + JPEG[SCAN:], "no frame header"),
        (JPEG[:FRAME] + JPEG[FRAME : FRAME + 19] + JPEG[FRAME:], "two frame headers"),
        (JPEG[:FRAME] + block(0xC0, b"\x08\0\x1e\0\x14") + JPEG[SCAN:], "its frame header is cut off"),
        (PROGRESSIVE[:-2], "a progressive JPEG without end marker"),
        (JPEG[:-2] + JPEG[SCAN : SCAN + 14] * 60 + b"\xff\xd9", "over 50 scans"),
        (JPEG[:2] + b"\xff\x01" * 100_001 + JPEG[2:], "over 100,000 blocks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        walk_jpeg(data)


@pytest.mark.parametrize(("at", "value", "bits", "frame"), [(4, 12, 12, 0xC0), (1, 0xC3, 8, 0xC3), (1, 0xC9, 8, 0xC9)])
def test_what_is_not_plain_is_told(at: int, value: int, bits: int, frame: int) -> None:
    data = bytearray(JPEG)
    data[FRAME + at] = value
    jpeg = walk_jpeg(bytes(data))
    assert (jpeg.bits, jpeg.frame, jpeg.is_plain) == (bits, frame, False)


@pytest.mark.parametrize(("subsampling", "units"), [(0, 3 * 4), (2, 2 * 2)])
def test_the_least_number_of_bits(subsampling: int, units: int) -> None:
    # 20 x 30 pixels in units of 8 x 8, or of 16 x 16 where colours are halved.
    assert walk_jpeg(encoded(RGB, "JPEG", subsampling=subsampling)).units == units
    flat = encoded(np.full((256, 256), 128, np.uint8), "JPEG", quality=1, optimize=True)
    jpeg = walk_jpeg(flat)
    assert 8 * len(jpeg.blocks[-1]) >= jpeg.units == 32 * 32


@given(st.binary(max_size=120))
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    try:
        jpeg = walk_jpeg(JPEG[:SCAN] + data)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either end is fine, silence is not
    else:
        assert b"".join(jpeg.blocks).endswith(b"\xff\xd9")

"""What is told of a file before any pixel is decoded."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import RGB, animation, chunk, empty_png, encoded, exif

from lesionseg.data.containers import FORMATS, has_end, inspect
from lesionseg.data.images import decode_photo, read_image, read_mask
from lesionseg.errors import ImageError


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "not a picture in a supported format"),
        (b"\x00" * 4096, "not a picture in a supported format"),
        (b"\xff\xd8\xff", "not a picture|damaged"),
        (encoded(RGB, "JPEG")[:-400], "damaged"),
        (encoded(RGB, "PNG")[:-400], "damaged"),
        (encoded(RGB, "BMP")[:-400], "damaged"),
        (encoded(RGB, "TIFF", compression="tiff_adobe_deflate")[:500], "damaged|not a picture"),
        (encoded(RGB, "WEBP")[:-40], "damaged|not a picture"),
        (encoded(RGB, "GIF"), "not a picture in a supported format"),
        (animation("GIF"), "not a picture in a supported format"),
        (encoded(RGB, "PPM"), "not a picture in a supported format"),
        (encoded(RGB, "EPS"), "not a picture in a supported format"),
        (animation("WEBP"), "holds more than one picture"),
        (animation("PNG"), "holds more than one picture"),
        (animation("TIFF"), "holds more than one picture"),
        (encoded(RGB[:1], "PNG"), "only 20 x 1 pixels"),
        (encoded(RGB[:, :1], "PNG"), "only 1 x 30 pixels"),
        (empty_png(8001, 8000), "8001 x 8000, over 64,000,000 pixels"),
        (empty_png(60_000, 60_000), "over 64,000,000 pixels"),
        (empty_png(300, 200), "damaged"),
    ],
    ids=lambda value: value.split(",")[0] if isinstance(value, str) else f"{len(value)}",
)
def test_bad_bytes_are_named_and_explained(save: Callable[..., Path], data: bytes, reason: str) -> None:
    path = save("photo.jpg", data)
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=reason) as caught:
            read(path)
        assert str(path) in caught.value.message
        assert caught.value.fix


PNG, JPEG = encoded(RGB, "PNG"), encoded(RGB, "JPEG")


@pytest.mark.parametrize("kind", FORMATS)
def test_size_and_orientation_are_told_without_decoding(kind: str) -> None:
    found = inspect(encoded(RGB, kind, **({} if kind == "BMP" else {"exif": exif(6)})), "x")
    assert (found.format, found.width, found.height) == (kind, 20, 30)
    assert found.orientation == (1 if kind == "BMP" else 6)
    assert (found.ended, found.problem) == (True, "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_metadata_stays_behind(kind: str) -> None:
    tags = exif(1)
    tags[0x013B] = "Dr. Private"
    data = encoded(RGB, kind, exif=tags, icc_profile=b"Dr. Private" * 20)
    assert b"Dr. Private" in data
    kept = inspect(data, "x").data
    if kind in ("JPEG", "PNG"):
        assert b"Dr. Private" not in kept
    assert np.array_equal(decode_photo(data, "x").pixels, decode_photo(encoded(RGB, kind), "x").pixels)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypmif1" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(40), "AVIF"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "a video"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"8BPS" + bytes(40), "Photoshop"),
        (b"II+\0" + bytes(40), "BigTIFF"),
        (b"PK\3\4" + bytes(40), "ZIP"),
        (b"\x1f\x8b" + bytes(40), "gzip"),
        (bytes(344) + b"n+1\0", "NIfTI"),
        (b'\xef\xbb\xbf <?xml version="1.0"?><svg width="1">', "SVG"),
        (b"\n <!DOCTYPE html><html>", "HTML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_is_called_by_its_name(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f", but {what}\n") as caught:
        inspect(data, "photo.jpg")
    assert caught.value.message.startswith("photo.jpg is not a picture in a supported format (JPEG, PNG, ")
    assert "JPEG or PNG" in caught.value.fix


@pytest.mark.parametrize("data", [b"RIFF\0\0\0\0WAVE", b"anything", b"", b"\xff\xd8"])
def test_what_has_no_name_is_refused_too(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"supported format \(JPEG, PNG, BMP, TIFF, WEBP\)\n"):
        inspect(data, "x")


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_the_checksums_of_png_blocks_count(kind: bytes) -> None:
    at = PNG.index(kind) + 4
    length = int.from_bytes(PNG[at - 8 : at - 4])
    damaged = PNG[: at + length] + bytes([PNG[at + length] ^ 1]) + PNG[at + length + 1 :]
    with pytest.raises(ImageError, match=f"the checksum of its {kind.decode()} block is wrong"):
        inspect(damaged, "x")


def test_a_wrong_checksum_of_a_text_plays_no_part() -> None:
    text = bytearray(chunk(b"tEXt", b"a\0b"))
    text[-1] ^= 1
    assert inspect(PNG[:33] + bytes(text) + PNG[33:], "x").data == PNG


def test_png_blocks_out_of_order() -> None:
    with pytest.raises(ImageError, match="does not start with its size"):
        inspect(PNG[:8] + chunk(b"IDAT", b"") + PNG[8:], "x")


def test_what_comes_after_the_end_is_left_out() -> None:
    assert inspect(PNG + b"PK\3\4" + bytes(90), "x").data == PNG
    webp = encoded(RGB, "WEBP")
    assert inspect(webp + bytes(90), "x").data == webp


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (300, 200)])
def test_pixels_that_cannot_be_in_so_few_bytes(width: int, height: int) -> None:
    assert inspect(empty_png(width, height), "x").problem == "it has too few bytes for its size"


def test_a_webp_counts_with_the_larger_of_its_sizes() -> None:
    lossless = encoded(RGB, "WEBP", lossless=True)[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (39_999).to_bytes(3, "little") + (9).to_bytes(3, "little")
    data = b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(lossless)) + b"WEBP" + canvas + lossless
    found = inspect(data, "x")
    assert (found.width, found.height) == (40_000, 30)


@pytest.mark.parametrize("header", [b"\x0c\0\0\0" + struct.pack("<HH", 7, 9), struct.pack("<Iii4xI", 40, -7, -9, 0)])
def test_both_headers_of_bmp_tell_the_size(header: bytes) -> None:
    found = inspect(b"BM" + bytes(12) + header + bytes(20), "x")
    assert (found.width, found.height) == (7, 9)


def test_packed_bmps_are_refused() -> None:
    with pytest.raises(ImageError, match="x is a packed BMP"):
        inspect(b"BM" + bytes(12) + struct.pack("<Iii4xI", 40, 7, 9, 1) + bytes(20), "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_glance_tells_whether_a_file_is_whole(kind: str) -> None:
    data = encoded(RGB, kind)
    assert has_end(data)
    assert not has_end(data[: len(data) // 2])


def test_what_has_no_end_of_its_own_counts_as_whole() -> None:
    assert has_end(encoded(RGB, "TIFF")[:500])
    assert not has_end(b"")

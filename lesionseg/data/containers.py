"""What a picture's bytes say before any pixel is decoded: format, size, orientation, and whether they are complete.

Each format's blocks are walked here, and only those that pixels need are handed on. So EXIF, ICC profiles and comments
never reach the decoder (nor any output), the size is known before memory is taken, and damage that decoders pass over
in silence (checksums, a second picture, a missing end) is noticed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lesionseg.data.directories import clean_tiff, orientation_of
from lesionseg.data.jpeg import walk_jpeg
from lesionseg.errors import ImageError

__all__ = ["FORMATS", "HEAD_BYTES", "Container", "damaged", "describe", "has_end", "inspect"]

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""What is decoded; everything else is refused."""

HEAD_BYTES = 1024
"""How many of a file's first bytes tell its format."""

_MAX_BLOCKS = 100_000
# Deflate cannot shrink by more.
_DEFLATE = 1032
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_OTHERS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (4, tuple(b"ftyp" + brand for brand in _HEIC), "HEIC"),
    (4, (b"ftypavif", b"ftypavis"), "AVIF"),
    (4, (b"ftyp",), "a video"),
    (128, (b"DICM",), "DICOM"),
    (0, (b"GIF87a", b"GIF89a"), "GIF"),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "EPS"),
    (0, (b"%PDF",), "PDF"),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), "JPEG XL"),
    (0, (b"8BPS",), "Photoshop"),
    (0, (b"II+\0", b"MM\0+"), "BigTIFF"),
    (0, (b"PK\x03\x04",), "ZIP"),
    (0, (b"\x1f\x8b",), "gzip"),
    (344, (b"n+1\0", b"ni1\0"), "NIfTI"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """A picture's bytes, looked over.

    Attributes:
        format: one of ``FORMATS``.
        data: what the decoder gets: the blocks that pixels need, and no others.
        width, height: as stored, in pixels; not checked against any limit.
        bits: per sample.
        orientation: 1 to 8, as in EXIF.
        ended: False for a JPEG without end marker; ``data`` has one.
        problem: why the pixels cannot be there; empty when they may be.
    """

    format: str
    data: bytes
    width: int
    height: int
    bits: int = 8
    orientation: int = 1
    ended: bool = True
    problem: str = ""


def damaged(name: str, reason: str) -> ImageError:
    """The error for a file that is broken, and not just of a kind that is not read."""
    return ImageError(f"{name} is damaged: {reason}", fix="copy or download it again")


def inspect(data: bytes, name: str) -> Container:
    """Recognises a picture from its bytes and looks it over; allocates no pixels.

    Raises:
        ImageError: it is in no supported format, holds several pictures, or its blocks are damaged.
    """
    for start, look in _READERS.items():
        if data.startswith(start) and (start != b"RIFF" or data[8:12] == b"WEBP"):
            try:
                return look(data, name)
            except struct.error as error:
                raise damaged(name, "it is cut off") from error
            except ValueError as error:
                raise damaged(name, str(error)) from error
    what = _describe_other(data)
    raise ImageError(
        f"{name} is not a picture in a supported format ({', '.join(FORMATS)})" + (f", but {what}" if what else ""),
        fix="replace it by a JPEG or PNG" if what in ("", "HTML", "ZIP") else f"convert it from {what} to JPEG or PNG",
    )


def has_end(data: bytes) -> bool:
    """Whether the bytes end as their format demands, as far as a glance tells; False for one that is being copied."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in data[-(2**16) :]
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-(2**16) :]
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") <= len(data)
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return bool(data)


def describe(head: bytes) -> str:
    """Return the format that a file's first ``HEAD_BYTES`` bytes tell, one of ``FORMATS`` or another; '' if unknown."""
    for start, name in _STARTS.items():
        # Text may begin with BM, too.
        is_text = name == "BMP" and int.from_bytes(head[14:18], "little") not in _BMP_HEADERS
        if head.startswith(start) and (name != "WEBP" or head[8:12] == b"WEBP") and not is_text:
            return name
    return _describe_other(head)


def _describe_other(data: bytes) -> str:
    for start, magics, what in _OTHERS:
        if data.startswith(magics, start):
            return what
    head = data[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return "SVG"
    return "HTML" if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) else ""


def _refuse_several(name: str) -> ImageError:
    return ImageError(f"{name} holds more than one picture", fix="save the one you mean by itself")


def _inspect_jpeg(data: bytes, name: str) -> Container:
    jpeg = walk_jpeg(data)
    if not jpeg.is_plain:
        what = f"{jpeg.bits}-bit" if jpeg.bits != 8 else "lossless or arithmetic-coded"
        raise ImageError(f"{name} is a {what} JPEG", fix="convert it to an 8-bit baseline JPEG or to PNG")
    return Container(
        "JPEG",
        b"".join(jpeg.blocks),
        jpeg.width,
        jpeg.height,
        orientation=jpeg.orientation,
        ended=jpeg.ended,
        problem="it has too few bytes for its size" if 8 * len(jpeg.blocks[-1]) < jpeg.units else "",
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk's body, to the last."""
    at = 8
    for _ in range(_MAX_BLOCKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise ValueError("it is cut off")
        yield kind, at - 4 - length, at - 4
        if kind == b"IEND":
            return
    raise ValueError(f"it has over {_MAX_BLOCKS:,} blocks")


def _inspect_png(data: bytes, name: str) -> Container:
    kept, orientation, packed = [data[:8]], 1, 0
    for kind, start, end in _chunks(data):
        if len(kept) == 1 and kind == b"CgBI":
            raise ImageError(
                f"{name} is an iOS-optimised PNG, which only Apple's programs read",
                fix="convert it back with 'xcrun -sdk iphoneos pngcrush -revert-iphone-optimizations IN.png OUT.png', "
                "or export it anew from the original",
            )
        if len(kept) == 1 and (kind != b"IHDR" or end - start != 13):
            raise ValueError("it does not start with its size")
        if kind == b"acTL" and data[start : start + 4] > b"\0\0\0\1":
            raise _refuse_several(name)
        if kind == b"eXIf":
            orientation = orientation_of(data[start:end])
        if kind in _PNG_KEPT:
            # Decoders skip the checksums of pixels.
            if zlib.crc32(memoryview(data)[start - 4 : end]) != int.from_bytes(data[end : end + 4]):
                raise ValueError(f"the checksum of its {kind.decode()} block is wrong")
            kept.append(data[start - 8 : end + 4])
            packed += end - start if kind == b"IDAT" else 0
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    unpacked = width * height * bits * _PNG_SAMPLES.get(colour, 1) / 8
    problem = "it has too few bytes for its size" if unpacked > _DEFLATE * (packed + 1) else ""
    return Container("PNG", b"".join(kept), width, height, bits, orientation, problem=problem)


def _inspect_webp(data: bytes, name: str) -> Container:
    size = int.from_bytes(data[4:8], "little") + 8
    if size > len(data):
        raise ValueError("it is cut off")
    width, height, orientation, at = 0, 0, 1, 12
    for _ in range(_MAX_BLOCKS):
        if at + 8 > size:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind in (b"ANIM", b"ANMF"):
            raise _refuse_several(name)
        if kind == b"EXIF":
            orientation = orientation_of(body)
        if kind in _WEBP_SIZES:
            # Both the canvas and the picture on it take memory.
            one, other = _WEBP_SIZES[kind](body)
            width, height = max(width, one), max(height, other)
        at += 8 + length + length % 2
    return Container("WEBP", data[:size], width, height, orientation=orientation)


def _canvas(body: bytes) -> tuple[int, int]:
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _lossy(body: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless(body: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", body, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_WEBP_SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {b"VP8X": _canvas, b"VP8 ": _lossy, b"VP8L": _lossless}


def _inspect_bmp(data: bytes, name: str) -> Container:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        packed = 0
    else:
        width, height, packed = struct.unpack_from("<ii4xI", data, 18)
    if packed not in (0, 3, 6):
        raise ImageError(f"{name} is a packed BMP", fix="convert it to PNG")
    return Container("BMP", data, abs(width), abs(height))


def _inspect_tiff(data: bytes, name: str) -> Container:
    tiff = clean_tiff(data)
    if tiff.several:
        raise _refuse_several(name)
    return Container("TIFF", tiff.data, tiff.width, tiff.height, tiff.bits, tiff.orientation)


_READERS: dict[bytes, Callable[[bytes, str], Container]] = {
    b"\xff\xd8\xff": _inspect_jpeg,
    b"\x89PNG\r\n\x1a\n": _inspect_png,
    b"BM": _inspect_bmp,
    b"RIFF": _inspect_webp,
    b"II*\0": _inspect_tiff,
    b"MM\0*": _inspect_tiff,
}
_STARTS = dict(zip(_READERS, ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "TIFF"), strict=True))
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)

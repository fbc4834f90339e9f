"""TIFF directories: the orientation in EXIF data, and TIFF files cut down to what their pixels need.

Pillow reports odd tags through the process-wide ``warnings``, which no thread can keep to itself. So tags are read
here, and Pillow only ever sees the few that describe pixels, whole and in range.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["CleanTiff", "check_deflated", "clean_tiff", "orientation_of"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_MAX_ENTRIES = 1000
_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES = 256, 257, 258, 274, 277
# Tag -> whether it holds one number. Strips, tiles, palette, compression; no EXIF, no GPS, no ICC, no texts.
_KEPT = {
    _WIDTH: True,
    _HEIGHT: True,
    _BITS: False,
    259: True,  # compression
    262: True,  # photometric interpretation
    266: True,  # fill order
    273: False,  # strip offsets
    _SAMPLES: True,
    278: True,  # rows per strip
    279: False,  # strip byte counts
    284: True,  # planar configuration
    292: True,  # group 3 options
    293: True,  # group 4 options
    317: True,  # predictor
    320: False,  # palette
    322: True,  # tile width
    323: True,  # tile height
    324: False,  # tile offsets
    325: False,  # tile byte counts
    332: True,  # ink set
    338: False,  # extra samples
    339: False,  # sample format
    347: False,  # JPEG tables
    529: False,  # YCbCr coefficients
    530: False,  # YCbCr sub-sampling
    531: True,  # YCbCr positioning
    532: False,  # reference black and white
}
_REQUIRED = (_WIDTH, _HEIGHT)
_MAX_SAMPLES = 6
_COMPRESSION, _PHOTOMETRIC, _PLANAR = 259, 262, 284
_RAW, _SEPARATE, _RGB, _CMYK = 1, 2, 2, 5
_DEFLATE = (8, 32946)
_PIECE = 2**20
# Where the parts of the pixels are, and how long: strips, tiles.
_PARTS = ((273, 279), (324, 325))


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    count: int
    # Where its values start in the file.
    start: int
    # The twelve bytes of the entry itself.
    raw: bytes


@dataclass(frozen=True, slots=True)
class CleanTiff:
    """A TIFF with one directory that holds nothing but what the pixels need.

    Attributes:
        data: the file, its header pointing to the new directory.
        width, height: as stored, in pixels.
        bits: per sample.
        orientation: 1 to 8, as in EXIF; not among the tags any more.
        several: whether more pictures follow in the file.
    """

    data: bytes
    width: int
    height: int
    bits: int
    orientation: int
    several: bool


def _byte_order(data: bytes) -> str | None:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])


def _read(data: bytes, order: str, start: int) -> tuple[dict[int, _Entry], int]:
    """The whole and plausible entries of a directory, the first of each tag, and where the next directory is.

    Raises:
        ValueError: the directory does not lie in the file.
    """
    if not 8 <= start <= len(data) - 2:
        raise ValueError("its directory lies outside the file")
    (number,) = struct.unpack_from(order + "H", data, start)
    end = start + 2 + 12 * number
    if number > _MAX_ENTRIES or end > len(data):
        raise ValueError("its directory is cut off")
    entries: dict[int, _Entry] = {}
    for at in range(start + 2, end, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        size = _SIZES.get(kind, 0) * count
        place = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
        if size > 0 and place + size <= len(data) and tag not in entries:
            entries[tag] = _Entry(kind, count, place, data[at : at + 12])
    following = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0
    return entries, following


def _number(data: bytes, order: str, entry: _Entry | None, default: int) -> int:
    if entry is None or entry.kind not in _INTEGERS:
        return default
    return int(struct.unpack_from(order + _INTEGERS[entry.kind], data, entry.start)[0])


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8, in EXIF data with or without its prefix; 1 where there is none or it is damaged."""
    data = exif.removeprefix(b"Exif\0\0")
    order = _byte_order(data)
    if order is None or len(data) < 8:
        return 1
    try:
        entries, _ = _read(data, order, struct.unpack_from(order + "I", data, 4)[0])
    except ValueError:
        return 1
    return _orientation(data, order, entries)


def _orientation(data: bytes, order: str, entries: dict[int, _Entry]) -> int:
    value = _number(data, order, entries.get(_ORIENTATION), 1)
    return value if 1 <= value <= 8 else 1


def clean_tiff(data: bytes) -> CleanTiff:
    """Reads the first directory and writes it anew with the tags that pixels need.

    Raises:
        ValueError: it is damaged; the text says how.
    """
    order = _byte_order(data)
    if order is None or len(data) < 8:
        raise ValueError("it has no TIFF header")
    entries, following = _read(data, order, struct.unpack_from(order + "I", data, 4)[0])
    if any(tag not in entries for tag in _REQUIRED):
        raise ValueError("it does not tell its size")
    if not 1 <= _number(data, order, entries.get(_SAMPLES), 1) <= _MAX_SAMPLES:
        raise ValueError("it has too many samples per pixel")
    kept = [
        entry
        for tag, entry in sorted(entries.items())
        if tag in _KEPT and (entry.count == 1 or not _KEPT[tag]) and entry.kind in (*_INTEGERS, 5, 7)
    ]
    if sum(entry.count * _SIZES[entry.kind] for entry in kept) > len(data):
        raise ValueError("its tags overlap")
    # Directories start at even places.
    body = data + b"\0" * (len(data) % 2)
    raw = {tag: entry.raw for tag, entry in entries.items() if entry in kept}
    if _has_deep_planes(data, order, entries):
        body = _keep_high_bytes(body, order, entries, raw)
    directory = struct.pack(order + "H", len(raw)) + b"".join(raw[tag] for tag in sorted(raw)) + b"\0" * 4
    return CleanTiff(
        data[:4] + struct.pack(order + "I", len(body)) + body[8:] + directory,
        _number(data, order, entries[_WIDTH], 0),
        _number(data, order, entries[_HEIGHT], 0),
        _number(data, order, entries.get(_BITS), 1),
        _orientation(data, order, entries),
        several=following != 0,
    )


def check_deflated(data: bytes, limit: int) -> None:
    """Compare the checksums of deflated pixels, which libtiff does not.

    Args:
        data: a TIFF.
        limit: how many bytes are unpacked at most; what is longer is left to the decoder.

    Raises:
        ValueError: a checksum is wrong, or the pixels are not whole.
    """
    order = _byte_order(data) or "<"
    entries, _ = _read(data, order, struct.unpack_from(order + "I", data, 4)[0])
    if _number(data, order, entries.get(_COMPRESSION), 1) not in _DEFLATE:
        return
    for start, size in _parts(data, order, entries):
        unpacker = zlib.decompressobj()
        rest = data[start : start + size]
        try:
            while rest and not unpacker.eof and limit > 0:
                limit -= len(unpacker.decompress(rest, _PIECE))
                rest = unpacker.unconsumed_tail
        except zlib.error as error:
            raise ValueError(f"its packed pixels are broken: {error}") from error


def _has_deep_planes(data: bytes, order: str, entries: dict[int, _Entry]) -> bool:
    """Whether the colours lie one after the other, uncompressed, with 16 bits each: Pillow decodes these as 8 bits.

    Raises:
        ValueError: they do, and mean neither RGB nor CMYK.
    """
    wanted = {_COMPRESSION: _RAW, _PLANAR: _SEPARATE, _BITS: 16}
    found = all(_number(data, order, entries.get(tag), 1) == value for tag, value in wanted.items())
    if not found or _number(data, order, entries.get(_SAMPLES), 1) == 1:
        return False
    if _number(data, order, entries.get(_PHOTOMETRIC), _RGB) not in (_RGB, _CMYK):
        raise ValueError("its 16-bit planes are neither RGB nor CMYK")
    return True


def _keep_high_bytes(body: bytes, order: str, entries: dict[int, _Entry], raw: dict[int, bytes]) -> bytes:
    """The file with its strips or tiles in 8 bits: the higher half of each sample, as Pillow keeps of other 16 bits.

    Args:
        body: the file.
        order: of its bytes.
        entries: its tags.
        raw: the entries to write, which are changed to point to the new parts.

    Raises:
        ValueError: the parts do not lie in the file.
    """
    bits = _numbers(body, order, entries[_BITS])
    if set(bits) != {16}:
        raise ValueError("its bits per sample do not fit together")
    high = 1 if order == "<" else 0
    parts = [part[high::2] for part in _bytes_of(body, _parts(body, order, entries))]
    sizes = [len(part) for part in parts]
    places = list(accumulate(sizes, initial=len(body)))
    at = places.pop()
    pieces = [body, *parts, b"\0" * (at % 2)]
    at += at % 2
    tags = next(tags for tags in _PARTS if tags[0] in raw)
    for tag, values in ((_BITS, [8] * len(bits)), (tags[0], places), (tags[1], sizes)):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        head = struct.pack(order + "HHI", tag, 4, len(values))
        raw[tag] = head + (packed if len(values) == 1 else struct.pack(order + "I", at))
        if len(values) > 1:
            pieces.append(packed)
            at += len(packed)
    return b"".join(pieces)


def _bytes_of(body: bytes, parts: list[tuple[int, int]]) -> list[bytes]:
    if sum(size for _, size in parts) > len(body) or any(start + size > len(body) for start, size in parts):
        raise ValueError("its pixels are cut off")
    return [body[start : start + size] for start, size in parts]


def _parts(data: bytes, order: str, entries: dict[int, _Entry]) -> list[tuple[int, int]]:
    """Where strips or tiles start, and how long they are.

    Raises:
        ValueError: the directory does not tell, or its two lists are of different lengths.
    """
    for tags in _PARTS:
        if all(tag in entries for tag in tags):
            starts, sizes = (_numbers(data, order, entries[tag]) for tag in tags)
            if len(starts) != len(sizes):
                raise ValueError("its lists of strips or tiles do not fit together")
            return list(zip(starts, sizes, strict=True))
    raise ValueError("it does not tell where its pixels are")


def _numbers(data: bytes, order: str, entry: _Entry) -> tuple[int, ...]:
    if entry.kind not in _INTEGERS:
        raise ValueError("a list of its numbers is of another kind")
    return struct.unpack_from(f"{order}{entry.count}{_INTEGERS[entry.kind]}", data, entry.start)

"""The blocks of a JPEG file: which of them pixels need, what size they tell, and where the picture ends."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from lesionseg.data.directories import orientation_of

__all__ = ["Jpeg", "walk_jpeg"]

_MAX_BLOCKS = 100_000
# Each scan passes over the whole picture: thousands of them in a small file would take minutes.
_MAX_SCANS = 50
# In entropy-coded data 0xFF is followed by 0 or a restart number; anything else starts the next block.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START, _END, _SCAN, _EXIF = 0xD8, 0xD9, 0xDA, 0xE1
_PROGRESSIVE = 0xC2
_CODED = (0xC0, 0xC1, _PROGRESSIVE)


@dataclass(slots=True)
class Jpeg:
    """What a JPEG's blocks say.

    Attributes:
        blocks: those before the first scan that pixels need, then all from the first scan to the end marker.
        frame: the second byte of its frame header's marker; 0 before that was read.
        bits: per sample.
        width, height: as stored, in pixels.
        units: the least number of bits that its pixels can take.
        orientation: 1 to 8, as in its EXIF data.
        ended: whether the file has an end marker; where not, one was added.
    """

    blocks: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: int = 0
    bits: int = 8
    width: int = 0
    height: int = 0
    units: int = 0
    orientation: int = 1
    ended: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether it is baseline, extended or progressive with 8 bits, as nearly all JPEGs are."""
        return self.frame in _CODED and self.bits == 8


def walk_jpeg(data: bytes) -> Jpeg:
    """Walks through a JPEG's blocks.

    EXIF data, colour profiles, previews, comments and bytes after the end marker are left out.

    Raises:
        ValueError: it is damaged; the text says how.
    """
    jpeg = Jpeg()
    for kind, start, end in _blocks(data, 2):
        if kind in (_SCAN, _END):
            break
        _note(jpeg, kind, data[start:end])
    else:
        kind = _END
    if kind == _END:
        raise ValueError("it ends before its pixels")
    if not jpeg.frame:
        raise ValueError("it has no frame header")
    stop, jpeg.ended = _find_end(data, start)
    body = data[start:stop]
    if not jpeg.ended:
        if jpeg.frame == _PROGRESSIVE:
            # Its picture is complete only with its last scan, and nothing tells whether that is.
            raise ValueError("it is a progressive JPEG without end marker")
        # Zeros stand where a copy has reserved room that it never filled.
        body = body.rstrip(b"\0") + b"\xff\xd9"
    jpeg.blocks.append(body)
    return jpeg


def _blocks(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start (at the marker) and end of each block; for a scan, the end of its header."""
    for _ in range(_MAX_BLOCKS):
        # Padding and stray bytes between blocks are common and harmless.
        found = _MARKER.search(data, at)
        if found is None:
            return
        start, kind = found.start(), data[found.start() + 1]
        if kind in (0x01, _START, _END):
            at = start + 2
        else:
            length = int.from_bytes(data[start + 2 : start + 4])
            at = start + 2 + length
            if length < 2 or at > len(data):
                raise ValueError("one of its blocks is cut off")
        yield kind, start, at
    raise ValueError(f"it has over {_MAX_BLOCKS:,} blocks")


def _note(jpeg: Jpeg, kind: int, block: bytes) -> None:
    body = block[4:]
    if kind == _EXIF and body.startswith(b"Exif\0\0") and jpeg.orientation == 1:
        jpeg.orientation = orientation_of(body)
    if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
        _note_frame(jpeg, kind, body)
    # Of the application blocks, only these two say how colours are stored.
    colours = (kind == 0xE0 and body.startswith(b"JFIF\0")) or (kind == 0xEE and body.startswith(b"Adobe"))
    if colours or (0xC0 <= kind <= 0xDF and kind != _START):
        jpeg.blocks.append(block)


def _note_frame(jpeg: Jpeg, kind: int, body: bytes) -> None:
    if jpeg.frame:
        raise ValueError("it has two frame headers")
    if len(body) < 9:
        raise ValueError("its frame header is cut off")
    jpeg.frame = kind
    jpeg.bits, jpeg.height, jpeg.width = struct.unpack_from(">BHH", body)
    factors = body[7::3][: body[5]]
    across, down = (max(value >> 4 for value in factors) or 1, max(value & 15 for value in factors) or 1)
    # Every group of blocks takes at least a bit, in the first scan.
    jpeg.units = -(-jpeg.width // (8 * across)) * -(-jpeg.height // (8 * down))


def _find_end(data: bytes, first: int) -> tuple[int, bool]:
    """Where the picture's bytes end, and whether an end marker says so."""
    scans = 0
    blocks = _blocks(data, first)
    while True:
        try:
            kind, start, end = next(blocks)
        except (StopIteration, ValueError):
            return len(data), False
        scans += kind == _SCAN
        if scans > _MAX_SCANS:
            raise ValueError(f"it has over {_MAX_SCANS} scans")
        if kind in (_START, _END):
            return (end, True) if kind == _END else (start, False)

"""TIFF files in layouts that Pillow does not write: colours in planes of their own, tiles, packed by hand."""

import struct
import zlib
from collections.abc import Callable

import numpy as np

TILE = 32


def packbits(data: bytes) -> bytes:
    """Literal runs only."""
    parts = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def lzw(data: bytes) -> bytes:
    """Nine-bit codes of single bytes only: the table is cleared before codes would become longer."""
    codes = []
    for at in range(0, len(data), 200):
        codes += [256, *data[at : at + 200]]
    text = "".join(f"{code:09b}" for code in (*codes, 257))
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


PACKERS: dict[int, Callable[[bytes], bytes]] = {1: bytes, 5: lzw, 8: zlib.compress, 32773: packbits}
"""By the number of the compression."""


def _parts(plane: np.ndarray, tiled: bool, rows: int) -> list[np.ndarray]:
    if not tiled:
        return [plane[at : at + rows] for at in range(0, len(plane), rows)]
    height, width = plane.shape[:2]
    padding = [(0, -height % TILE), (0, -width % TILE)] + [(0, 0)] * (plane.ndim - 2)
    full = np.pad(plane, padding)
    return [
        full[y : y + TILE, x : x + TILE] for y in range(0, full.shape[0], TILE) for x in range(0, full.shape[1], TILE)
    ]


def tiff(
    pixels: np.ndarray, *, planar: bool, compression: int = 1, order: str = "<", tiled: bool = False, rows: int = 16
) -> bytes:
    """``H W C`` of 8 or 16 bits; 3 colours are RGB, 4 RGB and alpha, 2 grey and alpha."""
    height, width, samples = pixels.shape
    bits = pixels.dtype.itemsize * 8
    planes = [pixels[..., index] for index in range(samples)] if planar else [pixels]
    parts = [
        PACKERS[compression](part.astype(part.dtype.newbyteorder(order)).tobytes())
        for plane in planes
        for part in _parts(plane, tiled, rows)
    ]
    starts = 8 + np.cumsum([0, *(len(part) for part in parts)])
    tags: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [bits] * samples,
        259: [compression],
        262: [2 if samples > 2 else 1],
        277: [samples],
        284: [2 if planar else 1],
    }
    if samples in (2, 4):
        tags[338] = [2]
    where, sizes = [int(start) for start in starts[:-1]], [len(part) for part in parts]
    tags |= {322: [TILE], 323: [TILE], 324: where, 325: sizes} if tiled else {273: where, 278: [rows], 279: sizes}
    body = b"".join(parts)
    body += b"\0" * (len(body) % 2)
    at = 8 + len(body)
    lists, entries = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack(order + "I", at + len(lists))
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + place
        lists += packed if len(values) > 1 else b""
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return start + struct.pack(order + "I", at + len(lists)) + body + lists + directory

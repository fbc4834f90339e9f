"""Masks in NIfTI-1 files, read without trusting the header."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.containers import damaged
from lesionseg.errors import ImageError

__all__ = ["is_nifti", "read_nifti"]

_HEADER = 348
# Room for a mask of 64 million pixels as int16.
_MAX_UNPACKED = 128 * 2**20
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}


def is_nifti(data: bytes) -> bool:
    """Whether the bytes, gzipped or not, start with a NIfTI-1 header."""
    try:
        head = _unpack(data, _HEADER)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == _HEADER and head[344:347] in (b"n+1", b"ni1") and _order(head) is not None


def _unpack(data: bytes, size: int) -> bytes:
    """The first bytes, unpacked no further than asked for."""
    if not data.startswith(b"\x1f\x8b"):
        return data[:size]
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return file.read(size)


def _order(head: bytes) -> str | None:
    return next((order for order in "<>" if struct.unpack_from(order + "i", head)[0] == _HEADER), None)


def read_nifti(data: bytes, name: str, max_pixels: int) -> NDArray[Any]:
    """The values of a two-dimensional NIfTI file, ``H W``, integers or whole numbers as floats.

    NIfTI stores x before y: the result is turned so that row 0 is the top of the photo.

    Raises:
        ImageError: it is damaged, too large, not two-dimensional, or holds complex numbers, colours, NaN or infinity.
    """
    try:
        return _read(data, name, max_pixels)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise damaged(name, f"not a whole NIfTI file: {error}") from error


def _read(data: bytes, name: str, max_pixels: int) -> NDArray[Any]:
    head = _unpack(data, _HEADER)
    order = _order(head) or "<"
    rank, *sides = struct.unpack_from(order + "8h", head, 40)
    (code,) = struct.unpack_from(order + "h", head, 70)
    offset, slope, shift = struct.unpack_from(order + "3f", head, 108)
    shape = tuple(sides[:rank]) if 1 <= rank <= 7 else ()
    # Further sides of length 1 are how a plane is commonly written.
    if len(shape) not in (2, 3) or min(shape) < 1 or shape[2:] not in ((), (1,)) or code not in _TYPES:
        kind = np.dtype(_TYPES[code]).name if code in _TYPES else f"data type {code}"
        raise ImageError(f"{name} is not a two-dimensional mask: {kind}, shape {shape}", fix="save one slice")
    if head[344:347] == b"ni1":
        raise ImageError(f"{name} keeps its values in another file", fix="save it as one .nii file")
    width, height = shape[:2]
    dtype = np.dtype(order + _TYPES[code])
    size = width * height * dtype.itemsize
    if width * height > max_pixels or size > _MAX_UNPACKED:
        raise ImageError(f"{name} is {width} x {height}, over {max_pixels:,} pixels", fix="shrink it or leave it out")
    if not math.isfinite(offset) or not _HEADER <= offset <= 2**20:
        raise ValueError(f"its values start at byte {offset}")
    # One byte more: reaching the end makes gzip compare its checksum.
    raw = _unpack(data, int(offset) + size + 1)
    values = np.frombuffer(raw, dtype, width * height, int(offset)).reshape(height, width)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(f"{name} holds NaN or infinity", fix="save the mask as whole numbers")
    if math.isfinite(slope) and slope != 0 and (slope, shift) != (1, 0):
        if not math.isfinite(shift):
            raise ValueError(f"its values are shifted by {shift}")
        return np.asarray(values * slope + shift)
    return values.astype(dtype.newbyteorder("="), copy=False)

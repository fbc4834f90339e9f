"""Masks in NIfTI-1 files, read without trusting the header."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.containers import damaged
from lesionseg.errors import ImageError

__all__ = ["NiftiPlane", "is_nifti", "read_nifti"]

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
# How far, as a share of its length, an axis may lean before the plane counts as oblique.
_LEAN = 1e-3
_PHOTO_AXES = "save it with the affine diag(-1, -1, 1, 1): x runs to the right of the photo and y down"
_UNSAID = (
    "the NIfTI header does not say how its axes run (its affine is the identity or unknown): x is taken to run to the "
    "right of the photo and y down"
)

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NiftiPlane:
    """A two-dimensional NIfTI file.

    Attributes:
        values: ``H W``, upright as the affine says.
        warnings: what a person should look at.
    """

    values: NDArray[Any]
    warnings: tuple[str, ...] = ()


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


def read_nifti(data: bytes, name: str, max_pixels: int) -> NiftiPlane:
    """Read a two-dimensional NIfTI file: integers, or whole numbers as floats.

    NIfTI stores x before y; its affine says how both run in a space whose x, y and z point right, front and up (RAS).
    A photo has x to its right and y down where the affine is diag(-1, -1, 1), as ITK, MONAI and TorchIO write pictures;
    other axes are turned to that. An identity affine, and one that is marked as unknown, say nothing.

    Args:
        data: the file, gzipped or not.
        name: how messages call it.
        max_pixels: the largest size that is read.

    Raises:
        ImageError: it is damaged, too large, not two-dimensional, oblique, or holds complex numbers, colours, NaN or
            infinity.
    """
    try:
        values = _read(data, name, max_pixels)
        affine = _affine(_unpack(data, _HEADER), name)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise damaged(name, f"not a whole NIfTI file: {error}") from error
    if affine is None:
        return NiftiPlane(values, (_UNSAID,))
    return NiftiPlane(_turn(values, *_directions(affine, name)))


def _affine(head: bytes, name: str) -> Matrix | None:
    """Rows x, y and z, columns i, j and k; None where the header says nothing of it."""
    found = _affines(head, _order(head) or "<")
    if any(not np.isfinite(affine).all() for affine in found):
        raise ImageError(f"{name} has an affine that is not finite", fix=_PHOTO_AXES)
    # Writers that know nothing of the photo leave the identity.
    found = [affine for affine in found if not np.array_equal(affine, np.eye(3, 4))]
    if len(found) == 2 and _directions(found[0], name) != _directions(found[1], name):
        raise ImageError(f"{name} has two affines, sform and qform, that contradict each other", fix=_PHOTO_AXES)
    return found[0] if found else None


def _affines(head: bytes, order: str) -> list[Matrix]:
    """What the header holds, and marks as known: the matrix (sform), the rotation (qform)."""
    qform_code, sform_code = struct.unpack_from(order + "2h", head, 252)
    rows = np.array(struct.unpack_from(order + "12f", head, 280), np.float64).reshape(3, 4)
    return ([rows] if sform_code > 0 else []) + ([_quaternion(head, order)] if qform_code > 0 else [])


def _quaternion(head: bytes, order: str) -> Matrix:
    b, c, d, *offset = struct.unpack_from(order + "6f", head, 256)
    handed, *sizes = struct.unpack_from(order + "4f", head, 76)
    a = math.sqrt(max(0.0, 1 - (b * b + c * c + d * d)))
    turned = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    scale = np.array([*sizes[:2], -sizes[2] if handed < 0 else sizes[2]], np.float64)
    return np.column_stack([turned * scale, offset])


def _directions(affine: Matrix, name: str) -> tuple[bool, bool, bool]:
    """Whether i runs along y, and whether x and y point against the photo's right and down.

    Raises:
        ImageError: the plane is oblique, or another one than that of x and y.
    """
    axes = affine[:, :2]
    lengths = np.linalg.norm(axes, axis=0)
    if lengths.min() > 0:
        axes = axes / lengths
        along = np.abs(axes).argmax(axis=0)
        if np.sort(np.abs(axes), axis=0)[1].max() <= _LEAN and sorted(along) == [0, 1]:
            x, y = (axes[row, list(along).index(row)] for row in (0, 1))
            return bool(along[0] == 1), bool(x > 0), bool(y > 0)
    shown = np.array2string(affine[:, :3], precision=3, suppress_small=True).replace("\n", "")
    raise ImageError(f"{name} is not in the plane of the photo: its affine is oblique, {shown}", fix=_PHOTO_AXES)


def _turn(values: NDArray[Any], swapped: bool, against_x: bool, against_y: bool) -> NDArray[Any]:
    upright = values.T if swapped else values
    upright = upright[:, ::-1] if against_x else upright
    return np.ascontiguousarray(upright[::-1] if against_y else upright)


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

"""Encoding results."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import zlib
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lesionseg.errors import ImageError
from lesionseg.records import BoolMask, Probability, RgbImage

__all__ = [
    "MASK_BITS",
    "encode_jpeg",
    "encode_mask_nifti",
    "encode_mask_png",
    "encode_photo_png",
    "encode_probability_png",
]

deflate: ModuleType = zlib
with contextlib.suppress(ImportError):
    # Thirty times faster on masks; where there is no wheel of it, the standard library is as right.
    from isal import isal_zlib as deflate

MASK_BITS = (8, 1)
"""Bits per pixel that a mask's PNG can have."""

_BAND = 2**20
# The header has a signed short for each side.
_NIFTI_SIDE = 2**15 - 1


def _encode(array: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_mask_png(mask: BoolMask, bits: int = 8) -> bytes:
    """``bool H W`` to a grey PNG: of 8 bits with 0 and 255, the ISIC convention, or of 1 bit."""
    height, width = mask.shape
    samples = mask.view(np.uint8)
    packer = deflate.compressobj(1)
    step = max(1, _BAND // width)
    packed = []
    for start in range(0, height, step):
        band = samples[start : start + step]
        # Each row starts with the number of its filter. 0, none: runs of one byte pack best as they are.
        rows = np.zeros((len(band), 1 + (-(-width // 8) if bits == 1 else width)), np.uint8)
        if bits == 1:
            rows[:, 1:] = np.packbits(band, axis=1)
        else:
            np.multiply(band, np.uint8(255), out=rows[:, 1:])
        packed.append(packer.compress(rows.reshape(-1)))
    packed.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"".join(packed)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def encode_probability_png(probability: Probability) -> bytes:
    """``float32 H W`` in [0, 1] to an 8-bit grey PNG."""
    return _encode(np.rint(probability * 255).astype(np.uint8), "PNG", compress_level=3)


def encode_jpeg(pixels: RgbImage, quality: int = 92) -> bytes:
    """``uint8 H W 3`` RGB to a JPEG without EXIF, ICC profile or comment, colours at full resolution."""
    return _encode(pixels, "JPEG", quality=quality, subsampling=0)


def encode_photo_png(pixels: RgbImage) -> bytes:
    """``uint8 H W 3`` RGB to a PNG."""
    return _encode(pixels, "PNG", compress_level=3)


def encode_mask_nifti(mask: BoolMask, name: str = "the mask") -> bytes:
    """``bool H W`` to a gzipped NIfTI of ``uint8 W H 1`` with 0 and 1.

    The affine flips x and y, as ITK does for PNG, so that the mask lies on its photo in ITK-based viewers.

    Raises:
        ImageError: a side is longer than NIfTI-1 can say; tells ``name``.
    """
    import nibabel as nib

    if max(mask.shape) > _NIFTI_SIDE:
        height, width = mask.shape
        raise ImageError(f"{name}: {width} x {height} pixels are too long for NIfTI", fix="use --format png")

    volume = np.ascontiguousarray(mask.T[:, :, None].astype(np.uint8))
    raw = nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes()
    return gzip.compress(raw, compresslevel=6, mtime=0)

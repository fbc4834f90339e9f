"""Encoding results, and writing files as a whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lesionseg.errors import OutputError
from lesionseg.records import BoolMask, Probability, RgbImage

__all__ = [
    "encode_jpeg",
    "encode_mask_nifti",
    "encode_mask_png",
    "encode_photo_png",
    "encode_probability_png",
    "write_atomic",
]


def _encode(array: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_mask_png(mask: BoolMask) -> bytes:
    """``bool H W`` to an 8-bit PNG with 0 and 255, the ISIC convention."""
    return _encode(mask.astype(np.uint8) * np.uint8(255), "PNG", compress_level=3)


def encode_probability_png(probability: Probability) -> bytes:
    """``float32 H W`` in [0, 1] to an 8-bit grey PNG."""
    return _encode(np.rint(probability * 255).astype(np.uint8), "PNG", compress_level=3)


def encode_jpeg(pixels: RgbImage, quality: int = 92) -> bytes:
    """``uint8 H W 3`` RGB to a JPEG without EXIF, ICC profile or comment, colours at full resolution."""
    return _encode(pixels, "JPEG", quality=quality, subsampling=0)


def encode_photo_png(pixels: RgbImage) -> bytes:
    """``uint8 H W 3`` RGB to a PNG."""
    return _encode(pixels, "PNG", compress_level=3)


def encode_mask_nifti(mask: BoolMask) -> bytes:
    """``bool H W`` to a gzipped NIfTI of ``uint8 W H 1`` with 0 and 1.

    The affine flips x and y, as ITK does for PNG, so that the mask lies on its photo in ITK-based viewers.
    """
    import nibabel as nib

    volume = np.ascontiguousarray(mask.T[:, :, None].astype(np.uint8))
    raw = nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes()
    return gzip.compress(raw, compresslevel=6, mtime=0)


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file as a whole or not at all: a unique temporary name in the same folder, fsync, replace.

    Raises:
        OutputError: the folder cannot be written to or the disk is full; an older file is left as it was.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix[:16])
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; results are as readable as any other new file of the user.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise OutputError(
            f"{path} cannot be written: {error.strerror}", fix="choose a writable folder with free space"
        ) from error


def _umask() -> int:
    # The umask can only be read by setting it; /proc avoids the moment in which other threads see the wrong one.
    with contextlib.suppress(OSError, StopIteration), Path("/proc/self/status").open(encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("Umask")).split()[1], 8)
    return 0o022

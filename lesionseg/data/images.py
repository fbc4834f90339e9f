"""The only file that opens pixels: safe decoding, masks, NIfTI, resizing and atomic writing.

Files are untrusted. The format is recognised from the bytes against a short list, never from the extension, and the
size is checked before pixels are allocated. MONAI's ``LoadImage`` is not used: it transposes pictures and tries one
reader after the other on damaged files.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lesionseg.errors import ImageError, OutputError
from lesionseg.records import BoolMask, Probability, RgbImage

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "DecodedPhoto",
    "decode_photo",
    "encode_jpeg",
    "encode_mask_nifti",
    "encode_mask_png",
    "encode_probability_png",
    "read_bytes",
    "read_image",
    "read_mask",
    "read_probability",
    "resize_mask",
    "resize_photo",
    "resize_probability",
    "write_atomic",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".mpo")
"""What counts as a photo when a folder is listed; the bytes decide what a file really is."""

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""

MAX_BYTES = 256 * 2**20
"""Larger files are refused before they are read, and packed ones before they are unpacked further."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_GREY16 = ("I;16", "I;16B", "I;16L", "I")
# Lesion masks that went through JPEG or an antialiased resize keep nearly all pixels close to one of two levels.
# A tenth is what tells them from grey photos: of 800 ISIC photos one passes as a mask, with a quarter 116 do.
_FRINGE = 0.1
_FRINGED_PART = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPhoto:
    """A photo, perhaps decoded at a reduced scale.

    Attributes:
        pixels: ``uint8 H W 3``, RGB, upright as the EXIF orientation says.
        width, height: the size of the upright photo in the file, in pixels.
    """

    pixels: RgbImage
    width: int
    height: int


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most 256 MiB.

    Raises:
        ImageError: it is missing, not a regular file, unreadable, empty or too large.
    """
    try:
        # is_file is False for folders, FIFOs and devices, whose reading could wait for ever.
        if not path.is_file():
            reason = "is not a regular file" if path.exists() or path.is_symlink() else "does not exist"
            raise ImageError(f"{path} {reason}", fix="check the path")
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{path} is empty (zero bytes)", fix="copy or download it again")
        if size > MAX_BYTES:
            raise ImageError(f"{path} has {size:,} bytes, over {MAX_BYTES:,}", fix="shrink it or leave it out")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read: {error.strerror}", fix="check the path and its permissions"
        ) from error


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turns what Pillow raises on bad bytes into an ImageError that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture in a supported format ({', '.join(_FORMATS)})", fix="convert it to JPEG or PNG"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} has over {MAX_PIXELS:,} pixels", fix="shrink it or leave it out") from error
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, OverflowError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is damaged: {reason}", fix="copy or download it again") from error


def _open(data: bytes, name: str) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    width, height = image.size
    if width < 2 or height < 2:
        raise ImageError(f"{name} is only {width} x {height} pixels", fix="leave it out")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} is {width} x {height}, over {MAX_PIXELS:,} pixels", fix="shrink it or leave it out")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError(
            f"{name} holds {getattr(image, 'n_frames', 1)} pictures", fix="save the one you mean by itself"
        )
    return image


def _grey16_to_8(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))


def decode_photo(data: bytes, name: str, *, at_least: tuple[int, int] | None = None) -> DecodedPhoto:
    """Decodes a photo.

    Args:
        data: the file's bytes.
        name: how error messages call it.
        at_least: height and width in pixels; a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both
            sides stay at least this long. None decodes in full.

    Raises:
        ImageError: it cannot be decoded in full, or it is too large or too small.
    """
    with _decoding(name):
        image = _open(data, name)
        width, height = image.size
        # Pillow turns TIFFs upright by itself, and gives their upright size.
        orientation = 1 if image.format == "TIFF" else image.getexif().get(0x0112, 1)
        if at_least is not None and image.format in ("JPEG", "MPO"):
            # Pillow wants the width first, of the photo as it lies in the file.
            image.draft(None, at_least if orientation in range(5, 9) else (at_least[1], at_least[0]))
        image.load()
        if image.mode in _GREY16:
            image = _grey16_to_8(image)
        if image.mode == "P":
            # Straight to RGB, Pillow warns about palettes whose transparency is given as bytes.
            image = image.convert("RGBA")
        if orientation in range(2, 9):
            image = ImageOps.exif_transpose(image)
            if orientation >= 5:
                width, height = height, width
        pixels = np.asarray(image.convert("RGB"))
    return DecodedPhoto(pixels, width, height)


def read_image(path: Path) -> RgbImage:
    """A photo at its full size, ``uint8 H W 3``, RGB.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    return decode_photo(read_bytes(path), str(path)).pixels


def read_mask(path: Path) -> BoolMask:
    """A binary mask, ``bool H W``, from a picture or NIfTI file.

    The two levels may be 0 and any other value (1, 128, 254, 255, 65535): what is closer to the larger one is lesion.
    Pixels in between are taken by the middle as long as they are few, as JPEG fringes are.

    Raises:
        ImageError: it cannot be decoded, or its values are not those of a binary mask.
    """
    data = read_bytes(path)
    is_nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    return _binarise(_nifti_values(data, path) if is_nifti else _mask_values(data, str(path)), path)


def _mask_values(data: bytes, name: str) -> NDArray[np.int64]:
    with _decoding(name):
        image = _open(data, name)
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "P":
            image = image.convert("RGBA")
        if image.mode not in ("1", "L", *_GREY16):
            bands = [np.asarray(band) for band in image.convert("RGB").split()]
            if any((band != bands[0]).any() for band in bands[1:]):
                raise ImageError(f"{name} is coloured, not a mask", fix="save the mask as grey levels 0 and 255")
            return bands[0].astype(np.int64)
        return np.asarray(image).astype(np.int64)


def _nifti_values(data: bytes, path: Path) -> NDArray[np.int64]:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    damages = (ImageFileError, HeaderDataError, WrapStructError)
    try:
        raw = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_BYTES + 1) if data[:2] == b"\x1f\x8b" else data
        if len(raw) > MAX_BYTES:
            raise ImageError(f"{path} unpacks to over {MAX_BYTES:,} bytes", fix="shrink it or leave it out")
        volume = np.asarray(nib.Nifti1Image.from_bytes(raw).dataobj)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, *damages) as error:
        raise ImageError(f"{path} is a damaged NIfTI file: {error}", fix="write it again") from error
    plane = volume[..., 0] if volume.ndim == 3 and volume.shape[2] == 1 else volume
    if plane.ndim != 2 or plane.dtype.kind not in "buif" or not np.isfinite(plane).all():
        raise ImageError(
            f"{path} is not a finite two-dimensional mask: {volume.dtype}, shape {volume.shape}", fix="save one slice"
        )
    whole = np.rint(plane.T).clip(-1, 2**31) if plane.dtype.kind == "f" else plane.T
    values: NDArray[np.int64] = whole.astype(np.int64)
    return values


def _binarise(values: NDArray[np.int64], path: Path) -> BoolMask:
    top = int(values.max())
    if int(values.min()) < 0:
        raise ImageError(f"{path} has negative values", fix="save the mask as 0 and 255")
    if top == 0:
        return np.zeros(values.shape, np.bool_)
    between = (values > top * _FRINGE) & (values < top * (1 - _FRINGE))
    levels = np.unique(values)
    # A few levels are classes; many levels on many pixels are a photo.
    if (2 < len(levels) <= 8 and between.any()) or between.mean() > 1 - _FRINGED_PART:
        shown = ", ".join(map(str, levels[:8])) + (", ..." if len(levels) > 8 else "")
        raise ImageError(f"{path} is not a binary mask: it has the values {shown}", fix="save it as 0 and 255")
    return values * 2 > top


def read_probability(path: Path) -> Probability:
    """A probability map that ``encode_probability_png`` wrote, ``float32 H W`` in [0, 1], exact to 1 / 255.

    Raises:
        ImageError: it cannot be decoded, or is not an 8-bit grey picture.
    """
    with _decoding(str(path)):
        image = _open(read_bytes(path), str(path))
        if image.mode != "L":
            raise ImageError(f"{path} is not an 8-bit grey picture", fix="evaluate the run again")
        return np.asarray(image).astype(np.float32) / np.float32(255)


def resize_photo(pixels: RgbImage, height: int, width: int) -> RgbImage:
    """``uint8 H W 3`` to another size, bilinear with antialiasing."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: BoolMask, height: int, width: int) -> BoolMask:
    """``bool H W`` to another size, nearest neighbour: no label is made up between two others."""
    picture = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(picture).astype(np.bool_)


def resize_probability(probability: Probability, height: int, width: int) -> Probability:
    """``float32 H W`` in [0, 1] to another size, bilinear; stays in [0, 1]."""
    picture = Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture).clip(0, 1)


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

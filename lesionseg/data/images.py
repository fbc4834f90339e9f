"""The only file that opens pixels: safe decoding of photos and masks, and resizing.

Files are untrusted. The format is recognised from the bytes against a short list, never from the extension, and the
size is checked before pixels are allocated. MONAI's ``LoadImage`` is not used: it transposes pictures and tries one
reader after the other on damaged files. Pillow's plugins are called one by one: ``Image.open`` would warn of large
pictures through the process-wide ``warnings``.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lesionseg.data import libtiff
from lesionseg.data.classes import ClassMask, ClassSpec, interpret_classes
from lesionseg.data.containers import Container, damaged, inspect
from lesionseg.data.directories import check_deflated
from lesionseg.data.files import IMAGE_SUFFIXES, MAX_BYTES, read_bytes
from lesionseg.data.masks import DecodedMask, MaskSamples, interpret_binary
from lesionseg.data.nifti import is_nifti, read_nifti
from lesionseg.data.orientation import UPRIGHT, Box, choose_orientation, turn_box
from lesionseg.data.resizing import resize_mask, resize_photo, resize_probability
from lesionseg.data.writing import (
    encode_jpeg,
    encode_mask_nifti,
    encode_mask_png,
    encode_photo_png,
    encode_probability_png,
)
from lesionseg.errors import ConfigError, ImageError
from lesionseg.records import BoolMask, Probability, RgbImage

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "DecodedPhoto",
    "decode_fitted",
    "decode_mask",
    "decode_photo",
    "encode_jpeg",
    "encode_mask_nifti",
    "encode_mask_png",
    "encode_photo_png",
    "encode_probability_png",
    "fit_photo",
    "max_pixels",
    "read_bytes",
    "read_class_mask",
    "read_image",
    "read_mask",
    "read_probability",
    "require_size",
    "resize_mask",
    "resize_photo",
    "resize_probability",
]

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded; ``$LESIONSEG_MAX_PIXELS`` sets another limit."""

_PLUGINS: Mapping[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}
# Whatever decoders raise on bad bytes; a mistake in this package would raise one of these too, but names the file then.
_DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_GREY16 = ("I;16", "I;16B", "I;16L", "I;16N")
_RGB_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_MAX_ASPECT = 100
_FEW_BITS = 14
_PHOTOMETRIC = 262


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPhoto:
    """A photo, perhaps decoded at a reduced scale.

    Attributes:
        pixels: ``uint8 H W 3``, RGB, upright as the EXIF orientation (or the mask's size) says.
        width, height: the size of the upright photo in the file, in pixels.
        box: left, top, right and bottom of the photo in ``pixels``. A reduced size is rounded up, so that the last row
            and column may lie partly outside the photo.
        warnings: what a person should look at; empty for a plain photo.
    """

    pixels: RgbImage
    width: int
    height: int
    box: Box
    warnings: tuple[str, ...] = ()


def max_pixels() -> int:
    """The largest number of pixels that is decoded: ``$LESIONSEG_MAX_PIXELS``, else ``MAX_PIXELS``.

    Raises:
        ConfigError: the variable is not a positive whole number.
    """
    text = os.environ.get("LESIONSEG_MAX_PIXELS", "").strip()
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(
            f"LESIONSEG_MAX_PIXELS={text!r} is not a number of pixels", fix=f"unset it, or set it to {MAX_PIXELS}"
        )
    return int(text)


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turns what Pillow raises and libtiff reports of bad bytes into an ImageError that names the file."""
    try:
        with libtiff.reports() as reported:
            yield
        if reported:
            raise ValueError(f"libtiff reports: {reported[0]}")
    except _DECODER_ERRORS as error:
        raise damaged(name, " ".join(str(error).split()) or type(error).__name__) from error
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory", fix="shrink it or leave it out") from error


def _look_over(data: bytes, name: str) -> Container:
    """Format and size of a picture, within the limits."""
    source = inspect(data, name)
    # Above its own limit Pillow would warn, through the whole process.
    limit = Image.MAX_IMAGE_PIXELS if source.format == "TIFF" else None
    require_size(source.width, source.height, name, limit)
    if source.problem:
        raise damaged(name, source.problem)
    return source


def require_size(width: int, height: int, name: str, limit: int | None = None) -> None:
    """Makes sure that a picture is neither too large to be decoded nor a strip.

    Args:
        width, height: in pixels.
        name: how messages call it.
        limit: on the number of pixels, where it is below ``max_pixels``.

    Raises:
        ImageError: it is.
    """
    if min(width, height) < 2:
        raise ImageError(f"{name} is only {width} x {height} pixels", fix="leave it out")
    limit = min(limit or max_pixels(), max_pixels())
    if width * height > limit:
        raise ImageError(
            f"{name} is {width} x {height}, over {limit:,} pixels",
            fix="shrink it or leave it out, or raise the limit with LESIONSEG_MAX_PIXELS",
        )
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise ImageError(f"{name} is {width} x {height} pixels, a strip and not a picture", fix="leave it out")


def _open(source: Container) -> ImageFile:
    if source.format == "TIFF":
        # Up to six samples of two bytes, and tiles that are larger than the picture.
        check_deflated(source.data, 16 * (source.width + 4096) * (source.height + 4096))
    image = _PLUGINS[source.format](io.BytesIO(source.data))
    # What is decoded is what was checked.
    if image.size != (source.width, source.height):
        raise ValueError(f"it tells two sizes, {source.width} x {source.height} and {image.width} x {image.height}")
    return image


def _refuse_mode(mode: str, name: str) -> ImageError:
    what = {"F": "floating-point numbers", "I": "32-bit numbers"}.get(mode, mode)
    return ImageError(f"{name} stores its pixels as {what}", fix="save it with 8 or 16 bits of grey or colour")


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    """Black as 0: Pillow turns 8-bit TIFFs in which white is, but not these."""
    levels = np.asarray(image).astype(np.uint16)
    is_negative = isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    return ~levels if is_negative else levels


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in _GREY16:
        return Image.fromarray((_grey16(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in _RGB_MODES:
        raise _refuse_mode(image.mode, name)
    # Transparency would make Pillow warn, and comes to nothing here.
    image.info.clear()
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_tail(image: Image.Image, source: Container, name: str) -> tuple[str, ...]:
    """What a JPEG's last pixels say of its end: where data are missing, the decoder fills up with middle grey."""
    if source.format != "JPEG":
        return ()
    corner = image.getpixel((image.width - 1, image.height - 1))
    levels = corner if isinstance(corner, tuple) else (corner,)
    filled = all(level in (127, 128) for level in levels)
    if not source.ended:
        if filled:
            raise damaged(name, "it is cut off")
        return ("the JPEG has no end marker: its last pixels may be wrong",)
    last = image.crop((0, image.height - 1, image.width, image.height)).getextrema()
    bands = last if isinstance(last[0], tuple) else (last,)
    if filled and all(band == (level, level) for band, level in zip(bands, levels, strict=True)):
        return ("the last row of the JPEG is middle grey, as where data are missing",)
    return ()


def _check_depth(image: Image.Image, source: Container) -> tuple[str, ...]:
    """What to say of a camera's 10 to 14 bits that are not scaled to the 16 of the file: the photo is nearly black."""
    if source.bits != 16:
        return ()
    extremes = np.array(image.getextrema())
    used = 8 + int(extremes.max()).bit_length()
    return (f"only {used} of its 16 bits are used, so that it is dark",) if used <= _FEW_BITS else ()


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A decoded photo as Pillow holds it; otherwise as ``DecodedPhoto``."""

    image: Image.Image
    width: int
    height: int
    box: Box
    warnings: tuple[str, ...]


def decode_photo(
    data: bytes, name: str, *, at_least: tuple[int, int] | None = None, like: tuple[int, int] | None = None
) -> DecodedPhoto:
    """Decodes a photo.

    Args:
        data: the file's bytes.
        name: how error messages call it.
        at_least: height and width in pixels; a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both
            sides stay at least this long. None decodes in full.
        like: height and width of its mask. Where they are those of the photo as stored, and not as its EXIF
            orientation would turn it, the photo stays as stored.

    Raises:
        ImageError: it cannot be decoded in full, or it is too large or too small.
    """
    opened = _open_photo(data, name, at_least, like)
    with _decoding(name):
        pixels = np.asarray(opened.image)
    return DecodedPhoto(pixels, opened.width, opened.height, opened.box, opened.warnings)


def decode_fitted(
    data: bytes, name: str, height: int, width: int, *, like: tuple[int, int] | None = None
) -> DecodedPhoto:
    """Decodes a photo at a model's input size, ``uint8 height width 3``.

    The same pixels as of ``fit_photo(decode_photo(...))``, at least twice the input's size being decoded, without
    copies of the larger picture. Arguments and errors are those of ``decode_photo``.
    """
    opened = _open_photo(data, name, (2 * height, 2 * width), like)
    with _decoding(name):
        pixels = _fit(opened.image, height, width, opened.box)
    return DecodedPhoto(pixels, opened.width, opened.height, (0.0, 0.0, float(width), float(height)), opened.warnings)


def _open_photo(data: bytes, name: str, at_least: tuple[int, int] | None, like: tuple[int, int] | None) -> _Opened:
    source = _look_over(data, name)
    orientation, warnings = choose_orientation(source, like)
    with _decoding(name):
        image: Image.Image = _open(source)
        box: Box = (0.0, 0.0, float(source.width), float(source.height))
        if at_least is not None and isinstance(image, JpegImageFile):
            # Pillow wants the width first, of the photo as it lies in the file.
            draft = image.draft(None, at_least if orientation >= 5 else (at_least[1], at_least[0]))
            box = draft[1] if draft else box
        image.load()
        warnings += _check_tail(image, source, name)
        image = _to_rgb(image, name)
        warnings += _check_depth(image, source)
        if orientation > 1:
            box = turn_box(box, image.size, orientation)
            image = image.transpose(UPRIGHT[orientation])
    width, height = (source.height, source.width) if orientation >= 5 else (source.width, source.height)
    return _Opened(image, width, height, box, warnings)


def read_image(path: Path) -> RgbImage:
    """A photo at its full size, ``uint8 H W 3``, RGB.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    return decode_photo(read_bytes(path), str(path)).pixels


def decode_mask(data: bytes, name: str) -> DecodedMask:
    """Decodes a binary mask, from a picture or NIfTI file.

    See ``DecodedMask`` for what is told of it, and ``interpret_binary`` for what counts as lesion.

    Raises:
        ImageError: it cannot be decoded, or its values are not those of a binary mask.
    """
    return interpret_binary(_samples(data, name), name)


def read_mask(path: Path) -> BoolMask:
    """A binary mask, ``bool H W``, from a picture or NIfTI file.

    Raises:
        ImageError: it cannot be read or decoded, or its values are not those of a binary mask.
    """
    return decode_mask(read_bytes(path), str(path)).values


def read_class_mask(path: Path, classes: Mapping[str, ClassSpec]) -> ClassMask:
    """A mask of several classes, ``uint8 H W``: 0 for the first of ``classes``, and so on.

    Args:
        path: a picture or NIfTI file.
        classes: name -> grey level, palette index, colour (``"#ff0000"`` or ``[255, 0, 0]``), or a list of several. For
            example ``{"animal": 1, "background": 2, "border": 3}`` for pet trimaps, and for Pascal VOC
            ``{"background": "#000000", "aeroplane": "#800000", ..., "void": "#e0e0c0"}``.

    Raises:
        ConfigError: the classes are not distinct, or not written as they should be.
        ImageError: it cannot be read or decoded, or has values that no class has; they are listed.
    """
    return interpret_classes(_samples(read_bytes(path), str(path)), classes, str(path))


def _samples(data: bytes, name: str) -> MaskSamples:
    if is_nifti(data):
        plane = read_nifti(data, name, max_pixels())
        return MaskSamples(plane.values, kind="NIfTI", warnings=plane.warnings)
    if name.lower().endswith((".nii", ".nii.gz")) and data[:2] in (b"\x1f\x8b", b"\x5c\x01", b"\0\0"):
        raise damaged(name, "it has no whole NIfTI header")
    source = _look_over(data, name)
    with _decoding(name):
        image: Image.Image = _open(source)
        image.load()
        _check_tail(image, source, name)
        if source.orientation > 1:
            image = image.transpose(UPRIGHT[source.orientation])
        samples = _sample(image, name)
    if source.bits > 8 and samples.values.ndim == 3:
        raise ImageError(f"{name} has 16-bit colours, whose lower half would be lost", fix="save it as grey levels")
    return samples


def _sample(image: Image.Image, name: str) -> MaskSamples:
    mode = image.mode
    if mode in _GREY16:
        return MaskSamples(_grey16(image), kind="16-bit")
    if mode in ("1", "L", "I", "F"):
        kind = {"1": "bool", "L": "", "I": "32-bit", "F": "float"}[mode]
        return MaskSamples(np.asarray(image), kind=kind)
    if mode == "P":
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        alpha = np.asarray(image.convert("RGBA").getchannel("A")) if "transparency" in image.info else None
        return MaskSamples(np.asarray(image), colours, alpha, "palette")
    if mode not in _RGB_MODES:
        raise _refuse_mode(mode, name)
    cover = np.asarray(image.getchannel("A")) if mode in ("LA", "PA", "RGBA") else None
    image.info.clear()
    if mode == "LA":
        return MaskSamples(np.asarray(image.getchannel("L")), alpha=cover, kind="LA")
    return MaskSamples(np.asarray(image.convert("RGB")), alpha=cover, kind="RGB" if cover is None else "RGBA")


def read_probability(path: Path) -> Probability:
    """A probability map that ``encode_probability_png`` wrote, ``float32 H W`` in [0, 1], exact to 1 / 255.

    Raises:
        ImageError: it cannot be decoded, or is not an 8-bit grey picture.
    """
    source = _look_over(read_bytes(path), str(path))
    with _decoding(str(path)):
        image = _open(source)
        if image.mode != "L":
            raise ImageError(f"{path} is not an 8-bit grey picture", fix="evaluate the run again")
        return np.asarray(image).astype(np.float32) / np.float32(255)


def fit_photo(photo: DecodedPhoto, height: int, width: int) -> RgbImage:
    """A decoded photo at a model's input size, ``uint8 height width 3``, bilinear with antialiasing.

    The one way from a file to a model, in training and in inference alike.
    """
    return _fit(Image.fromarray(photo.pixels), height, width, photo.box)


def _fit(picture: Image.Image, height: int, width: int, box: Box) -> RgbImage:
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))

"""What one look at a photo and its mask tells the audit: each file is read once and a few numbers are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.contrast import Contrast, examine_contrast, to_lab
from lesionseg.data.duplicates import Signature, sign
from lesionseg.data.images import DecodedPhoto, decode_mask, decode_photo, read_bytes
from lesionseg.data.masks import DecodedMask
from lesionseg.errors import ImageError
from lesionseg.records import BoolMask, Case

__all__ = ["Examination", "Failure", "MaskFacts", "PhotoFacts", "examine", "same_shape"]

_DECODE_SIDE = 256


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that cannot be decoded: what the ImageError says, and its advice."""

    file: Path
    message: str
    fix: str


@dataclass(frozen=True, slots=True, eq=False)
class PhotoFacts:
    """A photo in numbers.

    Attributes:
        width, height: in pixels, upright.
        mean, square: ``float64 3``, mean and mean square of R, G, B in [0, 1].
        lab: ``float64 3``, mean CIE L*, a*, b* (D65).
        signature: for finding it again.
        warnings: what the decoder says of the file.
    """

    width: int
    height: int
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    lab: NDArray[np.float64]
    signature: Signature
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """A mask in numbers.

    Attributes:
        width, height: in pixels.
        fraction: of the pixels, lesion.
        border: of the outermost pixels, lesion.
        fringe: of the pixels, between the two levels.
        areas: of the connected components (8 neighbours), as shares of the lesion, largest first.
        hole: area of the largest hole, as a share of the lesion.
        warnings: what the decoder says of the file.
        contrast: None where mask and photo differ in shape, or one of the sides is empty.
    """

    width: int
    height: int
    fraction: float
    border: float
    fringe: float
    areas: tuple[float, ...]
    hole: float
    warnings: tuple[str, ...]
    contrast: Contrast | None


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """All that the audit keeps of a case, some 10 KiB.

    Attributes:
        case: the case.
        photo_sha256, mask_sha256: hex digests of the files' bytes; empty when there is none or it is unreadable.
        photo, mask: None where there is none or it cannot be decoded.
        failures: what cannot be decoded.
    """

    case: Case
    photo_sha256: str
    mask_sha256: str
    photo: PhotoFacts | None
    mask: MaskFacts | None
    failures: tuple[Failure, ...]


@dataclass(slots=True)
class _Look:
    """What comes of one file: its digest, what ``decode`` made of it, or why there is nothing."""

    sha256: str = ""
    data: bytes = b""
    failures: tuple[Failure, ...] = ()


def examine(case: Case) -> Examination:
    """Reads a case's files once, the photo at a reduced scale where its format allows; decoding errors are recorded."""
    photo_look, mask_look = _look(case.image), _look(case.mask)
    mask = photo = None
    failures = [*photo_look.failures, *mask_look.failures]
    # The mask first: its size tells whether a photo's EXIF orientation counts.
    if case.mask is not None and mask_look.data:
        try:
            mask = decode_mask(mask_look.data, str(case.mask))
        except ImageError as error:
            failures.append(Failure(case.mask, error.message, error.fix))
    if photo_look.data:
        try:
            like = None if mask is None else (mask.values.shape[0], mask.values.shape[1])
            least = (_DECODE_SIDE, _DECODE_SIDE)
            photo = decode_photo(photo_look.data, str(case.image), at_least=least, like=like)
        except ImageError as error:
            failures.append(Failure(case.image, error.message, error.fix))
    shared = mask is not None and photo is not None and same_shape(photo, mask.values)
    contrast = examine_contrast(photo.pixels, mask.values) if photo and mask and shared else None
    return Examination(
        case,
        photo_look.sha256,
        mask_look.sha256,
        _photo_facts(photo, mask.values if mask and shared else None) if photo else None,
        _mask_facts(mask, mask_look.data, contrast) if mask else None,
        tuple(failures),
    )


def _look(path: Path | None) -> _Look:
    if path is None:
        return _Look()
    try:
        data = read_bytes(path)
    except ImageError as error:
        return _Look(failures=(Failure(path, error.message, error.fix),))
    return _Look(hashlib.sha256(data).hexdigest(), data)


def same_shape(photo: DecodedPhoto, mask: BoolMask) -> bool:
    """Whether a mask covers the photo's field of view, at whatever scale: within 2 % of the aspect ratio."""
    height, width = mask.shape
    return bool(0.98 < photo.width * height / (photo.height * width) < 1.02)


def _photo_facts(photo: DecodedPhoto, mask: BoolMask | None) -> PhotoFacts:
    values = photo.pixels.reshape(-1, 3)
    # Histograms give both moments of 8-bit values exactly, without a copy as floats.
    counts = np.stack([np.bincount(channel, minlength=256) for channel in values.T]) / len(values)
    levels = np.arange(256) / 255
    return PhotoFacts(
        width=photo.width,
        height=photo.height,
        mean=counts @ levels,
        square=counts @ levels**2,
        lab=to_lab(photo.pixels).reshape(-1, 3).mean(0).astype(np.float64),
        signature=sign(photo.pixels, mask),
        warnings=photo.warnings,
    )


def _fringe(data: bytes) -> float:
    """The share of a mask file's pixels between its darkest and its brightest level; 0 for NIfTI."""
    try:
        levels = decode_photo(data, "mask").pixels[..., 0]
    except ImageError:
        # It was read as a mask, so it is no picture.
        return 0.0
    low, top = int(levels.min()), int(levels.max())
    return float(((levels > low) & (levels < top)).mean())


def _mask_facts(mask: DecodedMask, data: bytes, contrast: Contrast | None) -> MaskFacts:
    from scipy.ndimage import label

    values = mask.values
    parts, count = label(values, np.ones((3, 3), np.int64))
    lesion = max(1, int(values.sum()))
    areas = np.sort(np.bincount(parts.ravel(), minlength=count + 1)[1:])[::-1] / lesion
    edge = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    height, width = values.shape
    return MaskFacts(
        width=width,
        height=height,
        fraction=float(values.mean()),
        border=float(edge.mean()),
        # Only then is a second look worth its time.
        fringe=_fringe(data) if mask.warnings else 0.0,
        areas=tuple(float(area) for area in areas),
        hole=_largest_hole(values) / lesion,
        warnings=mask.warnings,
        contrast=contrast,
    )


def _largest_hole(mask: BoolMask) -> int:
    """Pixels of the largest piece of skin that the lesion encloses."""
    from scipy.ndimage import label

    parts, count = label(~mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    for side in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        sizes[side] = 0
    return int(sizes.max())

"""What one look at a photo and its mask tells the audit: each file is read once and a few numbers are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.duplicates import Signature, sign
from lesionseg.data.images import decode_photo, read_bytes, read_mask, resize_mask, resize_photo
from lesionseg.errors import ImageError
from lesionseg.records import BoolMask, Case, RgbImage

__all__ = ["Contrast", "Examination", "Failure", "MaskFacts", "PhotoFacts", "examine", "examine_contrast"]

_DECODE_SIDE = 256
_SIDE = 96
# Closer to one of the two levels is what rounding and light compression leave.
_LEVEL_TOLERANCE = 0.05
# L* below which pixels that touch the photo's edge are the microscope's frame.
_FRAME = 20.0
_FRAME_MARGIN = 4
# Surgical ink is bluer than the skin around it; melanin is not.
_INK = -4.0
_SPOTS = 4
_LEAST_SPOT = 0.005


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
    """

    width: int
    height: int
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    lab: NDArray[np.float64]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Contrast:
    """How far a mask and the photo's own darkest spot stand out, as colour differences (CIE 1976 delta E).

    Attributes:
        mask: between the mean colours inside the mask and in a ring around it.
        spot: the same of the spot that Otsu's threshold finds without the mask; 0 where it finds none.
        overlap: intersection over union of the two.
        lighter: mean L* inside the mask minus outside; lesions are nearly always darker, thus negative.
    """

    mask: float
    spot: float
    overlap: float
    lighter: float


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """A mask in numbers.

    Attributes:
        width, height: in pixels.
        fraction: of the pixels, lesion.
        border: of the outermost pixels, lesion.
        fringe: of the pixels, between the two levels.
        areas: of the connected components (8 neighbours), as shares of the lesion, largest first.
        contrast: None where mask and photo differ in shape, or one of the sides is empty.
    """

    width: int
    height: int
    fraction: float
    border: float
    fringe: float
    areas: tuple[float, ...]
    contrast: Contrast | None


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """All that the audit keeps of a case, some 10 KiB.

    Attributes:
        case: the case.
        sha256: of the photo's bytes; empty when unreadable.
        photo, mask: None where there is none or it cannot be decoded.
        failures: what cannot be decoded.
    """

    case: Case
    sha256: str
    photo: PhotoFacts | None
    mask: MaskFacts | None
    failures: tuple[Failure, ...]


def examine(case: Case) -> Examination:
    """Reads a case's files once, the photo at a reduced scale where its format allows."""
    failures = []
    digest = ""
    pixels = mask = None
    size, fringe = (0, 0), 0.0
    try:
        data = read_bytes(case.image)
        digest = hashlib.sha256(data).hexdigest()
        decoded = decode_photo(data, str(case.image), at_least=(_DECODE_SIDE, _DECODE_SIDE))
        pixels, size = decoded.pixels, (decoded.width, decoded.height)
    except ImageError as error:
        failures.append(Failure(case.image, error.message, error.fix))
    if case.mask is not None:
        try:
            mask = read_mask(case.mask)
            fringe = _fringe(case.mask)
        except ImageError as error:
            failures.append(Failure(case.mask, error.message, error.fix))
    alike = mask is not None and _same_shape(size, mask.shape)
    photo = None if pixels is None else _photo_facts(pixels, size, mask if alike else None)
    contrast = examine_contrast(pixels, mask) if pixels is not None and mask is not None and alike else None
    facts = None if mask is None else _mask_facts(mask, fringe, contrast)
    return Examination(case, digest, photo, facts, tuple(failures))


def _same_shape(size: tuple[int, int], shape: tuple[int, ...]) -> bool:
    """Whether a mask covers the photo's field of view, at whatever scale: within 2 % of the aspect ratio."""
    return 0.98 < size[0] * shape[0] / max(1, size[1] * shape[1]) < 1.02


def _photo_facts(pixels: RgbImage, size: tuple[int, int], mask: BoolMask | None) -> PhotoFacts:
    values = pixels.reshape(-1, 3)
    # Histograms give both moments of 8-bit values exactly, without a copy as floats.
    counts = np.stack([np.bincount(channel, minlength=256) for channel in values.T]) / len(values)
    levels = np.arange(256) / 255
    lab = _lab(_small(pixels)).reshape(-1, 3).mean(0)
    return PhotoFacts(*size, counts @ levels, counts @ levels**2, lab.astype(np.float64), sign(pixels, mask))


def _fringe(path: Path) -> float:
    """The share of a mask file's pixels between its two levels; 0 for NIfTI, which has no fringes."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return 0.0
    levels = decode_photo(read_bytes(path), str(path)).pixels[..., 0]
    top = int(levels.max())
    counts = np.bincount(levels.ravel(), minlength=256)
    between = np.arange(256)[
        (np.arange(256) > top * _LEVEL_TOLERANCE) & (np.arange(256) < top * (1 - _LEVEL_TOLERANCE))
    ]
    return float(counts[between].sum() / levels.size)


def _mask_facts(mask: BoolMask, fringe: float, contrast: Contrast | None) -> MaskFacts:
    from scipy.ndimage import label

    parts, count = label(mask, np.ones((3, 3), np.int64))
    areas = np.sort(np.bincount(parts.ravel(), minlength=count + 1)[1:])[::-1] / max(1, int(mask.sum()))
    edge = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    height, width = mask.shape
    return MaskFacts(
        width=width,
        height=height,
        fraction=float(mask.mean()),
        border=float(edge.mean()),
        fringe=fringe,
        areas=tuple(float(area) for area in areas),
        contrast=contrast,
    )


def _small(pixels: RgbImage) -> RgbImage:
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    return resize_photo(pixels, max(2, round(height * scale)), max(2, round(width * scale)))


def _lab(pixels: RgbImage) -> NDArray[np.float32]:
    """``float32 H W 3``: CIE L*, a*, b*."""
    from skimage.color import rgb2lab

    result: NDArray[np.float32] = rgb2lab(pixels).astype(np.float32)
    return result


def examine_contrast(photo: RgbImage, mask: BoolMask) -> Contrast | None:
    """How well a mask fits its photo, against what the photo shows by itself; None if one side of it is empty.

    Otsu's threshold on L* (Otsu 1979), away from the microscope's black frame, gives dark spots. Those that run off
    the photo (shadows) and those bluer than their surroundings (surgical ink) are left out; the most conspicuous of
    the rest is what the mask is compared with.

    Args:
        photo: ``uint8 H W 3``, RGB.
        mask: ``bool`` of the same field of view, of any size.
    """
    from scipy.ndimage import binary_dilation, binary_propagation, gaussian_filter

    lab = gaussian_filter(_lab(_small(photo)), (1.5, 1.5, 0))
    lesion = resize_mask(mask, *lab.shape[:2])
    dark = lab[..., 0] < _FRAME
    edge = np.ones(dark.shape, np.bool_)
    edge[1:-1, 1:-1] = False
    frame = binary_propagation(dark & edge, mask=dark)
    valid = ~binary_dilation(frame, iterations=_FRAME_MARGIN) if frame.any() else np.ones_like(dark)
    inside, outside = lesion & valid, ~lesion & valid
    if inside.sum() < 4 or outside.sum() < 4:
        return None
    spot, strength = _darkest_spot(lab, valid, edge)
    both = int((lesion | spot).sum())
    return Contrast(
        mask=float(np.linalg.norm(_step(lab, lesion, valid))),
        spot=strength,
        overlap=float((lesion & spot).sum() / both) if both else 0.0,
        lighter=float(lab[inside, 0].mean() - lab[outside, 0].mean()),
    )


def _step(lab: NDArray[np.float32], region: BoolMask, valid: BoolMask) -> NDArray[np.float32]:
    """``float32 3``: mean L*, a*, b* in a region minus that in a ring around it of 0.3 of its radius."""
    from scipy.ndimage import binary_dilation

    width = max(2, round(0.3 * float(np.sqrt(region.sum() / np.pi))))
    ring = binary_dilation(region, iterations=width) & ~region & valid
    if not ring.any() or not (region & valid).any():
        return np.zeros(3, np.float32)
    result: NDArray[np.float32] = lab[region & valid].mean(0) - lab[ring].mean(0)
    return result


def _darkest_spot(lab: NDArray[np.float32], valid: BoolMask, edge: BoolMask) -> tuple[BoolMask, float]:
    """The most conspicuous dark region that looks like a lesion, and its colour difference; empty and 0 for none."""
    from scipy.ndimage import binary_opening, label
    from skimage.filters import threshold_otsu

    light = lab[..., 0]
    parts, count = label(binary_opening((light < threshold_otsu(light[valid])) & valid))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    at_edge = np.bincount(parts[edge], minlength=count + 1)
    best, best_strength, best_rank = np.zeros_like(valid), 0.0, 0.0
    for number in 1 + np.argsort(-sizes[1:])[:_SPOTS]:
        if sizes[number] < _LEAST_SPOT * light.size or at_edge[number] > 0.4 * np.sqrt(sizes[number]):
            continue
        region = parts == number
        step = _step(lab, region, valid)
        strength = float(np.linalg.norm(step))
        if step[2] >= _INK and strength * sizes[number] ** 0.5 > best_rank:
            best, best_strength, best_rank = region, strength, strength * float(sizes[number]) ** 0.5
    return best, best_strength

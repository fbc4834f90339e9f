"""What the values of a mask file mean: lesion or skin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import ImageError
from lesionseg.records import BoolMask

__all__ = ["DecodedMask", "MaskSamples", "colour_codes", "colour_name", "count_values", "interpret_binary"]

# Lesion masks that went through JPEG or an antialiased resize keep nearly all pixels close to one of two levels.
# A tenth is what tells them from grey photos: of 800 ISIC photos one passes as a mask, with a quarter 116 do.
_FRINGE = 0.1
_FRINGED_PART = 0.9
_FEW = 8
_INVERTED_PART = 0.9
_SHOWN = 8
_PART = 2**20
_PLAIN = "save the mask as grey levels 0 and 255"
_BY_CLASSES = f"{_PLAIN}, or say with classes: which colour is what"


@dataclass(frozen=True, slots=True, eq=False)
class MaskSamples:
    """What a mask file holds, before anything is made of it.

    Attributes:
        values: ``H W`` grey levels, palette indices or NIfTI values of any real dtype; or colours, ``uint8 H W 3``.
        palette: ``uint8 N 3``, where the values are indices; else None.
        alpha: ``uint8 H W``, or None.
        kind: how the file stores them, for messages: ``bool``, ``palette``, ``NIfTI``; empty for 8-bit grey.
        warnings: what a person should look at.
    """

    values: NDArray[Any]
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[np.uint8] | None = None
    kind: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMask:
    """A binary mask, and what had to be inferred to read it.

    Attributes:
        values: ``bool H W``, True = lesion.
        encoding: the levels of skin and lesion and how they were stored, for example ``0/255``, ``bool 0/1``,
            ``alpha 0/255``, ``palette 0/1``, ``RGB #000000/#ff0000``; one level where all pixels are alike.
        warnings: what a person should look at; empty for a plain mask.
    """

    values: BoolMask
    encoding: str
    warnings: tuple[str, ...] = ()


# --- two classes ------------------------------------------------------------------------------------------------------


def interpret_binary(samples: MaskSamples, name: str) -> DecodedMask:
    """Decides which pixels are lesion.

    Grey levels: 0 and any other value (1, 128, 254, 255, 65535); what is closer to the larger one is lesion, as long as
    pixels in between are few, as JPEG fringes are. Two colours of which one is black: the other one is lesion. A
    palette counts by its colours; where none of its two is black, index 0 is skin. Transparency counts where all
    colours are alike.

    Raises:
        ImageError: the values are not those of a binary mask.
    """
    mask = _from_colours(samples, name)
    if samples.alpha is not None and samples.alpha.min() != samples.alpha.max():
        mask = _with_alpha(mask, samples.alpha, name)
    return replace(mask, warnings=(*samples.warnings, *mask.warnings, *_oddities(mask.values)))


def _oddities(mask: BoolMask) -> list[str]:
    if mask.all() or not mask.any():
        return ["the mask is full: every pixel is lesion" if mask.any() else "the mask is empty: no pixel is lesion"]
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()
    return [f"the mask may be inverted: {border:.0%} of its border is lesion"] if border > _INVERTED_PART else []


def _with_alpha(mask: DecodedMask, alpha: NDArray[np.uint8], name: str) -> DecodedMask:
    cover = _from_levels(alpha, "alpha", name)
    if mask.values.all() or not mask.values.any():
        return cover
    if not np.array_equal(mask.values, cover.values):
        raise ImageError(
            f"{name} is ambiguous: its colours and its transparency give different masks", fix="save it as 0 and 255"
        )
    return mask


def _from_colours(samples: MaskSamples, name: str) -> DecodedMask:
    if samples.palette is not None:
        return _from_palette(samples.values, samples.palette, name)
    if samples.values.ndim == 2:
        return _from_levels(samples.values, samples.kind, name)
    bands = np.moveaxis(samples.values, -1, 0)
    if all(np.array_equal(bands[0], band) for band in bands[1:]):
        return _from_levels(bands[0], samples.kind, name)
    # A photo has thousands of colours: a few rows tell it from a mask, without sorting all of them.
    few = samples.values[:: max(1, len(samples.values) // 16)]
    if len(np.unique(colour_codes(few))) > 256:
        raise ImageError(f"{name} is coloured, not a mask", fix=_PLAIN)
    codes = colour_codes(samples.values)
    found, counts = np.unique(codes, return_counts=True)
    if len(found) != 2 or found[0] != 0:
        raise ImageError(f"{name} is coloured, not a mask: it has {_list_colours(found, counts)}", fix=_BY_CLASSES)
    return DecodedMask(codes != 0, f"{samples.kind} {colour_name(found[0])}/{colour_name(found[1])}".strip())


def _from_palette(indices: NDArray[Any], palette: NDArray[np.uint8], name: str) -> DecodedMask:
    used, counts = count_values(indices)
    if used[-1] >= len(palette):
        raise ImageError(f"{name} is damaged: index {used[-1]} is not in its palette", fix="save it as grey levels")
    colours = palette[used]
    is_grey = bool((colours == colours[:, :1]).all())
    if is_grey and len(np.unique(colours[:, 0])) == len(used):
        return _from_levels(palette[indices, 0], "palette", name)
    codes = colour_codes(colours)
    if len(used) > 2:
        raise ImageError(f"{name} is coloured, not a mask: it has {_list_colours(codes, counts)}", fix=_BY_CLASSES)
    if len(used) == 2 and 0 in codes and codes[0] != codes[1]:
        black, other = used[codes == 0][0], used[codes != 0][0]
        return DecodedMask(indices != black, f"palette #000000/{colour_name(codes[used == other][0])}")
    warnings = []
    if used[0] == 0 or len(used) == 1:
        encoding = f"palette {'/'.join(map(str, used))}"
        if len(used) == 2 or codes[0]:
            told = _list_colours(codes, counts)
            warnings.append(f"the palette does not tell lesion from skin ({told}): index 0 taken as skin")
        return DecodedMask(indices != 0, encoding, tuple(warnings))
    raise ImageError(f"{name} is coloured, not a mask: it has {_list_colours(codes, counts)}", fix=_BY_CLASSES)


def _from_levels(values: NDArray[Any], kind: str, name: str) -> DecodedMask:
    levels, counts = count_values(values)
    if values.dtype.kind == "f" and np.abs(levels - np.rint(levels)).max() > 1e-3:
        raise ImageError(f"{name} holds fractions, not the labels of a mask", fix="save the mask as 0 and 255")
    low, top = (int(np.rint(levels[end])) for end in (0, -1))
    if low < 0:
        raise ImageError(f"{name} has negative values", fix="save the mask as 0 and 255")
    prefix = f"{kind} " if kind else ""
    if low == top:
        return DecodedMask(np.full(values.shape, top > 0, np.bool_), f"{prefix}{top}")
    between = (levels > top * _FRINGE) & (levels < top * (1 - _FRINGE))
    part = counts[between].sum() / values.size
    # A few levels are classes; many levels on many pixels are a photo.
    if (2 < len(levels) <= _FEW and between.any()) or part > 1 - _FRINGED_PART or between[0]:
        shown = ", ".join(f"{level:g}" for level in levels[:_SHOWN]) + (", ..." if len(levels) > _SHOWN else "")
        raise ImageError(
            f"{name} is not a binary mask: it has the values {shown}",
            fix="save it as 0 and 255, or say with classes: which value is what",
        )
    warnings: tuple[str, ...] = ()
    if len(levels) > 2:
        fringe = counts[1:-1].sum()
        warnings = (f"{fringe:,} pixels ({fringe / values.size:.1%}) are neither {low} nor {top}: split at the middle",)
    # Integer arithmetic in the values' own dtype: no copy, no overflow.
    middle = top // 2 if values.dtype.kind != "f" else top / 2
    return DecodedMask(values > middle, f"{prefix}{low}/{top}", warnings)


# --- counting ---------------------------------------------------------------------------------------------------------


def count_values(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct values, sorted, and how often each comes."""
    if values.dtype.kind not in "bu" or values.dtype.itemsize > 2:
        levels, counts = np.unique(values, return_counts=True)
        return levels, counts.astype(np.int64)
    # Sorting millions of pixels takes seconds; counting them does not, and in parts it needs no wide copy.
    flat = values.reshape(-1)
    total = np.zeros(2 ** (8 * values.dtype.itemsize), np.int64)
    for start in range(0, flat.size, _PART):
        total += np.bincount(flat[start : start + _PART].astype(np.uint16), minlength=total.size)
    levels = np.flatnonzero(total)
    return levels, total[levels]


def colour_codes(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """``uint8 ... 3`` to one number per colour, ``0xRRGGBB``."""
    red, green, blue = (colours[..., band].astype(np.uint32) for band in range(3))
    return red << np.uint32(16) | green << np.uint32(8) | blue


def colour_name(code: Any) -> str:
    """A code of ``colour_codes`` as ``#rrggbb``."""
    return f"#{int(code):06x}"


def _list_colours(codes: NDArray[Any], counts: NDArray[np.int64]) -> str:
    order = np.argsort(-counts, kind="stable")[:_SHOWN]
    shown = ", ".join(f"{colour_name(codes[at])} on {counts[at]:,} pixels" for at in order)
    return shown + (", ..." if len(codes) > _SHOWN else "")

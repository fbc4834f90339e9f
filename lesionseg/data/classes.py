"""Masks of more than two classes: read by value or colour, or derived from a binary mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.masks import MaskSamples, colour_codes, colour_name, count_values
from lesionseg.errors import ConfigError, ImageError
from lesionseg.records import BoolMask

__all__ = ["ClassMask", "ClassSpec", "interpret_classes", "parse_classes", "trimap"]

ClassSpec = int | str | Sequence[Any]
"""A class's value in a mask file: a grey level or palette index (``2``), a colour (``"#ff0000"`` or ``[255, 0, 0]``),
or a list of several such. Three numbers are always one colour."""
ClassMask = NDArray[np.uint8]
"""``uint8 H W``, class indices."""

_MANY = 64


def interpret_classes(samples: MaskSamples, classes: Mapping[str, ClassSpec], name: str) -> ClassMask:
    """Class indices, ``uint8 H W``, in the order of ``classes``.

    A number means a grey level, a palette index, or the grey colour of that level. Transparency is left aside.

    Raises:
        ConfigError: the classes are not distinct, or not written as they should be.
        ImageError: listing each value of the mask that no class has, with its number of pixels.
    """
    wanted = parse_classes(classes)
    values = samples.values if samples.values.ndim == 2 else colour_codes(samples.values)
    in_colour = samples.values.ndim == 3
    found, counts = count_values(values)
    result = np.empty(values.shape, np.uint8)
    unlisted = []
    for value, count in zip(found, counts, strict=True):
        keys = _keys_of(value, samples.palette, in_colour)
        index = next((wanted[key] for key in keys if key in wanted), None)
        if index is None:
            unlisted.append((int(count), f"{' = '.join(map(str, keys))} on {count:,} pixels"))
        elif not unlisted:
            result[values == value] = index
        if len(unlisted) > _MANY:
            break
    if unlisted:
        lines = [line for _, line in sorted(unlisted, reverse=True)]
        raise ImageError(
            f"{name} has values that no class has" + (" (the first of them)" if len(lines) > _MANY else ""),
            problems=lines,
            fix="add them to classes:, several to one class if need be",
        )
    return result


def _keys_of(value: Any, palette: NDArray[np.uint8] | None, in_colour: bool) -> list[int | float | str]:
    """What a class may call a value: its number, its colour."""
    if in_colour:
        grey = value & 255
        return [colour_name(value), *([int(grey)] if value == grey * 0x010101 else [])]
    if palette is not None:
        colour = palette[value] if value < len(palette) else np.zeros(3, np.uint8)
        return [colour_name(colour_codes(colour)), int(value)]
    whole = int(value) if value == int(value) else float(value)
    return [whole, *([colour_name(whole * 0x010101)] if isinstance(whole, int) and 0 <= whole <= 255 else [])]


def parse_classes(classes: Mapping[str, ClassSpec]) -> dict[int | float | str, int]:
    """Return the values and colours of classes, each with the index of its class.

    Raises:
        ConfigError: listing every class that is not distinct, or not written as it should be.
    """
    keys: dict[int | float | str, int] = {}
    problems = [] if 2 <= len(classes) <= 256 else [f"{len(classes)} classes; there are 2 to 256"]
    for index, (title, spec) in enumerate(classes.items()):
        try:
            found = list(_keys(spec))
            problems += [
                f"{title}: {key} is another class's too" for key in found if keys.setdefault(key, index) != index
            ]
        except (TypeError, ValueError, RecursionError):
            problems.append(f"{title}: {spec!r} is no value, colour or list of them")
    if problems:
        raise ConfigError(
            "classes: cannot be used", problems=problems, fix="write name: 2, name: '#ff0000' or name: [255, 0, 0]"
        )
    return keys


def _keys(spec: ClassSpec) -> Iterable[int | str]:
    if isinstance(spec, str):
        if len(spec) != 7 or spec[0] != "#":
            raise ValueError
        return [f"#{int(spec[1:], 16):06x}"]
    if isinstance(spec, int) and not isinstance(spec, bool):
        return [spec]
    if isinstance(spec, bool):
        raise TypeError
    parts = list(spec)
    if len(parts) == 3 and all(isinstance(part, int) for part in parts):
        if not all(0 <= part <= 255 for part in parts):
            raise ValueError
        return ["#" + "".join(f"{part:02x}" for part in parts)]
    return [key for part in parts for key in _keys(part)]


def trimap(mask: BoolMask, band: float) -> ClassMask:
    """Three classes from a binary mask: 0 skin, 1 border, 2 lesion.

    Border is every pixel whose centre lies at most ``band`` pixels (Euclidean) from the centre of the nearest pixel of
    the other kind; so the band has about ``band`` pixels on each side of the outline, 1 being its pixels that share an
    edge with the other side. The picture's own edge is no outline; an empty or full mask has no border.

    TensorFlow's pet data number the same three the other way round: 1 the animal, 2 the background, 3 the border.

    Args:
        mask: ``bool H W``, True = lesion.
        band: at least 0; 0 gives no border.

    Returns:
        ``uint8 H W``.

    Raises:
        ValueError: the band is negative or not a number.
    """
    if not band >= 0:
        raise ValueError(f"the band must be at least 0 pixels, not {band}")
    result = mask.astype(np.uint8) * np.uint8(2)
    if mask.all() or not mask.any():
        return result
    from scipy.ndimage import distance_transform_edt

    for side in (mask, ~mask):
        result[side & (distance_transform_edt(side) <= band)] = 1
    return result

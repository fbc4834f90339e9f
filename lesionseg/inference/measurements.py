"""What the table says of each lesion: the columns of ``predictions.csv`` that hold measurements.

Shape is always measured: it comes from the network's own small map, in milliseconds whatever the photo's size. Colours
and the search for a ruler are asked for: colours mean little without a calibrated camera, and a ruler has to be looked
for in a larger picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lesionseg.data.images import decode_photo, fit_photo, resize_probability
from lesionseg.errors import ConfigError
from lesionseg.inference.measure import MEASURE_SIDE, Shape, measure_shape
from lesionseg.inference.outline import trace_largest
from lesionseg.records import Probability

if TYPE_CHECKING:
    from lesionseg.inference.colours import Colours
    from lesionseg.inference.stages import Decoded

__all__ = ["COLOUR_COLUMNS", "MEASURES", "MM_COLUMNS", "SHAPE_COLUMNS", "Measuring", "measure_photo"]

_PIXELS = ("area", "perimeter", "major_axis", "minor_axis", "equivalent_diameter", "longest_diameter")
# Millimetres per pixel: of a microscope, and of a landscape.
_FINEST, _COARSEST = 1e-6, 1e3
_LAB = ("l", "a", "b")

SHAPE_COLUMNS = tuple(f"{field.name}_px" if field.name in _PIXELS else field.name for field in fields(Shape))
"""Fields of ``Shape``; those in pixels end in ``_px``."""
MM_COLUMNS = (*(f"{name}_mm2" if name == "area" else f"{name}_mm" for name in _PIXELS), "mm_per_pixel", "mm_source")
"""The same in millimetres, the scale, and where it is from: ``given``, ``ruler`` or nothing."""
COLOUR_COLUMNS = (
    *(f"{where}_{channel}{kind}" for where in ("lesion", "skin") for kind in ("", "_sd") for channel in _LAB),
    *("colour_difference", "variegation"),
)
MEASURES = (*SHAPE_COLUMNS, *MM_COLUMNS, *COLOUR_COLUMNS)


@dataclass(frozen=True, slots=True)
class Measuring:
    """What is measured beside the shape.

    Attributes:
        more: colours, and the scale of a ruler if there is one to be read.
        mm_per_pixel: of all photos, at their own size; a ruler is then not looked for.

    Raises:
        ConfigError: the scale is not between 1e-6 and 1e3.
    """

    more: bool = False
    mm_per_pixel: float | None = None

    def __post_init__(self) -> None:
        scale = self.mm_per_pixel
        if scale is not None and not _FINEST <= scale <= _COARSEST:
            raise ConfigError(
                f"{scale} millimetres per pixel are not possible", fix="use the width in mm over the width in pixels"
            )

    @property
    def settings(self) -> str:
        """``key=value`` words; empty where only the shape is measured."""
        scale = "" if self.mm_per_pixel is None else f"mm_per_pixel={self.mm_per_pixel!r}"
        return " ".join(word for word in ("measure" if self.more else "", scale) if word)


def measure_photo(decoded: Decoded, probability: Probability, threshold: float, wanted: Measuring) -> Mapping[str, str]:
    """Cells of ``MEASURES``, as far as there is something to measure.

    Args:
        decoded: the photo.
        probability: ``float32 h w`` in [0, 1], of the size of ``decoded.pixels``.
        threshold: lesion where the probability is at least this.
        wanted: what is measured.

    Raises:
        ImageError: the photo cannot be decoded to look for a ruler.
    """
    largest = trace_largest(probability, threshold, decoded.height, decoded.width, MEASURE_SIDE)
    scale, source = _scale(decoded, probability, threshold, wanted)
    cells = {"mm_per_pixel": "" if scale is None else _cell(scale), "mm_source": source}
    if largest is None:
        return cells
    shape = measure_shape(largest, decoded.height, decoded.width)
    pixels = {field.name: getattr(shape, field.name) for field in fields(shape)}
    cells |= {column: _cell(value) for column, value in zip(SHAPE_COLUMNS, pixels.values(), strict=True)}
    if scale is not None:
        powers = [scale * scale if name == "area" else scale for name in _PIXELS]
        cells |= {
            column: _cell(pixels[name] * power)
            for column, name, power in zip(MM_COLUMNS, _PIXELS, powers, strict=False)
        }
    if wanted.more:
        from lesionseg.inference.colours import measure_colours

        cells |= _colour_cells(measure_colours(decoded.pixels, probability >= threshold))
    return cells


def _scale(decoded: Decoded, probability: Probability, threshold: float, wanted: Measuring) -> tuple[float | None, str]:
    if wanted.mm_per_pixel is not None:
        return wanted.mm_per_pixel, "given"
    if not wanted.more:
        return None, ""
    from lesionseg.inference.ruler import RULER_SIDE, find_scale

    factor = min(1.0, RULER_SIDE / max(decoded.height, decoded.width))
    height, width = (max(1, round(side * factor)) for side in (decoded.height, decoded.width))
    photo = fit_photo(decode_photo(decoded.data, decoded.name, at_least=(height, width)), height, width)
    ruler = find_scale(photo, resize_probability(probability, height, width) >= threshold)
    return (ruler.mm_per_pixel * width / decoded.width, "ruler") if ruler else (None, "")


def _colour_cells(colours: Colours | None) -> dict[str, str]:
    if colours is None:
        return {}
    nothing = (None, None, None)
    values = (
        *(*colours.lesion, *colours.lesion_deviation),
        *(*(colours.skin or nothing), *(colours.skin_deviation or nothing)),
        *(colours.difference, colours.variegation),
    )
    return {column: _cell(value) for column, value in zip(COLOUR_COLUMNS, values, strict=True) if value is not None}


def _cell(value: float) -> str:
    """Six digits: more than any of them is good for."""
    return repr(float(f"{value:.6g}"))

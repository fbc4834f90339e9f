"""Further forms of a mask: COCO run lengths, GeoJSON polygons, and an SVG path."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lesionseg import RESEARCH_USE
from lesionseg.inference.outline import Region, Ring, ring_area
from lesionseg.records import BoolMask

__all__ = ["compress_runs", "encode_geojson", "encode_rle", "encode_svg", "run_lengths"]

# Of coordinates: a hundredth of a pixel.
_DECIMALS = 2
# Okabe & Ito's vermilion, which colour-blind readers tell from skin.
_COLOUR = (213, 94, 0)


def run_lengths(mask: BoolMask) -> NDArray[np.int64]:
    """Lengths of runs down the columns, left to right: no lesion, lesion, no lesion, and so on; the first may be 0."""
    height, width = mask.shape
    # A copy in the other order would take longer than everything else; only few pixels differ from the one above.
    above, column = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), width)
    within = column * height + above + 1
    # The end of a column, and the beginning of the next.
    across = (np.flatnonzero(mask[-1, :-1] != mask[0, 1:]) + 1) * height
    changes = np.sort(np.concatenate((within, across)))
    start = [0, 0] if mask[0, 0] else [0]
    return np.diff(np.concatenate((start, changes, [mask.size])))


def compress_runs(runs: NDArray[np.int64]) -> str:
    """COCO's compressed counts: from the third run on the difference to the last but one, 5 bits a character.

    Each number is written from its lowest bits up, in two's complement; bit 5 of a character says that more follow, and
    48 makes it printable. See ``rleToString`` of the COCO API (github.com/cocodataset/cocoapi, common/maskApi.c).
    """
    left = runs.astype(np.int64)
    left[3:] = runs[3:] - runs[1:-2]
    written, more = [], np.ones(left.size, bool)
    while more.any():
        bits, left = left & 31, left >> 5
        # The highest bit written is the sign.
        rest = more & np.where(bits & 16, left != -1, left != 0)
        written.append(np.where(more, (bits | np.where(rest, 32, 0)) + 48, 0))
        more = rest
    text = np.stack(written, axis=1).ravel()
    return text[text > 0].astype(np.uint8).tobytes().decode("ascii")


def encode_rle(mask: BoolMask) -> bytes:
    """``bool H W`` to JSON ``{"size": [H, W], "counts": "..."}``, which ``pycocotools.mask.decode`` reads."""
    height, width = mask.shape
    return _json({"size": [height, width], "counts": compress_runs(run_lengths(mask))})


def encode_geojson(regions: Sequence[Region]) -> bytes:
    """Regions to a GeoJSON FeatureCollection with one Polygon each, holes included.

    Coordinates are the photo's pixels: x to the right and y down from the upper left corner of its first pixel. As RFC
    7946 wants it, outer rings turn from x towards y by a positive area and holes the other way, and the first corner
    comes again at the end. ``objectType`` and ``classification`` are those of QuPath, which opens the file as
    annotations.
    """
    properties = {"objectType": "annotation", "classification": {"name": "Lesion", "color": _COLOUR}}
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]},
            "properties": properties,
        }
        for region in regions
        if (rings := _rounded(region))
    ]
    return _json({"type": "FeatureCollection", "features": features})


def encode_svg(regions: Sequence[Region], height: int, width: int) -> bytes:
    """Regions to an SVG of the photo's size with one path, to be filled by the even-odd rule."""
    path = "".join(_path(ring) for region in regions for ring in _rounded(region))
    colour = "#" + "".join(f"{level:02x}" for level in _COLOUR)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>Lesion mask. {RESEARCH_USE}</title>"
        f'<path fill="{colour}" fill-opacity="0.5" fill-rule="evenodd" d="{path}"/></svg>\n'
    ).encode()


def _rounded(region: Region) -> list[Ring]:
    """The outer ring and the holes with short numbers; what a rounding closes is left out."""
    rings = [_without_repeats(np.round(ring, _DECIMALS) + 0.0) for ring in (region.outer, *region.holes)]
    if ring_area(rings[0]) <= 0:
        return []
    return [rings[0], *(hole for hole in rings[1:] if ring_area(hole) < 0)]


def _without_repeats(ring: Ring) -> Ring:
    moved = (np.diff(ring, axis=0) != 0).any(axis=1)
    return ring[np.concatenate(([True], moved))]


def _path(ring: Ring) -> str:
    return "M" + "L".join(f"{x},{y}" for x, y in ring[:-1].tolist()) + "Z"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"

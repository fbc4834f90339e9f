"""decode | infer | encode as functions of one photo, and what runs them side by side.

The photo is resized as in training, and the probability is brought to the photo's own size before it is thresholded.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lesionseg.data.images import (
    decode_fitted,
    decode_photo,
    encode_mask_nifti,
    encode_mask_png,
    encode_probability_png,
    resize_probability,
)
from lesionseg.data.upsampling import Thresholded, threshold_at_size
from lesionseg.data.writing import MASK_BITS
from lesionseg.errors import ConfigError
from lesionseg.inference import pictures
from lesionseg.inference.forms import encode_geojson, encode_rle, encode_svg
from lesionseg.inference.measurements import Measuring, measure_photo
from lesionseg.inference.outline import Region, trace_regions
from lesionseg.records import THRESHOLD, BoolMask, Probability, RgbImage

if TYPE_CHECKING:
    from lesionseg.inference.predictor import Predictor

__all__ = [
    "ENDINGS",
    "MASK_ENDINGS",
    "OUTPUTS",
    "OVERLAY_ENDINGS",
    "PROBABILITY_ENDING",
    "Decoded",
    "Encoded",
    "PredictOptions",
    "Rendering",
    "decode",
    "encode",
    "infer",
    "overlapped",
]

T = TypeVar("T")
R = TypeVar("R")

MASK_ENDINGS = {
    "png": "_segmentation.png",
    "nifti": "_segmentation.nii.gz",
    "rle": "_segmentation.rle.json",
    "geojson": "_segmentation.geojson",
    "svg": "_segmentation.svg",
}
"""Mask format -> how the file's name ends after the photo's stem."""
PROBABILITY_ENDING = "_probability.png"
OVERLAY_ENDINGS = {"contour": "_overlay.jpg", "heat": "_heat.jpg", "focus": "_focus.jpg", "strip": "_strip.jpg"}
"""Kind of overlay -> the same."""
# The plain mask and the plain overlay have columns by these names.
_KINDS = {"png": "mask", "contour": "overlay"}
ENDINGS = {
    _KINDS.get(name, name): ending
    for name, ending in {**MASK_ENDINGS, "probability": PROBABILITY_ENDING, **OVERLAY_ENDINGS}.items()
}
"""What a column of hashes is called -> the ending of the file's name."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is written of each photo.

    Attributes:
        threshold: lesion where the probability is at least this, in [0, 1].
        formats: of the mask, keys of ``MASK_ENDINGS``.
        overlays: pictures of the photo with its mask, keys of ``OVERLAY_ENDINGS``.
        save_probabilities: also write the probability as an 8-bit grey picture.
        bits: of each pixel of a PNG mask, 8 (0 and 255) or 1.
        measuring: what the table says beside the lesion's shape.

    Raises:
        ConfigError: the threshold, a format, an overlay or the bits do not exist, or there is no format.
    """

    threshold: float = THRESHOLD
    formats: tuple[str, ...] = ("png",)
    overlays: tuple[str, ...] = ()
    save_probabilities: bool = False
    bits: int = 8
    measuring: Measuring = field(default_factory=Measuring)

    def __post_init__(self) -> None:
        _require_names("mask format", self.formats, MASK_ENDINGS)
        _require_names("overlay", self.overlays, OVERLAY_ENDINGS)
        if not self.formats:
            raise ConfigError("a mask needs a format", fix=f"use one of: {', '.join(MASK_ENDINGS)}")
        if self.bits not in MASK_BITS:
            raise ConfigError(
                f"a mask cannot have {self.bits} bits", fix=f"use one of: {', '.join(map(str, MASK_BITS))}"
            )
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"the threshold {self.threshold} is not in [0, 1]", fix=f"use {THRESHOLD}, the default")

    @property
    def endings(self) -> Mapping[str, str]:
        """Of ``ENDINGS``, what is wanted."""
        names = (*self.formats, *(("probability",) if self.save_probabilities else ()), *self.overlays)
        wanted = {_KINDS.get(name, name) for name in names}
        return {kind: ending for kind, ending in ENDINGS.items() if kind in wanted}

    @property
    def settings(self) -> str:
        """What else changes bytes of the outputs or cells of the table, as ``key=value`` words."""
        bits = f"bits={self.bits}" if "png" in self.formats else ""
        return " ".join(word for word in (bits, self.measuring.settings) if word)


def _require_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    wrong = [repr(name) for name in names if name not in known]
    if wrong:
        raise ConfigError(f"there is no {what} {', '.join(wrong)}", fix=f"use one of: {', '.join(known)}")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A photo, ready for the model.

    Attributes:
        name: how messages call it.
        pixels: ``uint8 h w 3``, RGB, at the model's input size.
        width, height: of the photo, in pixels.
        sha256: hex digest of the photo's bytes.
        data: the photo's bytes.
        warnings: what the decoder says of the file; empty for a plain photo.
    """

    name: str
    pixels: RgbImage
    width: int
    height: int
    sha256: str
    data: bytes
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What is written of one photo.

    Attributes:
        files: ending of the file's name -> bytes.
        lesion_pixels: of the mask.
        lesion_fraction: of the photo, in [0, 1].
        mean_probability: inside the mask, in [0, 1]; None without a lesion.
        measures: cells of ``measurements.MEASURES``.
        seen: the probability that was given, or nothing but 0 where no pixel of the photo is lesion: a peak between
            two of them is none of the mask, and neither measured nor judged.
    """

    files: Mapping[str, bytes]
    lesion_pixels: int
    lesion_fraction: float
    mean_probability: float | None
    measures: Mapping[str, str]
    seen: Probability


def decode(data: bytes, name: str, height: int, width: int, like: tuple[int, int] | None = None) -> Decoded:
    """Decodes a photo and resizes it to the model's input, as in training.

    Args:
        data: the file's bytes.
        name: how messages call it.
        height, width: of the model's input, in pixels.
        like: height and width of its mask, where there is one, as ``decode_photo`` wants it.

    Raises:
        ImageError: it cannot be decoded.
    """
    photo = decode_fitted(data, name, height, width, like=like)
    digest = hashlib.sha256(data).hexdigest()
    return Decoded(name, photo.pixels, photo.width, photo.height, digest, data, photo.warnings)


def infer(decoded: Decoded, predictor: Predictor) -> Probability:
    """``float32 h w`` in [0, 1], at the model's input size."""
    # A batch of one: in larger ones the last bits depend on the neighbours, and so would a pixel at the threshold.
    probability: Probability = predictor.infer(decoded.pixels[None])[0]
    return probability


class Rendering:
    """One photo's result at the photo's own size; every form of it is made when it is first asked for.

    Args:
        decoded: the photo.
        probability: ``float32 h w`` in [0, 1], any size.
        threshold: lesion where the probability is at least this.
        bits: of each pixel of a PNG mask.
    """

    def __init__(self, decoded: Decoded, probability: Probability, threshold: float, bits: int = 8) -> None:
        self.decoded, self.small, self.threshold, self.bits = decoded, probability, threshold, bits

    @cached_property
    def probability(self) -> Probability:
        """``float32 H W`` in [0, 1]."""
        return resize_probability(self.small, self.decoded.height, self.decoded.width)

    @cached_property
    def lesion(self) -> Thresholded:
        """The mask and its numbers, made without ``probability``."""
        return threshold_at_size(self.small, self.decoded.height, self.decoded.width, self.threshold)

    @property
    def mask(self) -> BoolMask:
        """``bool H W``, True = lesion."""
        return self.lesion.mask

    @cached_property
    def regions(self) -> list[Region]:
        """The mask's outlines."""
        return trace_regions(self.small, self.threshold, self.decoded.height, self.decoded.width)

    @cached_property
    def view(self) -> pictures.View:
        """The result at the size of its pictures."""
        return pictures.view_of(self)

    @cached_property
    def photo(self) -> RgbImage:
        """``uint8 H W 3``, decoded anew: the model's input comes from a reduced scale, drawn upon or not.

        Raises:
            ImageError: the photo cannot be decoded at its full size.
        """
        return decode_photo(self.decoded.data, self.decoded.name).pixels


def encode(
    decoded: Decoded,
    probability: Probability,
    threshold: float,
    endings: Iterable[str],
    bits: int = 8,
    measuring: Measuring | None = None,
) -> Encoded:
    """Brings a probability to the photo's own size, thresholds it there, measures it, and encodes what is asked for.

    Args:
        decoded: the photo.
        probability: ``float32 h w`` in [0, 1], any size.
        threshold: lesion where the probability is at least this.
        endings: keys of ``OUTPUTS``.
        bits: of each pixel of a PNG mask.
        measuring: what is measured; None for nothing.

    Raises:
        ImageError: the photo cannot be decoded at its full size.
    """
    made = Rendering(decoded, probability, threshold, bits)
    seen = probability if made.lesion.lesion_pixels else np.zeros_like(probability)
    return Encoded(
        files={ending: OUTPUTS[ending](made) for ending in endings},
        lesion_pixels=made.lesion.lesion_pixels,
        lesion_fraction=made.lesion.lesion_pixels / made.mask.size,
        mean_probability=made.lesion.mean_probability,
        measures={} if measuring is None else measure_photo(decoded, seen, threshold, measuring),
        seen=seen,
    )


OUTPUTS: dict[str, Callable[[Rendering], bytes]] = {
    MASK_ENDINGS["png"]: lambda made: encode_mask_png(made.mask, made.bits),
    MASK_ENDINGS["nifti"]: lambda made: encode_mask_nifti(made.mask, made.decoded.name),
    MASK_ENDINGS["rle"]: lambda made: encode_rle(made.mask),
    MASK_ENDINGS["geojson"]: lambda made: encode_geojson(made.regions),
    MASK_ENDINGS["svg"]: lambda made: encode_svg(made.regions, made.decoded.height, made.decoded.width),
    PROBABILITY_ENDING: lambda made: encode_probability_png(made.probability),
    OVERLAY_ENDINGS["contour"]: pictures.contour,
    OVERLAY_ENDINGS["heat"]: pictures.heat,
    OVERLAY_ENDINGS["focus"]: pictures.focus,
    OVERLAY_ENDINGS["strip"]: pictures.strip,
}
"""Ending of a file's name -> its bytes."""


def overlapped(pool: Executor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Yields ``work(item)`` in the items' order, computed in the pool at most ``ahead`` items early.

    What ``work`` raises is raised here, at its item's turn.
    """
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

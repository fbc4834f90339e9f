"""One photo at a time, for people at a prompt: a file, bytes or an array in, a prediction that shows itself out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.files import read_bytes
from lesionseg.data.images import DecodedPhoto, decode_photo, fit_photo, resize_probability
from lesionseg.errors import ImageError
from lesionseg.inference.stages import decode, infer
from lesionseg.io.paths import as_path
from lesionseg.records import THRESHOLD, Prediction, RgbImage

if TYPE_CHECKING:
    from lesionseg.inference.predictor import Predictor

__all__ = ["PhotoPrediction", "PhotoSource", "TakesPhotos", "predict_photo"]

PhotoSource = str | Path | bytes | bytearray | memoryview | NDArray[np.uint8]
"""A photo's path, the bytes of its file, or its pixels, ``uint8 H W 3``, RGB."""


@dataclass(frozen=True, eq=False)
class PhotoPrediction(Prediction):
    """A prediction that knows its photo.

    Attributes:
        case_id: the photo's name.
        probability: ``float32 H W`` in [0, 1], at the photo's own size.
        source: the photo, as the bytes of its file or as pixels.
    """

    source: bytes | RgbImage = field(repr=False)

    @cached_property
    def photo(self) -> RgbImage:
        """The photo at its own size, ``uint8 H W 3``, RGB.

        Raises:
            ImageError: it cannot be decoded at its full size.
        """
        if isinstance(self.source, bytes):
            return decode_photo(self.source, self.case_id).pixels
        return self.source

    def outline(self, threshold: float = THRESHOLD) -> RgbImage:
        """The photo with the mask's outline, ``uint8 H W 3``, RGB; see ``overlay.draw_outline``."""
        from lesionseg.inference.overlay import draw_outline

        return draw_outline(self.photo, self.mask(threshold))

    def focus(self, threshold: float = THRESHOLD) -> RgbImage:
        """The photo with all but the lesion blurred, ``uint8 H W 3``, RGB; see ``focus.draw_focus``."""
        from lesionseg.inference.focus import draw_focus

        return draw_focus(self.photo, self.mask(threshold))


class TakesPhotos:
    """What every ``Predictor`` does for people, by what it does for the rest of this room."""

    def predict(self: Predictor, photo: PhotoSource, name: str | None = None) -> PhotoPrediction:
        """See ``Predictor.predict``."""
        return predict_photo(self, photo, name)


def predict_photo(predictor: Predictor, photo: PhotoSource, name: str | None = None) -> PhotoPrediction:
    """Predicts one photo, as ``lesionseg predict`` does.

    Args:
        predictor: the model.
        photo: a path, the bytes of a file, or pixels.
        name: the prediction's case id; by default the file's stem, or ``photo``.

    Raises:
        ImageError: it cannot be read or decoded, or the pixels are not ``uint8 H W 3``.
        NonFiniteError: the model gives NaN.
    """
    if isinstance(photo, str | Path):
        path = as_path(photo)
        return _of_bytes(predictor, read_bytes(path), str(path), name or path.stem)
    if isinstance(photo, bytes | bytearray | memoryview):
        return _of_bytes(predictor, bytes(photo), name or "photo", name or "photo")
    pixels = _checked(np.asarray(photo), name or "photo")
    height, width = pixels.shape[:2]
    whole = DecodedPhoto(pixels, width, height, (0.0, 0.0, float(width), float(height)))
    small = predictor.infer(fit_photo(whole, predictor.height, predictor.width)[None])[0]
    return PhotoPrediction(name or "photo", resize_probability(small, height, width), pixels)


def _of_bytes(predictor: Predictor, data: bytes, called: str, name: str) -> PhotoPrediction:
    decoded = decode(data, called, predictor.height, predictor.width)
    probability = resize_probability(infer(decoded, predictor), decoded.height, decoded.width)
    return PhotoPrediction(name, probability, data)


def _checked(pixels: NDArray[np.uint8], name: str) -> RgbImage:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape) < 2:
        raise ImageError(
            f"{name} is an array of {pixels.dtype} {' x '.join(map(str, pixels.shape))}, not of uint8 H x W x 3",
            fix="pass RGB values of 0 to 255, without transparency, or the photo's path",
        )
    return pixels

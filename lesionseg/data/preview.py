"""A contact sheet of a config's augmentation, to look at before a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from lesionseg.config import RunConfig
from lesionseg.data.labels import labels_of
from lesionseg.data.loader import PairDataset, decode_pairs
from lesionseg.data.transforms import augmentation
from lesionseg.records import Case, RgbImage

__all__ = ["contact_sheet"]

_GAP = 4
_OUTLINE = np.array([0, 255, 128], np.uint8)


def contact_sheet(config: RunConfig, cases: Sequence[Case], epochs: int = 7) -> RgbImage:
    """One row per case: as it is, then as the first epochs of a training see it, the outlines of its classes drawn in.

    Args:
        config: the run's settings.
        cases: a few training cases; the first gets the augmentation of index 0, and so on.
        epochs: how many are shown.

    Returns:
        ``uint8 H W 3``.

    Raises:
        DataError: listing every case that cannot be used.
    """
    height, width = config.data.image_size
    photos, masks = decode_pairs(cases, height, width, labels=labels_of(config.data))
    varied = PairDataset(photos, masks, augmentation(config.data, config.loop.seed))
    plain = PairDataset(photos, masks)
    sheet = np.full((len(cases) * (height + _GAP) - _GAP, (epochs + 1) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for row in range(len(cases)):
        items = [plain[0, row], *(varied[epoch, row] for epoch in range(epochs))]
        for column, item in enumerate(items):
            top, left = row * (height + _GAP), column * (width + _GAP)
            picture = item["image"].numpy().transpose(1, 2, 0)
            sheet[top : top + height, left : left + width] = _outlined(picture, item["mask"].numpy()[0])
    return sheet


def _outlined(picture: RgbImage, mask: NDArray[np.uint8]) -> RgbImage:
    result = picture.copy()
    for index in range(1, int(mask.max(initial=0)) + 1):
        part = mask >= index
        result[part & ~binary_erosion(part, border_value=1)] = _OUTLINE
    return result

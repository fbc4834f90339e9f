"""MONAI dictionary transforms on ``{"image": uint8 3 H W, "mask": uint8 1 H W}``, seeded per item."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from numpy.typing import NDArray

from lesionseg.config import DataConfig
from lesionseg.errors import ConfigError

__all__ = ["Augmentation", "augmentation"]

_KEYS = ("image", "mask")


class Augmentation:
    """Random transforms whose outcome depends on (seed, epoch, index) alone.

    MONAI transforms draw from their own state and ignore global seeds, so the state is set anew for every item; the
    order of items and the number of worker processes then change nothing.
    """

    def __init__(self, steps: list[Any], seed: int) -> None:
        self._compose = mt.Compose(steps)
        self._seed = seed

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], epoch: int, index: int
    ) -> dict[str, torch.Tensor]:
        """Transforms one item.

        Args:
            image: ``uint8 3 H W``.
            mask: ``uint8 1 H W``.
            epoch: counted from 0.
            index: of the item in its data set.

        Returns:
            ``image`` (``uint8 3 H W``) and ``mask`` (``uint8 1 H W``) tensors.
        """
        seed = int(np.random.default_rng((self._seed, epoch, index)).integers(2**32))
        self._compose.set_random_state(seed=seed)
        item: Mapping[str, Any] = self._compose({"image": image, "mask": mask})
        return {key: torch.as_tensor(np.ascontiguousarray(item[key])) for key in _KEYS}


def augmentation(config: DataConfig, seed: int) -> Augmentation | None:
    """The training augmentation that a config asks for; None where it asks for none.

    Raises:
        ConfigError: turns by 90 degrees are asked for on inputs that are not square.
    """
    steps: list[Any] = []
    if config.flip:
        steps += [mt.RandFlipd(_KEYS, prob=config.flip, spatial_axis=axis) for axis in (0, 1)]
    if config.rotate90:
        if config.image_size[0] != config.image_size[1]:
            raise ConfigError(
                f"data.rotate90={config.rotate90} needs a square data.image_size, not {list(config.image_size)}",
                fix="set data.rotate90=0 or a square data.image_size",
            )
        steps.append(mt.RandRotate90d(_KEYS, prob=config.rotate90, max_k=3))
    if config.rotate or config.scale:
        steps.append(
            mt.RandAffined(
                _KEYS,
                prob=1.0,
                rotate_range=math.radians(config.rotate),
                # MONAI's factor stretches the grid that is read, so it zooms out where it is over 1.
                scale_range=[(-config.scale, config.scale)] * 2 if config.scale else None,
                mode=("bilinear", "nearest"),
                padding_mode="reflection",
            )
        )
    if config.brightness:
        steps.append(mt.RandScaleIntensityd("image", factors=config.brightness, prob=1.0))
    if config.colour:
        steps.append(mt.RandScaleIntensityd("image", factors=config.colour, prob=1.0, channel_wise=True))
    if config.rotate or config.scale or config.brightness or config.colour:
        steps += [mt.Lambdad("image", lambda image: image.clip(0, 255).round()), mt.CastToTyped(_KEYS, np.uint8)]
    return Augmentation(steps, seed) if steps else None

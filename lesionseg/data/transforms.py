"""MONAI dictionary transforms on ``{"image": uint8 3 H W, "mask": uint8 1 H W}``, seeded per item."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.transforms import MapTransform, Randomizable
from numpy.typing import NDArray

from lesionseg.config import DataConfig
from lesionseg.data.artefacts import ARTEFACTS, Field, draw_hair
from lesionseg.data.retaken import from_afar, through_haze, through_jpeg, through_lens, under_melanin
from lesionseg.errors import ConfigError
from lesionseg.records import BoolMask, RgbImage

__all__ = ["Augmentation", "RandArtefactsd", "RandJpegd", "RandLightd", "RandRetakend", "augmentation"]

_KEYS = ("image", "mask")
_FINE_JPEG = 95
_OTHER_ARTEFACTS = tuple(name for name in ARTEFACTS if name != "hair")


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
        # MONAI's dropout writes into its input.
        item: Mapping[str, Any] = self._compose({"image": image.copy(), "mask": mask})
        return {key: torch.as_tensor(np.ascontiguousarray(item[key])) for key in _KEYS}


class RandArtefactsd(MapTransform, Randomizable):  # type: ignore[misc]
    """Draws one or two artefacts other than hair over a picture, ``uint8 or float 3 H W`` in [0, 255], with probability
    ``prob``; ``mask`` (``1 H W``, lesion where it is not 0) says what they keep clear of.
    """

    def __init__(self, keys: str, mask: str, prob: float) -> None:
        super().__init__(keys)
        self.mask, self.prob = mask, prob

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """See the class."""
        item = dict(data)
        mask = np.asarray(item[self.mask])[0] > 0
        for key in self.keys:
            # Stickers and fields of view are placed around the lesion, so there must be one, and not it alone.
            if self.R.random() < self.prob and 0 < np.count_nonzero(mask) < mask.size:
                rng = np.random.default_rng(self.R.randint(2**31))
                item[key] = _in_linear_light(item[key], partial(_some_artefacts, mask=mask, rng=rng))
        return item


def _some_artefacts(light: Field, mask: BoolMask, rng: np.random.Generator) -> Field:
    for name in rng.choice(_OTHER_ARTEFACTS, rng.integers(1, 3), replace=False):
        _, draw = ARTEFACTS[name]
        light = np.clip(draw(light, mask, rng), 0, 1)
    return light


class RandLightd(MapTransform, Randomizable):  # type: ignore[misc]
    """Changes the light of a picture, ``uint8 or float 3 H W`` in [0, 255], with probability ``prob``.

    ``draw`` takes linear light, ``float32 H W 3`` in [0, 1], and the generator of its random numbers as ``rng``.
    """

    def __init__(self, keys: str, draw: Callable[..., Field], prob: float) -> None:
        super().__init__(keys)
        self.draw, self.prob = draw, prob

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """See the class."""
        item = dict(data)
        for key in self.keys:
            if self.R.random() < self.prob:
                rng = np.random.default_rng(self.R.randint(2**31))
                item[key] = _in_linear_light(item[key], partial(self.draw, rng=rng))
        return item


class RandRetakend(MapTransform, Randomizable):  # type: ignore[misc]
    """Takes picture and mask anew together, with probability ``prob``.

    ``take`` has the photo, ``uint8 H W 3``, the mask, ``bool H W``, and the generator of its random numbers.
    """

    def __init__(
        self,
        image: str,
        mask: str,
        take: Callable[[RgbImage, BoolMask, np.random.Generator], tuple[RgbImage, BoolMask]],
        prob: float,
    ) -> None:
        super().__init__((image, mask))
        self.take, self.prob = take, prob

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """See the class."""
        item = dict(data)
        if self.R.random() < self.prob:
            rng = np.random.default_rng(self.R.randint(2**31))
            mask = np.asarray(item[self.keys[1]])
            photo, found = self.take(_as_photo(item[self.keys[0]]), mask[0] > 0, rng)
            item[self.keys[0]] = np.ascontiguousarray(photo.transpose(2, 0, 1))
            item[self.keys[1]] = found[None].astype(mask.dtype)
        return item


class RandJpegd(MapTransform, Randomizable):  # type: ignore[misc]
    """Makes a picture, ``uint8 or float 3 H W`` in [0, 255], a JPEG file and reads it, with probability ``prob``.

    The quality is drawn evenly from ``least`` to 95; colours are stored at half the size, as cameras do.
    """

    def __init__(self, keys: str, least: int, prob: float) -> None:
        super().__init__(keys)
        self.least, self.prob = least, prob

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """See the class."""
        item = dict(data)
        for key in self.keys:
            if self.R.random() < self.prob:
                quality = int(self.R.randint(self.least, max(self.least, _FINE_JPEG) + 1))
                item[key] = np.ascontiguousarray(through_jpeg(_as_photo(item[key]), quality).transpose(2, 0, 1))
        return item


def _as_photo(image: Any) -> RgbImage:
    photo: RgbImage = np.asarray(image).clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)
    return photo


def _darker_skin(light: Field, rng: np.random.Generator, most: float) -> Field:
    return under_melanin(light, rng.uniform(0, most), rng.uniform(0, 1))


def _hazy(light: Field, rng: np.random.Generator, most: float) -> Field:
    return through_haze(light, rng.uniform(0, most))


def _farther(photo: RgbImage, mask: BoolMask, rng: np.random.Generator, most: float) -> tuple[RgbImage, BoolMask]:
    return from_afar(photo, mask, rng.uniform(1, most), (rng.random(), rng.random()))


def _round(photo: RgbImage, mask: BoolMask, rng: np.random.Generator) -> tuple[RgbImage, BoolMask]:
    centre = rng.normal(0.5, 0.04), rng.normal(0.5, 0.04)
    return through_lens(photo, mask, rng.uniform(0.4, 0.6), centre, int(rng.integers(0, 30)))


def _whole_levels(image: Any) -> Any:
    # A named function: worker processes that are spawned get their transforms pickled.
    return image.clip(0, 255).round()


def _in_linear_light(image: Any, draw: Callable[[Field], Field]) -> NDArray[np.uint8]:
    photo = np.asarray(image, np.float32).transpose(1, 2, 0) / np.float32(255)
    # Squaring is close enough to linear light for what is drawn.
    drawn = np.sqrt(np.clip(draw(photo**2), 0, 1)) * np.float32(255)
    return np.asarray(drawn.transpose(2, 0, 1).round(), np.uint8)


def augmentation(config: DataConfig, seed: int) -> Augmentation | None:
    """The training augmentation that a config asks for; None where it asks for none.

    Raises:
        ConfigError: turns by 90 degrees are asked for on inputs that are not square, or another distance or a round
            field of view on masks of several classes.
    """
    steps = [*_moves(config), *_scene(config), *_camera(config)]
    if not steps:
        return None
    # MONAI's dropout, affine and intensity transforms compute in float.
    steps += [mt.Lambdad("image", _whole_levels), mt.CastToTyped(_KEYS, np.uint8)]
    return Augmentation(steps, seed)


def _moves(config: DataConfig) -> Iterator[Any]:
    """What moves image and mask together."""
    height, width = config.image_size
    if config.flip:
        yield from (mt.RandFlipd(_KEYS, prob=config.flip, spatial_axis=axis) for axis in (0, 1))
    if config.rotate90:
        if height != width:
            raise ConfigError(
                f"data.rotate90={config.rotate90} needs a square data.image_size, not {list(config.image_size)}",
                fix="set data.rotate90=0 or a square data.image_size",
            )
        yield mt.RandRotate90d(_KEYS, prob=config.rotate90, max_k=3)
    if config.rotate or config.scale or config.shift:
        yield mt.RandAffined(
            _KEYS,
            prob=1.0,
            rotate_range=math.radians(config.rotate),
            # MONAI's factor stretches the grid that is read, so it zooms out where it is over 1.
            scale_range=[(-config.scale, config.scale)] * 2 if config.scale else None,
            translate_range=[config.shift * side for side in (height, width)] if config.shift else None,
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
        )
    if (config.distance > 1 or config.lens) and len(config.class_names) > 1:
        raise ConfigError(
            f"data.distance={config.distance:g} and data.lens={config.lens:g} need binary masks",
            fix="set data.distance=1 and data.lens=0, or leave out data.classes and data.trimap",
        )
    if config.distance > 1:
        yield RandRetakend(*_KEYS, partial(_farther, most=config.distance), prob=0.3)
    if config.lens:
        yield RandRetakend(*_KEYS, _round, prob=config.lens)


def _scene(config: DataConfig) -> Iterator[Any]:
    """What lies before the lens; like ``_camera``, it changes the image alone."""
    if config.melanin:
        yield RandLightd("image", partial(_darker_skin, most=config.melanin), prob=0.5)
    if config.haze:
        yield RandLightd("image", partial(_hazy, most=config.haze), prob=0.3)
    if config.hair:
        yield RandLightd("image", draw_hair, config.hair)
    if config.artefacts:
        yield RandArtefactsd("image", "mask", config.artefacts)


def _camera(config: DataConfig) -> Iterator[Any]:
    """What the lamp, the lens and the sensor do."""
    height, width = config.image_size
    if config.brightness:
        yield mt.RandScaleIntensityd("image", factors=config.brightness, prob=1.0)
    if config.colour:
        yield mt.RandScaleIntensityd("image", factors=config.colour, prob=1.0, channel_wise=True)
    if config.contrast:
        # MONAI stretches to [0, 1] and back by the picture's own least and largest value.
        gamma = (1 - config.contrast, 1 / (1 - config.contrast))
        yield mt.RandAdjustContrastd("image", gamma=gamma, prob=0.5)
    if config.illumination:
        yield mt.RandBiasFieldd("image", degree=2, coeff_range=(-config.illumination, config.illumination), prob=1.0)
    if config.blur:
        sigma = (0.1, max(config.blur, 0.1))
        yield mt.RandGaussianSmoothd("image", sigma_x=sigma, sigma_y=sigma, prob=0.3)
    if config.noise:
        yield mt.RandGaussianNoised("image", std=config.noise, prob=0.3)
    if config.jpeg < 100:
        yield RandJpegd("image", config.jpeg, prob=0.3)
    if config.cutout:
        yield mt.RandCoarseDropoutd(
            "image",
            holes=1,
            spatial_size=(height // 8, width // 8),
            max_spatial_size=(height // 3, width // 3),
            fill_value=(0, 255),
            prob=config.cutout,
        )

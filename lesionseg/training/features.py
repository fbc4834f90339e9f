"""A frozen encoder's features, computed once: what never changes need not be computed in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionseg.config import DataConfig, RunConfig
from lesionseg.data.loader import PairDataset
from lesionseg.errors import ConfigError, ResourceError
from lesionseg.models import Encoder
from lesionseg.training.limits import machine_memory

__all__ = ["FeatureDataset", "features_of", "require_cacheable"]

_PREFIX = "feature."
_BATCH = 16
# Where each pixel of a 2 x 2 picture ends up tells which flips were drawn.
_MARKER = np.array([[[0, 1], [2, 3]]], np.uint8)
_FIXED = (
    *("rotate90", "rotate", "scale", "shift", "distance", "lens", "brightness", "colour", "contrast", "illumination"),
    *("blur", "noise", "jpeg", "melanin", "haze", "hair", "artefacts", "cutout"),
)


def require_cacheable(config: RunConfig) -> None:
    """Makes sure that a picture has a few fixed forms only, whose features can be kept.

    Raises:
        ConfigError: the encoder is trained, or naming each augmentation besides flips.
    """
    problems = [] if config.optim.frozen else [f"optim.encoder_lr={config.optim.encoder_lr:g}: the encoder changes"]
    problems += [f"data.{key}={value:g}" for key in _FIXED if (value := getattr(config.data, key)) != _off(key)]
    if problems:
        raise ConfigError(
            "loop.cache_features=true keeps the features of pictures that stay the same or are flipped",
            problems=problems,
            fix="leave these out, or set loop.cache_features=false",
        )


def _off(key: str) -> Any:
    return DataConfig.model_fields[key].default


class FeatureDataset(PairDataset):
    """Decoded pairs with the frozen encoder's features of each flip, computed on construction, kept as float16.

    An item holds what ``PairDataset`` gives, and each tap's ``float16 C h w`` under ``feature.<tap>``.

    Args:
        source: the pairs; of its augmentation only flips may be on.
        encoder: frozen, on the device that it is to run on.
        progress: called with (done, total).

    Raises:
        ResourceError: the features would take more than half of the machine's memory.
    """

    def __init__(
        self,
        source: PairDataset,
        encoder: Encoder,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(source.photos, source.masks, source.augment)
        self._forms = 1 if source.augment is None else 4
        self._features: dict[str, Tensor] = {}
        total = self._forms * len(self)
        device = encoder.mean.device
        for start in range(0, total, _BATCH):
            items = [divmod(position, len(self)) for position in range(start, min(start + _BATCH, total))]
            photos = np.stack([_flipped(self.photos[index].transpose(2, 0, 1), form) for form, index in items])
            batch = torch.from_numpy(photos).to(device, memory_format=torch.channels_last)
            with torch.no_grad():
                found = encoder(batch)
            for tap, values in found.items():
                if tap not in self._features:
                    self._features[tap] = self._room(total, values, found)
                self._features[tap][start : start + len(values)] = values.permute(0, 2, 3, 1)
            if progress:
                progress(min(start + _BATCH, total), total)

    @staticmethod
    def _room(total: int, values: Tensor, found: Mapping[str, Tensor]) -> Tensor:
        needed = total * sum(2 * tap[0].numel() for tap in found.values())
        memory = machine_memory()
        if memory is not None and needed > memory / 2:
            raise ResourceError(
                f"the features would take {needed / 2**30:.1f} GiB of {memory / 2**30:.1f}",
                fix="set loop.cache_features=false, or a smaller data.image_size",
            )
        channels, height, width = values.shape[1:]
        # Channels last, as the network wants them.
        return torch.empty((total, height, width, channels), dtype=torch.float16)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        return {key: value[0] for key, value in self.__getitems__([item]).items()}

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A whole batch: one look-up per tap instead of one per tap and picture."""
        forms = [self._form(epoch, index) for epoch, index in items]
        indices = [index for _, index in items]
        pairs = list(zip(forms, indices, strict=True))
        photos = np.stack([_flipped(self.photos[index].transpose(2, 0, 1), form) for form, index in pairs])
        masks = np.stack([_flipped(self.masks[index], form) for form, index in pairs])
        positions = torch.tensor([form * len(self) + index for form, index in pairs])
        batch = {"image": torch.from_numpy(photos), "mask": torch.from_numpy(masks), "index": torch.tensor(indices)}
        return batch | {
            _PREFIX + tap: values.index_select(0, positions).permute(0, 3, 1, 2)
            for tap, values in self._features.items()
        }

    def _form(self, epoch: int, index: int) -> int:
        if self.augment is None:
            return 0
        # The same seeds draw the same flips for a picture of four pixels.
        return int(self.augment(np.repeat(_MARKER, 3, axis=0), _MARKER, epoch, index)["mask"][0, 0, 0])


def _flipped(picture: NDArray[Any], form: int) -> NDArray[Any]:
    """``C H W``; form 1 is mirrored left to right, 2 top to bottom, 3 both. Always a copy."""
    axes = tuple(axis for axis, bit in ((2, 1), (1, 2)) if form & bit)
    return np.array(np.flip(picture, axes) if axes else picture, order="C")


def features_of(
    batch: Mapping[str, Tensor], device: torch.device, layout: torch.memory_format, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The features in a batch by tap, ``N C h w`` on the device; empty where it holds pictures alone."""
    return {
        key.removeprefix(_PREFIX): value.to(device, dtype, non_blocking=True, memory_format=layout)
        for key, value in batch.items()
        if key.startswith(_PREFIX)
    }

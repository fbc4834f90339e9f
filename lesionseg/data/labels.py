"""What the pixels of masks mean to a run: lesion or not, a trimap made of that, or classes by value or colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lesionseg.config import DataConfig
from lesionseg.data.classes import ClassMask, ClassSpec, trimap
from lesionseg.data.images import read_class_mask, read_mask
from lesionseg.data.resizing import resize_classes, resize_mask
from lesionseg.errors import ConfigError, ImageError
from lesionseg.records import BoolMask

__all__ = ["BINARY", "Labels", "labels_of"]


@dataclass(frozen=True, slots=True)
class Labels:
    """How masks are read.

    Attributes:
        names: of the classes, in the order of their indices; one name means a binary mask.
        classes: values or colours of each class in the files; None where the files are binary.
        band: width of a trimap's border in pixels to each side, at the size that the mask is brought to; None makes no
            trimap.
    """

    names: tuple[str, ...] = ("lesion",)
    classes: Mapping[str, ClassSpec] | None = None
    band: float | None = None

    def read(self, path: Path) -> BoolMask | ClassMask:
        """A mask at its own size: ``bool H W``, or ``uint8 H W`` with class indices.

        Raises:
            ConfigError: the classes cannot be used.
            ImageError: the file cannot be read, or its values are not those that were expected.
        """
        return read_mask(path) if self.classes is None else read_class_mask(path, self.classes)

    def fit(self, mask: BoolMask | ClassMask, height: int, width: int) -> BoolMask | ClassMask:
        """What ``read`` gave, at another size, nearest neighbour; a trimap's border is drawn there."""
        if self.classes is not None:
            return resize_classes(mask.astype("uint8"), height, width)
        small = resize_mask(mask.astype("bool"), height, width)
        return small if self.band is None else trimap(small, self.band)

    @property
    def lesion_weights(self) -> tuple[float, ...]:
        """What each class's probability adds to the lesion's: a trimap's border lies half on each side of the outline.

        Raises:
            ConfigError: no class is called lesion.
        """
        if self.band is not None:
            return (0.0, 0.5, 1.0)
        return tuple(float(index == self._lesion) for index in range(len(self.names)))

    def lesion(self, mask: BoolMask | ClassMask) -> BoolMask:
        """Where a mask that ``read`` gave shows lesion, ``bool H W``.

        Raises:
            ConfigError: no class is called lesion.
        """
        return mask.astype("bool") if self.classes is None else mask == self._lesion

    @property
    def outline_weights(self) -> tuple[float, ...]:
        """The same against a binary mask: a class called border lies half on each side of the outline, too.

        Raises:
            ConfigError: no class is called lesion.
        """
        if self.classes is None or "border" not in self.names:
            return self.lesion_weights
        return tuple(
            0.5 if name == "border" else own for name, own in zip(self.names, self.lesion_weights, strict=True)
        )

    def read_lesion(self, path: Path) -> tuple[BoolMask, bool]:
        """Where a mask's file shows lesion, ``bool H W``, and whether it is a binary mask where classes were expected.

        So can runs of different classes be compared, on the masks that have none.

        Raises:
            ConfigError: the classes cannot be used, or none is called lesion.
            ImageError: the file can be read neither way.
        """
        try:
            return self.lesion(self.read(path)), False
        except ImageError as error:
            if self.classes is None:
                raise
            try:
                return read_mask(path), True
            except ImageError:
                raise error from None

    @property
    def _lesion(self) -> int:
        if "lesion" not in self.names:
            raise ConfigError(
                f"none of the classes {', '.join(self.names)} is called lesion",
                fix="call the class that is to be found 'lesion' in data.classes",
            )
        return self.names.index("lesion")


BINARY = Labels()
"""Lesion or not."""


def labels_of(config: DataConfig) -> Labels:
    """What a config says of its masks."""
    return Labels(config.class_names, config.classes, config.trimap)

"""The nouns that travel between the rooms: frozen, complete and valid from construction on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = [
    "THRESHOLD",
    "BoolMask",
    "Case",
    "CaseScore",
    "Checkpoint",
    "Pair",
    "Prediction",
    "Probability",
    "RgbImage",
]

THRESHOLD = 0.5
"""A pixel is lesion where its probability is at least this."""

RgbImage = NDArray[np.uint8]
"""``uint8 H W 3``, RGB."""
BoolMask = NDArray[np.bool_]
"""``bool H W``, True = lesion."""
Probability = NDArray[np.float32]
"""``float32 H W`` in [0, 1]."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Case:
    """One photo, with its mask where there is one, as a manifest row describes it.

    Attributes:
        case_id: unique in its manifest, for example ``ISIC_0000000``.
        image: the photo.
        mask: its mask, or None for a photo without labels.
        split: ``train``, ``val``, ``test`` or another name; empty when unknown.
        group: cases of one patient, lesion or duplicate cluster share it; the case id when unknown.
        labels: further columns of the manifest, for example ``{"diagnosis": "benign"}``.
        width, height: size of the photo in pixels; 0 when unknown.
        sha256: hex digest of the photo's bytes; empty when unknown.
    """

    case_id: str
    image: Path
    mask: Path | None = None
    split: str = ""
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    width: int = 0
    height: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.case_id), "a case needs an id")
        _require(self.width >= 0 and self.height >= 0, f"{self.case_id}: negative size")
        if not self.group:
            object.__setattr__(self, "group", self.case_id)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A decoded photo and its mask.

    Attributes:
        case_id: the case they belong to.
        image: ``uint8 H W 3``, RGB.
        mask: ``bool H W``, or ``uint8 H W`` with class indices; the same height and width.
    """

    case_id: str
    image: RgbImage
    mask: BoolMask | NDArray[np.uint8]

    def __post_init__(self) -> None:
        _require(
            self.image.dtype == np.uint8 and self.image.ndim == 3 and self.image.shape[2] == 3,
            f"{self.case_id}: the photo must be uint8 H W 3",
        )
        _require(self.mask.dtype in (np.bool_, np.uint8), f"{self.case_id}: the mask must be bool or uint8")
        _require(self.mask.shape == self.image.shape[:2], f"{self.case_id}: photo and mask differ in size")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of one photo, at the photo's own size.

    Attributes:
        case_id: the photo's case id or file stem.
        probability: ``float32 H W`` in [0, 1].
    """

    case_id: str
    probability: Probability

    def __post_init__(self) -> None:
        p = self.probability
        _require(p.dtype == np.float32 and p.ndim == 2 and p.size > 0, f"{self.case_id}: need float32 H W")
        _require(bool(p.min() >= 0 and p.max() <= 1), f"{self.case_id}: probability outside [0, 1] or NaN")

    def mask(self, threshold: float = THRESHOLD) -> BoolMask:
        """``bool H W``: where the probability is at least ``threshold``."""
        result: BoolMask = self.probability >= threshold
        return result


@dataclass(frozen=True, slots=True)
class CaseScore:
    """Confusion counts of one mask against its truth, in pixels; every metric is a function of these.

    Attributes:
        case_id: the case.
        tp: lesion in both. fp: only in the prediction. fn: only in the truth. tn: in neither.
    """

    case_id: str
    tp: int
    fp: int
    fn: int
    tn: int

    def __post_init__(self) -> None:
        _require(min(self.tp, self.fp, self.fn, self.tn) >= 0, f"{self.case_id}: negative count")
        _require(self.tp + self.fp + self.fn + self.tn > 0, f"{self.case_id}: no pixels")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """All that a training needs to go on exactly, and inference to rebuild the model.

    Attributes:
        config: the run's full configuration, as plain JSON values.
        model_spec: what rebuilds the architecture without the weights file (see ``models.ModelSpec``).
        model_state: name -> tensor, parameters and buffers.
        optim_state: name -> tensor; empty when loaded for inference.
        optim_groups: the optimiser's parameter groups, as plain JSON values.
        epoch: finished epochs.
        step: finished steps of the epoch after those; 0 at an epoch's end.
        best: metric name, value and epoch of the best checkpoint so far; empty before the first epoch.
        history: one row per finished epoch.
        partial: running sums of the unfinished epoch.
        scaler: what scales the loss in fp16; empty otherwise.
    """

    config: Mapping[str, Any]
    model_spec: Mapping[str, Any]
    model_state: Mapping[str, torch.Tensor]
    optim_state: Mapping[str, torch.Tensor]
    optim_groups: tuple[Mapping[str, Any], ...]
    epoch: int
    step: int
    best: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    partial: Mapping[str, float]
    scaler: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.epoch >= 0 and self.step >= 0, "epoch and step count from 0")
        _require(len(self.history) == self.epoch, "the history needs one row per finished epoch")

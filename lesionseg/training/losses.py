"""Losses: functions of logits and truth, means over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812 - the field's usual name
from monai.losses import DiceLoss
from torch import Tensor

__all__ = ["LOSSES", "Loss", "bce", "bce_dice", "dice"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits ``N 1 H W`` and truth ``float N 1 H W`` in {0, 1} to a scalar."""

_DICE = DiceLoss(sigmoid=True)


def bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels."""
    return F.binary_cross_entropy_with_logits(logits, truth)


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice of each image, mean over the batch (V-Net, arXiv:1606.04797; MONAI's)."""
    loss: Tensor = _DICE(logits, truth)
    return loss


def bce_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice loss."""
    return bce(logits, truth) + dice(logits, truth)


LOSSES: dict[str, Loss] = {"bce": bce, "dice": dice, "bce_dice": bce_dice}

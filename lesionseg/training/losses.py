"""Losses: functions of logits and truth, means over the batch.

With one channel the truth is 0 or 1 and the probability a sigmoid; with C channels it is a class index and a softmax.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812 - the field's usual name
from monai.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor

from lesionseg.errors import ConfigError

__all__ = ["BINARY_LOSSES", "CLASS_LOSSES", "Loss", "find_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits ``N C H W`` and truth ``float N 1 H W`` (0 and 1, or class indices) to a scalar."""


def _bce(logits: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, truth)


def _ce(logits: Tensor, truth: Tensor) -> Tensor:
    return F.cross_entropy(logits, truth[:, 0].long())


def _sum(*losses: Loss) -> Loss:
    def total(logits: Tensor, truth: Tensor) -> Tensor:
        first, *rest = (loss(logits, truth) for loss in losses)
        return sum(rest, start=first)

    return total


_DICE = DiceLoss(sigmoid=True)
_CLASS_DICE = DiceLoss(softmax=True, to_onehot_y=True)

BINARY_LOSSES: dict[str, Loss] = {
    "bce": _bce,
    "dice": _DICE,
    "bce_dice": _sum(_bce, _DICE),
    "focal": FocalLoss(gamma=2.0),
    "tversky": TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7),
}
"""Binary cross-entropy; 1 - soft Dice per image (arXiv:1606.04797); their sum; focal at gamma 2 (arXiv:1708.02002);
Tversky with false negatives weighing 0.7 against 0.3 (arXiv:1706.05721). All but the first are MONAI's."""

CLASS_LOSSES: dict[str, Loss] = {
    "ce": _ce,
    "dice": _CLASS_DICE,
    "ce_dice": _sum(_ce, _CLASS_DICE),
    "focal": FocalLoss(gamma=2.0, to_onehot_y=True, use_softmax=True),
    "tversky": TverskyLoss(softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7),
}
"""The same for several classes, with cross-entropy in place of its binary form."""


def find_loss(name: str, classes: int) -> Loss:
    """The loss of a name for so many output channels.

    Raises:
        ConfigError: it is not defined for them.
    """
    known = BINARY_LOSSES if classes == 1 else CLASS_LOSSES
    if name not in known:
        raise ConfigError(
            f"there is no loss {name!r} for {classes} output channels", fix=f"use one of: {', '.join(known)}"
        )
    return known[name]

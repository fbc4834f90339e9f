"""Losses: functions of logits and truth, means over the batch.

With one channel the truth is 0 or 1 and the probability a sigmoid; with C channels it is a class index and a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from monai.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor

from lesionseg.errors import ConfigError

__all__ = ["BINARY_LOSSES", "CLASS_LOSSES", "Loss", "Weighted", "find_loss", "require_trimmable", "trimmed"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits ``N C H W`` and truth ``float N 1 H W`` (0 and 1, or class indices) to a scalar."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A loss that class weights may shape: built from them, of which there may be none."""

    build: Callable[[Sequence[float]], Loss]


def _bce(weights: Sequence[float]) -> Loss:
    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        weight = logits.new_tensor(weights[0]) if weights else None
        return F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight)

    return loss


def _ce(weights: Sequence[float]) -> Loss:
    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        weight = logits.new_tensor(weights) if weights else None
        return F.cross_entropy(logits, truth[:, 0].long(), weight)

    return loss


def _sum(first: Loss, second: Loss) -> Loss:
    return lambda logits, truth: first(logits, truth) + second(logits, truth)


_DICE = DiceLoss(sigmoid=True)
_CLASS_DICE = DiceLoss(softmax=True, to_onehot_y=True)

BINARY_LOSSES: dict[str, Loss | Weighted] = {
    "bce": Weighted(_bce),
    "dice": _DICE,
    "bce_dice": Weighted(lambda weights: _sum(_bce(weights), _DICE)),
    "focal": FocalLoss(gamma=2.0),
    "tversky": TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7),
}
"""Binary cross-entropy; 1 - soft Dice per image (arXiv:1606.04797); their sum; focal at gamma 2 (arXiv:1708.02002);
Tversky with false negatives weighing 0.7 against 0.3 (arXiv:1706.05721). All but the first are MONAI's."""

CLASS_LOSSES: dict[str, Loss | Weighted] = {
    "ce": Weighted(_ce),
    "dice": _CLASS_DICE,
    "ce_dice": Weighted(lambda weights: _sum(_ce(weights), _CLASS_DICE)),
    "focal": FocalLoss(gamma=2.0, to_onehot_y=True, use_softmax=True),
    "tversky": TverskyLoss(softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7),
}
"""The same for several classes, with cross-entropy in place of its binary form."""


def find_loss(name: str, classes: int, weights: Sequence[float] = ()) -> Loss:
    """The loss of a name.

    Args:
        name: a key of ``BINARY_LOSSES``, or with several classes of ``CLASS_LOSSES``.
        classes: channels of the logits.
        weights: of the classes in the cross-entropy, or that of the lesion; none: all 1.

    Raises:
        ConfigError: it is not defined for them.
    """
    known = BINARY_LOSSES if classes == 1 else CLASS_LOSSES
    if name not in known:
        raise ConfigError(
            f"there is no loss {name!r} for {classes} output channels", fix=f"use one of: {', '.join(known)}"
        )
    if weights and len(weights) != classes:
        raise ConfigError(
            f"optim.class_weights holds {len(weights)} numbers for {classes} output channels",
            fix="give one for each class, or for binary masks that of the lesion",
        )
    loss = known[name]
    if isinstance(loss, Weighted):
        return loss.build(weights)
    if weights:
        able = ", ".join(key for key, other in known.items() if isinstance(other, Weighted))
        raise ConfigError(f"the loss {name!r} takes no optim.class_weights", fix=f"use one of: {able}")
    return loss


def require_trimmable(part: float, count: int) -> None:
    """Makes sure that leaving out a part of so many pictures leaves out one.

    Raises:
        ConfigError: it is less than one of them.
    """
    if part and _kept(count, part) == count:
        raise ConfigError(
            f"optim.trim={part:g} leaves no picture out of {count}, which one process has in a batch",
            fix="raise it or loop.batch_size, or set optim.trim=0",
        )


def _kept(count: int, part: float) -> int:
    # What is whole but for rounding is not rounded up.
    return max(1, math.ceil(count * (1 - part) - 1e-9))


def trimmed(loss: Loss, part: float) -> Loss:
    """The mean over the pictures that fit best (Shen and Sanghavi 2019, arXiv:1810.11874, algorithm 1, batch by batch).

    A mask that is wrong stands out by its loss, once a network has learned what most masks agree on.

    Args:
        loss: of which each picture's is taken by itself.
        part: of the batch that is left out, in [0, 1); at least one picture stays. 0 gives ``loss`` itself.
    """
    if part == 0:
        return loss

    def of_the_best(logits: Tensor, truth: Tensor) -> Tensor:
        each = torch.stack([loss(logits[i : i + 1], truth[i : i + 1]) for i in range(len(truth))])
        return each.topk(_kept(len(each), part), largest=False).values.mean()

    return of_the_best

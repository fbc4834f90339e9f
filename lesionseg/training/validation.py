"""Validation: one row of measures per picture, and their means."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lesionseg.errors import NonFiniteError
from lesionseg.records import THRESHOLD
from lesionseg.training.processes import SharedSampler, share_buffers
from lesionseg.training.state import Parts, forward
from lesionseg.training.trouble import LOWER

__all__ = ["MEASURES", "overlaps", "validate"]

MEASURES = ("val_loss", "val_dice", "val_iou", "val_soft_dice", "val_soft_iou", "val_accuracy")


@torch.inference_mode()
def validate(parts: Parts, batches: Iterable[dict[str, Tensor]], order: SharedSampler) -> dict[str, float]:
    """Means of per-image values over the validation part, at the training size; each picture counts once.

    Raises:
        NonFiniteError: the loss of a picture is not finite.
    """
    net = parts.kept.eval()
    share_buffers(parts.accelerator, net)
    # A row per picture, filled by the process that has it, so that adding up the tables gathers them.
    table = torch.zeros(order.size, len(MEASURES))
    for step, batch in enumerate(batches):
        logits, truth = forward(parts, net, batch)
        losses = torch.stack([parts.loss_of(logits[i : i + 1], truth[i : i + 1]) for i in range(len(truth))])
        values = torch.cat((losses[:, None], overlaps(logits, truth)), dim=1)
        own = order.own(step)
        table[batch["index"][:own]] = values[:own].cpu()
    table = parts.accelerator.reduce(table.to(parts.accelerator.device), "sum").cpu()
    bad = int((~table.isfinite().all(1)).sum())
    if bad:
        raise NonFiniteError(
            f"the validation loss is not finite on {bad} of {len(table)} pictures",
            fix=f"mend the photo that is to blame and go on with --resume; if none is, {LOWER}",
        )
    return dict(zip(MEASURES, table.double().mean(dim=0).tolist(), strict=True))


def overlaps(logits: Tensor, truth: Tensor) -> Tensor:
    """``N 5``: Dice, IoU, soft Dice, soft IoU (means over classes; both empty -> 1), pixel accuracy; per image."""
    if logits.shape[1] == 1:
        soft, target = logits.sigmoid(), truth
        hard = (soft >= THRESHOLD).float()
    else:
        soft, target = logits.softmax(1), _one_hot(truth[:, 0].long(), logits)
        hard = _one_hot(logits.argmax(1), logits)
    columns = []
    for prediction in (hard, soft):
        inter = (prediction * target).flatten(2).sum(2)
        total = prediction.flatten(2).sum(2) + target.flatten(2).sum(2)
        empty = total == 0
        columns.append(torch.where(empty, 1.0, 2 * inter / total).mean(1))
        columns.append(torch.where(empty, 1.0, inter / (total - inter)).mean(1))
    columns.append((hard == target).all(1).flatten(1).float().mean(1))
    return torch.stack(columns, dim=1)


def _one_hot(indices: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(1, indices[:, None], 1.0)

"""BatchNorm folded into the convolution before it (arXiv:1712.05877, section 3.2): the same function in eval mode."""

from __future__ import annotations

from copy import deepcopy
from typing import Protocol, runtime_checkable

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

__all__ = ["Foldable", "affine", "fold_norms"]

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@runtime_checkable
class Foldable(Protocol):
    """A module that knows how to fold a BatchNorm that does not come right after a convolution."""

    def fold(self) -> None:
        """Folds it in place."""


def fold_norms(module: nn.Module) -> nn.Module:
    """A copy whose BatchNorms are part of the convolutions that come right before them, for inference only.

    A BatchNorm is folded where it follows a convolution among its parent's children; what timm's
    ``BatchNormAct2d`` does after normalising, it goes on doing. A ``Foldable`` folds its own. Outputs agree up to
    rounding.
    """
    copy = deepcopy(module).eval()
    for parent in copy.modules():
        if isinstance(parent, Foldable):
            parent.fold()
        previous: nn.Module | None = None
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and isinstance(previous, _CONVOLUTIONS):
                _fold(previous, child)
                setattr(parent, name, child.act if isinstance(child, BatchNormAct2d) else nn.Identity())
            previous = child
    return copy.requires_grad_(False)


@torch.no_grad()
def _fold(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    scale, shift = affine(norm)
    axis = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
    shape = [1] * conv.weight.ndim
    shape[axis] = -1
    conv.weight.mul_(scale.view(shape))
    bias = shift if conv.bias is None else conv.bias * scale + shift
    conv.bias = nn.Parameter(bias, requires_grad=False)


@torch.no_grad()
def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a BatchNorm does in eval mode, as a factor and a summand for each channel, ``float C`` each.

    Raises:
        ValueError: it keeps no running statistics.
    """
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded")
    scale = torch.rsqrt(var + norm.eps) * (1 if norm.weight is None else norm.weight)
    return scale, (0 if norm.bias is None else norm.bias) - mean * scale

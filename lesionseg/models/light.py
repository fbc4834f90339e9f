"""A light decoder on MobileNetV2's five resolutions: joined by addition, refined by 3 x 3 convolutions, ended by a
pixel shuffle; most of its work is done at 1/4 and below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812 - the field's usual name
from timm.layers import make_divisible
from torch import Tensor, nn

from lesionseg.models.folding import affine

__all__ = ["STEPS", "LightDecoder", "Step"]

_DEEP, _CONTEXT = "block17", 128


class Step(NamedTuple):
    """One resolution on the way up: the encoder tap that joins, and the decoder's channels at width 1."""

    skip: str
    width: int
    refinements: int


STEPS = (
    Step("block13", 96, 2),
    Step("block6", 64, 2),
    Step("block3", 40, 2),
    Step("block1", 24, 1),
)


def _refine(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


class _Join(nn.Module):
    """Doubles the deeper features, adds the skip (as feature pyramids do, arXiv:1612.03144), refines the sum."""

    def __init__(self, inputs: int, skip: int, width: int, refinements: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(inputs, width, 1, bias=False)
        self.skip = nn.Conv2d(skip, width, 1, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.refine = nn.Sequential(*(_refine(width) for _ in range(refinements)))

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        # Reduced before it is enlarged: a quarter of the work.
        x = F.interpolate(self.deep(deep), scale_factor=2.0, mode="nearest")
        refined: Tensor = self.refine(self.norm(x + self.skip(skip)))
        return refined

    def fold(self) -> None:
        """Makes the BatchNorm behind the sum part of both its summands, for inference only."""
        norm = self.norm[0]
        if not isinstance(norm, nn.BatchNorm2d):
            return
        scale, shift = affine(norm)
        for conv in (self.deep, self.skip):
            conv.weight = nn.Parameter(conv.weight.detach() * scale.view(-1, 1, 1, 1), requires_grad=False)
        self.skip.bias = nn.Parameter(shift, requires_grad=False)
        self.norm[0] = nn.Identity()


class LightDecoder(nn.Module):
    """From five of the encoder's taps to logits; the whole picture's mean joins at the deepest one, so that a lesion
    that fills the frame is seen as a whole.

    Args:
        dropout: probability with which Dropout2d drops a channel, at the deepest features and before the head.
        classes: channels of the logits.
        channels: tap -> its channels, from ``Encoder.channels``.
        width: multiplies the decoder's own channels, rounded to multiples of 8 as MobileNetV2's are.
    """

    TAPS = (_DEEP, *(step.skip for step in STEPS))
    ANY_WIDTH = True

    def __init__(self, dropout: float, classes: int = 1, *, channels: Mapping[str, int], width: float = 1.0) -> None:
        super().__init__()
        deep = channels[_DEEP]
        context, *widths = (make_divisible(width * count, 8) for count in (_CONTEXT, *(step.width for step in STEPS)))
        self.context = nn.Sequential(
            nn.Conv2d(deep, context, 1, bias=False), nn.BatchNorm2d(context), nn.ReLU(inplace=True)
        )
        # No BatchNorm behind the pooling: on a last batch of one image it would have a single value per channel.
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(deep, context, 1), nn.ReLU(inplace=True))
        self.bottom = nn.Sequential(_refine(context), nn.Dropout2d(dropout))
        self.joins = nn.ModuleList(
            _Join(inputs, channels[step.skip], own, step.refinements)
            for inputs, own, step in zip((context, *widths), widths, STEPS, strict=False)
        )
        self.head = nn.Sequential(
            nn.Dropout2d(dropout), nn.Conv2d(widths[-1], 4 * classes, 3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """``N classes H W`` logits from the taps of ``Encoder.forward``."""
        deep = features[_DEEP]
        x = self.bottom(self.context(deep) + self.pooled(deep))
        for join, step in zip(self.joins, STEPS, strict=True):
            x = join(x, features[step.skip])
        logits: Tensor = self.head(x)
        return logits

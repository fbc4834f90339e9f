"""DeepLabV3+ (arXiv:1802.02611): atrous spatial pyramid pooling, and a decoder on low-level features."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

__all__ = ["DeepLabDecoder"]

_HIGH, _LOW = ("block17", 320), ("expand4", 144)
_WIDTH, _LOW_WIDTH = 256, 48


def _separable(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3 x 3 and pointwise convolution, BatchNorm and ReLU after each, as in the paper's section 3.2."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        *_pointwise(inputs, outputs),
    )


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class DeepLabDecoder(nn.Module):
    """ASPP with image pooling on features at 1/16, joined with the 144-channel expansion at 1/4.

    Args:
        dropout: probability with which Dropout2d drops a channel, after the pyramid and before the classifier.
        classes: channels of the logits.
        rates: of the atrous convolutions; the paper's for output stride 16.
    """

    TAPS = (_HIGH[0], _LOW[0])
    OUTPUT_STRIDE = 16

    def __init__(self, dropout: float, classes: int = 1, rates: tuple[int, ...] = (6, 12, 18)) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_pointwise(_HIGH[1], _WIDTH), *(_separable(_HIGH[1], _WIDTH, r) for r in rates)])
        # No BatchNorm behind the pooling: on a last batch of one image it would have a single value per channel.
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(_HIGH[1], _WIDTH, 1), nn.ReLU(inplace=True))
        self.project = nn.Sequential(_pointwise(_WIDTH * (len(rates) + 2), _WIDTH), nn.Dropout2d(dropout))
        self.low = _pointwise(_LOW[1], _LOW_WIDTH)
        self.refine = nn.Sequential(
            _separable(_WIDTH + _LOW_WIDTH, _WIDTH), _separable(_WIDTH, _WIDTH), nn.Dropout2d(dropout)
        )
        self.head = nn.Conv2d(_WIDTH, classes, 1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """``N classes H W`` logits from the taps of ``Encoder.forward``."""
        high, low = features[_HIGH[0]], self.low(features[_LOW[0]])
        pyramid = [branch(high) for branch in self.branches]
        pyramid.append(self.pooled(high).expand(-1, -1, *high.shape[2:]))
        x = _resize(self.project(torch.cat(pyramid, dim=1)), 4)
        return _resize(self.head(self.refine(torch.cat((x, low), dim=1))), 4)


def _resize(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

"""The U-Net of TensorFlow's segmentation tutorial: MobileNetV2's expanded features, joined by pix2pix upsampling."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["Pix2PixDecoder"]

_SKIPS = ("expand14", "expand7", "expand4", "expand2")
_SKIP_CHANNELS = (576, 192, 144, 96)
_WIDTHS = (512, 256, 128, 64)
_BOTTOM = 320


class Pix2PixDecoder(nn.Module):
    """Transposed 3 x 3 convolutions of stride 2 to 512, 256, 128 and 64 channels, each joined with a skip.

    After tensorflow.org/tutorials/images/segmentation; its upsampling block is that of pix2pix (arXiv:1611.07004).
    At 3 classes, counted as Keras does (with BatchNorm's moving averages), encoder and decoder have 6,504,227
    parameters, 4,660,323 of them trainable with a frozen encoder.

    Args:
        dropout: probability with which Dropout2d drops a channel.
        classes: channels of the logits.
    """

    TAPS = (*_SKIPS, "project17")

    def __init__(self, dropout: float, classes: int = 3) -> None:
        super().__init__()
        inputs = (_BOTTOM, *(width + skip for width, skip in zip(_WIDTHS, _SKIP_CHANNELS, strict=True)))
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(incoming, width, 3, 2, 1, output_padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.Dropout2d(dropout),
                nn.ReLU(inplace=True),
            )
            for (incoming, _), width in zip(pairwise(inputs), _WIDTHS, strict=True)
        )
        self.last = nn.ConvTranspose2d(inputs[-1], classes, 3, 2, 1, output_padding=1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """``N classes H W`` logits from the taps of ``Encoder.forward``."""
        x = features["project17"]
        for up, skip in zip(self.ups, _SKIPS, strict=True):
            x = torch.cat((up(x), features[skip]), dim=1)
        logits: Tensor = self.last(x)
        return logits

"""The nine-skip U-Net: every resolution of MobileNetV2, and the input itself, joins the way up."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["BLOCKS", "Block", "NineSkipDecoder"]


class Block(NamedTuple):
    """One step up: its channels, its transposed convolution, and the encoder tap concatenated after it."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    skip: str


BLOCKS = (
    Block(1280, 320, 1, 1, 0, "block17"),
    Block(640, 160, 3, 1, 1, "block14"),
    Block(320, 96, 2, 2, 0, "block11"),
    Block(192, 64, 3, 1, 1, "block7"),
    Block(128, 32, 2, 2, 0, "block4"),
    Block(64, 24, 2, 2, 0, "block3"),
    Block(48, 16, 2, 2, 0, "block1"),
    Block(32, 32, 1, 1, 0, "stem"),
    Block(64, 3, 2, 2, 0, "input"),
)


class NineSkipDecoder(nn.Module):
    """From the encoder's taps to logits; 1,594,314 parameters at one class.

    Args:
        dropout: probability with which Dropout2d drops a channel.
        classes: channels of the logits.
    """

    def __init__(self, dropout: float, classes: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(b.inputs, b.outputs, b.kernel, b.stride, b.padding),
                nn.BatchNorm2d(b.outputs),
                nn.ReLU(inplace=True),
                nn.Dropout2d(dropout),
            )
            for b in BLOCKS
        )
        self.head = nn.Sequential(nn.Conv2d(6, classes, 1), nn.BatchNorm2d(classes))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """``N classes H W`` logits from the taps of ``Encoder.forward``."""
        x = features["head"]
        for layer, block in zip(self.blocks, BLOCKS, strict=True):
            x = torch.cat((layer(x), features[block.skip]), dim=1)
        logits: Tensor = self.head(x)
        return logits

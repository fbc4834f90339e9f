"""The nine-skip U-Net: every resolution of MobileNetV2, and the input itself, joins the way up."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lesionseg.models.shuffle import as_shuffle

__all__ = ["BLOCKS", "Block", "NineSkipDecoder", "ShuffleDecoder", "to_shuffle"]


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

    TAPS = ("head", *(block.skip for block in BLOCKS))

    def __init__(self, dropout: float, classes: int = 1) -> None:
        super().__init__()
        self.dropout, self.classes = dropout, classes
        self.blocks = nn.ModuleList(
            nn.Sequential(
                self.up(b),
                nn.BatchNorm2d(b.outputs),
                nn.ReLU(inplace=True),
                nn.Dropout2d(dropout),
            )
            for b in BLOCKS
        )
        self.head = nn.Sequential(nn.Conv2d(6, classes, 1), nn.BatchNorm2d(classes))

    @staticmethod
    def up(block: Block) -> nn.Module:
        """The layer that makes a block's output from its input."""
        return nn.ConvTranspose2d(block.inputs, block.outputs, block.kernel, block.stride, block.padding)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """``N classes H W`` logits from the taps of ``Encoder.forward``."""
        x = features["head"]
        for layer, block in zip(self.blocks, BLOCKS, strict=True):
            x = torch.cat((layer(x), features[block.skip]), dim=1)
        logits: Tensor = self.head(x)
        return logits


class ShuffleDecoder(NineSkipDecoder):
    """The same functions, with each transposed convolution written as a convolution (kernel 1 or 3), followed by a
    pixel shuffle (arXiv:1609.05158) where the stride is 2; integer kernels serve these far better.
    """

    @staticmethod
    def up(block: Block) -> nn.Module:
        """The layer that makes a block's output from its input."""
        if block.stride == 1:
            return nn.Conv2d(block.inputs, block.outputs, block.kernel, padding=block.padding)
        return nn.Sequential(nn.Conv2d(block.inputs, block.outputs * block.stride**2, 1), nn.PixelShuffle(block.stride))


def to_shuffle(decoder: NineSkipDecoder) -> ShuffleDecoder:
    """The pixel-shuffle form of a decoder: another module with converted weights, the same function up to rounding."""
    made = ShuffleDecoder(decoder.dropout, decoder.classes)
    state = decoder.state_dict()
    for number, block in enumerate(BLOCKS):
        place = f"blocks.{number}.0"
        layer = decoder.get_submodule(place)
        if not isinstance(layer, nn.ConvTranspose2d):
            raise TypeError(f"{place} is no transposed convolution but {type(layer).__name__}")
        del state[f"{place}.weight"], state[f"{place}.bias"]
        layers = as_shuffle(layer)
        converted = layers[0] if block.stride == 1 else nn.Sequential(*layers)
        state |= {f"{place}.{key}": value for key, value in converted.state_dict().items()}
    made.load_state_dict(state)
    return made.train(decoder.training)

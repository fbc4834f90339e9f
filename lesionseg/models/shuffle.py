"""Transposed convolutions as convolutions and pixel shuffles (arXiv:1609.05158)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["as_shuffle"]


def as_shuffle(layer: nn.ConvTranspose2d) -> list[nn.Module]:
    """A transposed convolution as padding, convolution and pixel shuffle, as far as each is needed.

    Output pixel ``stride * q + r`` is a sum over kernel elements ``r + padding - stride * d`` and input pixels
    ``q + d``: for each r an ordinary convolution (arXiv:1609.07009). Square kernels without groups or dilation.

    Raises:
        ValueError: the output is not ``stride`` times as large as the input.
    """
    stride, kernel, padding = layer.stride[0], layer.kernel_size[0], int(layer.padding[0])
    if kernel + layer.output_padding[0] != stride + 2 * padding or layer.groups != 1 or layer.dilation != (1, 1):
        raise ValueError(f"{layer} does not multiply the size by its stride")
    taps = [(r, d) for r in range(stride) for d in range(-kernel, kernel + 1) if 0 <= r + padding - stride * d < kernel]
    first, last = min(d for _, d in taps), max(d for _, d in taps)
    side = last - first + 1
    weight = torch.zeros(layer.out_channels, stride, stride, layer.in_channels, side, side)
    for row, down in taps:
        for column, right in taps:
            element = layer.weight[:, :, row + padding - stride * down, column + padding - stride * right]
            weight[:, row, column, :, down - first, right - first] = element.detach().T
    even = -first == last
    conv = nn.Conv2d(layer.in_channels, layer.out_channels * stride**2, side, padding=last if even else 0)
    bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
    conv.weight = nn.Parameter(weight.flatten(0, 2), requires_grad=False)
    conv.bias = nn.Parameter(bias.repeat_interleave(stride**2), requires_grad=False)
    pad = [] if even else [nn.ZeroPad2d((-first, last, -first, last))]
    return [*pad, conv, *([nn.PixelShuffle(stride)] if stride > 1 else [])]

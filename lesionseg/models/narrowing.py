"""Weights of a wide MobileNetV2 for a narrow one: whole channels are left out, the least important first.

As filters are pruned in arXiv:1608.08710 (by the L1 norm of weights) and arXiv:1708.06519 (by BatchNorm's factor), in
one step and without data. A channel's importance is the product of the two: how far it swings after its last BatchNorm,
times the L1 norm of the weights that read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["narrowed"]

# What models without a head leave out.
_HEAD = ("conv_head.", "bn2.")
_PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")


@dataclass(slots=True)
class _Group:
    """Channels that stay or go together, by the names of the layers that they run through.

    Attributes:
        size: how many the narrow network has.
        written: convolutions with a filter for each (a depthwise one reads and writes it).
        norms: BatchNorms with a factor for each.
        last: those of them whose outputs are read; where there are several, their sum is.
        read: convolutions whose filters take them in.
    """

    size: int
    written: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)


def narrowed(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The weights that a narrow network takes over from a wide one; those of an equally wide one are left as they are.

    Channels keep their order. Those added by a block's shortcut are one selection in all blocks of a stage, and so are
    an expansion's and its depthwise convolution's.

    Args:
        state: of timm's MobileNetV2, at least as wide everywhere.
        net: timm's MobileNetV2 as it is to be filled; how many channels stay is read off it. Its head may be missing in
            the state, as in those of models without one.

    Returns:
        name -> tensor of the network's shape; the state itself where it belongs to another network.
    """
    made = dict(state)
    wanted = net.state_dict()
    missing = wanted.keys() - made.keys()
    if made.keys() - wanted.keys() or any(not key.startswith(_HEAD) for key in missing):
        return made
    if not all(_covers(value, wanted[key]) for key, value in made.items()):
        return made
    for group in _groups(net):
        # Stable, so that of equally important channels the first ones stay.
        order = torch.argsort(_importance(state, group), descending=True, stable=True)
        _keep(made, group, order[: group.size].sort().values)
    return made


def _covers(wide: Tensor, narrow: Tensor) -> bool:
    return wide.ndim == narrow.ndim and all(a >= b for a, b in zip(wide.shape, narrow.shape, strict=True))


def _groups(net: Any) -> Iterator[_Group]:
    """Every group of a network's channels that may differ between widths."""
    current = _Group(net.conv_stem.out_channels, ["conv_stem"], ["bn1"])
    for place, block in _blocks(net):
        expands = hasattr(block, "conv_pwl")
        if expands:
            current.read.append(f"{place}.conv_pw")
            inner = _Group(block.conv_dw.out_channels, [f"{place}.conv_pw"], [f"{place}.bn1"])
        else:
            # Depthwise separable: the channels that come in are the depthwise convolution's own.
            inner = current
        depthwise_norm, last, norm = ("bn2", "conv_pwl", "bn3") if expands else ("bn1", "conv_pw", "bn2")
        inner.written.append(f"{place}.conv_dw")
        inner.norms.append(f"{place}.{depthwise_norm}")
        inner.last.append(f"{place}.{depthwise_norm}")
        inner.read.append(f"{place}.{last}")
        yield inner
        if not block.has_skip:
            if current is not inner:
                yield current
            current = _Group(getattr(block, last).out_channels)
        current.written.append(f"{place}.{last}")
        current.norms.append(f"{place}.{norm}")
        current.last.append(f"{place}.{norm}")
    current.read.append("conv_head")
    yield current


def _blocks(net: Any) -> Iterator[tuple[str, Any]]:
    for number, stage in enumerate(net.blocks):
        for position, block in enumerate(stage):
            yield f"blocks.{number}.{position}", block


def _importance(state: Mapping[str, Tensor], group: _Group) -> Tensor:
    """``float C``: 0 for a channel that its last BatchNorms hold still, or that nothing reads."""
    swing = sum(state[f"{name}.weight"].abs() for name in group.last)
    read = [state[f"{name}.weight"].abs().sum((0, 2, 3)) for name in group.read if f"{name}.weight" in state]
    return torch.as_tensor(swing * sum(read) if read else swing)


def _keep(state: dict[str, Tensor], group: _Group, kept: Tensor) -> None:
    for name in group.written:
        state[f"{name}.weight"] = state[f"{name}.weight"][kept]
    for name in group.norms:
        state |= {f"{name}.{part}": state[f"{name}.{part}"][kept] for part in _PER_CHANNEL}
    for name in (name for name in group.read if f"{name}.weight" in state):
        state[f"{name}.weight"] = state[f"{name}.weight"][:, kept]

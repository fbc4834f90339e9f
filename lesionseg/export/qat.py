"""A few epochs of training with the rounding of int8 in the forward pass, for networks that lose too much without.

Quantisation-aware training as in arXiv:1712.05877: values are rounded as the integer kernels will round them, gradients
pass as if they were not (straight-through), and the ranges of what flows between the layers are moving averages of what
the training sees. BatchNorms are folded before (section 3.2 there), so that the weights rounded here are those of the
file. Which layers and tensors are rounded is read off the ONNX graph that is quantised afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lesionseg.config import RunConfig, load_config
from lesionseg.data.labels import labels_of
from lesionseg.data.loader import PairDataset, decode_pairs
from lesionseg.data.transforms import augmentation
from lesionseg.export.graph import ExportModule
from lesionseg.export.onnx import trace
from lesionseg.export.quantize import SHIPPED, IntegerLayer, Ranges, Scheme, integer_layers
from lesionseg.io.leftovers import scratch
from lesionseg.models import SegmentationModel
from lesionseg.records import Case
from lesionseg.training.checkpoint import best_checkpoint, load_checkpoint
from lesionseg.training.fit import fit

__all__ = ["Tuned", "fine_tune", "rounded", "tune_on"]

_STEPS = 255
# Of the moving averages; a few epochs are no thousands of steps.
_MOMENTUM = 0.1
_RATE = 1e-4
_PREFIX, _SUFFIX = "model.", ".weight"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A network that has got used to rounding.

    Attributes:
        model: without BatchNorms, ready to be traced; its own weights are float32.
        ranges: tensor of the graph -> smallest and largest value, each range with 0 in it.
        history: the rows of the training, each with the scores of the rounded network on the validation photos.
    """

    model: SegmentationModel
    ranges: Ranges
    history: tuple[Mapping[str, Any], ...]


class _Range(nn.Module):
    """Rounds what passes to 256 steps of a range that it follows while it trains."""

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self.lowest, self.highest = lowest, highest
        # Smallest, largest, and whether anything was seen yet.
        self.register_buffer("seen", torch.zeros(3))
        self.seen: Tensor

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            self._follow(values.detach())
        scale = ((self.seen[1] - self.seen[0]) / _STEPS).clamp_min(1e-9)
        zero = (-self.seen[0] / scale).round().to(torch.int32)
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _STEPS)
        return rounded

    def _follow(self, values: Tensor) -> None:
        smallest, largest = values.aminmax()
        found = torch.stack((smallest, largest)).clamp(self.lowest, self.highest)
        # Zero must be a number of the scale: padding is made of it.
        found = torch.stack((found[0].clamp_max(0), found[1].clamp_min(0)))
        self.seen[:2].lerp_(found, float(_MOMENTUM if self.seen[2] else 1))
        self.seen[2] = 1


class _Weight(nn.Module):
    """Rounds a convolution's weights to whole multiples of a part of the largest one."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme

    def forward(self, weight: Tensor) -> Tensor:
        largest = self.scheme.largest
        peak = weight.detach().abs().amax((1, 2, 3))
        scale = ((peak if self.scheme.per_channel else peak.max().expand_as(peak)) / largest).clamp_min(1e-9)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -largest, largest)
        return rounded


class rounded:  # noqa: N801 - used as a function, in a with statement
    """Within it, some convolutions of a network round their weights, what they take and what they give.

    Args:
        model: from ``prepare``; the ranges are part of it meanwhile.
        layers: of its graph.
        scheme: how weights are rounded.
    """

    def __init__(self, model: SegmentationModel, layers: Sequence[IntegerLayer], scheme: Scheme = SHIPPED) -> None:
        self._model, self._scheme = model, scheme
        self._layers = {name: layer for layer in layers if (name := _module_name(layer, model))}
        self._undo = ExitStack()
        self._names: list[str] = []

    def __enter__(self) -> rounded:
        made = {layer.target: _Range(layer.low, layer.high) for layer in self._layers.values()}
        # What comes from elsewhere: sums, joins, and what is computed in floats.
        for layer in self._layers.values():
            made.setdefault(layer.source, _Range(-math.inf, math.inf))
        self._names = list(made)
        self._model.add_module("ranges", nn.ModuleList(made.values()))
        self._undo.callback(delattr, self._model, "ranges")
        targets = {layer.target for layer in self._layers.values()}
        for name, layer in self._layers.items():
            conv = self._model.get_submodule(name)
            parametrize.register_parametrization(conv, "weight", _Weight(self._scheme))
            self._undo.callback(parametrize.remove_parametrizations, conv, "weight", leave_parametrized=False)
            self._undo.callback(conv.register_forward_hook(_of_output(made[layer.target])).remove)
            if layer.source not in targets:
                self._undo.callback(conv.register_forward_pre_hook(_of_input(made[layer.source])).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def ranges(self) -> Ranges:
        """Tensor of the graph -> the range that was found for it."""
        found: Any = self._model.ranges
        pairs = zip(self._names, found, strict=True)
        return {name: (float(part.seen[0]), float(part.seen[1])) for name, part in pairs if part.seen[2]}


def _of_output(part: _Range) -> Callable[[nn.Module, Any, Tensor], Any]:
    return lambda _, __, given: part(given)


def _of_input(part: _Range) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
    return lambda _, given: part(given[0])


def _module_name(layer: IntegerLayer, model: nn.Module) -> str:
    name = layer.weight.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return name if isinstance(dict(model.named_modules()).get(name), nn.Conv2d) else ""


def fine_tune(
    module: ExportModule,
    config: RunConfig,
    cases: tuple[Sequence[Case], Sequence[Case]],
    size: tuple[int, int],
    epochs: int,
    say: Say = lambda _: None,
    scheme: Scheme = SHIPPED,
) -> Tuned:
    """Trains a prepared network with the rounding of int8, on the photos, the loss and the seeds of its run.

    Args:
        module: of a network from ``prepare``; it is trained in place.
        config: the run's settings.
        cases: the run's training and validation cases.
        size: height and width of the input.
        epochs: how many.
        say: told of each epoch.
        scheme: how weights are rounded.

    Raises:
        DataError: listing every case that cannot be read.
        NonFiniteError: the loss is not finite.
    """
    labels = labels_of(config.data)
    (photos, masks), (val_photos, val_masks) = (decode_pairs(part, *size, labels=labels) for part in cases)
    augment = augmentation(config.data, config.loop.seed)
    train, validation = PairDataset(photos, masks, augment), PairDataset(val_photos, val_masks)
    return tune_on(module, config, train, validation, size, epochs, say, scheme)


def tune_on(
    module: ExportModule,
    config: RunConfig,
    train: PairDataset,
    validation: PairDataset,
    size: tuple[int, int],
    epochs: int,
    say: Say = lambda _: None,
    scheme: Scheme = SHIPPED,
) -> Tuned:
    """As ``fine_tune``, with pairs that are decoded already."""
    model = module.model
    layers = integer_layers(trace(module, *size), scheme)
    # In inference the frozen encoder would go round what is put in here.
    model.encoder.frozen = False
    model.requires_grad_(True)
    settings = _settings(config, epochs)

    def tell(row: Mapping[str, Any]) -> None:
        say(f"epoch {row['epoch']} of {epochs} with rounding: Dice {row['val_dice']:.4f} in validation")

    with scratch("lesionseg-") as folder, rounded(model, layers, scheme) as state:
        result = fit(settings, model, train, validation, folder, on_epoch=tell)
        best = load_checkpoint(best_checkpoint(folder), with_optimizer=False)
        model.cpu().load_state_dict(dict(best.model_state))
        ranges = state.ranges
    model.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    return Tuned(model, ranges, result.history)


def _settings(config: RunConfig, epochs: int) -> RunConfig:
    """The run's own, with a small rate that falls, and without what has no place in a few epochs."""
    return load_config(
        config.model_dump(mode="json"),
        [
            f"loop.epochs={epochs}",
            *("optim.name=adam", f"optim.encoder_lr={_RATE}", f"optim.decoder_lr={_RATE}", "optim.schedule=cosine"),
            *("optim.warmup=0", "optim.weight_decay=0", "optim.ema=0", "optim.teacher=null"),
            *(
                "loop.precision=fp32",
                "loop.compile=false",
                "loop.cache_features=false",
                "loop.trackers=[]",
                "loop.device=auto",
            ),
            *("loop.patience=null", "loop.stop_at={}", "loop.checkpoints=null", "loop.example=null"),
        ],
    )

"""Smaller numbers in an ONNX graph: float16, int8 with calibrated ranges, and int8 weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from lesionseg.inference.exported import INPUT
from lesionseg.io.leftovers import scratch

__all__ = [
    "SHIPPED",
    "Calibration",
    "IntegerLayer",
    "Ranges",
    "Scheme",
    "integer_layers",
    "to_dynamic",
    "to_float16",
    "to_int8",
]

Ranges = Mapping[str, tuple[float, float]]
"""Tensor of a graph -> its smallest and its largest value."""

# The normalisation before them and the sigmoid after them keep their floats.
_INTEGER = ["Conv", "Concat", "Add", "Clip", "Relu", "DepthToSpace"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How int8 rounds.

    Attributes:
        per_channel: weights have a scale for each output channel, and not one for the layer.
        largest: integer that the largest weight becomes: 127, or 64 for 7 bits, which CPUs without VNNI add up without
            overflow.
        first, last: convolutions that stay in float32, where 8 bits cost most: with them the masks of int8 agree with
            those of float32 to a Dice of 0.993 instead of 0.987, in the same time. A second one at the end changes
            nothing in the nine-skip decoder, and in the light one it costs a fifth of the time for the same masks.
    """

    per_channel: bool = True
    largest: int = 127
    first: int = 8
    last: int = 1


SHIPPED = Scheme()
"""How exported files are rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What ranges in int8 are found with.

    Attributes:
        photos: ``uint8 N H W 3``, of the training; a hundred are enough.
        ranges: those that are known already.
        scheme: the one of the export unless somebody compares.
    """

    photos: NDArray[np.uint8]
    ranges: Ranges | None = None
    scheme: Scheme = SHIPPED


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """A convolution that ``to_int8`` computes in integers.

    Attributes:
        weight: name of its weights.
        source: the tensor that it takes.
        target: the tensor that it gives, with the activation after it, which becomes part of it.
        low, high: what that activation lets through.
    """

    weight: str
    source: str
    target: str
    low: float = -math.inf
    high: float = math.inf


def to_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and computation in float16; input and outputs stay as they are.

    Half the size. CPUs mostly compute in float32 all the same and convert to and fro, which makes it slower there; GPUs
    and phones gain.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return half


def to_dynamic(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Weights in 8 bits; the range of what flows between the layers is measured anew for every photo.

    A quarter of the size and no calibration photos. It does not make a convolutional network faster: ONNX Runtime's
    ``ConvInteger`` lacks the fast kernels that ``to_int8`` runs on, and each layer passes over its data twice more. The
    first layer, the last and the depthwise ones stay in float32: together they are 2 % of the weights, and one scale
    for all channels of a depthwise layer costs 4 Dice points.
    """
    with scratch("lesionseg-") as folder:
        output = folder / "dynamic.onnx"
        cleaned = _cleaned(proto, folder)
        layers = [node for node in onnx.load(cleaned).graph.node if node.op_type == "Conv"]
        kept = {layers[0].name, layers[-1].name, *(layer.name for layer in layers if _groups(layer) > 1)}
        # Its kernel takes unsigned weights alone.
        quantize_dynamic(
            cleaned,
            output,
            weight_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=sorted(kept),
        )
        return onnx.load(output)


def _groups(layer: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in layer.attribute if attribute.name == "group"), 1)


def integer_layers(proto: onnx.ModelProto, scheme: Scheme = SHIPPED) -> list[IntegerLayer]:
    """The convolutions that ``to_int8`` would compute in integers, in the graph's order."""
    with scratch("lesionseg-") as folder:
        graph = onnx.load(_cleaned(proto, folder)).graph
    kept = set(_kept(graph, scheme))
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv" and node.name not in kept:
            readers = [other for other in graph.node if node.output[0] in other.input]
            found.append(_integer_layer(node, readers, constants))
    return found


def _integer_layer(
    node: onnx.NodeProto, readers: Sequence[onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> IntegerLayer:
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        ends = [float(onnx.numpy_helper.to_array(constants[name])) for name in readers[0].input[1:]]
        return IntegerLayer(node.input[1], node.input[0], readers[0].output[0], *(ends or (0.0,)))
    return IntegerLayer(node.input[1], node.input[0], node.output[0])


def _kept(graph: onnx.GraphProto, scheme: Scheme) -> list[str]:
    """Nodes that stay in float32."""
    layers = [node.name for node in graph.node if node.op_type == "Conv"]
    joins = [node.name for node in graph.node if node.op_type == "Concat"]
    if not scheme.last:
        return layers[: scheme.first]
    return [*layers[: scheme.first], *layers[-scheme.last :], *joins[-1:]]


def to_int8(proto: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """Weights (per channel, signed) and activations (unsigned) in 8 bits, with ranges measured on photos.

    Affine quantisation as in arXiv:1712.05877, written as QuantizeLinear / DequantizeLinear pairs. The first eight
    convolutions and the last one stay in float32.

    Args:
        proto: the float32 graph.
        calibration: photos, and the ranges that need not be measured.
    """
    known = calibration.ranges or {}
    with scratch("lesionseg-") as folder:
        output = folder / "int8.onnx"
        cleaned = _cleaned(proto, folder)
        graph = onnx.load(cleaned).graph
        if strange := known.keys() - {name for node in graph.node for name in node.output}:
            raise ValueError(f"the graph has no tensors {sorted(strange)}")
        quantize_static(
            cleaned,
            output,
            _Photos(calibration.photos),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_INTEGER,
            nodes_to_exclude=_kept(graph, calibration.scheme),
            per_channel=calibration.scheme.per_channel,
            reduce_range=calibration.scheme.largest == 64,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "TensorQuantOverrides": {
                    name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in known.items()
                }
            },
        )
        return onnx.load(output)


def _cleaned(proto: onnx.ModelProto, folder: Path) -> Path:
    source, path = folder / "source.onnx", folder / "cleaned.onnx"
    # From a file: given the graph itself, it takes the weights out of it.
    onnx.save(proto, source)
    quant_pre_process(source, path, skip_symbolic_shape=True)
    return path


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    """One photo at a time."""

    def __init__(self, photos: NDArray[np.uint8]) -> None:
        self._rest: Iterator[NDArray[np.uint8]] = iter(photos)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self._rest, None)
        return None if photo is None else {INPUT: photo[None]}

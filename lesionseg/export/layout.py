"""The same ONNX graph in an order of memory that ONNX Runtime's kernels like better; what it computes stays.

Its integer convolutions keep channels last in memory, its pixel shuffle does not: around each of them the runtime turns
whole feature maps round, twice. And its float convolutions make at least sixteen channels at a time, of which a mask
needs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["narrow_head", "shuffle_channels_last"]

# Up to here, a matrix product is faster than a convolution that makes sixteen channels.
_FEW_OUTPUTS, _FEW_INPUTS = 4, 16


def shuffle_channels_last(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Moves each pixel shuffle of integers to where channels lie last, as a transposition of whole pixels.

    The output channels of the convolution before it are put in the order of the pixels that they become. Left as they
    are: shuffles of floats, and those that do not come right after a convolution.

    Args:
        proto: from ``quantize.to_int8``.

    Returns:
        a graph with the same outputs, to the bit.
    """
    graph = _Graph(proto)
    for shuffle in [node for node in graph.nodes if node.op_type == "DepthToSpace"]:
        _move(graph, shuffle)
    return graph.sorted()


def narrow_head(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Makes a matrix product of each float convolution of single pixels that has few channels; equal up to rounding."""
    graph = _Graph(proto)
    for conv in [node for node in graph.nodes if node.op_type == "Conv"]:
        _flatten(graph, conv)
    return graph.sorted()


class _Graph:
    """A copy of a graph to work on."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(proto)
        inferred = onnx.shape_inference.infer_shapes(proto).graph
        self.shapes = {
            value.name: [int(side.dim_value) for side in value.type.tensor_type.shape.dim]
            for value in (*inferred.value_info, *inferred.output)
        }
        self.nodes = self._proto.graph.node
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.constants = {tensor.name: tensor for tensor in self._proto.graph.initializer}

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that take a tensor."""
        return [node for node in self.nodes if name in node.input]

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Adds a constant; gives its name."""
        self._proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Gives a constant another shape; gives its name."""
        values = numpy_helper.to_array(self.constants[name])
        self.constants[name].CopyFrom(numpy_helper.from_array(values.reshape(shape), name))
        told = self._proto.graph.value_info
        for value in [value for value in told if value.name == name]:
            told.remove(value)
        return name

    def reorder(self, name: str, order: NDArray[np.int64]) -> None:
        """Puts the first axis of a constant in another order; one number for all stays."""
        values = numpy_helper.to_array(self.constants[name])
        if values.size > 1:
            self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[order]), name))

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Puts nodes in the place of others."""
        for node in old:
            self.nodes.remove(node)
        self.nodes.extend(new)

    def sorted(self) -> onnx.ModelProto:
        """The graph, each node after those that it needs."""
        known = {"", *self.constants, *(value.name for value in self._proto.graph.input)}
        known |= {tensor.name for tensor in self._proto.graph.initializer}
        waiting, ordered = list(self.nodes), []
        while waiting:
            ready = [node for node in waiting if known.issuperset(node.input)]
            known |= {name for node in ready for name in node.output}
            ordered += ready
            waiting = [node for node in waiting if not known.issuperset(node.output)]
        del self.nodes[:]
        self.nodes.extend(ordered)
        return self._proto


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(part) for part in node.attribute if part.name == name), default)


def _move(graph: _Graph, shuffle: onnx.NodeProto) -> None:
    # Conv, perhaps Relu, QuantizeLinear, DequantizeLinear, the shuffle, QuantizeLinear with the same scale.
    opened = graph.makers.get(shuffle.input[0])
    closed = graph.readers(shuffle.output[0])
    if (
        opened is None
        or opened.op_type != "DequantizeLinear"
        or [node.op_type for node in closed] != ["QuantizeLinear"]
    ):
        return
    rounded = graph.makers[opened.input[0]]
    conv = graph.makers[rounded.input[0]]
    conv = graph.makers[conv.input[0]] if conv.op_type == "Relu" else conv
    if conv.op_type != "Conv" or _attribute(shuffle, "mode", b"DCR") != b"CRD":
        return
    factor = int(_attribute(shuffle, "blocksize", 0))
    _, channels, height, width = graph.shapes[shuffle.output[0]]
    # From (channel, row, column) to (row, column, channel).
    order = np.arange(channels * factor * factor).reshape(channels, -1).T.ravel()
    for name in conv.input[1:]:
        maker = graph.makers.get(name)
        for constant in [name] if maker is None else maker.input:
            graph.reorder(constant, order)
    name, source, target = shuffle.name, rounded.output[0], closed[0].output[0]
    apart = np.array([0, height // factor, width // factor, factor, factor, channels])
    steps = [f"{name}_{step}" for step in ("last", "apart", "placed", "joined")]
    new = [
        helper.make_node("Transpose", [source], [steps[0]], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [steps[0], graph.constant(f"{name}_parts", apart)], [steps[1]]),
        helper.make_node("Transpose", [steps[1]], [steps[2]], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node(
            "Reshape",
            [steps[2], graph.constant(f"{name}_whole", np.array([0, height, width, channels]))],
            [steps[3]],
        ),
        helper.make_node("Transpose", [steps[3]], [target], perm=[0, 3, 1, 2]),
    ]
    graph.replace([opened, shuffle, closed[0]], new)


def _flatten(graph: _Graph, conv: onnx.NodeProto) -> None:
    weight = graph.constants.get(conv.input[1])
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT or len(conv.input) < 3:
        return
    outputs, inputs, *sides = weight.dims
    plain = all(value == 1 for key in ("strides", "dilations") for value in np.ravel(_attribute(conv, key, [1])))
    plain &= not np.any(_attribute(conv, "pads", [0])) and _attribute(conv, "group", 1) == 1
    # Constants that others take as well keep their shapes.
    plain &= all(len(graph.readers(name)) == 1 for name in conv.input[1:3])
    if sides != [1, 1] or outputs > _FEW_OUTPUTS or inputs > _FEW_INPUTS or not plain:
        return
    _, _, height, width = graph.shapes[conv.output[0]]
    matrix, bias = (
        graph.reshape(name, shape) for name, shape in zip(conv.input[1:3], ([outputs, inputs], [-1, 1]), strict=True)
    )
    pixels, product, total = (f"{conv.name}_{step}" for step in ("pixels", "product", "sum"))
    flat = graph.constant(f"{conv.name}_flat", np.array([0, inputs, -1]))
    whole = graph.constant(f"{conv.name}_whole", np.array([0, outputs, height, width]))
    new = [
        helper.make_node("Reshape", [conv.input[0], flat], [pixels]),
        helper.make_node("MatMul", [matrix, pixels], [product]),
        helper.make_node("Add", [product, bias], [total]),
        helper.make_node("Reshape", [total, whole], [conv.output[0]]),
    ]
    graph.replace([conv], new)

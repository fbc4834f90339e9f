"""The float32 ONNX graph, from which the other ONNX precisions are made."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import torch

from lesionseg.export.graph import ExportModule
from lesionseg.inference.exported import INPUT
from lesionseg.inference.seal import SEAL, UNSEALED, seal

__all__ = ["serialize", "trace", "with_metadata"]

_OPSET = 20


def trace(module: ExportModule, height: int, width: int) -> onnx.ModelProto:
    """The graph of a network; the number of photos stays free.

    Args:
        module: in float32, on the CPU.
        height, width: of the input, in pixels, multiples of 32.
    """
    # More than one photo, or the number of them would be taken for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=list(module.outputs),
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
        opset_version=_OPSET,
    )
    assert program is not None  # noqa: S101 - only the older exporter returns None
    proto: onnx.ModelProto = program.model_proto
    return _without_traces(proto)


def _without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The exporter notes the source lines of every operation, with this machine's paths."""
    graph = proto.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, proto):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto


def with_metadata(proto: onnx.ModelProto, values: Mapping[str, str]) -> bytes:
    """The file's bytes, with these texts and its own digest in it."""
    return seal(serialize(proto, {**values, SEAL: UNSEALED}))


def serialize(proto: onnx.ModelProto, values: Mapping[str, str]) -> bytes:
    """The file's bytes, with these texts in it."""
    onnx.helper.set_model_props(proto, dict(values))
    proto.producer_name, proto.producer_version = "lesionseg", values["lesionseg_version"]
    data: bytes = proto.SerializeToString()
    return data

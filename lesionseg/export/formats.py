"""The kinds of files that an export makes, each with a way to run it, for the comparison with torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from lesionseg.errors import ConfigError
from lesionseg.export.graph import ExportModule
from lesionseg.export.layout import narrow_head, shuffle_channels_last
from lesionseg.export.onnx import serialize, trace, with_metadata
from lesionseg.export.quantize import Calibration, to_dynamic, to_float16, to_int8
from lesionseg.export.requests import KINDS
from lesionseg.inference.exported import OPENVINO_INFO, ExportInfo
from lesionseg.inference.onnx_predictor import OnnxPredictor
from lesionseg.inference.openvino_predictor import OpenvinoPredictor
from lesionseg.inference.seal import SEAL, UNSEALED, seal
from lesionseg.io.leftovers import scratch

__all__ = ["FORMATS", "Built", "Format", "Infer"]

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""``uint8 N H W 3`` to ``float32 N H W``."""


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A model in another format.

    Attributes:
        files: suffix -> bytes; what the others refer to comes first.
        infer: runs the bytes.
    """

    files: Mapping[str, bytes]
    infer: Infer


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of the file that is named.
        precisions: that it comes in.
        build: makes it of a float32 network, what is told of it, and what int8 is calibrated with (None for the other
            precisions).
        beside: suffixes of the files that belong to it.
    """

    suffix: str
    precisions: tuple[str, ...]
    build: Callable[[ExportModule, ExportInfo, Calibration | None], Built]
    beside: tuple[str, ...] = ()


def _onnx_graph(module: ExportModule, info: ExportInfo, calibration: Calibration | None) -> onnx.ModelProto:
    proto = trace(module, info.height, info.width)
    if info.precision == "float16":
        proto = to_float16(proto)
    elif info.precision == "dynamic":
        proto = to_dynamic(proto)
    elif calibration is not None:
        proto = to_int8(proto, calibration)
    return proto


def _onnx(module: ExportModule, info: ExportInfo, calibration: Calibration | None) -> Built:
    proto = _onnx_graph(module, info, calibration)
    if info.precision != "float16":
        # GPUs and phones, which float16 is for, have other kernels.
        proto = narrow_head(shuffle_channels_last(proto))
    data = with_metadata(proto, info.to_metadata())
    return Built({".onnx": data}, OnnxPredictor(data, Path(f"{info.name}.onnx"), threads=1).infer)


def _openvino(module: ExportModule, info: ExportInfo, calibration: Calibration | None) -> Built:
    openvino = _extra("openvino", "openvino")
    # float16 is how OpenVINO stores weights; it computes in what the device does best.
    half = info.precision == "float16"
    graph = _onnx_graph(module, replace(info, precision="float32") if half else info, calibration)
    network = openvino.Core().read_model(serialize(graph, info.to_metadata()))
    for key, text in {**info.to_metadata(), SEAL: UNSEALED}.items():
        network.set_rt_info(text, [OPENVINO_INFO, key])
    with scratch("lesionseg-") as folder:
        path = folder / "model.xml"
        openvino.save_model(network, path, compress_to_fp16=half)
        files = {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".bin", ".xml")}
    files[".xml"] = seal(files[".xml"], [files[".bin"]])
    made = OpenvinoPredictor(files[".xml"], files[".bin"], Path(f"{info.name}.xml"), threads=1)
    return Built(files, made.infer)


def _program(module: ExportModule, info: ExportInfo) -> torch.export.ExportedProgram:
    example = torch.zeros(2, info.height, info.width, 3, dtype=torch.uint8)
    return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))


def _torch_export(module: ExportModule, info: ExportInfo, _: Calibration | None) -> Built:
    buffer = BytesIO()
    torch.export.save(_program(module, info), buffer, extra_files={"lesionseg.json": json.dumps(info.to_metadata())})
    data = buffer.getvalue()
    return Built({".pt2": data}, _torch_infer(torch.export.load(BytesIO(data)).module()))


def _torch_infer(call: Callable[[torch.Tensor], Any]) -> Infer:
    def infer(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = call(torch.tensor(batch))[0].numpy()
        return found

    return infer


def _executorch(module: ExportModule, info: ExportInfo, _: Calibration | None) -> Built:
    exir = _extra("executorch.exir", "executorch")
    xnnpack = _extra("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    runtime = _extra("executorch.runtime", "executorch")
    # One photo at a time, as on a phone.
    example = torch.zeros(1, info.height, info.width, 3, dtype=torch.uint8)
    program = torch.export.export(module, (example,))
    lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    data = bytes(lowered.to_executorch().buffer)
    method = runtime.Runtime.get().load_program(data).load_method("forward")

    def infer(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        one = _torch_infer(lambda photo: method.execute([photo]))
        return np.concatenate([one(photo[None]) for photo in batch])

    return Built({".json": json.dumps(info.to_metadata(), indent=1).encode(), ".pte": data}, infer)


def _extra(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = "" if (error.name or "").split(".")[0] == extra else f" as a whole: {error.name} is missing"
        raise ConfigError(f"{extra} is not installed{missing}", fix=f"pip install 'lesionseg[{extra}]'") from error


_BUILD = {"onnx": _onnx, "openvino": _openvino, "torch-export": _torch_export, "executorch": _executorch}

FORMATS: dict[str, Format] = {
    name: Format(kind.suffix, kind.precisions, _BUILD[name], kind.beside) for name, kind in KINDS.items()
}
"""Name -> format."""

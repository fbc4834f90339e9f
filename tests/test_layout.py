"""Graphs in another order of memory: the same numbers, and none of the slow operations."""

import numpy as np
import onnx
import onnxruntime
import pytest
from test_folding import shake

from lesionseg.data.labels import BINARY
from lesionseg.export.graph import ExportModule, prepare
from lesionseg.export.layout import narrow_head, shuffle_channels_last
from lesionseg.export.onnx import trace
from lesionseg.export.photos import generated_photos
from lesionseg.export.quantize import Calibration, Scheme, to_int8
from lesionseg.inference.exported import INPUT
from lesionseg.models import EncoderSpec, ModelSpec, build_model

PHOTOS = generated_photos(3, 64, 96)


def graph(name: str) -> onnx.ModelProto:
    model = shake(build_model(ModelSpec(name, 0.4, 1, EncoderSpec())), 1)
    return trace(ExportModule(prepare(model), BINARY), 64, 96)


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def float32() -> onnx.ModelProto:
    return graph("unet")


@pytest.fixture(scope="module")
def int8(float32: onnx.ModelProto) -> onnx.ModelProto:
    return to_int8(float32, Calibration(PHOTOS[:2]))


def run(proto: onnx.ModelProto, photos: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["probability"], {INPUT: photos})[0]


def operations(proto: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type == kind]


def test_shuffles_of_integers_give_the_same_bits(int8: onnx.ModelProto) -> None:
    before = int8.SerializeToString()
    made = shuffle_channels_last(int8)
    assert int8.SerializeToString() == before
    assert len(operations(int8, "DepthToSpace")) == 5
    assert not operations(made, "DepthToSpace")
    for photos in (PHOTOS, PHOTOS[2:]):
        expected = run(int8, photos)
        assert np.ptp(expected) > 0.005
        np.testing.assert_array_equal(run(made, photos), expected)


def test_shuffles_of_floats_are_left(float32: onnx.ModelProto) -> None:
    assert len(operations(shuffle_channels_last(float32), "DepthToSpace")) == 5


def test_a_narrow_head_is_a_matrix_product(float32: onnx.ModelProto) -> None:
    made = narrow_head(float32)
    assert len(operations(made, "MatMul")) == 1
    assert len(operations(made, "Conv")) == len(operations(float32, "Conv")) - 1
    assert len(made.SerializeToString()) < len(float32.SerializeToString()) + 1000
    for photos in (PHOTOS, PHOTOS[:1]):
        np.testing.assert_allclose(run(made, photos), run(float32, photos), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "more"),
    [(17, 1, 1, {}), (6, 5, 1, {}), (6, 1, 3, {}), (6, 1, 1, {"strides": [2, 2]}), (6, 1, 1, {"pads": [1, 1, 1, 1]})],
)
def test_other_convolutions_are_left(inputs: int, outputs: int, side: int, more: dict[str, list[int]]) -> None:
    constants = [
        onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in {"weight": (outputs, inputs, side, side), "bias": (outputs,)}.items()
    ]
    node = onnx.helper.make_node("Conv", ["x", "weight", "bias"], ["y"], name="conv", **more)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", count, None, None])
        for name, count in (("x", inputs), ("y", outputs))
    ]
    proto = onnx.helper.make_model(onnx.helper.make_graph([node], "one", ends[:1], ends[1:], constants))
    assert [node.op_type for node in narrow_head(proto).graph.node] == ["Conv"]


def test_a_head_of_integers_is_left(int8: onnx.ModelProto, float32: onnx.ModelProto) -> None:
    whole = to_int8(float32, Calibration(PHOTOS[:2], scheme=Scheme(first=0, last=0)))
    assert not operations(narrow_head(whole), "MatMul")
    assert len(operations(narrow_head(int8), "MatMul")) == 1

"""Models that are damaged, of another program, or made to harm: each is one clear error, and none runs for ever."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.errors import LesionsegError, NonFiniteError, RunError
from lesionseg.inference import onnx_predictor
from lesionseg.inference.onnx_predictor import OnnxPredictor, load_onnx
from lesionseg.inference.seal import SEAL, UNSEALED, require_seal, seal
from lesionseg.shipped_models import FACTS, INT8, find_model, open_bundle

LITE = find_model("lesionseg-lite")
INTACT = (LITE / INT8).read_bytes()
HEIGHT, WIDTH = 64, 96
DEEP = "[" * 5000 + "]" * 5000

Texts = dict[str, str]


def texts() -> Texts:
    proto = onnx.load_model_from_string(INTACT)
    values = {entry.key: entry.value for entry in proto.metadata_props}
    return values | {"height": str(HEIGHT), "width": str(WIDTH), SEAL: UNSEALED}


def port(name: str, kind: int = TensorProto.UINT8, shape: tuple[Any, ...] = ("n", HEIGHT, WIDTH, 3)) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, **attributes)


def scaled(factor: float, source: str = "photos") -> list[Any]:
    """Brightness as probability, times a factor."""
    return [
        node("Cast", [source], ["numbers"], to=TensorProto.FLOAT),
        node("ReduceMean", ["numbers"], ["mean"], axes=[3], keepdims=0),
        node("Constant", [], ["factor"], value=helper.make_tensor("f", TensorProto.FLOAT, [], [factor])),
        node("Mul", ["mean", "factor"], ["scaled"]),
        node("Constant", [], ["offset"], value=helper.make_tensor("o", TensorProto.FLOAT, [], [factor])),
        node("Add", ["scaled", "offset"], ["probability"]),
    ]


PHOTOS = port("photos")
RESULT = port("probability", TensorProto.FLOAT, ("n", HEIGHT, WIDTH))


def model(
    nodes: list[Any] | None = None,
    *,
    inputs: Any = (PHOTOS,),
    outputs: Any = (RESULT,),
    initializers: Any = (),
    values: Texts | None = None,
    opset: int = 17,
) -> bytes:
    """A file that is sealed as an exported one is."""
    graph = helper.make_graph(nodes or scaled(0.001), "g", list(inputs), list(outputs), list(initializers))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(proto, texts() if values is None else values)
    return seal(proto.SerializeToString())


def endless() -> bytes:
    """A loop whose condition stays true."""
    body = helper.make_graph(
        [
            node("Identity", ["condition"], ["again"]),
            node("Mul", ["value", "value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", HEIGHT, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", HEIGHT, WIDTH]),
        ],
    )
    nodes = [
        node("Cast", ["photos"], ["numbers"], to=TensorProto.FLOAT),
        node("ReduceMean", ["numbers"], ["mean"], axes=[3], keepdims=0),
        node("Constant", [], ["on"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])),
        node("Loop", ["", "on", "mean"], ["probability"], body=body),
    ]
    return model(nodes)


def huge() -> bytes:
    """A constant of 4 TB."""
    size = numpy_helper.from_array(np.array([1, HEIGHT, WIDTH, 2**27], np.int64), "size")
    nodes = [
        node("ConstantOfShape", ["size"], ["much"]),
        node("ReduceMean", ["much"], ["zero"], axes=[0, 1, 2, 3], keepdims=0),
        *scaled(0.001)[:-1],
        node("Add", ["scaled", "zero"], ["probability"]),
    ]
    return model(nodes, initializers=[size])


def outside() -> bytes:
    """Weights in another file, in the working folder."""
    weights = numpy_helper.from_array(np.zeros((HEIGHT, WIDTH), np.float32), "weights")
    Path("weights.bin").write_bytes(weights.raw_data)
    onnx.external_data_helper.set_external_data(weights, "weights.bin")
    weights.ClearField("raw_data")
    return model([*scaled(0.001)[:-1], node("Add", ["scaled", "weights"], ["probability"])], initializers=[weights])


def told(**changes: str | None) -> Callable[[], bytes]:
    values = texts()
    for key, value in changes.items():
        values.pop(key)
        if value is not None:
            values[key] = value
    return lambda: model(values=values)


def classes(names: list[str], masks: object) -> Callable[[], bytes]:
    return told(classes=json.dumps(names), masks=json.dumps(masks))


def quality(**changes: object) -> Callable[[], bytes]:
    values = {"certainties": [0.0, 1.0], "dice": [0.0, 1.0], "review_below": 0.8, "photos": 20}
    return told(quality=json.dumps(values | changes))


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "other input name": (lambda: model(scaled(0.001, "x"), inputs=[port("x")]), "input 'x': uint8 N x 64 x 96 x 3"),
    "float input": (lambda: model(inputs=[port("photos", TensorProto.FLOAT)]), "input 'photos': float32"),
    "two inputs": (lambda: model(inputs=[port("photos"), port("more")]), "2 inputs, not 1"),
    "fixed number": (lambda: model(inputs=[port("photos", shape=(1, HEIGHT, WIDTH, 3))]), "uint8 1 x 64 x 96 x 3"),
    "other size": (lambda: model(inputs=[port("photos", shape=("n", 32, 32, 3))]), "uint8 N x 32 x 32 x 3"),
    "channels first": (lambda: model(inputs=[port("photos", shape=("n", 3, HEIGHT, WIDTH))]), "uint8 N x 3 x 64 x 96"),
    "any size": (lambda: model(inputs=[port("photos", shape=("n", "h", "w", 3))]), "uint8 N x N x N x 3"),
    "no rank": (lambda: model(inputs=[port("photos", shape=())]), "no intact ONNX model"),
    "other output name": (
        lambda: model(
            [*scaled(0.001), node("Identity", ["probability"], ["y"])],
            outputs=[port("y", TensorProto.FLOAT, ("n", HEIGHT, WIDTH))],
        ),
        "no output 'probability'",
    ),
    "integers": (
        lambda: model(
            [node("ReduceMax", ["photos"], ["probability"], axes=[3], keepdims=0)],
            outputs=[port("probability", TensorProto.UINT8, ("n", HEIGHT, WIDTH))],
        ),
        "not float32",
    ),
    "no classes": (
        classes(["skin", "border", "lesion"], {"classes": None, "band": 2.0}),
        "no output 'classes'",
    ),
    "other shape of the result": (
        lambda: model(
            [node("Cast", ["photos"], ["probability"], to=TensorProto.FLOAT)],
            outputs=[port("probability", TensorProto.FLOAT, ("n", None, None, None))],
        ),
        "gives float32 1 x 64 x 96 x 3, not float32 1 x 64 x 96",
    ),
    "logits": (lambda: model(scaled(-3.0)), r"gives -3 to -3, not probabilities in \[0, 1\]"),
    "percent": (lambda: model(scaled(100.0)), "gives 100 to 100, not probabilities"),
    "infinity": (lambda: model(scaled(float("inf"))), "gives"),
    "NaN": (lambda: model(scaled(float("nan"))), "gives NaN"),
    "huge constant": (huge, "foreign.onnx "),
    "endless": (endless, "gave no result within 1 s"),
    "weights elsewhere": (outside, "no intact ONNX model"),
    "unknown operation": (
        lambda: model([node("Nonsense", ["photos"], ["probability"])]),
        "no intact ONNX model",
    ),
    "opset of the future": (lambda: model(opset=999), "no intact ONNX model"),
    "no name": (told(name=None), "name: missing"),
    "no masks": (told(masks=None), r"labels\.band: missing"),
    "other version": (told(lesionseg_export="2"), "was not exported by this version"),
    "height in words": (told(height="tall"), "height: input should be a valid integer"),
    "height of 5000 digits": (told(height="9" * 5000), "height: input should be"),
    "height of no multiple": (told(height="65"), "height: input should be a multiple of 32"),
    "height zero": (told(height="0"), "height: input should be greater"),
    "mean of two": (told(mean="[1, 2]"), "mean: list should have at least 3 items"),
    "mean of text": (told(mean='["a", "b", "c"]'), r"mean\.0: input should be a valid number"),
    "mean that is no JSON": (told(mean="(1, 2, 3)"), "metadata, mean, is not valid JSON"),
    "infinite mean": (told(mean="[1e999, 0, 0]"), r"mean\.0: input should be a finite number"),
    "deep run": (told(run=DEEP), "metadata, run, is nested more than 50 levels deep"),
    "deep quality": (told(quality='{"a":' * 60 + "1" + "}" * 60), "metadata, quality, is nested"),
    "run that is a list": (told(run="[]"), "run: should be a JSON object"),
    "classes that are numbers": (told(classes="[1]"), r"labels\.names\.0: input should be a valid string"),
    "classes of other masks": (classes(["lesion", "hair"], {"classes": None, "band": None}), "names are not those"),
    "classes without end": (classes(["lesion"], {"classes": {"lesion": 1e400}, "band": None}), "labels.classes"),
    "quality that falls": (quality(dice=[1.0, 0.0]), "must rise"),
    "quality of NaN": (quality(certainties=[0.0, float("nan")]), r"certainties\.1"),
    "quality of huge numbers": (quality(review_below=10**400), "review_below"),
    "quality of one": (quality(certainties=[0.5], dice=[0.5]), "at least 2"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_sealed_file_that_is_no_model_of_ours(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_predictor, "PROBE_SECONDS", 1.0 if name == "endless" else 20.0)
    make, said = FOREIGN[name]
    file = tmp_path / "foreign.onnx"
    file.write_bytes(make())
    started = time.monotonic()
    with pytest.raises(LesionsegError, match=said) as caught:
        load_onnx(file, threads=1)
    assert isinstance(caught.value, RunError | NonFiniteError)
    assert time.monotonic() - started < 50
    assert caught.value.fix


def test_the_same_graph_with_nothing_wrong_runs(tmp_path: Path) -> None:
    (tmp_path / "own.onnx").write_bytes(model())
    predictor = load_onnx(tmp_path / "own.onnx", threads=1)
    photo = np.full((2, HEIGHT, WIDTH, 3), 100, np.uint8)
    np.testing.assert_allclose(predictor.infer(photo), 0.101, rtol=1e-5)


def damaged(start: int) -> bytes:
    data = bytearray(INTACT)
    data[start] ^= 0x20
    return bytes(data)


KEY = INTACT.index(SEAL.encode())
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "text": b"no model",
    "zeros": bytes(10_000),
    "photo": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "page": b"<html>404: not found</html>",
    "half": INTACT[: len(INTACT) // 2],
    "without its last byte": INTACT[:-1],
    "with one more byte": INTACT + b"\0",
    "twice": INTACT * 2,
    "key of the digest": damaged(KEY),
    "digest": damaged(KEY + len(SEAL) + 10),
    **{f"byte at {part}/16": damaged(part * (len(INTACT) - 1) // 16) for part in range(17)},
    "another seal": INTACT + INTACT[KEY : KEY + len(SEAL) + 66],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_to_any_byte_is_noticed(name: str, tmp_path: Path) -> None:
    file = tmp_path / "damaged.onnx"
    file.write_bytes(DAMAGED[name])
    with pytest.raises(RunError, match=r"damaged\.onnx (is damaged: its SHA-256|is no intact model that)"):
        load_onnx(file, threads=1)


def test_a_shipped_model_copied_alone_is_used(tmp_path: Path) -> None:
    shutil.copy(LITE / INT8, tmp_path / "alone.onnx")
    photo = np.zeros((1, *open_bundle(LITE).size, 3), np.uint8)
    alone = load_onnx(tmp_path / "alone.onnx", threads=1)
    ours = OnnxPredictor(INTACT, LITE / INT8, threads=1, verified=True)
    np.testing.assert_array_equal(alone.infer(photo), ours.infer(photo))


def test_a_seal_covers_the_files_beside_it() -> None:
    xml = f'<a><{SEAL} value="{UNSEALED}" /></a>'.encode()
    sealed = seal(xml, [b"weights"])
    require_seal(sealed, Path("x.xml"), [b"weights"])
    for data, others in ((sealed, [b"Weights"]), (sealed, []), (sealed + b" ", [b"weights"])):
        with pytest.raises(RunError, match="is damaged"):
            require_seal(data, Path("x.xml"), others)
    with pytest.raises(ValueError, match="0 places"):
        seal(b"<a/>")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("words", [("predict", "photo.png", "--model"), ("app", "--build", "page", "--model")])
def test_a_pipe_and_a_device_are_no_models(words: tuple[str, ...], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("photo.png")
    os.mkfifo("pipe.onnx")
    Path("zero.onnx").symlink_to("/dev/zero")
    Path("folder.onnx").mkdir()
    for name, kind in (("pipe.onnx", "a named pipe"), ("zero.onnx", "a device")):
        result = CliRunner().invoke(cli.app, [*words, name])
        assert isinstance(result.exception, RunError)
        assert f"{name} is {kind} and not a file" in str(result.exception)


# --- model.json -------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, object]] = {
    "image_size of one": ("image_size", [1]),
    "image_size of text": ("image_size", ["192", "256"]),
    "image_size that is huge": ("image_size", [2**60, 10**400]),
    "image_size of no multiple": ("image_size", [100, 100]),
    "labels missing": ("labels", None),
    "labels without names": ("labels", {"classes": None, "band": None}),
    "labels of others": ("labels", {"names": ["hair"], "classes": None, "band": None}),
    "labels and more": ("labels", {"names": ["lesion"], "classes": None, "band": None, "x": 1}),
    "cost empty": ("cost", {}),
    "cost of text": ("cost", {"parameters": "many", "macs": 1}),
    "cost that is huge": ("cost", {"parameters": 10**30, "macs": 1}),
    "scores of a number": ("scores", 5),
    "means of a number": ("scores", {"means": 5}),
    "means of nothing": (
        "scores",
        {"means": {}, "subgroups": [], "photos": 1, "split": "test", "threshold": 0.5},
    ),
    "quality empty": ("quality", {}),
    "about a number": ("about", 5),
    "spec empty": ("spec", {}),
    "training empty": ("training", {}),
    "encoder empty": ("encoder", {}),
    "measured a number": ("measured", 5),
    "measured empty": ("measured", {}),
    "threshold of text": ("threshold", "0.5"),
    "threshold outside": ("threshold", 7),
    "files empty": ("files", {}),
    "digest of text": ("files", {"model.safetensors": {"sha256": "x", "bytes": 1}}),
    "name of a folder": ("name", "../x"),
    "checked a list": ("checked", []),
}


@pytest.mark.long
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_json_is_one_error_that_names_the_key(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(LITE, tmp_path / "mine"))
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    key, value = WRONG[name]
    facts = json.loads((folder / FACTS).read_text())
    facts[key] = value
    (folder / FACTS).write_text(json.dumps(facts) if value is not None else json.dumps(facts).replace(key, "lables"))
    for words in (["models"], ["models", "--card"], ["models", "--json"], ["predict", str(photo), "--model"]):
        result = CliRunner().invoke(cli.app, [*words, str(folder)])
        assert isinstance(result.exception, RunError), words
        assert f"{FACTS} is damaged" in str(result.exception)
        assert f"  - {key}" in str(result.exception)


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "[1,", "", "\0", '{"lesionseg_model": ' + "9" * 5000 + "}"])
def test_a_model_json_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(RunError, match=r"model\.json (is not valid JSON|is nested more than 50|is no model of)"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("value", ["r", 5, [], {}, None, "no-such", "\0", "x" * 5000])
def test_scores_of_nothing(value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    Path("r/run.json").write_text(json.dumps({"scores_of": value}))
    if value is None:
        assert find_model("r") == Path("r")
    else:
        with pytest.raises(RunError, match="scores_of names no model"):
            find_model("r")
